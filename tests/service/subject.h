#pragma once

// The service of the tests as a process, and what it answers.

#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/testing/child_process.h"
#include "dmm/testing/nats_server.h"

namespace dmm::service_test {

using json = nlohmann::json;

/// A request to 127.0.0.1. Status 0: nobody answered.
struct Reply {
  int status = 0;
  std::string body;
};
Reply http(const std::string& method, int port, const std::string& path,
           const std::string& body = {}, const std::string& host = {});

/// A service "players" that works in a namespace of its own.
class Subject final {
 public:
  /// server   empty: no DMM_SERVER.
  Subject(const std::string& server, std::string ns, std::vector<std::string> flags = {},
          std::map<std::string, std::string> environment = {});

  testing::ChildProcess& process() { return *process_; }
  /// Where it serves metrics and health, as it said in its log; waits for that.
  int port();
  /// Waits until /readyz says so.
  void wait_until_ready();
  /// The lines of its log with this message.
  std::vector<json> lines(const std::string& message) const;
  void wait_for_line(const std::string& message) const;

 private:
  std::unique_ptr<testing::ChildProcess> process_;
  int port_ = 0;
};

/// The server of this test program, which is started at the first use.
testing::NatsServer& server();

}  // namespace dmm::service_test
