#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "dmm/identity.h"
#include "tests/simulation/journal.h"

namespace dmm::simulation {

namespace {

using namespace std::chrono_literals;

/// How long a worker may be stopped without having to fear for its lease: its last beat is up to a
/// beat old when it is stopped, and it gives up a margin early.
constexpr Time kHarmless = 1'500ms;
/// How long behind a pause a run may be told to stop.
constexpr Time kWoken = 1ms;
/// How long a report may be handled, with all calls that are repeated.
constexpr Time kHandled = 10s;
/// What was acknowledged so long before the end of a run has reached its worker in the calm.
constexpr Time kOnItsWay = 100ms;

/// True if the worker of the older run stood still for all the time that the newer one is there,
/// but for the moment in which it is told to stop: its lease was old already when it was stopped.
bool stood_still(const Run& older, const Run& newer, const Journal& journal) {
  const auto& pauses = journal.lives.at(older.life).pauses;
  return older.end && std::ranges::any_of(pauses, [&](const LifeRecord::Pause& one) {
           return one.from <= newer.begin && *older.end <= one.to + kWoken;
         });
}

bool excused(const Run& a, const Run& b, const Journal& journal) {
  if (a.epoch == b.epoch) return false;
  const Run& older = a.epoch < b.epoch ? a : b;
  const Run& newer = a.epoch < b.epoch ? b : a;
  return paused_past_lease(older, journal) || stood_still(older, newer, journal);
}

std::uint32_t lane_of_run(const Run& run) {
  return lane_of_key(run.key);
}

}  // namespace

std::string describe(const Run& run, const Journal& journal) {
  return fmt::format("a run on news {} in epoch {} by worker {} (life {}) from {} to {}", run.news,
                     run.epoch, journal.lives.at(run.life).place, run.life, seconds(run.begin),
                     run.end ? seconds(*run.end) : "the end");
}

bool paused_past_lease(const Run& run, const Journal& journal) {
  return std::ranges::any_of(journal.lives.at(run.life).pauses, [&](const LifeRecord::Pause& one) {
    return one.to - one.from >= kHarmless && one.to >= run.begin &&
           (!run.end || one.from <= *run.end);
  });
}

std::string seconds(Time time) {
  return fmt::format("{:.6f} s", std::chrono::duration<double>(time).count());
}

std::uint64_t digest_of(const Journal& journal) {
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a-64
  const auto add = [&](std::string_view text) {
    for (const char c : text) {
      hash ^= static_cast<unsigned char>(c);
      hash *= 1099511628211u;
    }
  };
  for (const Stored& one : journal.stored) {
    add(fmt::format("{} {} {} {}", one.at.count(), one.key, one.sequence, one.payload));
  }
  for (const Run& run : journal.runs) {
    add(fmt::format("{} {} {} {}", run.begin.count(), run.key, run.life, run.attempt));
  }
  return hash;
}

void check_overlaps(const Journal& journal, std::vector<Violation>& found) {
  std::map<std::string, std::vector<const Run*>> under_way;
  for (const Run& run : journal.runs) {
    std::vector<const Run*>& others = under_way[run.key];
    std::erase_if(others, [&](const Run* other) { return other->end && *other->end <= run.begin; });
    for (const Run* const other : others) {
      if (excused(*other, run, journal)) continue;
      found.push_back({"overlap", fmt::format("{}: {} and {}", run.key, describe(*other, journal),
                                              describe(run, journal))});
    }
    others.push_back(&run);
  }
}

void check_zombies(const Journal& journal, std::vector<Violation>& found) {
  std::map<std::pair<std::string, std::uint32_t>, const Run*> latest;  // by type and lane
  for (const Run& run : journal.runs) {
    const std::string type = run.key.substr(0, run.key.find('.'));
    const Run*& last = latest[{type, lane_of_run(run)}];
    if (last == nullptr || run.epoch >= last->epoch) {
      last = &run;
    } else if (!paused_past_lease(run, journal)) {
      found.push_back({"zombie", fmt::format("{}: {} behind {} of the same lane", run.key,
                                             describe(run, journal), describe(*last, journal))});
    }
  }
}

void check_stale_writes(const Journal& journal, std::vector<Violation>& found) {
  struct Furthest {
    std::uint64_t news = 0;
    std::uint64_t epoch = 0;
    std::uint64_t owner = 0;       ///< epoch of the last owner of the view that told something
    std::set<std::uint64_t> late;  ///< told by one before it, when it had told something
  };
  std::map<std::string, Furthest> entries;
  std::optional<Time> reports_lost;
  auto loss = journal.losses.begin();
  for (const Stored& stored : journal.stored) {
    for (; loss != journal.losses.end() && loss->at <= stored.at; ++loss) {
      const bool elsewhere = loss->where == Stored::Where::leases ||
                             loss->where == Stored::Where::status ||
                             loss->where == Stored::Where::desired;
      if (!elsewhere) entries.clear();
      if (loss->where == Stored::Where::reports) reports_lost = loss->at;
    }
    if (stored.where == Stored::Where::work && stored.of_view) {
      // What was on its way when its owner was cut off arrives when the network heals. Nobody can
      // hold it back; the present owner tells the row again.
      Furthest& told = entries[stored.key];
      if (stored.epoch < told.owner) told.late.insert(stored.news);
      told.owner = std::max(told.owner, stored.epoch);
    }
    if (stored.where != Stored::Where::cache) continue;
    Furthest& before = entries[stored.key];
    // A removed row begins anew, with what its view says then.
    // What was being handled when reports were lost may be told behind what came in their place.
    const bool handled_still =
        stored.key.starts_with("sink.") && reports_lost && stored.at < *reports_lost + kHandled;
    const bool older = !stored.deleted && stored.news < before.news && !handled_still &&
                       !before.late.contains(stored.news);
    if (older || stored.epoch < before.epoch) {
      found.push_back({"stale", fmt::format("{}: at {} an entry of news {} and epoch {} was stored "
                                            "over one of news {} and epoch {}",
                                            stored.key, seconds(stored.at), stored.news,
                                            stored.epoch, before.news, before.epoch)});
    }
    // What came in their place is written again, as it is, by each next owner.
    before.news = handled_still ? stored.news : std::max(before.news, stored.news);
    before.epoch = std::max(before.epoch, stored.epoch);
  }
}

void check_coalescing(const Journal& journal, std::vector<Violation>& found) {
  std::map<std::string, std::size_t> runs;
  std::map<std::string, std::size_t> notifies;
  std::map<std::string, const Run*> last;
  for (const Said& said : journal.said) {
    if (said.begin >= journal.calm) ++notifies[said.key];
  }
  // Who observes from now on tells once more what was handled and not noted before.
  std::map<std::string, std::size_t> told;
  for (const Stored& stored : journal.stored) {
    const bool by_observer = stored.where == Stored::Where::work && stored.key.starts_with("sink.");
    if (by_observer && stored.at >= journal.calm) ++told[stored.key];
  }
  // What a resync could not tell before the calm is told once in it. It brings no news.
  std::map<std::string, Time> owed;
  for (const Stored& stored : journal.stored) {
    const bool by_resync = stored.where == Stored::Where::work && stored.key.starts_with("job.") &&
                           stored.news == 0 && !stored.deleted;
    if (by_resync && stored.at >= journal.calm) owed.try_emplace(stored.key, stored.at);
  }
  for (const Run& run : journal.runs) {
    if (run.begin < journal.calm || run.begin >= journal.late) continue;
    if (run.doomed) continue;  // what fails is tried again
    const auto resync = owed.find(run.key);
    if (resync != owed.end() && resync->second <= run.begin) {
      owed.erase(resync);
      continue;
    }
    ++runs[run.key];
    if (const Run* const before = std::exchange(last[run.key], &run); before && before->end) {
      const auto newest = [&](std::uint64_t most, const Said& said) {
        const bool during = said.acknowledged && *said.acknowledged >= before->begin &&
                            *said.acknowledged + kOnItsWay <= *before->end;
        return said.key == run.key && during ? std::max(most, said.news) : most;
      };
      std::uint64_t news = 0;
      for (const Said& said : journal.said) news = newest(news, said);
      // What observers and views pass on takes longer on its way.
      if (run.news < news && run.key.starts_with("job.")) {
        found.push_back(
            {"coalescing", fmt::format("{}: {} though news {} had come during {}", run.key,
                                       describe(run, journal), news, describe(*before, journal))});
      }
      if (run.news <= before->news && !run.deleted && !before->deleted) {
        found.push_back(
            {"coalescing", fmt::format("{}: {} behind {}, though nothing failed", run.key,
                                       describe(run, journal), describe(*before, journal))});
      }
    }
  }
  for (const auto& [key, count] : runs) {
    if (count <= std::max(notifies[key], told[key])) continue;
    found.push_back({"coalescing", fmt::format("{}: {} runs of {} notifies though nothing failed",
                                               key, count, notifies[key])});
  }
}

void check_exactness(const Journal& journal, std::vector<Violation>& found) {
  std::map<std::string, const Stored*> last;
  std::map<std::string, std::size_t> told;
  std::map<std::string, std::size_t> changes;
  for (const Said& said : journal.said) {
    if (said.begin >= journal.calm) ++changes[said.key];
  }
  for (const Stored& stored : journal.stored) {
    if (stored.where != Stored::Where::work || !stored.of_view) continue;
    const Stored* const before = std::exchange(last[stored.key], &stored);
    if (stored.at < journal.calm) continue;
    ++told[stored.key];
    if (before == nullptr || before->deleted != stored.deleted) continue;
    if (before->payload == stored.payload) {
      found.push_back(
          {"exactness", fmt::format("{}: the view told {} at {} and again at {}", stored.key,
                                    stored.payload, seconds(before->at), seconds(stored.at))});
    }
  }
  for (const auto& [key, count] : told) {
    if (count <= changes[key]) continue;
    found.push_back({"exactness", fmt::format("{}: the view told it {} times for {} changes", key,
                                              count, changes[key])});
  }
}

void check_cursor(const Journal& journal, std::vector<Violation>& found) {
  if (journal.lost(Stored::Where::reports)) return;  // what was acknowledged may not be handled
  std::map<std::string, const Stored*> newest;       // report of a device
  std::map<std::string, std::uint64_t> handled;
  auto next = journal.handled.begin();
  for (const Stored& stored : journal.stored) {
    if (stored.where == Stored::Where::reports) newest[stored.key] = &stored;
    if (stored.where != Stored::Where::cursor) continue;
    for (; next != journal.handled.end() && next->at <= stored.at; ++next) {
      std::uint64_t& news = handled[next->device];
      news = std::max(news, next->news);
    }
    for (const auto& [device, report] : newest) {
      if (report->sequence > stored.news || handled[device] >= report->news) continue;
      found.push_back(
          {"cursor",
           fmt::format("at {} the cursor was stored at {}, but report {} of {} "
                       "(sequence {}) was not handled",
                       seconds(stored.at), stored.news, report->news, device, report->sequence)});
    }
  }
}

void check_alive(const Journal& journal, std::size_t identities, std::vector<Violation>& found) {
  std::size_t said = 0;
  std::size_t unanswered = 0;
  for (const Said& one : journal.said) {
    if (one.begin < journal.calm) continue;
    ++said;
    unanswered += one.acknowledged ? 0 : 1;
  }
  if (said == 0 || unanswered > 0) {
    found.push_back({"alive", fmt::format("{} of {} calls were not answered though nothing failed",
                                          unanswered, said)});
  }
  const auto succeeded =
      static_cast<std::size_t>(std::ranges::count_if(journal.runs, &Run::succeeded));
  if (succeeded < identities) {
    found.push_back(
        {"alive", fmt::format("only {} runs of {} identities succeeded", succeeded, identities)});
  }
}

}  // namespace dmm::simulation
