#pragma once

#include <string>

#include "dmm/connection_options.h"

namespace dmm::cli {

/// The options that every verb takes.
struct Globals {
  std::string ns = "default";
  std::string output = "table";  ///< or "json", "yaml"
  std::string server;            ///< URLs with commas
  std::string user;
  std::string password_file;
  std::string token_file;
  std::string creds;
  std::string nkey;
  std::string tls_ca;
  std::string tls_cert;
  std::string tls_key;
  std::string config;
  int generation = 1;
  bool no_color = false;
  bool yes = false;
  bool verbose = false;
};

/// The connection that the flags, then the environment, then the configuration file ask for.
/// Throws Error{invalid} DMM-0404 for files that cannot be read and values that cannot be.
ConnectionOptions connection_of(const Globals& globals);

}  // namespace dmm::cli
