#pragma once

// A nats-server of our own for a benchmark: loopback only, a free port, JetStream in a directory
// that goes away with it. Both sides of a comparison use the same one.

#include <sys/types.h>

#include <filesystem>
#include <string>

namespace dmm::bench {

class NatsServer final {
 public:
  /// Starts `nats-server` (DMM_NATS_SERVER, or from the PATH or /usr/sbin) and waits until it
  /// listens. Throws std::runtime_error with the server's log if it does not within 10 s.
  NatsServer();
  ~NatsServer();
  NatsServer(const NatsServer&) = delete;
  NatsServer& operator=(const NatsServer&) = delete;

  const std::string& url() const noexcept { return url_; }
  pid_t pid() const noexcept { return pid_; }
  /// "2.9.10", as the program says.
  const std::string& version() const noexcept { return version_; }

 private:
  void spawn(const std::string& program);
  void wait_until_it_listens();
  void stop() noexcept;

  std::filesystem::path directory_;
  std::string url_;
  std::string version_;
  pid_t pid_ = -1;
};

}  // namespace dmm::bench
