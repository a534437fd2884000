#include "dmm/cli/globals.h"

#include <fmt/format.h>

#include <iterator>
#include <string_view>

#include "dmm/error.h"
#include "dmm/json.h"

namespace dmm::cli {

namespace {

// The file is read when the connection is made; that it can be is said by the name of its flag.
std::string secret_file(const std::string& path, std::string_view option) {
  if (path.empty()) return path;
  try {
    static_cast<void>(read_secret_file(path));
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", option, error.message()));
  }
  return path;
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
  options.password_file = secret_file(globals.password_file, "--password-file");
  options.token_file = secret_file(globals.token_file, "--token-file");
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
