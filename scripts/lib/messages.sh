# shellcheck shell=bash
# Messages of the scripts: sourced, not run. Colour only on a terminal; everything goes to standard
# error so that standard output stays the result of the command.

if [[ -t 2 && -z "${NO_COLOR:-}" && "${TERM:-dumb}" != dumb ]]; then
  dmm_bold=$'\033[1m' dmm_red=$'\033[31m' dmm_green=$'\033[32m' dmm_plain=$'\033[0m'
else
  dmm_bold='' dmm_red='' dmm_green='' dmm_plain=''
fi

# dmm_step TEXT: the next step of several begins.
dmm_step() { printf '%s==>%s %s\n' "$dmm_bold" "$dmm_plain" "$*" >&2; }

# dmm_note TEXT: a detail of the step.
dmm_note() { printf '    %s\n' "$*" >&2; }

# dmm_done TEXT: the step has succeeded.
dmm_done() { printf '    %sok%s %s\n' "$dmm_green" "$dmm_plain" "$*" >&2; }

# dmm_fail TEXT [REMEDY]...: what went wrong, and one line for each thing that the reader can do.
# Returns 1, so that `dmm_fail ... || exit` and `return` both work under `set -e`.
dmm_fail() {
  printf '%serror:%s %s\n' "$dmm_red" "$dmm_plain" "$1" >&2
  shift
  local remedy
  for remedy in "$@"; do printf '       %s\n' "$remedy" >&2; done
  return 1
}

# dmm_log_tail FILE [LINES]: the end of a log, indented, after a command has failed.
dmm_log_tail() {
  printf '    --- the last lines of %s\n' "$1" >&2
  tail -n "${2:-25}" "$1" 2>/dev/null | sed 's/^/    | /' >&2 || true
}

# dmm_run_logged LOG COMMAND...: runs a command whose output nobody reads while all is well. Its last
# line of output is shown while it runs: in place on a terminal, every 20 s elsewhere. Returns the
# command's exit code.
dmm_run_logged() {
  local log=$1 code=0 pid line shown='' begin=$SECONDS
  shift
  mkdir -p "$(dirname "$log")"
  # In a process group of its own, so that Ctrl-C can end all of it: a build is many processes.
  set -m
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  set +m
  # shellcheck disable=SC2064  # the process of now
  trap "kill -- -$pid 2>/dev/null; exit 130" INT TERM HUP
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    line=$(tail -n 1 "$log" 2>/dev/null | tr -d '\r\033' || true)
    if [[ -t 2 ]]; then
      printf '\r\033[K    %s' "${line:0:$(($(tput cols 2>/dev/null || echo 80) - 6))}" >&2
    elif ((SECONDS - begin >= 20)) && [[ $line != "$shown" ]]; then
      dmm_note "${line:0:90}"
      begin=$SECONDS shown=$line
    fi
  done
  if [[ -t 2 ]]; then printf '\r\033[K' >&2; fi
  wait "$pid" || code=$?
  trap - INT TERM HUP
  return "$code"
}
