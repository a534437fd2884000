#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dmm {

/// How to reach the NATS servers. Read from flags, the environment and a file, in that order of
/// precedence: each field that an earlier source sets is kept. Secrets are best named by file.
struct ConnectionOptions {
  std::vector<std::string> servers;  ///< URLs; empty means nats://127.0.0.1:4222
  std::string user;
  std::string password;
  std::string token;
  /// Files whose first lines are the password and the token, in place of these. As all files that
  /// are named here they are read again whenever the connection is made again.
  std::string password_file;
  std::string token_file;
  std::string nkey_seed_file;  ///< an nkey seed ("SU...")
  std::string creds_file;      ///< JWT and seed, as written by nsc
  std::string tls_ca;          ///< PEM file; setting any tls_ field or a tls:// URL asks for TLS
  std::string tls_cert;        ///< PEM file, with tls_key
  std::string tls_key;
  std::string name;  ///< shown by the server; default "dmm"

  /// Takes every field that is unset here from `other`.
  void fill_from(const ConnectionOptions& other);

  /// DMM_SERVER (comma-separated), DMM_USER, DMM_PASSWORD, DMM_TOKEN, DMM_PASSWORD_FILE,
  /// DMM_TOKEN_FILE, DMM_NKEY_SEED, DMM_CREDS, DMM_TLS_CA, DMM_TLS_CERT, DMM_TLS_KEY.
  static ConnectionOptions from_environment();

  /// A TOML file with the keys server (text or list), user, password, token, password_file,
  /// token_file, nkey_seed, creds, tls_ca, tls_cert, tls_key. Throws Error{invalid} DMM-0404 with
  /// line and remedy; an unknown key is an error that names the nearest known one.
  static ConnectionOptions from_file(const std::string& path);

  /// Environment, then the file named by DMM_CONFIG, or else ~/.config/dmm/dmm.toml if there is
  /// one.
  static ConnectionOptions load();

  /// Throws Error{invalid} DMM-0404 for values that contradict each other or cannot be.
  void check() const;
};

/// The first line of a file that holds a password or a token. Throws Error{invalid} DMM-0404, with
/// the path but nothing of what it holds, if it cannot be read or holds none.
std::string read_secret_file(const std::string& path);

/// A URL without user, password and token: for logs and messages.
std::string redact_url(std::string_view url);

}  // namespace dmm
