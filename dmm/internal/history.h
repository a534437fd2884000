#pragma once

// Whether the streams of a namespace still have what they had. A server that lost its store, or the
// end of it, goes on as if nothing had happened; those who work notice it here and begin anew.
//
// Where each stream stands is remembered by every process that works, and is kept in a record, so
// that a loss is noticed at the next start, too. The record lies in the status bucket and, because
// that may be what is lost, again in the lease stream. It is at most a minute old: a loss of the
// newest messages that happens while nobody works is noticed unless all of them are of that minute.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/internal/runtime.h"
#include "dmm/transport/loss_doubt.h"
#include "dmm/transport/stream.h"
#include "dmm/types.h"

namespace dmm::internal {

struct Streams;

inline constexpr std::string_view kHistoryKey = "history";  ///< of the status bucket

/// Epochs grow by less than one a second. What is beyond this is nobody's, and passed over: an
/// epoch that nothing can follow would leave what it leases without an owner for ever.
inline constexpr std::uint64_t kEpochMax = 1'000'000'000'000'000;

/// Where a stream stood when it was looked at.
struct StreamPosition {
  std::string created;
  std::uint64_t last = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(StreamPosition, created, last)

struct FoundLoss {
  std::string stream;
  std::string reason;
  std::int64_t at = 0;  ///< Unix milliseconds
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(FoundLoss, stream, reason, at)

/// What is kept.
struct HistoryRecord {
  std::uint64_t found = 0;        ///< losses of any stream
  std::uint64_t losses = 0;       ///< of them those of news or caches
  std::uint64_t epoch_floor = 0;  ///< epochs up to here may have been used before leases were lost
  std::map<std::string, StreamPosition> streams;  ///< "work", "cache", ...
  std::vector<FoundLoss> last;                    ///< the last few, newest last
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(HistoryRecord, found, losses, epoch_floor, streams,
                                                last)

/// The record in a message; nothing if it is none.
std::optional<HistoryRecord> parse_history(const transport::Message& message);

/// Compares where streams stood with where they stand, and notes in `record` what was lost, and
/// where they stand.
///
/// now   a stream that could not be asked is missing.
/// at    Unix milliseconds.
/// returns how many losses were noted.
std::size_t note_losses(HistoryRecord& record,
                        const std::map<std::string, transport::StreamState>& now, std::int64_t at);

/// What one process knows of it. Thread-safe.
class History final {
 public:
  /// How often news or caches of the namespace were lost; nothing until the first look. Another
  /// number than before: what was told may be gone, and has to be compared and told again.
  std::optional<std::uint64_t> losses() const noexcept;
  /// Epochs that begin anew have to begin above this one.
  Epoch epoch_floor() const noexcept { return Epoch{epoch_floor_.load()}; }

  /// The lease stream does not have what it had, as a holder noticed: it may have grown past that
  /// since. Epochs up to `used` may have been given. Does not block; watch_history() looks at once.
  void leases_were_lost(Epoch used, std::string reason);
  /// True if epoch_floor() counts for the lease stream that was created then. If not, whoever
  /// counts epochs there has to look() first.
  bool knows_leases(const std::string& created);
  /// Waits until there is something to look at, the time has passed or `stop`.
  void wait(const std::stop_token& stop, std::chrono::milliseconds time);

  /// Asks all streams, says and stores what they lost. Blocks. Throws Error{retry}.
  void look(const Streams& streams);
  /// Stores where the streams stand if that is not known: for the end of the work.
  void store(const Streams& streams) noexcept;

 private:
  struct Kept {
    std::optional<HistoryRecord> record;
    Sequence sequence;  ///< in the status bucket
  };
  static Kept read(const Streams& streams);
  void adopt(const Streams& streams, const HistoryRecord& kept);
  std::size_t note_told();
  bool is_behind(const Kept& kept) const;
  void publish_known();
  void write(const Streams& streams, Sequence expected);

  /// One looks at a time. Not a mutex: none may be held where a thread waits for the server, as
  /// others would wait on it in real time while that is simulated.
  class Turn final {
   public:
    explicit Turn(History& history);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    History& history_;
  };

  static constexpr std::uint64_t kUnknown = ~std::uint64_t{0};
  std::atomic<std::uint64_t> losses_{kUnknown};
  std::atomic<std::uint64_t> epoch_floor_{0};

  // Guarded by Turn.
  std::optional<HistoryRecord> known_;
  std::map<std::string, transport::LossDoubt> doubts_;  ///< by stream
  std::chrono::steady_clock::time_point written_;

  std::mutex told_mutex_;  ///< guards what follows
  StopCondition told_changed_;
  std::optional<FoundLoss> told_;  ///< of the leases; until a look has noted it
  bool look_now_ = false;
  bool looking_ = false;
  Epoch told_used_;
  std::string leases_created_;  ///< of the stream at the last look
};

/// Adds to a token how many losses are known here, if any: a worker that has not noticed the last
/// one yet then reads the entry again, instead of taking what it remembers for what is there.
void add_losses(const Streams& streams, transport::Headers& headers);

/// Looks every limits::stream_check_interval until `stop`.
void watch_history(const Streams& streams, const std::stop_token& stop);

}  // namespace dmm::internal
