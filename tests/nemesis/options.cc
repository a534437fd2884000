#include "tests/nemesis/options.h"

#include "tests/nemesis/world.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <charconv>
#include <functional>
#include <map>
#include <random>
#include <stdexcept>
#include <string_view>

namespace dmm::nemesis {

namespace {

constexpr std::array<std::string_view, 4> kBugs{"none", "drop-news", "no-lease", "no-fence"};

template <class Number>
Number number(std::string_view name, std::string_view text, Number low, Number high) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < low || value > high) {
    throw std::invalid_argument(
        fmt::format("{} needs a number from {} to {}, not \"{}\"", name, low, high, text));
  }
  return value;
}

Bug bug_of(std::string_view text) {
  for (std::size_t i = 1; i < kBugs.size(); ++i) {
    if (text == kBugs[i]) return static_cast<Bug>(i);
  }
  throw std::invalid_argument(
      fmt::format("there is no bug \"{}\"; known: drop-news, no-lease, no-fence", text));
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> parts;
  for (;;) {
    const std::size_t comma = text.find(',');
    parts.emplace_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace

std::string_view to_string(Bug bug) noexcept {
  return kBugs[static_cast<std::size_t>(bug)];
}

Arguments parse_arguments(int argc, char** argv) {
  Arguments arguments;
  Options& options = arguments.options;
  Role role;
  std::string name;
  std::string value;
  const std::map<std::string, std::function<void()>, std::less<>> readers{
      {"--seconds", [&] { options.seconds = number(name, value, 5, 86'400); }},
      {"--seed", [&] { options.seed = number<std::uint64_t>(name, value, 1, UINT64_MAX); }},
      {"--bug", [&] { role.bug = options.bug = bug_of(value); }},
      {"--rate", [&] { role.rate = options.rate = number(name, value, 10, 100'000); }},
      {"--identities",
       [&] {
         role.identities = options.identities =
             number(name, value, 64, static_cast<int>(kIdentitiesMax));
       }},
      {"--notifies-min",
       [&] { options.notifies_min = number<std::uint64_t>(name, value, 1, UINT64_MAX); }},
      {"--json", [&] { options.json = value; }},
      {"--keep", [&] { options.keep = value; }},
      {"--role", [&] { role.name = value; }},
      {"--servers", [&] { role.servers = split(value); }},
      {"--directory", [&] { role.directory = value; }},
      {"--number", [&] { role.number = number<std::uint32_t>(name, value, 0, 1'000'000); }},
      {"--of", [&] { role.of = number<std::uint32_t>(name, value, 1, 100); }},
  };
  for (int i = 1; i < argc; ++i) {
    name = argv[i];
    if (name == "--help" || name == "-h") {
      arguments.help = true;
    } else if (name == "--cluster") {
      options.cluster = true;
    } else {
      const auto reader = readers.find(name);
      if (reader == readers.end()) {
        throw std::invalid_argument(fmt::format("there is no option {}", name));
      }
      if (i + 1 >= argc) throw std::invalid_argument(name + " needs a value");
      value = argv[++i];
      reader->second();
    }
  }
  if (options.seed == 0) options.seed = std::random_device()();
  if (options.notifies_min == 0) {
    options.notifies_min = static_cast<std::uint64_t>(options.seconds) * 100'000 / 60;
  }
  if (!role.name.empty()) arguments.role = std::move(role);
  return arguments;
}

std::vector<std::string> arguments_of(const Role& role) {
  std::vector<std::string> result{"--role",       role.name,
                                  "--servers",    fmt::format("{}", fmt::join(role.servers, ",")),
                                  "--directory",  role.directory,
                                  "--number",     std::to_string(role.number),
                                  "--of",         std::to_string(role.of),
                                  "--identities", std::to_string(role.identities),
                                  "--rate",       std::to_string(role.rate)};
  if (role.bug != Bug::none) {
    result.emplace_back("--bug");
    result.emplace_back(to_string(role.bug));
  }
  return result;
}

std::string usage() {
  return R"(Usage: nemesis [OPTION]...

Starts nats-server, three workers and two notifiers on loopback, kills, stops, cuts off and restarts
them at random, lets everything heal, and checks what they have recorded.

  --seconds N       how long faults last (default 60)
  --cluster         three servers and streams on all of them; one server is killed every 20 s
  --seed S          the same faults in the same order (default: a random one, which is printed)
  --json FILE       append one JSON object a line for each figure
  --keep DIR        leave histories and logs in DIR, whose old ones are removed
  --rate N          notifies wanted a second (default 3000)
  --identities N    that are notified (default 640)
  --notifies-min N  fewer acknowledged ones are no pass (default 100,000 a minute)
  --bug NAME        give the workers a defect: drop-news, no-lease or no-fence; exit code 0 then says
                    that it was found
  -h, --help        this text

Exit codes: 0 all is as promised; 1 something is not, or could not be tried; 2 wrong usage.
)";
}

}  // namespace dmm::nemesis
