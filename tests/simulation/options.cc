#include "tests/simulation/options.h"

#include <fmt/format.h>

#include <charconv>
#include <stdexcept>
#include <string_view>

namespace dmm::simulation {

namespace {

constexpr std::uint64_t kSeedsMax = 10'000'000;
constexpr unsigned kJobsMax = 256;

std::uint64_t number(std::string_view option, std::string_view text, std::uint64_t least,
                     std::uint64_t most) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
    throw std::invalid_argument(
        fmt::format("{} is a number from {} to {}, not \"{}\"", option, least, most, text));
  }
  return value;
}

std::string names_of_bugs() {
  std::string names;
  for (const Bug bug : all_bugs()) {
    if (!names.empty()) names += ", ";
    names += to_string(bug);
  }
  return names;
}

}  // namespace

Options parse_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    if (option == "-h" || option == "--help") {
      options.help = true;
      continue;
    }
    if (option == "--verbose") {
      options.verbose = true;
      continue;
    }
    if (option == "--history" || option == "--logs") {
      (option == "--logs" ? options.logs : options.history) = true;
      continue;
    }
    if (i + 1 >= argc) throw std::invalid_argument(fmt::format("{} needs a value", option));
    const std::string_view value = argv[++i];
    if (option == "--seeds") {
      options.seeds = number(option, value, 1, kSeedsMax);
    } else if (option == "--from") {
      options.from = number(option, value, 0, ~std::uint64_t{0} - kSeedsMax);
    } else if (option == "--jobs") {
      options.jobs = static_cast<unsigned>(number(option, value, 1, kJobsMax));
    } else if (option == "--bug") {
      const auto bug = bug_called(value);
      if (!bug) {
        throw std::invalid_argument(
            fmt::format("there is no bug \"{}\"; there are {}", value, names_of_bugs()));
      }
      options.bug = *bug;
    } else {
      throw std::invalid_argument(fmt::format("there is no option {}", option));
    }
  }
  return options;
}

std::string usage() {
  return fmt::format(
      R"(Usage: dmm_simulate [--seeds N] [--from SEED] [--bug NAME] [--jobs N] [--history] [--logs]
       [--verbose]

Runs workers, lanes, observers and views against a server in memory, on a virtual clock, each seed
with other users, other faults and another order of threads, and checks the promises. The same seed
is the same history.

  --seeds N     how many (500)
  --from SEED   the first one (1)
  --bug NAME    give the workers a bug and stop at the first seed that finds it; exit code 0 then
                says that it was found. NAME, by the promise that it breaks:
{}  --jobs N      processes at a time (one for each core)
  --history     print all that happened
  --logs        histories have what the workers logged
  --verbose     say how often each crash point was reached, and killed a worker
)",
      bugs_by_promise());
}

}  // namespace dmm::simulation
