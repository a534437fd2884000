#pragma once

// A NatsServer is a nats-server that this process started: for tests, for `dmm dev` and for trying
// things out. It listens on 127.0.0.1 only.
//
// Lifecycle: the constructor starts it and waits until it answers; stop(), kill() and start() may
// follow each other any number of times, the port and the JetStream store stay the same; the
// destructor ends it. Used by one thread at a time.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "dmm/testing/child_process.h"
#include "dmm/testing/temporary_directory.h"

namespace dmm::testing {

/// Someone who may connect. Where no user (and no token) is named everybody may do everything.
struct NatsUser {
  std::string user;
  std::string password;
  std::string nkey;                    ///< public key ("U..."), instead of user and password
  std::vector<std::string> publish;    ///< subjects allowed; empty: all
  std::vector<std::string> subscribe;  ///< subjects allowed; empty: all
};

/// PEM files. Set `cert` and `key` to have the server speak TLS.
struct NatsTls {
  std::string ca;
  std::string cert;
  std::string key;
  bool verify_clients = false;  ///< ask clients for a certificate of `ca`
};

struct NatsServerOptions {
  bool jetstream = true;
  /// Where JetStream keeps its files; empty: in a temporary directory that ends with the server.
  std::filesystem::path store_directory;
  std::uint16_t port = 0;             ///< 0: a free one
  bool mqtt = false;                  ///< needs JetStream
  std::uint16_t mqtt_port = 0;        ///< 0: a free one
  std::size_t payload_bytes_max = 0;  ///< 0: the server's default, 1 MiB
  std::vector<NatsUser> users;
  std::string token;  ///< the one credential, instead of users
  NatsTls tls;
  std::string extra;               ///< more text for the configuration file
  std::filesystem::path log_file;  ///< empty: in the temporary directory
  std::chrono::milliseconds start_deadline = std::chrono::seconds(15);
};

/// The path of nats-server: DMM_NATS_SERVER, or else in PATH, /usr/sbin, /usr/local/bin.
/// Throws Error{not_found} DMM-0405 that names the package to install.
std::string find_nats_server();

class NatsServer final {
 public:
  /// throws   Error{not_found} DMM-0405 there is no nats-server; Error{retry} DMM-0101 it did not
  ///          start, with the end of its log.
  explicit NatsServer(NatsServerOptions options = {});
  NatsServer(const NatsServer&) = delete;
  NatsServer& operator=(const NatsServer&) = delete;
  ~NatsServer();

  /// Starts it again after stop() or kill(), and waits until it answers.
  void start();
  /// Ends it by SIGTERM and waits until it has ended. Throws Error{retry} DMM-0103.
  void stop();
  /// Ends it by SIGKILL: a crash.
  void kill();
  /// Freezes it by SIGSTOP: connections stay open and nothing answers.
  void pause();
  void resume();

  bool running();
  /// 0 while it is not running.
  pid_t pid() const noexcept;
  /// "nats://127.0.0.1:PORT", or "tls://..." with TLS; without credentials.
  std::string url() const;
  std::uint16_t port() const noexcept { return options_.port; }
  /// 0 without MQTT.
  std::uint16_t mqtt_port() const noexcept { return options_.mqtt ? options_.mqtt_port : 0; }
  const std::filesystem::path& store_directory() const noexcept { return options_.store_directory; }
  /// What it has logged since it was first started.
  std::string log() const;

 private:
  std::string configuration() const;
  void launch();
  std::string tail_of_log() const;

  NatsServerOptions options_;
  std::string program_;
  TemporaryDirectory directory_;
  std::unique_ptr<ChildProcess> process_;
};

}  // namespace dmm::testing
