// The part of the run loop that takes lanes, and gives them to others.

#include <algorithm>

#include "dmm/internal/runtime.h"
#include "dmm/limits.h"
#include "dmm/worker/run_loop.h"

namespace dmm::worker {

namespace {

/// Between two beginnings of reading: lanes that are handed over one after the other come together.
constexpr std::chrono::milliseconds kBetweenReadings{100};

}  // namespace

bool RunLoop::held(const Item& item) const {
  const Lane& lane = lanes_[item.lane];
  return lane.ours && leases_.held(item.lane, lane.epoch);
}

std::size_t RunLoop::lanes_owned() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(lanes_, [](const Lane& lane) { return lane.ours; }));
}

bool RunLoop::all_caught_up() const {
  return lanes_owned() > 0 && std::ranges::all_of(lanes_, [](const Lane& lane) {
           return !lane.ours || lane.leaving || lane.caught_up;
         });
}

/// Looks what lanes came and went. Owner thread: what follows from it asks the server.
void RunLoop::follow_lanes() {
  const bool counted_on = leases_.held();
  if (counted_on_ && !counted_on) {
    ++stats_.lease_losses;
    cancel_runs();
  }
  counted_on_ = counted_on;
  const std::size_t owned = lanes_owned();
  bool lost = false;
  for (const LaneChange& change : leases_.changes()) {
    if (change.taken) {
      take_lane(change.lane, *change.taken);
    } else {
      lost = lost || lanes_[change.lane].ours;
      drop_lane(change.lane);
    }
  }
  if (lost && counted_on) ++stats_.lease_losses;
  begin_lanes();
  give_lanes();
  if (lanes_owned() == owned) return;
  follow_share();
  if (owned > 0) return;
  // Others had everything, or nobody: what was owed then is not.
  resync_.stop();
  said_in_force_.clear();
  if (steering_.known()) say_in_force();
}

void RunLoop::take_lane(std::uint32_t number, const Tenure& tenure) {
  Lane& lane = lanes_[number];
  lane.epoch = tenure.epoch;
  lane.taken_over = lane.taken_over || tenure.taken_over;
  if (tenure.taken_over) {
    lane.last_words = tenure.last_words;
    lane.blamed = false;
  }
  if (!lane.ours) {
    if (std::ranges::find(to_begin_, number) == to_begin_.end()) to_begin_.push_back(number);
    return;
  }
  // Nobody else was there: what was begun goes on.
  std::vector<ItemPtr> finished;
  std::ranges::copy_if(suspended_, std::back_inserter(finished),
                       [&](const ItemPtr& item) { return item->lane == number; });
  std::erase_if(suspended_, [&](const ItemPtr& item) { return item->lane == number; });
  for (const ItemPtr& item : finished) finish(item);
}

/// Makes the lanes that came this worker's, and reads the tokens from the start.
void RunLoop::begin_lanes() {
  if (to_begin_.empty() || history_lost_ || Clock::now() < next_begin_) return;
  next_begin_ = Clock::now() + kBetweenReadings;
  bool many = false;  // more wait than are held in memory
  const std::uint64_t reconnects = streams_.transport->reconnects();
  try {
    const transport::StreamState work = streams_.work->state();
    if (!created_.empty() && created_ != work.created) {
      // The reader has not noticed yet. Nothing of what was read is worth anything.
      reader_.reset();
      ++reading_;
      forget_history("the stream was created again", 0);
      return;
    }
    created_ = work.created;
    const auto begun = [this](const std::string& key) {
      return std::ranges::find(to_begin_, lane_of_key(key)) != to_begin_.end();
    };
    toll_ = statuses_.load(type_, begun);
    entries_.clear();
    many = work.messages > limits::identities_ready_max;
    if (to_begin_.size() == limits::lanes) load_entries(work);
  } catch (const Error& error) {
    if (error.kind() != Kind::retry && error.kind() != Kind::not_found) throw;
    streams_.log.warn("the work could not begin", {{"type", type_}, {"error", error.what()}});
    next_begin_ = Clock::now() + kTroubleDelay;
    return;
  }
  for (const std::uint32_t number : to_begin_) lanes_[number].ours = true;
  to_begin_.clear();
  // Lanes that were here before wait for follow_connection() to see it.
  if (!reader_) reconnects_ = reconnects;
  count_crashes();
  internal::crash_point("begins with lanes");
  read_from_start();
  if (many) {
    fresh_ =
        std::make_unique<FreshNews>(streams_, mailbox_, type_, [this](transport::Message message) {
          if (!history_lost_) take_token(std::move(message), true);
        });
  }
}

/// What waited has been read: from here on one reader is enough.
void RunLoop::follow_backlog() {
  if (fresh_ && all_caught_up()) fresh_.reset();
}

/// Of what is known already, nothing is newer.
void RunLoop::read_from_start() {
  reader_.reset();
  ++reading_;
  consumed_ = 0;
  reader_ = streams_.work->read(
      {.filter = streams_.names.token_filter(type_), .after = {}, .created = created_}, *this);
  reader_->grant(2 * limits::read_batch);
}

/// Where there is much to do, reading all entries at once costs less than reading one for each run;
/// where there is little, the entries are read as they are needed: work in proportion to the
/// change.
void RunLoop::load_entries(const transport::StreamState& work) {
  constexpr std::uint64_t kMuch = 1'000;
  constexpr std::uint64_t kScanIsCheaper =
      8;  // a scanned entry costs about an eighth of a read one
  if (work.messages < kMuch) return;
  if (streams_.cache->state().messages > work.messages * kScanIsCheaper) return;
  entries_.set_complete();
  transport::scan(*streams_.cache, streams_.names.entry_filter(type_),
                  [this](transport::Message message) {
                    std::string key(streams_.names.entry_key(message.subject));
                    entries_.put(key, Entry::from(std::move(message)));
                  });
}

/// The lane is another's: what is known of it is forgotten, what runs is stopped.
void RunLoop::drop_lane(std::uint32_t number) {
  std::erase(to_begin_, number);
  if (!lanes_[number].ours) {
    lanes_[number] = Lane();
    return;
  }
  forget_lane(number, false);
  statuses_.forget([&](const std::string& key) { return lane_of_key(key) == number; });
  entries_.clear();
  lanes_[number] = Lane();
}

/// spare_active   what is on its way to or from a run is kept.
void RunLoop::forget_lane(std::uint32_t number, bool spare_active) {
  const auto here = [&](const ItemPtr& item) { return item->lane == number; };
  ready_.erase_if([&](const ItemPtr& item) {
    if (here(item)) ready_bytes_ -= item->token->news.size();
    return here(item);
  });
  if (!spare_active) std::erase_if(suspended_, here);
  std::erase_if(items_, [&](const auto& pair) {
    const ItemPtr& item = pair.second;
    if (!here(item)) return false;
    if (spare_active && is_active(*item)) {
      lanes_[number].finishing.push_back(item);
      return false;
    }
    held_.erase(item->key);
    report_waits_.forget(item->key);
    return abandon(item);
  });
}

bool RunLoop::is_active(const Item& item) {
  return item.run || item.state == State::reading || item.state == State::storing;
}

/// Lets others have what is theirs by right: those lanes first in which the least runs, so that a
/// run that hangs keeps no lane from moving but, at worst, its own.
void RunLoop::give_lanes() {
  std::vector<std::uint32_t> stay;
  lanes_leave_ = false;
  for (std::uint32_t number = 0; number < limits::lanes; ++number) {
    if (lanes_[number].leaving && finished(number)) give_lane(number);
    lanes_leave_ = lanes_leave_ || lanes_[number].leaving;
    if (lanes_[number].ours && !lanes_[number].leaving) stay.push_back(number);
  }
  if (!leases_.held() || stay.size() <= leases_.share()) return;
  std::array<std::size_t, limits::lanes> running{};
  for (const auto& [key, item] : items_) running[item->lane] += item->run ? 1 : 0;
  std::ranges::stable_sort(stay, {}, [&](std::uint32_t number) { return running[number]; });
  stay.resize(stay.size() - leases_.share());
  settle_lanes(stay);
  for (const std::uint32_t number : stay) leave_lane(number);
}

void RunLoop::leave_lane(std::uint32_t number) {
  lanes_[number].leaving = true;
  lanes_leave_ = true;
  forget_lane(number, true);
  if (finished(number)) give_lane(number);
}

/// True if nothing of a lane that leaves is on its way any more.
bool RunLoop::finished(std::uint32_t number) {
  std::vector<ItemPtr>& finishing = lanes_[number].finishing;
  std::erase_if(finishing, [](const ItemPtr& item) { return !is_active(*item); });
  return finishing.empty() && unerased_[number] == 0 &&
         !statuses_.writes([&](const std::string& key) { return lane_of_key(key) == number; });
}

void RunLoop::give_lane(std::uint32_t number) {
  const Epoch epoch = lanes_[number].epoch;
  internal::crash_point("gives a lane");
  drop_lane(number);
  leases_.release(number, epoch);
}

/// A zombie that owned a lane before can do harm to those identities only whose tokens it had seen.
/// Where none is left the next owner need not mind.
void RunLoop::settle_lanes(const std::vector<std::uint32_t>& numbers) {
  std::array<bool, limits::lanes> open{};
  for (const auto& [key, item] : items_) open[item->lane] = true;
  for (const std::uint32_t number : numbers) {
    if (lanes_[number].caught_up && !open[number]) leases_.settle(number);
  }
}

}  // namespace dmm::worker
