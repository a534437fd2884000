#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "dmm/error.h"
#include "dmm/limits.h"
#include "tests/simulation/journal.h"

namespace dmm::simulation {

namespace {

using namespace std::chrono_literals;

/// A worker whose lanes are another's by now may be heard of for so long.
constexpr Time kTakeOver = 4s;

/// The first crash is counted with the second one, and a count may be lost with its worker.
constexpr int kCrashesMore = 4;

/// What happened to an identity, in the order of time.
struct Story {
  std::vector<const Run*> runs;
  std::vector<const Stored*> tokens;
  std::vector<const Stored*> parked;
};

std::map<std::string, Story> stories_of(const Journal& journal) {
  std::map<std::string, Story> stories;
  for (const Run& run : journal.runs) stories[run.key].runs.push_back(&run);
  for (const Stored& stored : journal.stored) {
    if (stored.where == Stored::Where::work) stories[stored.key].tokens.push_back(&stored);
    if (stored.where == Stored::Where::parked) stories[stored.key].parked.push_back(&stored);
  }
  return stories;
}

/// The last of these before a time; null: there is none.
const Stored* last_before(const std::vector<const Stored*>& all, Time time) {
  const Stored* last = nullptr;
  for (const Stored* one : all) {
    if (one->at < time) last = one;
  }
  return last;
}

/// The token that a run is on.
const Stored* token_of(const Story& story, const Run& run) {
  const Stored* last = nullptr;
  for (const Stored* one : story.tokens) {
    if (one->at <= run.begin && one->news == run.news) last = one;
  }
  return last;
}

/// Another worker had begun before it could know.
bool came_too_late(const Story& story, const Stored& parked, const Run& run) {
  if (run.begin - parked.at > kTakeOver) return false;
  const Run* by = nullptr;
  for (const Run* one : story.runs) {
    if (one->end && *one->end <= parked.at) by = one;
  }
  return by == nullptr || by->life != run.life;
}

void check_runs(const Story& story, const Journal& journal, std::vector<Violation>& found) {
  for (const Run* run : story.runs) {
    const Stored* const parked = last_before(story.parked, run->begin);
    const Stored* const token = last_before(story.tokens, run->begin);
    if (parked == nullptr || token == nullptr || token->sequence != parked->news) continue;
    if (paused_past_lease(*run, journal) || came_too_late(story, *parked, *run)) continue;
    found.push_back({"parked", fmt::format("{}: {}, though its token {} was parked with {} at {}",
                                           run->key, describe(*run, journal), parked->news,
                                           parked->payload, seconds(parked->at))});
  }
}

/// Why a code is not what the runs since the token say; empty: it is.
std::string without_cause(const Story& story, const Stored& parked, const Journal& journal) {
  int failed = 0;
  int doomed = 0;
  int ended = 0;
  const auto token = std::ranges::find(story.tokens, parked.news, &Stored::sequence);
  for (const Run* run : story.runs) {
    if (run->begin >= parked.at || token == story.tokens.end() || !run->end) continue;
    const auto killed = journal.lives.at(run->life).killed;
    if (killed && *killed == *run->end) ++ended;
    if (run->begin < (*token)->at || *run->end > parked.at) continue;
    failed += run->succeeded ? 0 : 1;
    doomed += run->doomed ? 1 : 0;
  }
  if (parked.payload == code::attempts_used_up.id) {
    return failed >= kAttemptsMax ? "" : fmt::format("{} runs failed", failed);
  }
  if (parked.payload == code::worker_crashed.id) {
    return ended >= limits::crashes_max ? "" : fmt::format("{} workers ended", ended);
  }
  return doomed > 0 ? "" : "no run had a cause";
}

void check_causes(const Story& story, const Journal& journal, std::vector<Violation>& found) {
  for (const Stored* parked : story.parked) {
    const std::string text = without_cause(story, *parked, journal);
    if (text.empty()) continue;
    found.push_back({"parked", fmt::format("{}: parked with {} at {}, but {}", parked->key,
                                           parked->payload, seconds(parked->at), text)});
  }
}

/// In the calm a run that is bound to fail is repeated as often as policy says.
void check_attempts(const Story& story, const Journal& journal, std::vector<Violation>& found) {
  int failed = 0;
  const Stored* before = nullptr;
  for (const Run* run : story.runs) {
    if (run->begin < journal.calm || !run->doomed || !run->key.starts_with("valve.")) continue;
    const Stored* const token = token_of(story, *run);
    if (token != before) failed = 0;
    before = token;
    if (++failed != kAttemptsMax + 1) continue;
    found.push_back({"parked", fmt::format("{}: {} is one more than {} attempts", run->key,
                                           describe(*run, journal), kAttemptsMax)});
  }
}

/// An identity that takes its workers with it is parked before it has taken many.
void check_crashes(const Story& story, const Journal& journal, std::vector<Violation>& found) {
  int ended = 0;
  const Stored* before = nullptr;
  for (const Run* run : story.runs) {
    const auto killed = journal.lives.at(run->life).killed;
    const bool survived = !killed || run->end != killed;
    const Stored* const token = token_of(story, *run);
    if (token != before || survived) ended = 0;
    before = token;
    if (survived || !run->doomed) continue;
    if (++ended != limits::crashes_max + kCrashesMore) continue;
    found.push_back({"poison", fmt::format("{}: {} is the {}th that its worker did not survive",
                                           run->key, describe(*run, journal), ended)});
  }
}

}  // namespace

void check_parking(const Journal& journal, std::vector<Violation>& found) {
  // Of what is parked the status knows, and sequences are given again behind a loss.
  if (journal.lost(Stored::Where::work) || journal.lost(Stored::Where::status)) return;
  for (const auto& [key, story] : stories_of(journal)) {
    check_runs(story, journal, found);
    check_causes(story, journal, found);
    check_attempts(story, journal, found);
    check_crashes(story, journal, found);
  }
}

}  // namespace dmm::simulation
