# shellcheck shell=bash
# Installs what a script needs: sourced, not run.
#
#   source scripts/lib/install.sh
#   dmm_install_packages build library servers
#
# DMM_INSTALL=no only looks and names what is missing.

# shellcheck source=scripts/lib/messages.sh
source "$(dirname "${BASH_SOURCE[0]}")/messages.sh"

# dmm_group_packages GROUP: the Debian packages of a group, one a line.
dmm_group_packages() {
  case $1 in
    build) printf '%s\n' g++ cmake ninja-build pkg-config ccache ;;
    library)
      printf "%s\n" libnats-dev libssl-dev libpqxx-dev nlohmann-json3-dev libfmt-dev \
        libtomlplusplus-dev libsimdjson-dev libcpp-httplib-dev libyaml-cpp-dev ;;
    tools) printf '%s\n' libcli11-dev ;;
    servers) printf '%s\n' nats-server postgresql ;;
    test) printf '%s\n' catch2 libsqlite3-dev libabsl-dev openssl dpkg-dev file tmux \
      python3 ;;
    docs) printf '%s\n' tmux nats-server ;;
    bench) printf '%s\n' libabsl-dev libsqlite3-dev valgrind ;;
    node) printf '%s\n' nodejs npm ;;
    peers) printf '%s\n' redis-server nodejs npm ;;
    fuzz) printf '%s\n' clang ;;
    clients) printf '%s\n' mosquitto-clients nodejs npm ;;
    *) dmm_fail "there is no group of packages called '$1'" \
      "Known: build, library, tools, servers, test, docs, bench, node, peers, fuzz, clients." ;;
  esac
}

# dmm_missing_packages PACKAGE...: those that are not installed, one a line.
dmm_missing_packages() {
  local package status
  for package in "$@"; do
    # Node from elsewhere than Debian brings npm along, and conflicts with Debian's.
    case $package in
      nodejs) ! command -v node >/dev/null || continue ;;
      npm) ! command -v npm >/dev/null || continue ;;
    esac
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [[ $status == installed ]] || printf '%s\n' "$package"
  done
}

# dmm_as_root COMMAND...: as root: directly, or through sudo, which may ask for a password only where
# somebody can type one.
dmm_as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  elif [[ -t 0 && -t 2 ]]; then
    sudo "$@"
  else
    sudo -n "$@"
  fi
}

# dmm_can_be_root: whether dmm_as_root can work. Asks for the password here, before output is logged.
dmm_can_be_root() {
  [[ $(id -u) == 0 ]] && return 0
  command -v sudo >/dev/null || return 1
  dmm_as_root true 2>/dev/null || { [[ -t 0 && -t 2 ]] && sudo -v; }
}

dmm_apt() {
  dmm_as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300 "$@"
}

# dmm_install_packages GROUP...: installs what is missing of the groups; does nothing, and needs no
# network and no rights, where all is there. Returns 1 after having named the remedy.
dmm_install_packages() {
  local group packages=() missing=() list log
  for group in "$@"; do
    list=$(dmm_group_packages "$group") || return 1
    mapfile -t -O "${#packages[@]}" packages <<<"$list"
  done

  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    dmm_fail "this is not Debian: apt-get was not found, so nothing can be installed" \
      "Install what stands for these Debian packages: ${packages[*]}" \
      "Then build with: cmake --preset release && cmake --build --preset release"
    return 1
  fi

  mapfile -t missing < <(dmm_missing_packages "${packages[@]}")
  if [[ ${#missing[@]} == 0 ]]; then
    dmm_done "all ${#packages[@]} packages are installed"
    return 0
  fi
  dmm_note "missing: ${missing[*]}"
  if [[ ${DMM_INSTALL:-yes} == no ]]; then
    dmm_fail "${#missing[@]} packages are missing and DMM_INSTALL=no forbids installing them" \
      "As root: apt-get install ${missing[*]}"
    return 1
  fi
  if ! dmm_can_be_root; then
    dmm_fail "installing needs root, and sudo is missing or refused" \
      "As root: apt-get update && apt-get install ${missing[*]}" "Then run this again."
    return 1
  fi

  log=${DMM_INSTALL_LOG:-${TMPDIR:-/tmp}/dmm-install-$(id -u).log}
  dmm_note "fetching the package lists"
  if ! dmm_run_logged "$log" dmm_apt update; then
    # Old lists may still do, for example behind a mirror that is down in part.
    dmm_note "apt-get update failed; trying with the lists that are there"
  fi
  dmm_note "installing ${#missing[@]} packages"
  if ! dmm_run_logged "$log" dmm_apt install --no-install-recommends "${missing[@]}"; then
    dmm_log_tail "$log"
    dmm_fail "apt-get could not install: ${missing[*]}" \
      "Check the network and /etc/apt/sources.list (Debian 12, bookworm, has all of them)." \
      "Then as root: apt-get update && apt-get install ${missing[*]}" "Whole log: $log"
    return 1
  fi
  mapfile -t missing < <(dmm_missing_packages "${packages[@]}")
  if [[ ${#missing[@]} != 0 ]]; then
    dmm_fail "still missing after apt-get install: ${missing[*]}" "Whole log: $log"
    return 1
  fi
  dmm_done "installed"
}
