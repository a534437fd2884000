// The area "resources" of scripts/bench: external objects kept in step through PostgreSQL, beside
// job systems on the same PostgreSQL and beside bare statements.

#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "tests/bench/resources/peers.h"
#include "tests/bench/resources/scene.h"
#include "tests/bench/support/report.h"
#include "tests/bench/support/statistics.h"

namespace dmm::bench {
namespace {

/// Callers of the figure "inform single": as many as a program with some traffic has.
constexpr std::size_t kSingleCallers = 64;

struct Arguments {
  std::size_t count = 20'000;
  std::size_t expired = 1'000'000;
  std::size_t rounds = 3;
  bool check = false;
  std::string json;
  std::string peers;
};

std::optional<std::size_t> number(std::string_view text) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value == 0) return std::nullopt;
  return value;
}

std::optional<Arguments> parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--check") {
      arguments.check = true;
      continue;
    }
    if (i + 1 == argc) return std::nullopt;
    const std::string_view value = argv[++i];
    std::size_t* const size = name == "--count"     ? &arguments.count
                              : name == "--expired" ? &arguments.expired
                              : name == "--rounds"  ? &arguments.rounds
                                                    : nullptr;
    if (size != nullptr) {
      const auto read = number(value);
      if (!read) return std::nullopt;
      *size = *read;
    } else if (name == "--json") {
      arguments.json = value;
    } else if (name == "--peers") {
      arguments.peers = value;
    } else {
      return std::nullopt;
    }
  }
  return arguments;
}

/// The best of some rounds: other work on the machine only makes it slower.
template <class Measure>
double best(std::size_t rounds, Measure measure) {
  double most = 0;
  for (std::size_t i = 0; i < rounds; ++i) most = std::max(most, measure());
  return most;
}

Goal at_least(const double& value, double least) {
  return {fmt::format(">= {:.0f}", least), [value, least] { return value >= least; }};
}

/// A figure of dmm, beside each peer that has it.
void add(Report& report, Figure figure, const std::vector<ResourcePeer>& peers) {
  report.add(figure);
  for (const ResourcePeer& peer : peers) {
    const auto found = peer.values.find(figure.name);
    if (found == peer.values.end()) continue;
    Figure beside = figure;
    beside.against = peer.system;
    beside.baseline = found->second;
    beside.floor = {};
    beside.aim = {};
    report.add(beside);
  }
}

void measure_rates(ResourceScene& scene, const Arguments& arguments,
                   const std::vector<ResourcePeer>& peers, Report& report) {
  const std::size_t single = std::max<std::size_t>(arguments.count / 10, 100);
  const auto rounds = arguments.rounds;
  for (const std::size_t callers : {1U, 16U, 64U, 128U}) {
    const std::size_t count = callers == 1 ? single : arguments.count;
    const double bare = best(rounds, [&] { return scene.insert_single(count, callers); });
    const double value = best(rounds, [&] { return scene.inform_single(count, callers); });
    Figure figure{fmt::format("inform single {} callers", callers),
                  value,
                  "1/s",
                  "bare INSERT",
                  bare,
                  {},
                  {}};
    if (callers == 1) figure.name = "inform single 1 caller";
    if (callers == kSingleCallers) {
      figure.name = "inform single";
      figure.floor = at_least(value, 10'000);
      figure.aim = at_least(value, 20'000);
    }
    add(report, figure, peers);
  }
  const double bare = best(rounds, [&] { return scene.insert_batch(arguments.count); });
  double value = best(rounds, [&] { return scene.inform_batch(arguments.count); });
  add(report,
      {"inform batch", value, "1/s", "bare INSERT of batches", bare, at_least(value, 10'000),
       at_least(value, 20'000)},
      peers);
  // What another system of this kind does: 10 for each place, at 20 times that.
  for (const std::size_t parallelism : {1U, 10U, 100U}) {
    const std::size_t count = parallelism == 1 ? single : arguments.count;
    value = best(rounds, [&] { return scene.work(count, parallelism); });
    const double goal = 200.0 * static_cast<double>(parallelism);
    add(report,
        {fmt::format("work parallelism {}", parallelism), value, "1/s", "20 x 10 a place", goal,
         at_least(value, goal), at_least(value, 2 * goal)},
        peers);
  }
}

void measure_latencies(ResourceScene& scene, const Arguments& arguments,
                       const std::vector<ResourcePeer>& peers, Report& report) {
  const std::size_t count = std::max<std::size_t>(arguments.count / 50, 20);
  const Latencies idle = scene.latency(count, 50);
  const Latencies busy = scene.latency(count * 5, 300);
  add(report, {"inform latency p50", idle.p50, "ms", "", 0, {}, {}}, peers);
  add(report, {"inform latency p99", idle.p99, "ms", "", 0, {}, {}}, peers);
  add(report, {"inform latency 300/s p50", busy.p50, "ms", "", 0, {}, {}}, peers);
  add(report, {"inform latency 300/s p99", busy.p99, "ms", "", 0, {}, {}}, peers);
}

int run(const Arguments& arguments) {
  ResourceScene scene;
  std::vector<ResourcePeer> peers;
  if (!arguments.peers.empty()) {
    peers = measure_resource_peers(arguments.peers, scene.postgres(), arguments.count);
  }
  Report report;
  measure_rates(scene, arguments, peers, report);
  measure_latencies(scene, arguments, peers, report);
  const Expired expired = scene.expire(arguments.expired);
  report.add({"expire rate", expired.rows_per_s, "1/s", "", 0, {}, {}});
  const double longest = expired.longest_statement_s;
  report.add({"expire statement",
              longest,
              "s",
              "",
              0,
              {"< 1", [longest] { return longest < 1; }},
              {"< 0.3", [longest] { return longest < 0.3; }}});
  report.print();
  for (const ResourcePeer& peer : peers) fmt::print("{}\n", peer.system);
  if (!arguments.json.empty()) report.append_json(arguments.json);
  return arguments.check && !report.below_floor().empty() ? 3 : 0;
}

}  // namespace
}  // namespace dmm::bench

int main(int argc, char** argv) {
  const auto arguments = dmm::bench::parse(argc, argv);
  if (!arguments) {
    std::fputs(
        "Usage: bench_resources [--count N] [--expired N] [--rounds N] [--json FILE] [--check]"
        " [--peers DIRECTORY]\n",
        stderr);
    return 2;
  }
  try {
    return dmm::bench::run(*arguments);
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_resources: {}\n", e.what());
    return 1;
  }
}
