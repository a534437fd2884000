// The area "notify" of scripts/bench: notify -> materialize beside a bare libnats client that does
// the same durable operations, and beside job systems of other people. All take turns, A B A B, on
// servers of their own.

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "dmm/testing/nats_server.h"
#include "tests/bench/notify/bare_client.h"
#include "tests/bench/notify/dmm_client.h"
#include "tests/bench/notify/peers.h"
#include "tests/bench/support/cpu.h"
#include "tests/bench/support/report.h"
#include "tests/bench/support/statistics.h"

namespace dmm::bench {
namespace {

using Seconds = std::chrono::duration<double>;
constexpr auto kInterval = std::chrono::milliseconds(20);  // 50 a second
constexpr std::size_t kSteadyIdentities = 10'000;
constexpr std::size_t kSongBytes = 100;
/// Peers work this share of --count, because they are slower; they warm up before.
constexpr std::size_t kPeerShare = 5;

struct Arguments {
  std::size_t count = 50'000;
  std::size_t latencies = 250;
  std::size_t rounds = 3;
  bool check = false;
  std::string json;
  std::filesystem::path peers;  // their directory; empty: without them
};

/// What one side did, a value for each round (latencies: for each notify).
struct Side {
  std::vector<double> publish, drain, drain_cas, steady;     // 1/s
  std::vector<double> drain_cpu, drain_cas_cpu, steady_cpu;  // us each, client and server
  std::vector<double> latency, stored;                       // us, of identities worked before
  std::vector<double> latency_cold, stored_cold;             // us, of those met for the first time
};

/// Runs `action`, which returns its time, and notes rate and CPU time.
template <class Action>
void measure(pid_t server, std::size_t count, std::vector<double>& rates, std::vector<double>& cpu,
             Action action) {
  const auto before = cpu_time(::getpid()) + cpu_time(server);
  const Seconds time = action();
  const auto used = cpu_time(::getpid()) + cpu_time(server) - before;
  rates.push_back(static_cast<double>(count) / time.count());
  cpu.push_back(used.count() * 1e6 / static_cast<double>(count));
}

/// What a peer did, a value for each round.
struct PeerSide {
  std::string system;
  std::vector<double> steady;                // 1/s
  std::vector<double> client_us, server_us;  // CPU of each job
};
using PeerSides = std::map<std::string, PeerSide>;

void require_empty(std::uint64_t tokens, const char* who) {
  if (tokens == 0) return;
  throw std::runtime_error(fmt::format("{} left {} tokens behind: no figure", who, tokens));
}

void append_us(std::vector<double>& to, const std::vector<Seconds>& from) {
  for (const Seconds time : from) to.push_back(time.count() * 1e6);
}

void run_bare(const Arguments& arguments, const testing::NatsServer& server, std::size_t round,
              Side& side, std::vector<double>& round_trips) {
  // As long as what dmm sends for the same object.
  const std::string payload =
      fmt::format(R"({{"current_song":"{:*<{}}","id":"p12345","plays":0}})", "", kSongBytes);
  BareClient client(server.url(), fmt::format("bare{}", round), payload);
  const pid_t pid = server.pid();
  client.store_entries(arguments.count);
  side.publish.push_back(static_cast<double>(arguments.count) /
                         client.publish(arguments.count, 2'048).count());
  measure(pid, arguments.count, side.drain, side.drain_cpu,
          [&] { return client.drain(arguments.count, false); });
  client.publish(arguments.count, 2'048);
  measure(pid, arguments.count, side.drain_cas, side.drain_cas_cpu,
          [&] { return client.drain(arguments.count, true); });
  measure(pid, arguments.count, side.steady, side.steady_cpu,
          [&] { return client.steady(arguments.count, kSteadyIdentities); });
  append_us(side.latency, client.latencies(arguments.latencies, kInterval));
  append_us(round_trips, client.round_trips(arguments.latencies, kInterval));
  require_empty(client.tokens_left() - arguments.latencies, "the bare client");
}

void run_dmm(const Arguments& arguments, const testing::NatsServer& server, std::size_t round,
             Side& side) {
  DmmClient client(server.url(), fmt::format("dmm{}", round), std::string(kSongBytes, '*'));
  const pid_t pid = server.pid();
  // Settles every identity, so that the entries of the measured runs exist.
  client.notify(arguments.count);
  client.drain(arguments.count, false);
  side.publish.push_back(static_cast<double>(arguments.count) /
                         client.notify(arguments.count).count());
  measure(pid, arguments.count, side.drain, side.drain_cpu,
          [&] { return client.drain(arguments.count, false); });
  measure(pid, arguments.count, side.steady, side.steady_cpu,
          [&] { return client.steady(arguments.count, kSteadyIdentities); });
  client.notify(arguments.count);
  measure(pid, arguments.count, side.drain_cas, side.drain_cas_cpu,
          [&] { return client.drain(arguments.count, true); });
  const auto latencies = client.latencies(arguments.latencies, kInterval);
  append_us(side.latency, latencies.warm.started);
  append_us(side.stored, latencies.warm.stored);
  append_us(side.latency_cold, latencies.cold.started);
  append_us(side.stored_cold, latencies.cold.stored);
  require_empty(client.tokens_left(), "dmm");
}

std::size_t peer_count(const Arguments& arguments) {
  return (arguments.count + kPeerShare - 1) / kPeerShare;
}

void run_peers(const Arguments& arguments, Peers& peers, PeerSides& sides) {
  for (const std::string& name : peers.names()) {
    fmt::print(stderr, "  {}\n", name);
    const PeerRun run = peers.steady(name, peer_count(arguments));
    PeerSide& side = sides[name];
    side.system = run.system;
    side.steady.push_back(run.rate);
    side.client_us.push_back(run.client_us);
    side.server_us.push_back(run.server_us);
  }
}

Goal at_least(double ratio, double wanted) {
  return {fmt::format(">= {:.2f}", wanted), [=] { return ratio >= wanted; }};
}

Goal at_most(double value, double wanted, std::string text) {
  return {std::move(text), [=] { return value <= wanted; }};
}

void add_rate(Report& report, const char* name, const std::vector<double>& dmm,
              const std::string& against, const std::vector<double>& baseline, double floor,
              double aim) {
  Figure figure{name, median(dmm), "jobs/s", against, median(baseline), {}, {}};
  figure.floor = at_least(figure.ratio(), floor);
  figure.aim = at_least(figure.ratio(), aim);
  report.add(std::move(figure));
}

Report make_report(const Side& dmm, const Side& bare, const std::vector<double>& round_trips) {
  Report report;
  add_rate(report, "notify drain", dmm.drain, "bare client", bare.drain, 0.4, 0.7);  // P10
  add_rate(report, "notify drain cas", dmm.drain_cas, "bare client", bare.drain_cas, 0.4,
           0.6);                                                                        // P11
  add_rate(report, "notify steady", dmm.steady, "bare client", bare.steady, 0.4, 0.7);  // P12
  // P14
  const double p50 = quantile(dmm.latency, 0.5);
  const double bare50 = quantile(bare.latency, 0.5);
  report.add({"notify latency p50", p50, "us", "bare client", bare50,
              at_most(p50, 2 * bare50, "<= 2.00 x"), at_most(p50, bare50 + 50, "<= raw + 50 us")});
  const double p99 = quantile(dmm.latency, 0.99);
  const double bare99 = quantile(bare.latency, 0.99);
  report.add({"notify latency p99", p99, "us", "bare client", bare99,
              at_most(p99, 3 * bare99, "<= 3.00 x"), at_most(p99, 2 * bare99, "<= 2.00 x")});
  // P13
  const double cpu = median(dmm.drain_cpu);
  report.add({"notify cpu", cpu, "us", "bare client", median(bare.drain_cpu),
              at_most(cpu, 60, "<= 60 us"), at_most(cpu, 40, "<= 40 us")});
  // P15
  const double stored50 = quantile(dmm.stored, 0.5);
  const double trip50 = quantile(round_trips, 0.5);
  report.add({"notify stored p50", stored50, "us", "ping", trip50,
              at_most(stored50, 4 * trip50, "<= 4.00 x"), at_most(stored50, 300, "<= 300 us")});
  const double stored99 = quantile(dmm.stored, 0.99);
  report.add({"notify stored p99",
              stored99,
              "us",
              "ping",
              quantile(round_trips, 0.99),
              at_most(stored99, 3'000, "<= 3 ms"),
              {}});
  // What the first notify of an identity costs more: its entry is read.
  report.add({"notify latency cold p50",
              quantile(dmm.latency_cold, 0.5),
              "us",
              "bare client",
              bare50,
              {},
              {}});
  report.add(
      {"notify stored cold p50", quantile(dmm.stored_cold, 0.5), "us", "ping", trip50, {}, {}});
  return report;
}

/// P12: at least twice the best of them, so at least twice each; aim four times.
void add_peers(Report& report, const Side& dmm, const PeerSides& peers) {
  for (const auto& [name, peer] : peers) {
    add_rate(report, "notify steady peers", dmm.steady, peer.system, peer.steady, 2, 4);
  }
  for (const auto& [name, peer] : peers) {
    report.add({"notify cpu peers",
                median(dmm.steady_cpu),
                "us",
                peer.system,
                median(peer.client_us) + median(peer.server_us),
                {},
                {}});
  }
}

void print_peers(const PeerSides& peers) {
  if (peers.empty()) return;
  fmt::print("\npeers (cpu of each job, client + server)\n");
  for (const auto& [name, peer] : peers) {
    fmt::print("  {:>7.1f} + {:>7.1f} us  {}\n", median(peer.client_us), median(peer.server_us),
               peer.system);
  }
}

void print_beside(const Side& dmm, const Side& bare) {
  fmt::print("\nbeside (no goals)               dmm     baseline\n");
  const auto line = [](const char* name, const std::vector<double>& a, const std::vector<double>& b,
                       const char* unit) {
    fmt::print("  {:<22} {:>10.1f} {:>12.1f}  {}\n", name, median(a), median(b), unit);
  };
  line("notify, pipelined", dmm.publish, bare.publish, "1/s");
  line("cpu of drain cas", dmm.drain_cas_cpu, bare.drain_cas_cpu, "us");
  line("cpu of steady", dmm.steady_cpu, bare.steady_cpu, "us, publishing included");
}

int run(const Arguments& arguments) {
  const testing::NatsServer server;
  fmt::print("notify: {} tokens, {} notifies at 50/s, {} rounds in turns, nats-server at {}\n",
             arguments.count, arguments.latencies, arguments.rounds, server.url());
  fmt::print("A, the bare client: {}\nB, dmm: Bucket, register_type, WorkStream with defaults\n",
             kBareClientIs);
  std::optional<Peers> others;
  if (!arguments.peers.empty()) {
    others.emplace(arguments.peers, server);
    fmt::print("C, peers: {}, {} jobs each\n", fmt::join(others->names(), ", "),
               peer_count(arguments));
  }
  Side bare;
  Side dmm;
  PeerSides peers;
  std::vector<double> round_trips;
  for (std::size_t round = 0; round < arguments.rounds; ++round) {
    fmt::print(stderr, "round {} of {}: bare client\n", round + 1, arguments.rounds);
    run_bare(arguments, server, round, bare, round_trips);
    fmt::print(stderr, "round {} of {}: dmm\n", round + 1, arguments.rounds);
    run_dmm(arguments, server, round, dmm);
    if (others) {
      fmt::print(stderr, "round {} of {}: peers\n", round + 1, arguments.rounds);
      run_peers(arguments, *others, peers);
    }
  }
  Report report = make_report(dmm, bare, round_trips);
  add_peers(report, dmm, peers);
  fmt::print("\n");
  report.print();
  print_beside(dmm, bare);
  print_peers(peers);
  if (!arguments.json.empty()) report.append_json(arguments.json);
  const auto below = report.below_floor();
  return arguments.check && !below.empty() ? 3 : 0;
}

/// A number from 1 to 10 million, or std::invalid_argument.
std::size_t number_from(const std::string& option, const std::string& text) {
  constexpr std::size_t kMost = 10'000'000;
  std::size_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || rest != end || value < 1 || value > kMost) {
    throw std::invalid_argument(
        fmt::format("{} takes a number from 1 to {}, not \"{}\"", option, kMost, text));
  }
  return value;
}

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--check") {
      arguments.check = true;
      continue;
    }
    if (i + 1 >= argc) throw std::invalid_argument(option + ": unknown, or its value is missing");
    const std::string value = argv[++i];
    if (option == "--json") {
      arguments.json = value;
    } else if (option == "--count") {
      arguments.count = number_from(option, value);
    } else if (option == "--latencies") {
      arguments.latencies = number_from(option, value);
    } else if (option == "--rounds") {
      arguments.rounds = number_from(option, value);
    } else if (option == "--peers") {
      arguments.peers = value;
    } else {
      throw std::invalid_argument(option + ": unknown");
    }
  }
  return arguments;
}

}  // namespace
}  // namespace dmm::bench

int main(int argc, char** argv) {
  try {
    return dmm::bench::run(dmm::bench::parse(argc, argv));
  } catch (const std::invalid_argument& e) {
    fmt::print(stderr,
               "bench_notify: {}\n"
               "usage: bench_notify [--json FILE] [--count N] [--latencies N] [--rounds N] "
               "[--check] [--peers DIRECTORY]\n",
               e.what());
    return 2;
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_notify: {}\n", e.what());
    return 1;
  }
}
