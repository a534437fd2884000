// The area "cli" of scripts/bench: how long the command line tool takes from its start to its end,
// beside programs that do nothing, or nearly so. Each call is a process of its own, made as a shell
// makes it; the programs take turns, and of each the median of all calls counts.

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "dmm/bucket.h"
#include "dmm/testing/child_process.h"
#include "dmm/testing/nats_server.h"
#include "tests/bench/support/report.h"
#include "tests/bench/support/statistics.h"

extern char** environ;

namespace dmm::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::duration<double, std::milli>;
using Words = std::vector<std::string>;

constexpr double kStartGoal = 50;  // milliseconds

struct Arguments {
  std::size_t count = 50;  // calls of each program in a round
  std::size_t rounds = 3;
  std::string json;
  bool check = false;
};

struct Program {
  std::string name;
  Words words;
};

/// Of one call, in milliseconds.
struct Cost {
  double wall = 0;  ///< from the call to the end
  double cpu = 0;   ///< of the process: what a machine that does something else disturbs less
};

double milliseconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_usec) / 1e3;
}

/// Its output is thrown away. Throws if it fails.
Cost cost_of(const Program& program) {
  std::vector<char*> argv;
  for (const std::string& word : program.words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  const auto begun = Clock::now();
  pid_t child = -1;
  const int failed = posix_spawn(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) throw std::runtime_error(program.name + ": " + std::strerror(failed));
  int status = 0;
  rusage used{};
  if (::wait4(child, &status, 0, &used) != child || status != 0) {
    throw std::runtime_error(fmt::format("{} ended with {}", program.name, status));
  }
  return {Milliseconds(Clock::now() - begun).count(),
          milliseconds(used.ru_utime) + milliseconds(used.ru_stime)};
}

/// A program that may be missing.
void add_if_there(std::vector<Program>& programs, const std::string& name, Words words) {
  const auto path = testing::find_program(words.front());
  if (!path) return;
  words.front() = *path;
  programs.push_back({name, std::move(words)});
}

constexpr const char* kFloor = "/bin/true";
constexpr const char* kVersion = "version";
constexpr const char* kHelp = "--help";
constexpr const char* kList = "ls of 100";

Report measure(const Arguments& arguments) {
  const testing::NatsServer server;
  ::setenv("DMM_SERVER", server.url().c_str(), 1);
  ::setenv("DMM_NAMESPACE", "bench", 1);
  {
    BucketOptions options;
    options.connection.servers = {server.url()};
    Bucket bucket = Bucket::open("bench", std::move(options));
    std::vector<std::pair<Identity, nlohmann::json>> news;
    for (int i = 0; i < 100; ++i)
      news.emplace_back(Identity{"player", std::to_string(i)}, "{}"_json);
    if (!bucket.notify_all(news).empty()) throw std::runtime_error("notify failed");
  }
  std::vector<Program> others = {{kFloor, {kFloor}}};
  add_if_there(others, "nats-server --version", {"nats-server", "--version"});
  add_if_there(others, "python3 -c pass", {"python3", "-c", "pass"});
  std::vector<Program> ours = {
      {kVersion, {DMM_CLI, "version"}}, {kHelp, {DMM_CLI, "--help"}}, {kList, {DMM_CLI, "ls"}}};
  struct Costs {
    std::vector<double> wall;
    std::vector<double> cpu;
  };
  std::map<std::string, Costs> costs;
  for (const auto* all : {&others, &ours}) {
    for (const Program& one : *all) cost_of(one);  // into the cache of the disk
  }
  for (std::size_t round = 0; round < arguments.rounds * arguments.count; ++round) {
    for (const auto* all : {&others, &ours}) {
      for (const Program& one : *all) {
        const Cost cost = cost_of(one);
        costs[one.name].wall.push_back(cost.wall);
        costs[one.name].cpu.push_back(cost.cpu);
      }
    }
  }
  Report report;
  for (const Program& one : ours) {
    const double here = median(costs[one.name].wall);
    const auto within = [here](double most) {
      return Goal{fmt::format("<= {} ms", most), [=] { return here <= most; }};
    };
    for (const Program& other : others) {
      // The goals are those of the time itself; they are told once.
      const bool first = other.name == kFloor;
      report.add({"cli " + one.name, here, "ms", other.name, median(costs[other.name].wall),
                  first ? within(kStartGoal) : Goal(), first ? within(kStartGoal / 2) : Goal()});
    }
    report.add({"cli CPU, " + one.name,
                median(costs[one.name].cpu),
                "ms",
                kFloor,
                median(costs[kFloor].cpu),
                {},
                {}});
  }
  return report;
}

Arguments read_arguments(int argc, char** argv) {
  Arguments arguments;
  const auto number = [](const char* text) {
    std::size_t value = 0;
    const char* end = text + std::strlen(text);
    const auto read = std::from_chars(text, end, value);
    if (read.ec != std::errc() || read.ptr != end || value == 0) {
      throw std::invalid_argument(fmt::format("\"{}\" is no number from 1", text));
    }
    return value;
  };
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--check") {
      arguments.check = true;
      continue;
    }
    if (i + 1 >= argc) throw std::invalid_argument(fmt::format("{} needs a value", name));
    const char* value = argv[++i];
    if (name == "--count") {
      arguments.count = number(value);
    } else if (name == "--rounds") {
      arguments.rounds = number(value);
    } else if (name == "--json") {
      arguments.json = value;
    } else {
      throw std::invalid_argument(fmt::format("there is no option {}", name));
    }
  }
  return arguments;
}

int run(int argc, char** argv) {
  Arguments arguments;
  try {
    arguments = read_arguments(argc, argv);
  } catch (const std::invalid_argument& e) {
    fmt::print(stderr, "bench_cli: {}\n", e.what());
    return 2;
  }
  const Report report = measure(arguments);
  report.print();
  if (!arguments.json.empty()) report.append_json(arguments.json);
  return arguments.check && !report.below_floor().empty() ? 3 : 0;
}

}  // namespace
}  // namespace dmm::bench

int main(int argc, char** argv) {
  try {
    return dmm::bench::run(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_cli: {}\n", e.what());
    return 1;
  }
}
