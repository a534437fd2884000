#include "dmm/connection_options.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <numeric>
#include <optional>

#include "dmm/error.h"
#include "dmm/json.h"
#include "dmm/limits.h"

namespace dmm {

namespace {

// Every setting but the servers: how it is called in each source.
struct Setting {
  const char* key;          // in the file
  const char* environment;  // nullptr: not read from there
  std::string ConnectionOptions::*field;
  bool is_path;
};

constexpr std::array kSettings = {
    Setting{"user", "DMM_USER", &ConnectionOptions::user, false},
    Setting{"password", "DMM_PASSWORD", &ConnectionOptions::password, false},
    Setting{"token", "DMM_TOKEN", &ConnectionOptions::token, false},
    Setting{"password_file", "DMM_PASSWORD_FILE", &ConnectionOptions::password_file, true},
    Setting{"token_file", "DMM_TOKEN_FILE", &ConnectionOptions::token_file, true},
    Setting{"nkey_seed", "DMM_NKEY_SEED", &ConnectionOptions::nkey_seed_file, true},
    Setting{"creds", "DMM_CREDS", &ConnectionOptions::creds_file, true},
    Setting{"tls_ca", "DMM_TLS_CA", &ConnectionOptions::tls_ca, true},
    Setting{"tls_cert", "DMM_TLS_CERT", &ConnectionOptions::tls_cert, true},
    Setting{"tls_key", "DMM_TLS_KEY", &ConnectionOptions::tls_key, true},
};

[[noreturn]] void refuse(std::string message) {
  throw Error(code::bad_option, std::move(message));
}

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// "a, b" is two servers. An empty one is kept, for check() to refuse.
std::vector<std::string> split_servers(std::string_view list) {
  std::vector<std::string> servers;
  for (bool more = true; more;) {
    const std::size_t comma = list.find(',');
    servers.emplace_back(trimmed(list.substr(0, comma)));
    more = comma != std::string_view::npos;
    if (more) list.remove_prefix(comma + 1);
  }
  return servers;
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// ---- one way to log in ----

enum class Login { none, url, password, token, nkey, creds };

bool has_userinfo(std::string_view url) {
  return redact_url(url) != url;
}

std::vector<Login> logins(const ConnectionOptions& options) {
  std::vector<Login> found;
  if (std::any_of(options.servers.begin(), options.servers.end(),
                  [](const std::string& url) { return has_userinfo(url); })) {
    found.push_back(Login::url);
  }
  if (!options.user.empty() || !options.password.empty() || !options.password_file.empty()) {
    found.push_back(Login::password);
  }
  if (!options.token.empty() || !options.token_file.empty()) found.push_back(Login::token);
  if (!options.nkey_seed_file.empty()) found.push_back(Login::nkey);
  if (!options.creds_file.empty()) found.push_back(Login::creds);
  return found;
}

std::string_view name_of(Login login) {
  switch (login) {
    case Login::none:
      return "none";
    case Login::url:
      return "credentials in a server URL";
    case Login::password:
      return "user and password";
    case Login::token:
      return "token";
    case Login::nkey:
      return "nkey_seed";
    case Login::creds:
      return "creds";
  }
  return "none";
}

// ---- the file ----

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

std::string nearest_key(std::string_view wrong) {
  const std::string_view shortened = wrong.substr(0, 64);  // bounds the work on a hostile key
  std::string_view best = "server";
  for (const Setting& setting : kSettings) {
    if (edit_distance(shortened, setting.key) < edit_distance(shortened, best)) best = setting.key;
  }
  return std::string(best);
}

std::string read_file(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text(limits::config_file_bytes_max + 1, '\0');
  if (file) file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.eof() || file.bad()) {
    if (file) {
      refuse(fmt::format("the configuration file {} has more than {} bytes", printable(path),
                         limits::config_file_bytes_max));
    }
    const int why = errno != 0 ? errno : EIO;
    refuse(
        fmt::format("the configuration file {} cannot be read: {}; name another one with "
                    "DMM_CONFIG",
                    printable(path), std::strerror(why)));
  }
  text.resize(static_cast<std::size_t>(file.gcount()));
  return text;
}

struct Place {
  const std::string& path;
  unsigned line;
};

std::string at(const Place& place) {
  return fmt::format("{} line {}", printable(place.path), place.line);
}

std::string text_of(const toml::node& node, const Place& place, std::string_view key) {
  const std::optional<std::string> text = node.value_exact<std::string>();
  if (!text) {
    refuse(fmt::format("{}: {} must be a text in quotes{}", at(place), key,
                       key == "server" ? " or a list of them" : ""));
  }
  return *text;
}

std::vector<std::string> servers_of(const toml::node& node, const Place& place) {
  const toml::array* list = node.as_array();
  if (list == nullptr) return split_servers(text_of(node, place, "server"));
  std::vector<std::string> servers;
  for (const toml::node& item : *list) servers.push_back(text_of(item, place, "server"));
  return servers;
}

/// Behind the string that begins at `line[at]`, or behind the line.
std::size_t skip_string(std::string_view line, std::size_t at) {
  const char quote = line[at++];
  while (at < line.size() && line[at] != quote) at += quote == '"' && line[at] == '\\' ? 2 : 1;
  return std::min(at + 1, line.size());
}

/// Refuses letters beyond ASCII outside of strings and comments, where toml++ 3.3 runs into
/// undefined behaviour when it asks whether they are white space.
void check_letters(std::string_view text, const std::string& path) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  for (unsigned number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    for (std::size_t i = 0; i < line.size() && line[i] != '#';) {
      if (static_cast<unsigned char>(line[i]) >= 0x80) {
        refuse(fmt::format("{}: a letter that is not ASCII stands outside of quotes",
                           at(Place{path, number})));
      }
      i = line[i] == '"' || line[i] == '\'' ? skip_string(line, i) : i + 1;
    }
  }
}

toml::table parse_toml(const std::string& path) {
  try {
    const std::string text = read_file(path);
    check_letters(text, path);
    return toml::parse(text, path);
  } catch (const toml::parse_error& e) {
    refuse(fmt::format("{}: {}", at(Place{path, e.source().begin.line}),
                       printable(e.description(), 300)));
  }
}

// ---- checks ----

void check_text(std::string_view what, std::string_view text) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      // The value may be a secret: it is not shown.
      refuse(fmt::format("{} holds a control character (0x{:02X})", what,
                         static_cast<unsigned>(byte)));
    }
  }
}

void check_port(std::string_view port, const std::string& shown) {
  unsigned number = 0;
  const auto [end, failure] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (failure != std::errc() || end != port.data() + port.size() || number == 0 || number > 65535) {
    refuse(fmt::format("server \"{}\": the port must be 1 to 65535", shown));
  }
}

// [nats://|tls://][user:password@]host[:port]
void check_server(std::string_view url) {
  check_text("a server URL", url);
  const std::string shown = printable(redact_url(url), 200);
  std::string_view rest = url;
  if (rest.empty()) refuse("a server URL is empty; give one such as nats://127.0.0.1:4222");
  if (const std::size_t end = rest.find("://"); end != std::string_view::npos) {
    const std::string_view scheme = rest.substr(0, end);
    if (scheme != "nats" && scheme != "tls") {
      refuse(fmt::format("server \"{}\": the scheme must be nats:// or tls://", shown));
    }
    rest.remove_prefix(end + 3);
  }
  if (const std::size_t at = rest.rfind('@'); at != std::string_view::npos) {
    rest.remove_prefix(at + 1);
  }
  if (rest.ends_with('/')) rest.remove_suffix(1);
  if (rest.find_first_of(" /?#@") != std::string_view::npos) {
    refuse(fmt::format("server \"{}\": write [nats://]HOST[:PORT] and nothing behind it", shown));
  }
  std::string_view host = rest;
  std::string_view behind;  // of the host: ":PORT" or nothing
  if (rest.starts_with('[')) {
    const std::size_t end = rest.find(']');
    if (end == std::string_view::npos) {
      refuse(fmt::format("server \"{}\": the IPv6 address is not closed with ]", shown));
    }
    host = rest.substr(1, end - 1);
    behind = rest.substr(end + 1);
  } else if (const std::size_t colon = rest.find(':'); colon != std::string_view::npos) {
    host = rest.substr(0, colon);
    behind = rest.substr(colon);
    if (behind.find(':', 1) != std::string_view::npos) {
      refuse(fmt::format("server \"{}\": write an IPv6 address in brackets, [::1]:4222", shown));
    }
  }
  if (host.empty()) refuse(fmt::format("server \"{}\": the host is missing", shown));
  const auto sound = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
  };
  if (!rest.starts_with('[') && !std::all_of(host.begin(), host.end(), sound)) {
    refuse(fmt::format("server \"{}\": {} is no name or address of a host", shown,
                       printable(host, 100)));
  }
  if (behind.empty()) return;
  if (behind.front() != ':') {
    refuse(fmt::format("server \"{}\": only :PORT may follow the address", shown));
  }
  check_port(behind.substr(1), shown);
}

// A seed is 58 characters of base32 that begin with S and the letter of its role.
bool looks_like_seed(std::string_view text) {
  return text.size() == 58 && text.front() == 'S' &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= 'A' && c <= 'Z') || (c >= '2' && c <= '7'); });
}

void check_file(std::string_view what, const std::string& path) {
  if (looks_like_seed(path)) {
    refuse(fmt::format("{} holds a seed, but it must name a file that holds one", what));
  }
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || ::access(path.c_str(), R_OK) != 0) {
    refuse(fmt::format("{} names {}, which cannot be read: {}", what, printable(path, 300),
                       std::strerror(errno)));
  }
  if (S_ISDIR(info.st_mode)) {
    refuse(fmt::format("{} names {}, which is a directory", what, printable(path, 300)));
  }
}

}  // namespace

void ConnectionOptions::fill_from(const ConnectionOptions& other) {
  // Who has said how to log in has decided it: of another source only the rest of the same way is
  // taken, for example the password of a user that a flag names.
  const std::vector<Login> mine = logins(*this);
  const auto wanted = [&](Login login) {
    return mine.empty() || std::find(mine.begin(), mine.end(), login) != mine.end();
  };
  const auto fill = [](std::string& to, const std::string& from) {
    if (to.empty()) to = from;
  };
  const auto fill_secret = [](std::string& to, std::string& to_file, const std::string& from,
                              const std::string& from_file) {
    if (!to.empty() || !to_file.empty()) return;
    to = from;
    to_file = from_file;
  };
  const bool url_wanted = wanted(Login::url);
  if (servers.empty()) {
    servers = other.servers;
    if (!url_wanted) {
      for (std::string& url : servers) url = redact_url(url);
    }
  }
  if (wanted(Login::password)) {
    fill(user, other.user);
    fill_secret(password, password_file, other.password, other.password_file);
  }
  if (wanted(Login::token)) fill_secret(token, token_file, other.token, other.token_file);
  if (wanted(Login::nkey)) fill(nkey_seed_file, other.nkey_seed_file);
  if (wanted(Login::creds)) fill(creds_file, other.creds_file);
  fill(tls_ca, other.tls_ca);
  if (tls_cert.empty() && tls_key.empty()) {  // a pair: never one of each source
    tls_cert = other.tls_cert;
    tls_key = other.tls_key;
  }
  fill(name, other.name);
}

ConnectionOptions ConnectionOptions::from_environment() {
  ConnectionOptions options;
  if (const std::string list = variable("DMM_SERVER"); !list.empty()) {
    options.servers = split_servers(list);
  }
  for (const Setting& setting : kSettings) options.*setting.field = variable(setting.environment);
  return options;
}

ConnectionOptions ConnectionOptions::from_file(const std::string& path) {
  const toml::table table = parse_toml(path);
  ConnectionOptions options;
  for (const auto& [key, node] : table) {
    const Place place{path, key.source().begin.line};
    if (key == "server") {
      options.servers = servers_of(node, place);
      continue;
    }
    const auto* setting = std::find_if(kSettings.begin(), kSettings.end(),
                                       [&name = key](const Setting& s) { return name == s.key; });
    if (setting == kSettings.end()) {
      refuse(fmt::format("{}: unknown key \"{}\"; did you mean \"{}\"?", at(place),
                         printable(key.str(), 100), nearest_key(key.str())));
    }
    options.*setting->field = text_of(node, place, key.str());
  }
  return options;
}

ConnectionOptions ConnectionOptions::load() {
  ConnectionOptions options = from_environment();
  std::string path = variable("DMM_CONFIG");
  if (path.empty()) {
    const std::string home = variable("HOME");
    if (home.empty()) return options;
    path = home + "/.config/dmm/dmm.toml";
    if (::access(path.c_str(), F_OK) != 0) return options;
  }
  options.fill_from(from_file(path));
  return options;
}

void ConnectionOptions::check() const {
  for (const std::string& url : servers) check_server(url);
  check_text("name", name);
  for (const Setting& setting : kSettings) check_text(setting.key, this->*setting.field);

  if (!password.empty() && !password_file.empty())
    refuse("password and password_file are both given");
  if (!token.empty() && !token_file.empty()) refuse("token and token_file are both given");
  if (user.empty() != (password.empty() && password_file.empty())) {
    refuse(user.empty()
               ? "a password is given without a user"
               : fmt::format("user \"{}\" is given without a password", printable(user, 100)));
  }
  if (const std::vector<Login> found = logins(*this); found.size() > 1) {
    refuse(fmt::format("{} and {} are both given; keep one way to log in", name_of(found[0]),
                       name_of(found[1])));
  }
  if (tls_cert.empty() != tls_key.empty()) {
    refuse(tls_cert.empty() ? "tls_key is given without tls_cert"
                            : "tls_cert is given without tls_key");
  }
  for (const Setting& setting : kSettings) {
    const std::string& path = this->*setting.field;
    if (setting.is_path && !path.empty()) check_file(setting.key, path);
  }
}

std::string read_secret_file(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text(limits::config_file_bytes_max + 1, '\0');
  if (file) file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad() || (!file && file.gcount() == 0 && errno != 0)) {
    refuse(fmt::format("{} cannot be read: {}", printable(path, 300), std::strerror(errno)));
  }
  text.resize(static_cast<std::size_t>(file.gcount()));
  const bool whole = text.size() <= limits::config_file_bytes_max;
  text.resize(std::min(text.find('\n'), text.size()));
  while (text.ends_with('\r')) text.pop_back();
  if (text.empty()) {
    refuse(fmt::format("{} cannot be read: it is empty", printable(path, 300)));
  }
  if (!whole) refuse(fmt::format("the first line of {} is no secret", printable(path, 300)));
  return text;
}

std::string redact_url(std::string_view url) {
  const std::size_t scheme = url.find("://");
  const std::size_t begin = scheme == std::string_view::npos ? 0 : scheme + 3;
  // The last @, because a password may hold one that nobody escaped.
  const std::size_t end = url.rfind('@');
  if (end == std::string_view::npos || end < begin) return std::string(url);
  return std::string(url.substr(0, begin)).append(url.substr(end + 1));
}

}  // namespace dmm
