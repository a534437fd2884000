// The area "fleet" of scripts/bench: workers as processes of their own, and what poison, a backlog
// and an identity that is notified without end do to the others.

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include "tests/bench/fleet/figures.h"
#include "tests/bench/fleet/worker.h"

namespace dmm::bench {
namespace {

struct Arguments {
  FleetSize size;
  std::string only;
  std::size_t minutes = 0;  ///< of a soak; 0: none
  bool check = false;
  std::string json;
  std::string role;
  Role worker;
};

int run(const Arguments& arguments) {
  const FleetSize& size = arguments.size;
  Report report;
  if (arguments.minutes > 0) {
    fmt::print("soak: two workers, 500 news a second to {} identities, {} minutes\n",
               size.identities, arguments.minutes);
    measure_soak(size, std::chrono::minutes(arguments.minutes), report);
  } else {
    fmt::print(
        "fleet: two workers, {} news a second to {} identities for {} s beside what is measured; "
        "a backlog of {} tokens for one worker, with 50 news a second meanwhile\n",
        size.rate, size.identities, size.time.count(), size.backlog);
    const auto wanted = [&](std::string_view part) {
      return arguments.only.empty() || arguments.only == part;
    };
    if (wanted("poison")) measure_poison(size, report);
    if (wanted("hot")) measure_hot(size, report);
    if (wanted("backlog")) measure_backlog(size, report);
  }
  fmt::print("\n");
  report.print();
  if (!arguments.json.empty()) report.append_json(arguments.json);
  return arguments.check && !report.below_floor().empty() ? 3 : 0;
}

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

void set(Arguments& arguments, const std::string& option, const std::string& value) {
  if (option == "--json") {
    arguments.json = value;
  } else if (option == "--count") {
    arguments.size.backlog = number_from(option, value);
  } else if (option == "--seconds") {
    arguments.size.time = std::chrono::seconds(number_from(option, value));
  } else if (option == "--soak") {
    arguments.minutes = number_from(option, value);
  } else if (option == "--rounds") {
    number_from(option, value);  // each part is one measurement beside its own baseline
  } else if (option == "--only") {
    if (value != "poison" && value != "hot" && value != "backlog") {
      throw std::invalid_argument("--only takes poison, hot or backlog, not \"" + value + '"');
    }
    arguments.only = value;
  } else if (option == "--role") {
    arguments.role = value;
  } else if (option == "--server") {
    arguments.worker.server = value;
  } else if (option == "--board") {
    arguments.worker.board = value;
  } else if (option == "--run-directory") {
    arguments.worker.run_directory = value;
  } else {
    throw std::invalid_argument(option + ": unknown");
  }
}

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--check") {
      arguments.check = true;
    } else if (option == "--quick") {
      arguments.size = {.identities = 200,
                        .rate = 100,
                        .time = std::chrono::seconds(3),
                        .backlog = 30'000,
                        .hot_rate = 2'000};
    } else if (i + 1 >= argc) {
      throw std::invalid_argument(option + ": unknown, or its value is missing");
    } else {
      set(arguments, option, argv[++i]);
    }
  }
  return arguments;
}

}  // namespace
}  // namespace dmm::bench

int main(int argc, char** argv) {
  try {
    const auto arguments = dmm::bench::parse(argc, argv);
    if (!arguments.role.empty()) return dmm::bench::work(arguments.worker);
    return dmm::bench::run(arguments);
  } catch (const std::invalid_argument& e) {
    fmt::print(stderr,
               "bench_fleet: {}\n"
               "usage: bench_fleet [--json FILE] [--count TOKENS] [--seconds N] [--only "
               "poison|hot|backlog] [--soak MINUTES] [--quick] [--check]\n",
               e.what());
    return 2;
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_fleet: {}\n", e.what());
    return 1;
  }
}
