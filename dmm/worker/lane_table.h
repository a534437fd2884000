#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dmm/internal/runtime.h"
#include "dmm/limits.h"
#include "dmm/transport/stream.h"
#include "dmm/types.h"
#include "dmm/worker/lease.h"

namespace dmm::worker {

/// A lane and its epoch, of "work.<type>.<lane>.<epoch>"; nothing if the name is another one.
std::optional<std::pair<std::uint32_t, Epoch>> lane_in(std::string_view name,
                                                       std::string_view type);

/// What the lease stream says of the lanes of one type, and what follows from it for one worker:
/// which lanes it may take, and how many are its share. Decides, but asks and writes nothing.
///
/// A worker says that it lives by a message on its seat, each second. The lanes are to be shared
/// equally by the seats that were heard of within the last TTL; only what is too many moves.
///
/// Seats and records are followed, so silence may also mean that the reader lags: a silent holder
/// is suspected, and dead only once the server, asked after the TTL, knows of no newer beat either.
class LaneTable final {
 public:
  using Clock = internal::SteadyClock;

  /// A lane that is free to be taken by whoever writes the epoch first.
  struct Offer {
    std::uint32_t lane = 0;
    Epoch epoch;
    Epoch before;          ///< the last one
    Sequence message;      ///< its message, 0: none
    bool own = false;      ///< its holder is this worker
    bool settled = false;  ///< nobody can have left a run unfinished
  };

  /// holder   of this worker; its own seat counts as live.
  LaneTable(std::string type, std::string holder, Clock::duration ttl);

  /// Takes in a message of dmm.<ns>.lease.<what>.<type>.>, from behind "lease.". Anything may lie
  /// there: what cannot be read names a holder that never beats.
  /// Returns the lane whose newest record this is, if it is one.
  std::optional<std::uint32_t> take(std::string_view name, const transport::Message& message,
                                    Clock::time_point now);
  /// Forgets all.
  void clear();

  /// Epochs up to this one belong to workers that leased the type as a whole: the lanes' come
  /// after.
  void set_floor(Epoch floor) { floor_ = floor; }
  Epoch floor() const noexcept { return floor_; }

  const std::string& holder_of(std::uint32_t lane) const { return records_[lane].said.holder; }
  /// Whose last words tell which run of the lane was its end, if any does.
  const std::string& words_of(std::uint32_t lane) const {
    const LeaseRecord& said = records_[lane].said;
    return said.released ? said.words_of : said.holder;
  }
  Epoch epoch_of(std::uint32_t lane) const { return records_[lane].epoch; }
  // What this worker wrote itself, before it is read back.
  void note_taken(std::uint32_t lane, Epoch epoch, Sequence message);
  void note_said(std::uint32_t lane, Epoch epoch, LeaseRecord said);

  /// Holders that were silent for a TTL.
  std::vector<std::string> suspects(Clock::time_point now) const;
  /// Other holders that are not known to have left or to be dead.
  std::vector<std::string> living() const;
  /// True if a lane's newest record is this holder's, and was not released.
  bool holds(const std::string& holder) const;
  /// The process of a holder has ended.
  void note_dead(const std::string& holder);
  /// The server was asked for a holder's last beat at `asked`, and what it has was taken in.
  /// Returns true if that makes the holder dead.
  bool confirm(const std::string& holder, Clock::time_point asked);
  /// The last message of its seat that is known; 0: none.
  Sequence beat_of(const std::string& holder) const;

  /// This worker heard nobody for a while: silence counts from now.
  void count_anew(Clock::time_point now);

  /// Workers that live, this one among them.
  std::size_t members(Clock::time_point now) const;
  /// How many lanes are this worker's by right.
  std::size_t share(Clock::time_point now) const;
  /// What may be taken, in an order that is another one for each worker, so that they do not all
  /// reach for the same lane.
  std::vector<Offer> offers() const;
  /// Forgets seats that nobody sits on any more, and returns their messages.
  std::vector<Sequence> clear_seats(Clock::time_point now);

 private:
  struct Record {
    Epoch epoch;
    LeaseRecord said;
    Sequence message;
  };
  struct Seat {
    Sequence beat;
    Clock::time_point heard;
    bool left = false;
    bool dead = false;
  };
  bool live(const Seat& seat, Clock::time_point now) const {
    return seat.beat && !seat.left && !seat.dead && now - seat.heard < ttl_;
  }

  const std::string type_;
  const std::string holder_;
  const Clock::duration ttl_;
  Epoch floor_;
  std::array<std::uint32_t, limits::lanes> order_{};  ///< in which this worker reaches for lanes
  std::array<Record, limits::lanes> records_;
  std::map<std::string, Seat, std::less<>> seats_;  ///< by holder
};

}  // namespace dmm::worker
