#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "tests/simulation/journal.h"

namespace dmm::simulation {

namespace {

using namespace std::chrono_literals;

/// What was acknowledged so long ago every worker knows in the calm.
constexpr Time kKnown = 100ms;
/// The same while there are faults, but for workers that cannot be reached for longer.
constexpr Time kKnownInStorm = 10s;
/// Between the moment from which a run counts and its beginning, while there are faults: its entry
/// is read.
constexpr Time kBeginning = 4s;

std::string type_of(const Run& run) {
  return run.key.substr(0, run.key.find('.'));
}

/// The settings of a type that may have been in force between two times; 0: none was.
std::vector<double> in_force(const Journal& journal, const std::string& type,
                             std::string_view setting, Time from, Time to) {
  std::vector<double> values{0};
  for (const Limit& limit : journal.limits) {
    if (limit.type != type || limit.setting != setting || limit.at > to) continue;
    if (limit.at <= from) values.clear();
    values.push_back(limit.value);
  }
  return values;
}

/// Since when a worker may not have known what is set at a time.
Time known_since(const Journal& journal, Time at) {
  const bool calm = journal.calm > Time() && at >= journal.calm + kKnown;
  return std::max(Time(), at - (calm ? kKnown : kKnownInStorm));
}

/// The most runs that may begin within a time; nothing: any number.
std::optional<double> most(const Journal& journal, const std::string& type, Time first, Time last) {
  double rate = 0;
  for (const double one : in_force(journal, type, "rate", known_since(journal, first), last)) {
    if (one == 0) return std::nullopt;
    rate = std::max(rate, one);
  }
  const bool calm = journal.calm > Time() && first >= journal.calm;
  const Time time = last - first + (calm ? kKnown : kBeginning);
  return std::max(1.0, rate) + rate * std::chrono::duration<double>(time).count();
}

using Runs = std::vector<const Run*>;

void check_rate(const Runs& runs, const Journal& journal, std::vector<Violation>& found) {
  for (std::size_t first = 0; first < runs.size(); ++first) {
    for (std::size_t last = first + 1; last < runs.size(); ++last) {
      const auto limit =
          most(journal, type_of(*runs[first]), runs[first]->begin, runs[last]->begin);
      if (!limit) break;
      const auto count = static_cast<double>(last - first + 1);
      if (count <= *limit) continue;
      found.push_back(
          {"pace", fmt::format("{} runs began from {} to {}, {}, at most {:.1f} may", count,
                               seconds(runs[first]->begin), seconds(runs[last]->begin),
                               describe(*runs[last], journal), *limit)});
      return;
    }
  }
}

void check_concurrency(const Runs& runs, const Journal& journal, std::vector<Violation>& found) {
  for (const Run* run : runs) {
    double limit = 0;
    for (const double one : in_force(journal, type_of(*run), "concurrency",
                                     known_since(journal, run->begin), run->begin)) {
      limit = std::max(limit, one == 0 ? kConcurrency : one);
    }
    const auto under_way = std::ranges::count_if(runs, [&](const Run* other) {
      return other->begin <= run->begin && (!other->end || *other->end > run->begin);
    });
    if (static_cast<double>(under_way) <= limit) continue;
    found.push_back({"pace", fmt::format("{} runs of a worker are under way with {}, at most {}",
                                         under_way, describe(*run, journal), limit)});
    return;
  }
}

}  // namespace

bool Pausing::covers(const std::string& key) const {
  return scope == "all" || scope == key || key.substr(0, key.find('.')) == scope;
}

void check_pauses(const Journal& journal, std::vector<Violation>& found) {
  for (const Run& run : journal.runs) {
    if (run.paused) {
      found.push_back({"paused", fmt::format("{}: {}, and its worker says that it is paused",
                                             run.key, describe(run, journal))});
    }
    for (const Pausing& one : journal.pausings) {
      if (journal.calm == Time() || one.from < journal.calm || !one.covers(run.key)) continue;
      if (run.begin < one.from + kKnown || run.begin >= one.to) continue;
      found.push_back({"paused", fmt::format("{}: {}, though {} was paused from {} to {}", run.key,
                                             describe(run, journal), one.scope, seconds(one.from),
                                             one.to == Time::max() ? "the end" : seconds(one.to))});
    }
  }
}

void check_pace(const Journal& journal, std::vector<Violation>& found) {
  std::map<std::pair<std::uint32_t, std::string>, Runs> runs;
  for (const Run& run : journal.runs) runs[{run.life, type_of(run)}].push_back(&run);
  for (const auto& [worker, began] : runs) {
    check_rate(began, journal, found);
    check_concurrency(began, journal, found);
  }
}

}  // namespace dmm::simulation
