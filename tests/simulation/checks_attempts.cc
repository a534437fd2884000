#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "tests/simulation/journal.h"

namespace dmm::simulation {

namespace {

using namespace std::chrono_literals;

/// While there are faults a worker whose lanes are another's by now may be heard of for so long,
/// and one that took them may have read the status before.
constexpr Time kTakeOver = 4s;
/// Delays are whole milliseconds.
constexpr Time kRounded = 1ms;
/// In the calm a run begins so soon behind what it waits for.
constexpr Time kSoon = 1s;
/// Of so many delays with full jitter one is longer than a fifth of its limit, and one shorter than
/// four fifths: the other way round it would be one history in a hundred million.
constexpr std::size_t kJitterTold = 12;

/// What happened to an identity, each in the order of time.
struct Story {
  std::vector<const Run*> runs;
  std::vector<const Stored*> tokens;
  std::vector<const Stored*> failing;
};

std::map<std::string, Story> stories_of(const Journal& journal) {
  std::map<std::string, Story> stories;
  for (const Run& run : journal.runs) stories[run.key].runs.push_back(&run);
  for (const Stored& stored : journal.stored) {
    if (stored.where == Stored::Where::work) stories[stored.key].tokens.push_back(&stored);
    if (stored.where == Stored::Where::failing) stories[stored.key].failing.push_back(&stored);
  }
  return stories;
}

const Stored* last_until(const std::vector<const Stored*>& all, Time time) {
  const auto behind =
      std::ranges::upper_bound(all, time, {}, [](const Stored* one) { return one->at; });
  return behind == all.begin() ? nullptr : *(behind - 1);
}

/// The last run that ended until a time.
const Run* last_ended(const Story& story, Time time) {
  const Run* last = nullptr;
  for (const Run* run : story.runs) {
    if (run->begin > time) break;
    if (run->end && *run->end <= time && (last == nullptr || *run->end > *last->end)) last = run;
  }
  return last;
}

/// What is set for the type of a key may have been another one between two times.
bool steered(const Journal& journal, const std::string& key, Time from, Time to) {
  for (const Pausing& one : journal.pausings) {
    if (one.covers(key) && one.from <= to && (one.to == Time::max() || one.to + kSoon >= from)) {
      return true;
    }
  }
  std::map<std::string, double> set;
  for (const Limit& one : journal.limits) {
    if (one.setting != "rate" && one.setting != "concurrency") continue;
    if (!key.starts_with(one.type + ".") || one.at > to) continue;
    if (one.value > 0 && one.at >= from) return true;
    // What was lifted a moment ago still holds where it was not heard of.
    if (set[one.setting] > 0 && one.at + kSoon >= from) return true;
    set[one.setting] = one.value;
  }
  return std::ranges::any_of(set, [](const auto& one) { return one.second > 0; });
}

/// A worker ends meanwhile, or ended a moment before.
bool ends(const Journal& journal, Time from, Time to) {
  return std::ranges::any_of(journal.lives, [&](const LifeRecord& life) {
    return life.ended && *life.ended + kTakeOver >= from && *life.ended <= to;
  });
}

/// What a status that lies there asks of a run on its token.
void check_going_on(const Story& story, const Run& run, const Journal& journal,
                    std::vector<Violation>& found) {
  const Stored* const token = last_until(story.tokens, run.begin);
  const Stored* const status = last_until(story.failing, run.begin);
  if (token == nullptr || status == nullptr || status->news != token->sequence) return;
  const Run* const before = last_ended(story, status->at);
  if (before == nullptr || paused_past_lease(run, journal)) return;
  const bool same_life = before->life == run.life;
  const bool calm = journal.calm > Time() && *before->end >= journal.calm;
  if (!same_life && !calm && run.begin - status->at <= kTakeOver) return;
  const bool succeeded = std::ranges::any_of(story.runs, [&](const Run* other) {
    return other->succeeded && *other->end >= token->at && other->begin < run.begin;
  });
  if (succeeded) return;
  if (run.attempt <= status->attempts) {
    found.push_back({"attempts", fmt::format("{}: {} is attempt {}, though {} had failed at {}",
                                             run.key, describe(run, journal), run.attempt,
                                             status->attempts, seconds(status->at))});
  }
  const bool jumped =
      journal.lives[before->life].clock_jumped || journal.lives[run.life].clock_jumped;
  if (status->delay == Time() || jumped) return;
  const Time due = *before->end + status->delay;
  if (run.begin + kRounded < due) {
    found.push_back({"attempts", fmt::format("{}: {} had to wait until {}", run.key,
                                             describe(run, journal), seconds(due))});
  }
  if (!calm || !same_life || run.begin <= due + kSoon) return;
  if (steered(journal, run.key, *before->end, run.begin) || ends(journal, due, run.begin)) return;
  found.push_back({"attempts", fmt::format("{}: {} had to wait only until {}", run.key,
                                           describe(run, journal), seconds(due))});
}

/// A run has no more attempts behind it than there were on its news.
void check_beginning(const Story& story, const Run& run, const Journal& journal,
                     std::vector<Violation>& found) {
  const auto token =
      std::ranges::find_if(story.tokens, [&](const Stored* one) { return one->news == run.news; });
  if (token == story.tokens.end() || (*token)->at > run.begin) return;
  const auto failed = std::ranges::count_if(story.runs, [&](const Run* other) {
    return other->begin < run.begin && !other->succeeded && other->end &&
           *other->end >= (*token)->at;
  });
  if (run.attempt <= failed + 1) return;
  found.push_back(
      {"news", fmt::format("{}: {} is attempt {}, though only {} failed since {}", run.key,
                           describe(run, journal), run.attempt, failed, seconds((*token)->at))});
}

/// The longest delay behind so many failures, as policy had it until then.
std::set<Time> longest(const Journal& journal, const Stored& status) {
  std::set<Time> all;
  const auto add = [&](double first_s) {
    const auto set = std::chrono::milliseconds(static_cast<std::int64_t>(first_s * 1000));
    Time ceiling = first_s > 0 ? std::min(set, kBackoffMax) : kBackoffFirst;
    for (int i = 1; i < status.attempts && ceiling < kBackoffMax; ++i) ceiling *= 2;
    all.insert(std::min<Time>(ceiling, kBackoffMax));
  };
  add(0);
  for (const Limit& one : journal.limits) {
    if (one.setting == "backoff_first_s" && status.key.starts_with(one.type + ".")) add(one.value);
  }
  return all;
}

void check_jitter(const Journal& journal, std::vector<Violation>& found) {
  std::size_t count = 0;
  double least = 1;
  double most = 0;
  for (const Stored& one : journal.stored) {
    if (one.where != Stored::Where::failing || one.delay == Time()) continue;
    const std::set<Time> limits = longest(journal, one);
    if (one.delay > *limits.rbegin()) {
      found.push_back({"attempts", fmt::format("{}: {} until attempt {}, at most {} was expected",
                                               one.key, seconds(one.delay), one.attempts + 1,
                                               seconds(*limits.rbegin()))});
    }
    if (limits.size() > 1) continue;
    const double share =
        std::chrono::duration<double>(one.delay) / std::chrono::duration<double>(*limits.begin());
    ++count;
    least = std::min(least, share);
    most = std::max(most, share);
  }
  if (count < kJitterTold || (most > 0.2 && least < 0.8)) return;
  found.push_back({"attempts", fmt::format("{} delays are from {:.2f} to {:.2f} of their limits",
                                           count, least, most)});
}

/// Begin of the first run from a time on.
std::optional<Time> next_begin(const Story& story, Time time) {
  for (const Run* run : story.runs) {
    if (run->begin >= time) return run->begin;
  }
  return std::nullopt;
}

bool under_way(const Story& story, Time time) {
  return std::ranges::any_of(story.runs, [&](const Run* run) {
    return run->begin <= time && (!run->end || *run->end > time);
  });
}

}  // namespace

void check_attempts(const Journal& journal, std::vector<Violation>& found) {
  // Attempts lie in the status, and sequences are given again behind a loss.
  if (journal.lost(Stored::Where::work) || journal.lost(Stored::Where::status)) return;
  for (const auto& [key, story] : stories_of(journal)) {
    for (const Run* run : story.runs) {
      check_going_on(story, *run, journal, found);
      check_beginning(story, *run, journal, found);
    }
  }
  check_jitter(journal, found);
}

void check_news(const Journal& journal, std::vector<Violation>& found) {
  for (const auto& [key, story] : stories_of(journal)) {
    const Stored* before = nullptr;
    for (const Stored* token : story.tokens) {
      const Stored* const was = std::exchange(before, token);
      const Stored* const status = last_until(story.failing, token->at);
      if (token->at < journal.calm || was == nullptr || status == nullptr) continue;
      if (status->news != was->sequence || under_way(story, token->at)) continue;
      const Run* const failed = last_ended(story, token->at);
      if (failed == nullptr || failed->succeeded) continue;
      if (*failed->end + status->delay <= token->at + kSoon) continue;
      if (steered(journal, key, token->at, token->at + kSoon)) continue;
      if (ends(journal, token->at, token->at + kSoon)) continue;
      const auto begin = next_begin(story, token->at);
      if (begin && *begin <= token->at + kSoon) continue;
      found.push_back(
          {"news", fmt::format("{}: news of {} came while it waited until {}, and it ran at {}",
                               key, seconds(token->at), seconds(*failed->end + status->delay),
                               begin ? seconds(*begin) : "no time")});
    }
  }
}

void check_poison(const Journal& journal, std::vector<Violation>& found) {
  if (journal.trials.empty()) return;
  const auto stories = stories_of(journal);
  for (const Said& said : journal.said) {
    for (const Trial& trial : journal.trials) {
      if (!said.acknowledged || !said.key.starts_with("job.")) continue;
      if (said.begin < trial.from || *said.acknowledged + kSoon > trial.to) continue;
      if (std::ranges::count(trial.poisoned, said.key) > 0) continue;
      const auto story = stories.find(said.key);
      const auto ran =
          story != stories.end() && std::ranges::any_of(story->second.runs, [&](const Run* run) {
            return run->news >= said.news && run->begin <= *said.acknowledged + kSoon;
          });
      if (ran) continue;
      found.push_back({"poison", fmt::format("{}: {} was acknowledged at {} and did not run within "
                                             "{} beside {} that failed",
                                             said.key, said.news, seconds(*said.acknowledged),
                                             seconds(kSoon), fmt::join(trial.poisoned, " and "))});
    }
  }
}

}  // namespace dmm::simulation
