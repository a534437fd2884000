#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "dmm/error.h"
#include "dmm/internal/streams.h"
#include "dmm/view.h"
#include "dmm/view/server_clock.h"
#include "dmm/view/snapshot_codec.h"
#include "engine/decode.h"
#include "engine/program.h"

namespace dmm::view {

/// What the inputs tell the owner of a view, beside the changes of rows.
struct InputEvents {
  std::optional<std::string> doubt;    ///< rows may be missing by mistake
  std::optional<std::string> restart;  ///< everything told is void
  std::optional<std::chrono::system_clock::time_point> oldest;  ///< of the changes that were taken
  std::vector<std::string> traces;  ///< the traceparents of the first of them, each once
};

/// A document that cannot be read, or, without an error, one that could not be and now can.
struct Unreadable {
  std::string input;
  std::string key;
  std::optional<Error> error;
};

struct InputCounts {
  std::uint64_t changes = 0;
  std::uint64_t unchanged = 0;
  std::uint64_t stale = 0;
  std::uint64_t expired = 0;
  std::uint64_t restored = 0;  ///< documents of a snapshot
};

class Input;

/// The inputs of a view: reads its sources, keeps the present document of every row, and turns what
/// they tell into changes for the engine. Sources tell on threads of their own; everything else
/// happens on the owner's.
class Inputs {
 public:
  /// What is kept of each row: its document, or for whoever explains also where it came from.
  enum class Keep : std::uint8_t { documents, positions };

  /// clock   of the server: the age of rows is counted by it. It learns from what is told.
  /// wake    called from any thread when there is something to take.
  Inputs(const internal::Streams& streams, const View& view, engine::Program& program,
         ServerClock& clock, std::function<void()> wake, Keep keep);
  ~Inputs();
  Inputs(const Inputs&) = delete;
  Inputs& operator=(const Inputs&) = delete;

  /// Begins to read all inputs. Throws Error.
  /// baselines   by description of the input, as last saved: what is called the same may be
  /// another.
  void open(const nlohmann::json& baselines);

  /// The same, but goes on behind `marks`, one for each input: the documents up to there are known,
  /// see restore(). A source that cannot go on tells everything, and what it does not tell by its
  /// end is deleted then.
  void open(const nlohmann::json& baselines, const std::vector<SourceMark>& marks);
  /// Which source can no longer go on, because it lost something; empty if none did. Asks the
  /// sources, so it blocks. Throws Error{retry}.
  std::string lost(const nlohmann::json& baselines, const std::vector<SourceMark>& marks) const;
  /// Up to where each input was taken. Asks the sources as infos() does.
  std::vector<SourceMark> marks() const;
  /// What the documents of each are reduced to, as text.
  std::vector<std::string> fields() const;
  /// False if a source told that rows may be missing, and this was not taken yet.
  bool sound() const;

  /// Writes the documents there are, those of the smallest input first.
  void save(SnapshotWriter& writer) const;
  /// Puts them back, in parts: each is in `step` when `take` is called. What could not be read then
  /// is told to `unreadable`. False if they are not of these inputs. Before anything was taken.
  bool restore(SnapshotReader& reader, engine::StepInput& step, const std::function<void()>& take,
               const std::function<void(const Unreadable&)>& unreadable);

  /// Adds up to `changes_max` changes of rows to `step`, with what happened beside them.
  /// Documents that cannot be read are told to `unreadable`; what was known of their row stays.
  /// Once all is loaded, what restore() put back is compared with the keys that the sources hold: if
  /// one is not there, though nobody said that it was deleted, that is a restart.
  InputEvents take(std::size_t changes_max, engine::StepInput& step,
                   const std::function<void(const Unreadable&)>& unreadable);
  /// True if take() has more to give.
  bool waiting() const;

  /// Every row there is has been taken, so that a row that is missing is not there.
  bool complete() const;
  /// Good enough to begin with: complete, or loaded for so long that nothing but a storm of changes
  /// can keep it from being complete.
  bool ready() const;
  /// Which documents could not be read while loading, in words: their rows are missing by mistake,
  /// because there is no sound one before them. Empty: all could.
  std::string unread() const;
  std::size_t rows() const;
  /// Bytes that their documents need, estimated from some of them.
  std::size_t memory() const;
  /// Visits every row there is.
  /// position   empty unless positions are kept.
  using Visit = std::function<void(const std::string& input, const std::string& key,
                                   const engine::Value& document, const std::string& position,
                                   std::chrono::system_clock::time_point changed_at)>;
  void each(const Visit& visit) const;
  const InputCounts& counts() const noexcept { return counts_; }
  /// Where each stands, with what the next reading of it has to know. Asks the sources, so it
  /// blocks. Throws Error{retry}.
  std::vector<ViewInputInfo> infos() const;

 private:
  static nlohmann::json baseline_of(const Input& input, const nlohmann::json& baselines);

  std::vector<std::unique_ptr<Input>> inputs_;
  const std::function<void()> wake_;
  InputCounts counts_;
  std::optional<std::chrono::steady_clock::time_point> loaded_at_;  ///< all of them
};

/// The sources that dmm itself brings: reports, buckets and caches, as streams.
std::shared_ptr<Source> stream_source(const internal::Streams& streams, const ViewInput& input);

}  // namespace dmm::view
