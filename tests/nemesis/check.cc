#include "tests/nemesis/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <unordered_map>

namespace dmm::nemesis {

namespace {

constexpr std::size_t kExamples = 5;
constexpr Nanoseconds kHarmless =
    std::chrono::duration_cast<std::chrono::nanoseconds>(kHarmlessPause).count();
/// A run that was stopped before its first line reaches it within this time of its worker's
/// continuation, also where all of its threads want two cores at once.
constexpr Nanoseconds kFirstLine = 200 * kMillisecond;

template <class... Arguments>
void note(Findings& findings, fmt::format_string<Arguments...> text, Arguments&&... arguments) {
  ++findings.count;
  if (findings.examples.size() < kExamples) {
    findings.examples.push_back(fmt::format(text, std::forward<Arguments>(arguments)...));
  }
}

double seconds(Nanoseconds time) {
  return static_cast<double>(time) / kSecond;
}

std::string describe(const Run& run, const History& history) {
  return fmt::format("{} of epoch {} with news {} from {:.6f} to {:.6f}",
                     history.lives.at(run.life).worker, run.epoch, run.news, seconds(run.begin),
                     seconds(run.end));
}

using NewestOf = std::unordered_map<std::uint32_t, std::uint64_t>;

NewestOf newest_succeeded(const History& history) {
  NewestOf newest;
  for (const Run& run : history.runs) {
    std::uint64_t& news = newest[run.identity];
    if (run.succeeded) news = std::max(news, run.news);
  }
  return newest;
}

Nanoseconds end_of(const Pause& pause, const Life& life) {
  return pause.end != 0 ? pause.end : life.end;
}

/// True if the run of the earlier epoch was stopped past its lease and has met its successor.
bool excused(const Run& a, const Run& b, const History& history) {
  if (a.life == b.life || a.epoch == b.epoch) return false;
  const Run& earlier = a.epoch < b.epoch ? a : b;
  const Run& later = a.epoch < b.epoch ? b : a;
  const Life& life = history.lives.at(earlier.life);
  return std::ranges::any_of(life.pauses, [&](const Pause& pause) {
    const Nanoseconds end = end_of(pause, life);
    return end - pause.begin >= kHarmless && pause.begin < earlier.end &&
           earlier.begin < end + kFirstLine && pause.begin < later.begin;
  });
}

/// Tells runs that were stopped in front of their first line from runs that should not have begun.
class FirstLines final {
 public:
  FirstLines(const History& history, std::size_t concurrency)
      : history_(history), concurrency_(concurrency) {}

  /// To be called for every run, in order of time.
  bool may_begin_late(const Run& run) {
    const Life& life = history_.lives.at(run.life);
    for (std::size_t i = 0; i < life.pauses.size(); ++i) {
      const Nanoseconds end = end_of(life.pauses[i], life);
      if (end - life.pauses[i].begin < kHarmless) continue;
      if (run.begin < end || run.begin >= end + kFirstLine) continue;
      return ++begun_[{run.life, i}] <= concurrency_;
    }
    return false;
  }

 private:
  const History& history_;
  const std::size_t concurrency_;
  std::map<std::pair<std::uint32_t, std::size_t>, std::size_t> begun_;  ///< behind each pause
};

}  // namespace

Findings find_lost(const History& history) {
  NewestOf newest = newest_succeeded(history);
  Findings lost;
  for (const Notified& one : history.notified) {
    const std::uint64_t seen = newest[one.identity];
    if (seen >= one.news) continue;
    note(lost, "news {} of {}, acknowledged at {:.6f}: the newest that a run succeeded on is {}",
         one.news, id_of(one.identity), seconds(one.at), seen);
  }
  return lost;
}

Findings find_behind(const History& history) {
  NewestOf acknowledged;
  NewestOf stored;
  for (const Notified& one : history.notified) {
    std::uint64_t& news = acknowledged[one.identity];
    news = std::max(news, one.news);
  }
  for (const Entry& entry : history.entries) stored[entry.identity] = entry.news;
  Findings behind;
  for (const auto& [identity, news] : acknowledged) {
    if (stored[identity] >= news) continue;
    note(behind, "the entry of {} is of news {}; {} were acknowledged", id_of(identity),
         stored[identity], news);
  }
  return behind;
}

Findings find_overlaps(const History& history) {
  std::unordered_map<std::uint32_t, std::vector<const Run*>> going_on;
  Findings overlaps;
  for (const Run& run : history.runs) {
    std::vector<const Run*>& others = going_on[run.identity];
    std::erase_if(others, [&](const Run* other) { return other->end <= run.begin; });
    for (const Run* other : others) {
      if (excused(*other, run, history)) continue;
      note(overlaps, "{}: {} and {}", id_of(run.identity), describe(*other, history),
           describe(run, history));
    }
    others.push_back(&run);
  }
  return overlaps;
}

Findings find_zombies(const History& history, std::size_t concurrency) {
  struct Latest {
    std::uint64_t epoch = 0;
    Nanoseconds at = 0;
  };
  std::unordered_map<std::uint32_t, Latest> latest;  // by lane
  FirstLines first_lines(history, concurrency);
  Findings zombies;
  for (const Run& run : history.runs) {
    const bool late = first_lines.may_begin_late(run);
    Latest& lane = latest[lane_of(run.identity)];
    if (run.epoch >= lane.epoch) {
      if (run.epoch > lane.epoch) lane = {run.epoch, run.begin};
      continue;
    }
    if (late) continue;
    note(zombies, "{}: {}, {:.3f} s after epoch {} had begun to work in the lane",
         id_of(run.identity), describe(run, history), seconds(run.begin - lane.at), lane.epoch);
  }
  return zombies;
}

Findings find_stale_writes(const History& history) {
  std::unordered_map<std::uint32_t, Entry> furthest;
  Findings stale;
  for (const Entry& entry : history.entries) {
    Entry& before = furthest[entry.identity];
    if (entry.news < before.news || entry.epoch < before.epoch) {
      note(stale, "{}: revision {} of epoch {} holds news {}, revision {} of epoch {} held {}",
           id_of(entry.identity), entry.revision, entry.epoch, entry.news, before.revision,
           before.epoch, before.news);
    }
    before.revision = entry.revision;
    before.news = std::max(before.news, entry.news);
    before.epoch = std::max(before.epoch, entry.epoch);
  }
  return stale;
}

}  // namespace dmm::nemesis
