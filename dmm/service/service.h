#pragma once

// A Service turns materializers into a program that an operator can run: options from flags, the
// environment and a file, logs, metrics, health, a shutdown in two steps, systemd. Its main() is
//
//     int main(int argc, char** argv) {
//       return dmm::Service("players").run(argc, argv, [](dmm::Bucket& bucket, const auto&) {
//         bucket.register_type<Player>("player");
//       });
//     }
//
// Life: describe it, then run() once. run() owns the process until it returns: signals, the
// listening port, the bucket. See docs/how-to/run-a-service.md and docs/reference/service.md.

#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "dmm/bucket.h"
#include "dmm/service/config.h"

namespace dmm {

/// Used by the main thread.
class Service final {
 public:
  /// Registers types, observers and views; called once, when the namespace is open.
  using Setup = std::function<void(Bucket& bucket, const ServiceConfig& config)>;
  /// Runs on a thread of its own beside the work, until `stop`. What it throws ends the service.
  using Beside = std::function<void(Bucket& bucket, std::stop_token stop)>;

  /// name   of the program, for people: in the help, the logs and `dmm workers`.
  explicit Service(std::string name);
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;
  ~Service();

  /// A sentence for the help.
  Service& about(std::string text);
  /// A call that the help shows, and what it does.
  Service& example(std::string call, std::string what);
  /// An option of the program's own. Throws Error{invalid} DMM-0404 if the name is taken.
  Service& option(ServiceOption option);
  /// Another default for an option of dmm's, by its name without dashes: ("namespace", "music").
  Service& set_default(const std::string& option, std::string value);
  /// Called with what the file says now, after a reload that dmm's own options have passed.
  Service& on_reload(std::function<void(const ServiceConfig& config)> hook);
  Service& beside(Beside work);
  /// Called when the work has ended in good order, before the namespace is closed.
  Service& at_end(std::function<void(Bucket& bucket)> hook);

  /// Runs until a signal says otherwise. Does not throw.
  /// returns   the exit code: 0 ended as told, 1 failed, 2 wrong options, 3 the server does not let
  ///           us in, 6 ended by force while something still ran.
  int run(int argc, char** argv, const Setup& setup) noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dmm
