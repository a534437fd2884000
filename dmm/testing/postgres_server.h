#pragma once

// A PostgresServer is a throw-away PostgreSQL cluster: made, started and removed by this object.
// It listens on 127.0.0.1 and on a socket in its own directory, trusts everybody there, and does
// not care for power cuts (fsync is off). Used by one thread at a time.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "dmm/testing/child_process.h"
#include "dmm/testing/temporary_directory.h"

namespace dmm::testing {

struct PostgresServerOptions {
  std::uint16_t port = 0;             ///< 0: a free one
  std::vector<std::string> settings;  ///< more of postgresql.conf, for example "work_mem=1MB"
  std::chrono::milliseconds start_deadline = std::chrono::seconds(60);
};

/// The directory of initdb and postgres: DMM_POSTGRES_BIN, or the newest
/// /usr/lib/postgresql/VERSION/bin, or where PATH has them. Throws Error{not_found} DMM-0405 that
/// names the package to install.
std::filesystem::path find_postgres();

class PostgresServer final {
 public:
  /// Makes a cluster with the superuser "dmm" and starts it. When called by root, the server runs
  /// as the user postgres.
  /// throws   Error{not_found} DMM-0405 PostgreSQL is not installed; Error{retry} DMM-0101 it did
  ///          not start, with the end of its log.
  explicit PostgresServer(PostgresServerOptions options = {});
  PostgresServer(const PostgresServer&) = delete;
  PostgresServer& operator=(const PostgresServer&) = delete;
  ~PostgresServer();

  void start();
  /// A fast shutdown: open connections are cut, everything is written.
  void stop();
  /// An immediate shutdown: a crash.
  void kill();

  bool running();
  /// Of the process that is the parent of all others of the server; 0 while it is not running.
  pid_t pid() const noexcept;
  std::uint16_t port() const noexcept { return options_.port; }
  /// For libpq, without a password: "host=127.0.0.1 port=... user=dmm dbname=postgres".
  std::string connection_string() const;
  std::string log() const;

 private:
  void make_cluster();
  bool ready() const;

  PostgresServerOptions options_;
  std::filesystem::path programs_;
  std::string user_;  ///< to run as; empty: ourselves
  TemporaryDirectory directory_;
  std::unique_ptr<ChildProcess> process_;
};

}  // namespace dmm::testing
