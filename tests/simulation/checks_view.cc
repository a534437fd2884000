#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <map>
#include <set>

#include "dmm/json.h"
#include "dmm/limits.h"
#include "tests/simulation/journal.h"
#include "tests/simulation/wish.h"

namespace dmm::simulation {

namespace {

using namespace std::chrono_literals;

/// How long what was said may be on its way to the row that it changes, with all calls that are
/// repeated.
constexpr Time kHandled = 30s;
/// What was approved is told so soon.
constexpr Time kApproved = 10s;

/// Removals that a view tells, by identity.
bool is_removal(const Stored& stored) {
  return stored.where == Stored::Where::work && stored.of_view && stored.deleted;
}

/// Somebody said that it shall go, and nothing else long enough ago.
bool was_said(const std::vector<const Said*>& all, Time at) {
  bool gone = false;
  for (const Said* said : all) {
    if (said->begin > at) break;
    if (said->deleted) gone = true;
    if (!said->deleted && said->acknowledged && *said->acknowledged + kHandled < at) gone = false;
  }
  return gone;
}

/// Owners of a view count by themselves, so each does for itself.
void check_held(const Journal& journal, std::vector<Violation>& found) {
  struct Removed {
    std::string key;
    Time at;
  };
  std::map<std::uint64_t, std::vector<Removed>> owners;  // by epoch
  for (const Stored& stored : journal.stored) {
    // Who begins anew behind a loss counts anew.
    if (!journal.losses.empty() && stored.at >= journal.losses.front().at) return;
    if (!is_removal(stored)) continue;
    const bool approved = std::ranges::any_of(journal.approvals, [&](Time time) {
      return time <= stored.at && stored.at <= time + kApproved;
    });
    std::vector<Removed>& removed = owners[stored.epoch];
    if (approved) {
      removed.clear();
      continue;
    }
    removed.push_back({stored.key, stored.at});
    std::set<std::string> keys;
    for (const Removed& one : removed) {
      if (one.at + limits::removals_window > stored.at) keys.insert(one.key);
    }
    if (keys.size() <= journal.removals_free) continue;
    found.push_back({"absence", fmt::format("{} rows were removed in epoch {} until {}, the last "
                                            "one {}; more than {} had to be approved",
                                            keys.size(), stored.epoch, seconds(stored.at),
                                            stored.key, journal.removals_free)});
    removed.clear();
  }
}

}  // namespace

void check_absence(const Journal& journal, std::vector<Violation>& found) {
  std::map<std::string, std::vector<const Said*>> said;
  for (const Said& one : journal.said) said[one.key].push_back(&one);
  for (const Stored& stored : journal.stored) {
    if (!is_removal(stored) || was_said(said[stored.key], stored.at)) continue;
    found.push_back({"absence", fmt::format("{}: the view told at {} that it is gone, and nobody "
                                            "had said so",
                                            stored.key, seconds(stored.at))});
  }
  check_held(journal, found);
}

void check_rows(const Journal& journal, std::vector<Violation>& found) {
  for (const Stored& stored : journal.stored) {
    const bool told = stored.where == Stored::Where::work && stored.of_view;
    const bool kept = stored.where == Stored::Where::cache && stored.key.starts_with("lamp.");
    if ((!told && !kept) || stored.deleted || stored.payload.empty()) continue;
    const auto row = parse_json(stored.payload);
    // A run whose entry was lost, before the view had told its row again, had none to go on.
    if (kept && journal.lost(Stored::Where::cache) && row.ok() && !row.value().contains("news"))
      continue;
    const double total = row.ok() ? row.value().value("total", 0.0) : 0.0;
    if (std::bit_cast<std::uint64_t>(total) ==
        std::bit_cast<std::uint64_t>(total_of(stored.news))) {
      continue;
    }
    found.push_back(
        {"deterministic", fmt::format("{}: {} was stored at {}, its total should be {}", stored.key,
                                      stored.payload, seconds(stored.at), total_of(stored.news))});
  }
}

}  // namespace dmm::simulation
