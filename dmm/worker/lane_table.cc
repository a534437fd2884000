#include "dmm/worker/lane_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <numeric>

#include "dmm/identity.h"

namespace dmm::worker {

namespace {

/// A seat nobody was heard of for so long is cleared away.
constexpr auto kSeatKept = std::chrono::minutes(1);

std::optional<std::uint64_t> number_of(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

std::optional<std::pair<std::uint32_t, Epoch>> lane_in(std::string_view name,
                                                       std::string_view type) {
  const std::string work = fmt::format("work.{}.", type);
  const std::size_t dot = name.rfind('.');
  if (!name.starts_with(work) || dot < work.size()) return std::nullopt;
  const auto lane = number_of(name.substr(work.size(), dot - work.size()));
  const std::optional<Epoch> epoch = epoch_in(name);
  if (!lane || !epoch || *lane >= limits::lanes) return std::nullopt;
  return std::pair(static_cast<std::uint32_t>(*lane), *epoch);
}

LaneTable::LaneTable(std::string type, std::string holder, Clock::duration ttl)
    : type_(std::move(type)), holder_(std::move(holder)), ttl_(ttl) {
  std::iota(order_.begin(), order_.end(), 0);
  std::ranges::sort(order_, {}, [&](std::uint32_t lane) {
    return std::hash<std::string>()(fmt::format("{}.{}", holder_, lane));
  });
}

std::optional<std::uint32_t> LaneTable::take(std::string_view name,
                                             const transport::Message& message,
                                             Clock::time_point now) {
  LeaseRecord said = read_lease_record(message.payload);
  if (const std::string seat = fmt::format("seat.{}.", type_); name.starts_with(seat)) {
    Seat& slot = seats_[std::string(name.substr(seat.size()))];
    if (message.sequence > slot.beat) {
      slot = Seat{message.sequence, now, said.released, false};
    }
    return std::nullopt;
  }
  const auto found = lane_in(name, type_);
  if (!found) return std::nullopt;
  const auto [lane, epoch] = *found;
  Record& record = records_[lane];
  if (epoch < record.epoch || message.sequence < record.message) return std::nullopt;
  if (!said.released) {
    // To take an epoch is a sign of life as a beat is, and a beat that came before it may be read
    // later, because a newer one has taken its place.
    Seat& seat = seats_.try_emplace(said.holder, Seat{{}, now, false, false}).first->second;
    if (message.sequence > seat.beat) {
      seat.heard = now;
      seat.dead = false;
    }
  }
  record = Record{epoch, std::move(said), message.sequence};
  return lane;
}

void LaneTable::clear() {
  records_ = {};
  seats_.clear();
}

void LaneTable::note_taken(std::uint32_t lane, Epoch epoch, Sequence message) {
  if (message > records_[lane].message) {
    records_[lane] = Record{epoch, {holder_}, message};
  }
}

void LaneTable::note_said(std::uint32_t lane, Epoch epoch, LeaseRecord said) {
  if (records_[lane].epoch == epoch) records_[lane].said = std::move(said);
}

std::vector<std::string> LaneTable::suspects(Clock::time_point now) const {
  std::vector<std::string> silent;
  for (const auto& [holder, seat] : seats_) {
    if (holder == holder_ || seat.left || seat.dead || now - seat.heard < ttl_) continue;
    silent.push_back(holder);
  }
  return silent;
}

std::vector<std::string> LaneTable::living() const {
  std::vector<std::string> holders;
  for (const auto& [holder, seat] : seats_) {
    if (holder != holder_ && !holder.empty() && !seat.left && !seat.dead) holders.push_back(holder);
  }
  return holders;
}

void LaneTable::note_dead(const std::string& holder) {
  const auto found = seats_.find(holder);
  if (found != seats_.end()) found->second.dead = true;
}

bool LaneTable::confirm(const std::string& holder, Clock::time_point asked) {
  const auto found = seats_.find(holder);
  if (found == seats_.end()) return false;
  Seat& seat = found->second;
  if (seat.left || seat.dead || asked - seat.heard < ttl_) return false;
  seat.dead = true;
  return true;
}

Sequence LaneTable::beat_of(const std::string& holder) const {
  const auto found = seats_.find(holder);
  return found == seats_.end() ? Sequence() : found->second.beat;
}

void LaneTable::count_anew(Clock::time_point now) {
  for (auto& [holder, seat] : seats_) seat.heard = std::max(seat.heard, now);
}

std::size_t LaneTable::members(Clock::time_point now) const {
  std::size_t others = 0;
  for (const auto& [holder, seat] : seats_) {
    if (holder != holder_ && live(seat, now)) ++others;
  }
  return others + 1;
}

std::size_t LaneTable::share(Clock::time_point now) const {
  std::size_t before = 0;  // who lives and comes first takes what does not divide
  for (const auto& [holder, seat] : seats_) {
    if (holder < holder_ && live(seat, now)) ++before;
  }
  const std::size_t all = members(now);
  return limits::lanes / all + (before < limits::lanes % all ? 1 : 0);
}

std::vector<LaneTable::Offer> LaneTable::offers() const {
  std::vector<Offer> free;
  for (const std::uint32_t lane : order_) {
    const Record& record = records_[lane];
    const bool held = record.epoch.value > 0 && !record.said.released;
    const bool own = held && record.said.holder == holder_;
    if (held && !own) {
      const auto seat = seats_.find(record.said.holder);
      if (seat != seats_.end() && !seat->second.dead && !seat->second.left) continue;
    }
    // Who leased the type as a whole may have come in between, and ended without a word.
    const bool settled = !held && !record.said.unsettled && record.epoch >= floor_;
    free.push_back({lane, Epoch{std::max(record.epoch, floor_).value + 1}, record.epoch,
                    record.message, own, settled});
  }
  return free;
}

bool LaneTable::holds(const std::string& holder) const {
  return std::ranges::any_of(records_, [&](const Record& record) {
    return !record.said.released && record.said.holder == holder;
  });
}

std::vector<Sequence> LaneTable::clear_seats(Clock::time_point now) {
  std::vector<Sequence> messages;
  std::erase_if(seats_, [&](const auto& pair) {
    const auto& [holder, seat] = pair;
    if (holder == holder_ || holds(holder) || now - seat.heard < kSeatKept) return false;
    if (seat.beat) messages.push_back(seat.beat);
    return true;
  });
  return messages;
}

}  // namespace dmm::worker
