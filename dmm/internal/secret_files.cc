#include "dmm/internal/secret_files.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "dmm/error.h"
#include "dmm/json.h"

namespace dmm::internal {

namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// The file of ConnectionOptions::load(), if something in it is secret.
std::string configuration_with_secret() {
  std::string path = variable("DMM_CONFIG");
  if (path.empty() && !variable("HOME").empty()) path = variable("HOME") + "/.config/dmm/dmm.toml";
  try {
    const ConnectionOptions options = ConnectionOptions::from_file(path);
    const bool in_url = std::ranges::any_of(
        options.servers, [](const std::string& url) { return redact_url(url) != url; });
    if (in_url || !options.password.empty() || !options.token.empty()) return path;
  } catch (const Error&) {
    // It is not there, or was refused by whoever needed it.
  }
  return {};
}

}  // namespace

std::vector<std::string> secret_files(const ConnectionOptions& options) {
  std::vector<std::string> files;
  for (const std::string& path :
       {options.password_file, options.token_file, options.creds_file, options.nkey_seed_file,
        options.tls_key, configuration_with_secret()}) {
    if (!path.empty()) files.push_back(path);
  }
  return files;
}

std::vector<std::string> exposed_files(const std::vector<std::string>& paths) {
  const std::string handed_over = variable("CREDENTIALS_DIRECTORY");
  std::vector<std::string> exposed;
  for (const std::string& path : paths) {
    if (!handed_over.empty() && path.starts_with(handed_over + "/")) continue;
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0 || (info.st_mode & (S_IRGRP | S_IROTH)) == 0) continue;
    exposed.push_back(fmt::format("{} (mode {:04o})", printable(path, 300), info.st_mode & 07777u));
  }
  return exposed;
}

}  // namespace dmm::internal
