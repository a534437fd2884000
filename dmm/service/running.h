#pragma once

// A service that runs: the work on a thread of its own, the signals on the main thread, and what
// both tell others.

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "dmm/service/http.h"
#include "dmm/service/metrics.h"
#include "dmm/service/otlp.h"
#include "dmm/service/service.h"
#include "dmm/service/signals.h"
#include "dmm/service/systemd.h"

namespace dmm::service {

/// What `Service::run` returns.
namespace exit_code {
inline constexpr int ok = 0;
inline constexpr int failed = 1;
inline constexpr int usage = 2;
inline constexpr int no_access = 3;
inline constexpr int forced = 6;
}  // namespace exit_code

/// What the program asked for.
struct Hooks {
  Service::Setup setup;
  std::vector<Service::Beside> beside;
  std::function<void(Bucket&)> at_end;
  /// Reads the options again. Throws Error.
  std::function<ServiceConfig()> reload;
  std::function<void(const ServiceConfig&)> reloaded;
};

class Running final {
 public:
  /// http_optional   the address of the port is dmm's own choice: if it is taken, any other does.
  Running(std::string name, ServiceConfig config, Hooks hooks, bool http_optional);
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running();

  /// Main thread. Returns the exit code, or ends the process by force.
  int run();

 private:
  using Clock = std::chrono::steady_clock;

  // The thread of the work.
  void work() noexcept;
  std::optional<Bucket> open();
  void work_on(Bucket& bucket);
  void fail(std::exception_ptr failure) noexcept;
  int code_of(const std::exception_ptr& failure) const noexcept;

  // The main thread.
  void follow(const Wakes& wakes);
  void tick();
  void look_for_stuck_loops(const Bucket& bucket, Clock::time_point now);
  void reload();
  void end_by_force(std::string_view why);

  // Threads of the server.
  void serve(bool http_optional);
  HttpAnswer answer(const HttpRequest& request) const;
  HttpAnswer set_level(const HttpRequest& request) const;
  std::string status() const;
  std::vector<std::string> not_ready() const;
  ServiceFacts facts() const;
  std::shared_ptr<Bucket> bucket() const;

  const std::string name_;
  ServiceConfig config_;
  const Hooks hooks_;
  const Logger log_;
  Systemd systemd_;
  Signals signals_;

  std::shared_ptr<OtlpExporter> spans_;
  mutable std::mutex mutex_;  ///< guards what follows
  std::shared_ptr<Bucket> bucket_;
  std::exception_ptr failure_;
  std::string stuck_;

  std::atomic<bool> working_{false};
  std::atomic<bool> ended_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> reloads_{0};
  std::atomic<std::uint64_t> reloads_failed_{0};
  std::atomic<Clock::rep> ticked_at_{0};
  std::stop_source stop_;

  // Of the main thread.
  std::optional<Clock::time_point> force_at_;
  bool told_ready_ = false;
  std::string told_status_;
  Clock::time_point alive_at_;
  struct Turns {
    std::uint64_t turns = 0;
    Clock::time_point since;
  };
  std::map<std::string, Turns> turns_;  ///< of the loops, by type

  std::string address_;  ///< where is served; empty: nowhere
  std::unique_ptr<HttpServer> server_;
  std::thread thread_;
};

}  // namespace dmm::service
