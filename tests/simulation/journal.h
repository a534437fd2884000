#pragma once

// The journal: all that happened in a simulation, as nobody inside of it could know it.

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "dmm/transport/stream.h"
#include "dmm/types.h"

namespace dmm::simulation {

using Time = std::chrono::nanoseconds;  ///< since the beginning of the simulation

/// A worker from its beginning to its end.
struct LifeRecord {
  struct Pause {
    Time from;
    Time to;
  };
  std::uint32_t place = 0;
  std::optional<Time> killed;
  std::vector<Pause> pauses;
  std::optional<Time> ended = {};  ///< asked to end, or killed
  bool clock_jumped = false;
};

/// A run of a materializer.
struct Run {
  std::string key;
  std::uint32_t life = 0;
  std::uint64_t epoch = 0;
  std::uint64_t news = 0;
  bool deleted = false;
  Time begin{};
  std::optional<Time> end = {};  ///< none: under way
  int attempt = 1;               ///< as it is told
  bool succeeded = false;
  bool doomed = false;  ///< the world does not let it succeed
  bool paused = false;  ///< its worker said at its beginning that its type is paused, and it is
};

/// A notify, a report or a wish.
struct Said {
  std::string key;  ///< of the identity that is to hear of it in the end
  std::uint64_t news = 0;
  bool deleted = false;
  Time begin{};
  std::optional<Time> acknowledged;
};

/// A message that the server stored.
struct Stored {
  /// leases, status, desired   of losses only.
  enum class Where : std::uint8_t {
    work,
    cache,
    reports,
    cursor,
    leases,
    status,
    parked,
    failing,
    desired
  };
  Where where = Where::work;
  std::string key;  ///< of the identity or the device
  Time at{};
  std::uint64_t sequence = 0;
  std::uint64_t news = 0;  ///< of what is failing or parked: the sequence of its token
  std::uint64_t epoch = 0;
  bool deleted = false;
  bool of_view = false;
  std::string payload = {};  ///< of what is failing or parked: the code
  int attempts = 0;          ///< of what is failing
  Time delay{};              ///< of what is failing: until the next attempt; 0: it does not say
};

/// Something was paused.
struct Pausing {
  std::string scope;      ///< "all", a type, or the key of an identity
  Time from{};            ///< acknowledged
  Time to = Time::max();  ///< it is about to be resumed

  bool covers(const std::string& key) const;
};

/// What the policy of a type sets from now on; 0: nothing.
struct Limit {
  std::string type;
  std::string setting;  ///< as policies call it, for example "rate"
  double value = 0;
  Time at{};
};

/// The server lost messages, or a whole stream, that it had acknowledged.
struct Loss {
  Stored::Where where = Stored::Where::work;
  Time at{};
  bool whole = false;  ///< another stream took its place
};

/// Some identities fail or hang, and nothing else goes wrong.
struct Trial {
  std::vector<std::string> poisoned;
  Time from{};
  Time to{};
};

struct Journal {
  std::vector<LifeRecord> lives;
  std::deque<Run> runs;
  std::deque<Said> said;
  std::deque<Stored> stored;
  std::vector<Loss> losses;
  /// The handler of a device's report with these news returned, and when.
  struct Handled {
    std::string device;
    std::uint64_t news = 0;
    Time at{};
  };
  std::deque<Handled> handled;
  std::vector<Pausing> pausings;
  std::vector<Limit> limits;
  std::vector<Trial> trials;
  std::vector<Time> approvals;    ///< of removals
  std::size_t removals_free = 0;  ///< rows that may go within a minute without one
  Time calm{};                    ///< from here on nothing fails
  Time late = Time::max();        ///< from here on runs have other causes than notifies

  bool lost(Stored::Where where) const {
    for (const Loss& loss : losses) {
      if (loss.where == where) return true;
    }
    return false;
  }
};

/// What was not as promised.
struct Violation {
  std::string promise;  ///< a word, for example "lost"
  std::string text;
};

// The checks. They look at the journal only, and in the end at nothing but what was promised.

/// Two runs of an identity at a time, unless a pause kept the earlier one past its lease.
void check_overlaps(const Journal& journal, std::vector<Violation>& found);
/// Runs of an epoch that another one had followed already.
void check_zombies(const Journal& journal, std::vector<Violation>& found);
/// Entries that went back to older news or an older epoch.
void check_stale_writes(const Journal& journal, std::vector<Violation>& found);
/// Notifies during a run lead to one further run, on the newest; no run is without cause. In the
/// calm.
void check_coalescing(const Journal& journal, std::vector<Violation>& found);
/// A view tells a row if and only if it is another one. In the calm.
void check_exactness(const Journal& journal, std::vector<Violation>& found);
/// The cursor of an observer never passes a report that was not handled.
void check_cursor(const Journal& journal, std::vector<Violation>& found);
/// What is parked does not run, and nothing is parked without cause.
void check_parking(const Journal& journal, std::vector<Violation>& found);
/// Nothing begins while it is paused.
void check_pauses(const Journal& journal, std::vector<Violation>& found);
/// No worker begins more, or has more under way, than policy lets it.
void check_pace(const Journal& journal, std::vector<Violation>& found);
/// Attempts go on where the owner before was, and wait as long as was said. Behind news they begin
/// anew.
void check_attempts(const Journal& journal, std::vector<Violation>& found);
/// News of what is in backoff run at once. In the calm.
void check_news(const Journal& journal, std::vector<Violation>& found);
/// While some identities fail and hang, news of all others run at once.
void check_poison(const Journal& journal, std::vector<Violation>& found);
/// A view tells that a row is gone only if that was said, and not of too many at a time.
void check_absence(const Journal& journal, std::vector<Violation>& found);
/// Rows are what an independent computation says, bit for bit.
void check_rows(const Journal& journal, std::vector<Violation>& found);
/// Calls were made in the calm, all were answered, and of so many identities each ran.
void check_alive(const Journal& journal, std::size_t identities, std::vector<Violation>& found);

/// What the simulation lets valves do before they are parked.
inline constexpr int kAttemptsMax = 3;
/// Runs at a time in a worker without a policy.
inline constexpr int kConcurrency = 4;
/// The wait behind a failure without a policy: at most the first one, doubled each time.
inline constexpr std::chrono::milliseconds kBackoffFirst(50);
inline constexpr std::chrono::milliseconds kBackoffMax(2'000);

/// Of all that was stored and run, and when.
std::uint64_t digest_of(const Journal& journal);
std::string describe(const Run& run, const Journal& journal);
/// True if the worker of a run was stopped for long enough to lose its lease without knowing it, in
/// a pause that touches the run.
bool paused_past_lease(const Run& run, const Journal& journal);

std::string seconds(Time time);

}  // namespace dmm::simulation
