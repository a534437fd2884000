#pragma once

// Calls of the tool as a user makes them: a process of its own, its output, its exit code.

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/bucket.h"
#include "dmm/testing/child_process.h"
#include "dmm/testing/nats_server.h"

namespace dmm::cli_test {

using json = nlohmann::json;
using Arguments = std::vector<std::string>;

struct Result {
  int code = 0;    ///< exit code; -1 if a signal ended it
  int signal = 0;  ///< that ended it, or 0
  std::string out;
  std::string err;

  /// The output as JSON; fails the test if it is none.
  json document() const;
};

/// A namespace on the server of this test program, which is started at the first use.
class Site final {
 public:
  /// A namespace of its own; `create` says whether it exists.
  explicit Site(std::string ns, bool create = true);

  const std::string& ns() const noexcept { return ns_; }
  static testing::NatsServer& server();

  /// Runs `dmm ARGUMENTS` and waits for its end.
  Result dmm(Arguments arguments, std::string input = {},
             std::map<std::string, std::string> environment = {}) const;
  /// The options of a call that somebody else runs.
  testing::ChildOptions options(Arguments arguments) const;
  /// The namespace as the library sees it.
  Bucket bucket() const;

 private:
  std::string ns_;
};

/// A call in an environment where there is no server.
Result without_server(Arguments arguments, std::string input = {});

/// The path of the tool.
const std::string& tool();

/// Runs a shell script in which $DMM is the tool.
Result shell(const Site& site, const std::string& script);

}  // namespace dmm::cli_test
