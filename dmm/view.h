#pragma once

// A View is a pipeline whose rows are the cache objects of a type: reports, buckets, tables and the
// caches of other types go in, and exactly the materializers whose row changed are notified.
//
//     View view;
//     view.name = "players";
//     view.type = "player";
//     view.inputs = {ViewInput::reports("player"), ViewInput::bucket("zones")};
//     view.pipeline = nlohmann::json::parse(R"([{"@join": ...}, {"@project": ...}])");
//     bucket.view(view);
//
// A row is keyed by its field `View::key`, whose text is the id. The view owns the fields of its
// rows; all other fields of the cache belong to materialize and are left alone. An entry belongs to
// one view. See docs/concepts.md, "Views".

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/durations.h"
#include "dmm/limits.h"
#include "dmm/source.h"

namespace dmm {

/// Where rows come into a view.
struct ViewInput {
  enum class From : std::uint8_t {
    reports,  ///< the last report of each device of a kind
    bucket,   ///< a KV bucket of the server, by its NATS name
    cache,    ///< the stored cache entries of a type of this namespace
    source    ///< anything else, for example a PostgreSQL table
  };
  From from = From::reports;
  std::string of;    ///< kind, bucket or type
  std::string name;  ///< what the pipeline calls it; empty: the same as `of`
  /// The field of a document that gets the key of its row, which the payload alone does not tell:
  /// the device of a report, the key in a bucket, the id of a cache object. Empty: none.
  std::string key_field;
  /// Rows that were not told again for longer than this are taken as deleted. Zero: they stay.
  std::chrono::milliseconds age{0};
  std::shared_ptr<Source> source;  ///< for From::source

  static ViewInput reports(std::string kind) {
    return {From::reports, std::move(kind), {}, "device", {}, {}};
  }
  static ViewInput bucket(std::string bucket) {
    return {From::bucket, std::move(bucket), {}, "key", {}, {}};
  }
  static ViewInput cache(std::string type) {
    return {From::cache, std::move(type), {}, "id", {}, {}};
  }
  const std::string& called() const noexcept { return name.empty() ? of : name; }

  static ViewInput table(std::string name, std::shared_ptr<Source> source) {
    return {From::source, name, name, {}, {}, std::move(source)};
  }
};

struct View {
  std::string name;  ///< as a type's; one of a namespace
  std::string type;  ///< of the materializers that the rows belong to
  std::vector<ViewInput> inputs;
  nlohmann::json pipeline;  ///< docs/reference/pipeline-language.md
  std::string key = "id";   ///< the field of a row that names its identity
  /// Rows that may vanish within a minute without being held for approval, or 5 %, if that is more.
  std::size_t removals_free = limits::removals_free;
};

/// Reads a view from its file form (docs/reference/views.md): {"view", "type", "key", "inputs":
/// [{"reports" | "bucket" | "cache": of, "name", "key_field", "age_s"}], "pipeline"}.
/// Inputs with a member "table" or "source" are not known here: their members are handed to
/// `source`. Throws Error{invalid} DMM-0601 that names the member.
View view_from_json(const nlohmann::json& file,
                    const std::function<ViewInput(const nlohmann::json&)>& source = {});
/// The file form of a view; what Source::definition() says of inputs from elsewhere.
nlohmann::json view_to_json(const View& view);

/// Where an owner of a view keeps what it has read, so that it begins fast when it begins again.
/// See docs/reference/views.md, "Restart".
struct ViewSnapshots {
  std::string directory;  ///< of this machine, made if it is missing; empty: none are kept
  std::chrono::milliseconds interval = limits::view_snapshot_interval;  ///< at least, between two
  std::chrono::milliseconds age_max = limits::view_snapshot_age_max;    ///< older ones are not used
};

/// What an operator of a view's pipeline keeps.
struct OperatorStats {
  std::string name;
  std::size_t rows = 0;
  std::size_t bytes = 0;  ///< that it took from the system for them
};

/// What a view has done since its work began, and where it stands.
struct ViewStats {
  std::uint64_t changes = 0;    ///< rows of inputs that were told
  std::uint64_t unchanged = 0;  ///< told again as they were
  std::uint64_t stale = 0;      ///< reports ignored because their `seq` was not above the last one
  std::uint64_t refused = 0;    ///< documents or rows that were parked with a reason
  std::uint64_t expired = 0;    ///< rows of inputs that passed their age
  std::uint64_t steps = 0;      ///< of the engine
  std::uint64_t notified = 0;   ///< tokens stored: changed rows and tombstones
  std::uint64_t removed = 0;    ///< of them tombstones
  std::uint64_t rebuilds = 0;   ///< the view was computed from all its inputs
  std::uint64_t restored = 0;  ///< rows of inputs that came from a snapshot instead of their source
  std::uint64_t snapshots = 0;         ///< written
  std::uint64_t snapshots_failed = 0;  ///< could not be: the one before stays
  std::chrono::microseconds snapshot_stall{
      0};  ///< for so long the last one held up everything else
  std::size_t input_rows = 0;
  std::size_t rows = 0;
  std::size_t held = 0;      ///< removals that wait for approval
  std::size_t sending = 0;   ///< notifies that are not confirmed yet
  bool loaded = false;       ///< all inputs were read, and the cache compared with the view
  bool holds_lease = false;  ///< it keeps the view
  bool stands_by = false;    ///< another worker that lives keeps it
  /// All that came of the inputs is in the rows, and what changed in them is stored as tokens or
  /// held.
  bool settled = false;
  Durations step_times;
  Durations lags;  ///< at each step, the age of the oldest change that it took in, once loaded
  /// The operators of the pipeline that hold rows; looked at once a second.
  std::vector<OperatorStats> operators;
  /// Memory of the documents of the inputs and of the rows, estimated from a sample once a second.
  std::size_t documents_bytes = 0;
};

/// Where an input of a view stands. Times are Unix milliseconds.
struct ViewInputInfo {
  std::string name;
  std::string description;
  std::uint64_t rows = 0;
  bool loaded = false;
  std::string position;  ///< of the newest change taken
  std::int64_t changed_at = 0;
  nlohmann::json baseline;  ///< what the next owner compares with
};

/// Where a view stands, as its owner last wrote it. Times are Unix milliseconds.
struct ViewInfo {
  std::string name;
  std::string type;
  std::string key;
  std::string pipeline;  ///< hash of the view, see ViewRelease
  std::uint64_t release = 0;
  std::uint64_t rolled_out = 0;  ///< the newest release all of whose changes were told
  std::uint64_t rollout_told = 0;
  std::uint64_t rollout_failing = 0;  ///< of them
  std::string stopped;                ///< why the rollout stopped; empty: it did not
  std::string digest;                 ///< of the rows: equal rows have equal digests
  std::uint64_t epoch = 0;            ///< of the owner's lease
  bool loaded = false;
  std::uint64_t rows = 0;
  std::uint64_t notified = 0;
  std::uint64_t removed = 0;
  std::uint64_t refused = 0;
  std::uint64_t stale = 0;
  std::uint64_t sending = 0;
  std::uint64_t twice = 0;        ///< ids with more than one row
  std::uint64_t without_key = 0;  ///< rows without an id
  std::uint64_t held = 0;         ///< removals that wait for approval
  std::string held_reason;
  std::vector<std::string> held_some;  ///< the first of their ids
  bool doubt = false;                  ///< an input may lack rows; survives the owner
  std::uint64_t history = 0;     ///< grows when what was read is void: snapshots of before are, too
  std::int64_t snapshot_at = 0;  ///< of the snapshot that the owner began with; 0: it began cold
  std::string cold_because;      ///< why, if it keeps snapshots
  std::int64_t at = 0;           ///< when this was written
  std::vector<ViewInputInfo> inputs;
};

/// A view at work. Made by Bucket::view, owned by the bucket.
class ViewStream {
 public:
  virtual ~ViewStream() = default;
  virtual const std::string& name() const noexcept = 0;

  /// Keeps the view until `stop` is requested: waits for its lease, loads the inputs, notifies the
  /// difference between view and effective cache, then what changes. Nothing is removed before all
  /// inputs are loaded, nor while one of them is in doubt, nor more than max(100, 5 %) of the rows
  /// within a minute, unless approved. Called by one thread at a time; blocks.
  /// Throws Error for what cannot heal by itself.
  virtual void work(std::stop_token stop) = 0;

  /// Any thread.
  virtual ViewStats stats() const = 0;
};

}  // namespace dmm
