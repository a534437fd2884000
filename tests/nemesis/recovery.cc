// How long work stood still, from the history of what was to be done and what was begun.

#include <algorithm>
#include <array>
#include <unordered_map>

#include "dmm/limits.h"
#include "tests/nemesis/check.h"

namespace dmm::nemesis {

namespace {

struct Event {
  enum class What : std::uint8_t { notified, begun, succeeded };
  Nanoseconds at;
  What what;
  std::uint32_t identity;
  std::uint64_t news;
};

std::vector<Event> events_of(const History& history) {
  std::vector<Event> events;
  events.reserve(history.notified.size() + 2 * history.runs.size());
  for (const Notified& one : history.notified) {
    events.push_back({one.at, Event::What::notified, one.identity, one.news});
  }
  for (const Run& run : history.runs) {
    events.push_back({run.begin, Event::What::begun, run.identity, run.news});
    if (run.succeeded) events.push_back({run.end, Event::What::succeeded, run.identity, run.news});
  }
  std::ranges::stable_sort(events, {}, &Event::at);
  return events;
}

/// What is to be done of a lane, and since when nothing was begun.
class Lane final {
 public:
  void notified(const Event& event) {
    Identity& identity = identities_[event.identity];
    if (event.news > identity.succeeded && identity.notified <= identity.succeeded) {
      if (outstanding_++ == 0) hungry_since_ = event.at;
    }
    identity.notified = std::max(identity.notified, event.news);
  }
  void succeeded(const Event& event) {
    Identity& identity = identities_[event.identity];
    const bool was_outstanding = identity.notified > identity.succeeded;
    identity.succeeded = std::max(identity.succeeded, event.news);
    if (was_outstanding && identity.notified <= identity.succeeded) --outstanding_;
  }
  /// Since when there was something to do and nothing was begun; `event.at` if there was nothing.
  Nanoseconds begun(const Event& event) {
    const Nanoseconds since = outstanding_ > 0 ? std::max(hungry_since_, last_begun_) : event.at;
    last_begun_ = event.at;
    return since;
  }

 private:
  struct Identity {
    std::uint64_t notified = 0;
    std::uint64_t succeeded = 0;
  };
  std::unordered_map<std::uint32_t, Identity> identities_;
  std::size_t outstanding_ = 0;
  Nanoseconds hungry_since_ = 0;
  Nanoseconds last_begun_ = 0;
};

}  // namespace

std::vector<Nanoseconds> recoveries(const History& history) {
  std::vector<Nanoseconds> result(history.volleys.size(), 0);
  std::array<Lane, limits::lanes> lanes;
  std::size_t volleys = 0;  // those that began before the event
  for (const Event& event : events_of(history)) {
    while (volleys < history.volleys.size() && history.volleys[volleys].first <= event.at) {
      ++volleys;
    }
    Lane& lane = lanes[lane_of(event.identity)];
    switch (event.what) {
      case Event::What::notified:
        lane.notified(event);
        break;
      case Event::What::succeeded:
        lane.succeeded(event);
        break;
      case Event::What::begun: {
        const Nanoseconds since = lane.begun(event);
        if (volleys == 0) break;
        const Nanoseconds counted_from = std::max(since, history.volleys[volleys - 1].last);
        Nanoseconds& longest = result[volleys - 1];
        longest = std::max(longest, event.at - counted_from);
        break;
      }
    }
  }
  return result;
}

}  // namespace dmm::nemesis
