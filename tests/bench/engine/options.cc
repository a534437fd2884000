#include "tests/bench/engine/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <sstream>
#include <stdexcept>

namespace dmm::bench {
namespace {

std::size_t number(const std::string& option, const std::string& text) {
  std::size_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || rest != end) {
    throw std::invalid_argument(fmt::format("{} needs a number, not \"{}\"", option, text));
  }
  return value;
}

std::size_t positive(const std::string& option, const std::string& text) {
  const std::size_t value = number(option, text);
  if (value == 0) throw std::invalid_argument(option + " needs a number from 1");
  return value;
}

std::uint32_t parse_size(std::string text) {
  const std::string given = text;
  std::size_t unit = 1;
  if (text.ends_with('k')) unit = 1'000;
  if (text.ends_with('M')) unit = 1'000'000;
  if (unit > 1) text.pop_back();
  const std::size_t size = number("--size", text);
  if (size > 10'000'000 || size * unit < 1'000 || size * unit > 10'000'000) {
    throw std::invalid_argument(
        fmt::format("--size needs 1k to 10M rows, as 1k or 100k or 1M, not \"{}\"", given));
  }
  return static_cast<std::uint32_t>(size * unit);
}

bool same_letters(const std::string& a, const std::string& b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

/// W6 means all its variants.
void add_workload(const std::string& name, std::vector<std::string>& out) {
  const std::size_t before = out.size();
  for (const std::string& workload : workloads()) {
    if (same_letters(workload, name) || (same_letters(name, "W6") && is_reports(workload))) {
      out.push_back(workload);
    }
  }
  if (out.size() > before) return;
  throw std::invalid_argument(
      fmt::format("there is no workload {}; known: {}", name, fmt::join(workloads(), " ")));
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  std::istringstream stream(list);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

Task parse_child(const std::vector<std::string>& words) {
  if (words.size() != 6) {
    throw std::invalid_argument("--child SUBJECT WORKLOAD SIZE UPDATES BATCHES, and nothing else");
  }
  return {words[1], words[2], static_cast<std::uint32_t>(number("SIZE", words[3])),
          number("UPDATES", words[4]), number("BATCHES", words[5])};
}

bool parse_switch(const std::string& option, Options& options) {
  if (option == "--quick") {
    options.quick = true;
  } else if (option == "--full") {
    options.full = true;
  } else if (option == "--instructions") {
    options.instructions = true;
  } else if (option == "--check") {
    options.check = true;
  } else if (option == "--verify") {
    options.verify = true;
  } else {
    return false;
  }
  return true;
}

void parse_value(const std::string& option, const std::string& value, Options& options) {
  if (option == "--json") {
    options.json = value;
  } else if (option == "--peers") {
    options.peers = value;
  } else if (option == "--rounds") {
    options.rounds = static_cast<int>(std::min<std::size_t>(positive(option, value), 1'000));
  } else if (option == "--count") {
    options.updates = positive(option, value);
  } else if (option == "--workload") {
    for (const std::string& name : split(value)) add_workload(name, options.workloads);
  } else if (option == "--size") {
    for (const std::string& size : split(value)) options.sizes.push_back(parse_size(size));
  } else {
    throw std::invalid_argument(option + ": unknown");
  }
}

}  // namespace

const char* const kUsage =
    "usage: bench_engine [--workload NAME,...] [--size SIZE,...] [--quick | --full] "
    "[--instructions]\n"
    "                    [--rounds N] [--count UPDATES] [--peers DIRECTORY] [--json FILE] "
    "[--check]\n"
    "       bench_engine --verify [--workload NAME,...] [--size SIZE,...]\n";

Options parse_options(const std::vector<std::string>& arguments) {
  Options options;
  if (!arguments.empty() && arguments[0] == "--child") {
    options.child = parse_child(arguments);
    return options;
  }
  bool rounds_given = false;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& option = arguments[i];
    if (parse_switch(option, options)) continue;
    if (i + 1 == arguments.size()) {
      throw std::invalid_argument(option + ": unknown, or its value is missing");
    }
    rounds_given = rounds_given || option == "--rounds";
    parse_value(option, arguments[++i], options);
  }
  if (options.quick && options.full) throw std::invalid_argument("--quick or --full, not both");
  if (options.quick && !rounds_given) options.rounds = 1;
  if (options.workloads.empty()) options.workloads = workloads();
  if (options.sizes.empty()) {
    if (options.verify) {
      options.sizes = {1'000};
    } else if (options.quick) {
      options.sizes = {1'000, 100'000};
    } else {
      options.sizes = {1'000, 10'000, 100'000, 1'000'000};
    }
  }
  std::ranges::sort(options.sizes);
  return options;
}

std::string size_name(std::uint32_t size) {
  if (size % 1'000'000 == 0) return fmt::format("{}M", size / 1'000'000);
  if (size % 1'000 == 0) return fmt::format("{}k", size / 1'000);
  return fmt::format("{}", size);
}

}  // namespace dmm::bench
