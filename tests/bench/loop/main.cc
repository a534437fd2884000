// The area "loop" of scripts/bench: reports through a view, beside a libnats client that only reads
// them. Each side is a process of its own; they take turns, A B A B, on one server.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "dmm/testing/nats_server.h"
#include "tests/bench/loop/intake.h"
#include "tests/bench/loop/start.h"
#include "tests/bench/loop/subjects.h"
#include "tests/bench/support/report.h"
#include "tests/bench/support/statistics.h"

namespace dmm::bench {
namespace {

struct Arguments {
  IntakeSize intake;
  std::vector<std::size_t> objects = {100'000, 1'000'000};
  std::size_t rounds = 3;
  bool check = false;
  std::string json;
  Role role;  // of a process under measurement
};

Goal at_least(double ratio, double wanted) {
  return {fmt::format(">= {:.2f}", wanted), [=] { return ratio >= wanted; }};
}

Goal at_most(double value, double wanted, const char* unit) {
  return {fmt::format("<= {:.3g} {}", wanted, unit), [=] { return value <= wanted; }};
}

std::string size_name(std::size_t count) {
  if (count % 1'000'000 == 0) return fmt::format("{}M", count / 1'000'000);
  if (count % 1'000 == 0) return fmt::format("{}k", count / 1'000);
  return std::to_string(count);
}

constexpr const char* kBare = "bare client";

void add_intake(Report& report, const Intake& intake) {
  Figure rate{
      "reports rate", median(intake.view.rate), "1/s", kBare, median(intake.bare.rate), {}, {}};
  rate.floor = at_least(rate.ratio(), 0.5);
  rate.aim = at_least(rate.ratio(), 0.8);
  report.add(std::move(rate));
  const double cpu = median(intake.view.cpu_us);
  report.add({"reports cpu", cpu, "us", kBare, median(intake.bare.cpu_us), at_most(cpu, 15, "us"),
              at_most(cpu, 8, "us")});
  report.add({"reports cpu server",
              median(intake.view.server_us),
              "us",
              kBare,
              median(intake.bare.server_us),
              {},
              {}});
  report.add({"reports memory",
              intake.view.peak_bytes / 1e6,
              "MB",
              kBare,
              intake.bare.peak_bytes / 1e6,
              {},
              {}});
}

void add_start(Report& report, std::size_t objects, const Start& start) {
  const std::string size = size_name(objects);
  // P16: of 1M objects, and as fast with fewer.
  const double per_object = 1.0 / 1'000'000;
  const double cold = median(start.cold);
  const double limit = static_cast<double>(objects) * per_object;
  report.add({"start cold " + size, cold, "s", kBare, median(start.replay),
              at_most(cold, 11 * limit, "s"), at_most(cold, 7 * limit, "s")});
  report.add({"start cold told " + size,
              median(start.cold_told),
              "s",
              kBare,
              median(start.replay),
              {},
              {}});
  report.add({"start cold memory " + size, start.cold_peak_bytes / 1e6, "MB", "", 0, {}, {}});
  if (!start.snapshot.empty()) {
    const double snapshot = median(start.snapshot);
    const double nothing = median(start.snapshot_resync);
    // P16 and P18.
    report.add({"start snapshot " + size, snapshot, "s", kBare, median(start.replay_cached),
                at_most(snapshot, 2 * limit, "s"), at_most(snapshot, 2 * limit, "s")});
    report.add({"resync snapshot " + size, nothing, "s", kBare, median(start.replay_cached),
                at_most(nothing, 2 * limit, "s"), at_most(nothing, 0.5 * limit, "s")});
    report.add({"snapshot stall " + size, median(start.snapshot_stall), "s", "", 0, {}, {}});
    report.add(
        {"start snapshot memory " + size, start.snapshot_peak_bytes / 1e6, "MB", "", 0, {}, {}});
  }
  if (start.resync.empty()) return;
  const double resync = median(start.resync);
  // P18.
  report.add({"resync " + size, resync, "s", kBare, median(start.replay_cached),
              at_most(resync, 2 * limit, "s"), at_most(resync, 0.5 * limit, "s")});
  report.add({"resync memory " + size, start.resync_peak_bytes / 1e6, "MB", "", 0, {}, {}});
}

int run(const Arguments& arguments) {
  const testing::NatsServer server;
  const IntakeSize& size = arguments.intake;
  fmt::print(
      "loop: {} devices, {} reports of 256 bytes in bursts of {}, one in 100 changes a row; start "
      "and resync with {} objects, {} rounds\n",
      size.devices, size.reports, size.burst, fmt::join(arguments.objects, " and "),
      arguments.rounds);
  fmt::print(
      "A, the bare client: libnats only, pull 1000 without acks, does nothing with what it reads\n"
      "B, dmm: Bucket, view of reports joined with {} zones, with defaults\n",
      100);
  Report report;
  fmt::print(stderr, "reports\n");
  const Intake intake = measure_intake(server, size);
  add_intake(report, intake);
  for (std::size_t i = 0; i < arguments.objects.size(); ++i) {
    const std::size_t objects = arguments.objects[i];
    add_start(report, objects,
              measure_start(server, objects, arguments.rounds, i + 1 == arguments.objects.size()));
  }
  fmt::print("\n");
  report.print();
  fmt::print(
      "\nThe view notified {} changed rows, as many as the oracle, and every token says its row.\n",
      intake.changed);
  if (!arguments.json.empty()) report.append_json(arguments.json);
  return arguments.check && !report.below_floor().empty() ? 3 : 0;
}

/// A number from 1 to 10 million, or std::invalid_argument.
std::size_t number_from(const std::string& option, std::string_view text) {
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

std::vector<std::size_t> numbers_from(const std::string& option, std::string_view text) {
  std::vector<std::size_t> numbers;
  while (true) {
    const auto comma = text.find(',');
    numbers.push_back(number_from(option, text.substr(0, comma)));
    if (comma == std::string_view::npos) return numbers;
    text.remove_prefix(comma + 1);
  }
}

void make_quick(Arguments& arguments) {
  arguments.intake = {2'000, 10'000, 1'000};
  arguments.objects = {2'000, 5'000};
  arguments.rounds = 1;
}

bool set(Arguments& arguments, const std::string& option, const std::string& value) {
  if (option == "--json")
    arguments.json = value;
  else if (option == "--devices")
    arguments.intake.devices = number_from(option, value);
  else if (option == "--reports" || option == "--count")
    arguments.intake.reports = number_from(option, value);
  else if (option == "--burst")
    arguments.intake.burst = number_from(option, value);
  else if (option == "--objects")
    arguments.objects = numbers_from(option, value);
  else if (option == "--rounds")
    arguments.rounds = number_from(option, value);
  else if (option == "--role")
    arguments.role.name = value;
  else if (option == "--server")
    arguments.role.server = value;
  else if (option == "--namespace")
    arguments.role.ns = value;
  else if (option == "--board")
    arguments.role.board = value;
  else if (option == "--snapshots")
    arguments.role.snapshots = value;
  else
    return false;
  return true;
}

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  // First, so that sizes that are named stand, wherever they do.
  if (std::find(argv + 1, argv + argc, std::string_view("--quick")) != argv + argc) {
    make_quick(arguments);
  }
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--quick") continue;
    if (option == "--check") {
      arguments.check = true;
    } else if (option == "--and-cache") {
      arguments.role.and_cache = true;
    } else if (i + 1 >= argc || !set(arguments, option, argv[i + 1])) {
      throw std::invalid_argument(option + ": unknown, or its value is missing");
    } else {
      ++i;
    }
  }
  return arguments;
}

}  // namespace
}  // namespace dmm::bench

int main(int argc, char** argv) {
  try {
    const auto arguments = dmm::bench::parse(argc, argv);
    if (!arguments.role.name.empty()) return dmm::bench::play(arguments.role);
    return dmm::bench::run(arguments);
  } catch (const std::invalid_argument& e) {
    fmt::print(stderr,
               "bench_loop: {}\n"
               "usage: bench_loop [--json FILE] [--devices N] [--reports N] [--burst N] "
               "[--objects N,N] [--rounds N] [--quick] [--check]\n",
               e.what());
    return 2;
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_loop: {}\n", e.what());
    return 1;
  }
}
