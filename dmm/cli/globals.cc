#include "dmm/cli/globals.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string_view>

#include "dmm/error.h"
#include "dmm/json.h"

namespace dmm::cli {

namespace {

constexpr std::size_t kSecretBytesMax = 64 * 1024;

// The first line of a file that holds a password or a token.
std::string read_secret(const std::string& path, std::string_view option) {
  std::ifstream file(path, std::ios::binary);
  std::string text;
  if (file) std::getline(file, text);
  if (!file) {
    const char* why = errno != 0 ? std::strerror(errno) : "it is empty";
    throw Error(code::bad_option,
                fmt::format("{}: {} cannot be read: {}", option, printable(path), why));
  }
  while (!text.empty() && (text.back() == '\r' || text.back() == '\n')) text.pop_back();
  require(text.size() <= kSecretBytesMax, code::bad_option,
          fmt::format("{}: the first line of {} has {} bytes; that is no secret", option,
                      printable(path), text.size()));
  return text;
}

std::vector<std::string> split_servers(std::string_view text) {
  std::vector<std::string> servers;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    if (comma > 0) servers.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return servers;
}

}  // namespace

ConnectionOptions connection_of(const Globals& globals) {
  ConnectionOptions options;
  options.servers = split_servers(globals.server);
  options.user = globals.user;
  if (!globals.password_file.empty()) {
    errno = 0;
    options.password = read_secret(globals.password_file, "--password-file");
  }
  if (!globals.token_file.empty()) {
    errno = 0;
    options.token = read_secret(globals.token_file, "--token-file");
  }
  options.creds_file = globals.creds;
  options.nkey_seed_file = globals.nkey;
  options.tls_ca = globals.tls_ca;
  options.tls_cert = globals.tls_cert;
  options.tls_key = globals.tls_key;
  options.name = "dmm cli";
  if (globals.config.empty()) {
    options.fill_from(ConnectionOptions::load());
  } else {
    options.fill_from(ConnectionOptions::from_environment());
    options.fill_from(ConnectionOptions::from_file(globals.config));
  }
  options.check();
  return options;
}

}  // namespace dmm::cli
