#include "tests/bench/loop/subjects.h"

#include <fmt/format.h>
#include <signal.h>
#include <time.h>

#include <fstream>
#include <stdexcept>
#include <utility>

#include "tests/bench/support/pace.h"

namespace dmm::bench {

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
constexpr auto kLook = std::chrono::microseconds(500);

testing::ChildOptions options_of(const Role& role) {
  testing::ChildOptions options;
  options.arguments = {"--role",      role.name, "--server", role.server,
                       "--namespace", role.ns,   "--board",  role.board.string()};
  if (role.and_cache) options.arguments.emplace_back("--and-cache");
  if (!role.snapshots.empty()) {
    options.arguments.insert(options.arguments.end(), {"--snapshots", role.snapshots});
  }
  options.output = testing::Output::discard;
  options.error = testing::Output::inherit;
  return options;
}

}  // namespace

Seconds exact_cpu_time(pid_t pid) {
  clockid_t clock{};
  timespec time{};
  if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &time) != 0) {
    throw std::runtime_error(fmt::format("no process {}", pid));
  }
  return Seconds(static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9);
}

Subject::Subject(Role role)
    : role_(std::move(role)),
      board_(role_.board),
      process_(std::filesystem::read_symlink("/proc/self/exe").string(), options_of(role_)) {}

Subject::~Subject() {
  process_.kill(SIGCONT);
  process_.stop();
}

void Subject::stop() {
  process_.kill(SIGCONT);
  const auto status = process_.stop();
  if (!status.success()) {
    throw std::runtime_error(
        fmt::format("the {} ended with {}", role_.name, testing::to_string(status)));
  }
}

void Subject::freeze() {
  process_.kill(SIGSTOP);
}

void Subject::thaw() {
  process_.kill(SIGCONT);
}

Seconds Subject::wait(const char* what, std::int64_t begun_ns,
                      const std::function<bool(const Board&)>& done,
                      std::chrono::seconds patience) {
  const auto end = Clock::now() + patience;
  while (!done(*board_.operator->())) {
    if (!process_.running()) throw std::runtime_error(fmt::format("the {} ended", role_.name));
    if (Clock::now() > end) {
      throw std::runtime_error(
          fmt::format("waited {} s for the {} {}: taken {}, rows {}, notified {}, sending {}",
                      patience.count(), role_.name, what, board_->taken.load(), board_->rows.load(),
                      board_->notified.load(), board_->sending.load()));
    }
    wait_until(Clock::now() + kLook);
  }
  return std::chrono::nanoseconds(monotonic_ns() - begun_ns);
}

Seconds Subject::cpu() const {
  return exact_cpu_time(process_.pid());
}

std::uint64_t Subject::peak_bytes() const {
  std::ifstream status(fmt::format("/proc/{}/status", process_.pid()));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) * 1'024;
  }
  throw std::runtime_error("the system does not say the peak of memory");
}

}  // namespace dmm::bench
