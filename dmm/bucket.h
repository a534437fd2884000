#pragma once

// A Bucket is a namespace that is open: the cache objects of materializers, the tokens of their
// work, the reports of devices.
//
// Lifecycle: open, register types and observers, work, close (or destroy). What the bucket returns
// by reference lives until it is closed. All methods may be called from any thread, but for
// registration, which comes first.

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <typeindex>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/connection_options.h"
#include "dmm/context.h"
#include "dmm/control.h"
#include "dmm/error.h"
#include "dmm/inspect.h"
#include "dmm/log.h"
#include "dmm/materializer.h"
#include "dmm/metrics.h"
#include "dmm/observer.h"
#include "dmm/trace.h"
#include "dmm/view.h"
#include "dmm/views.h"
#include "dmm/work_stream.h"
#include "dmm/workers.h"

namespace dmm {

namespace transport {
class Transport;
}
class Bucket;
namespace internal {
struct Streams;
/// For other parts of dmm that work on an open namespace.
const Streams& streams_of(const Bucket& bucket) noexcept;
}  // namespace internal

struct BucketOptions {
  /// How to reach the servers; unset fields come from the environment and the configuration file.
  ConnectionOptions connection = {};
  /// Create the streams of the namespace if they are missing. `dmm init` does it with more choice.
  bool create = true;
  int replicas = 1;    ///< of streams that are created: 1, 3 or 5
  int generation = 1;  ///< see docs/reference/wire-format.md
  Logger logger = Logger::standard(Level::warn);
  ViewSnapshots snapshots = {};  ///< of the views that work here
  /// Another transport than NATS, for tests; the connection options are then not used.
  std::shared_ptr<transport::Transport> transport = {};
  /// What this program is called when tools ask who works here; empty: as its file is.
  std::string program = {};
  /// What else it says then: the members of the object are added to the answer. Called on a thread
  /// of the transport, so it must neither block nor throw.
  std::function<nlohmann::json()> describe = {};
  /// Where what is done here for a trace is recorded. Nothing: traces are passed on as they came.
  std::shared_ptr<SpanSink> spans = {};
  /// A directory of this machine that workers of one user share and that outlives their processes.
  /// In it they see at once that one of them has died, and take its work over without waiting for
  /// its leases to run out. Made if it is missing; empty: leases run out. Others must not be able to
  /// write to it: open() throws Error{invalid} DMM-0404.
  std::string run_directory = {};
};

/// What a process has done in a namespace beside its work.
struct BucketStats {
  bool connected = false;
  std::uint64_t reconnects = 0;
  /// Tokens stored by notify, notify_all, poke and remove, by type; those of views not included.
  std::map<std::string, std::uint64_t> notifies;
  std::uint64_t reports = 0;  ///< published by report and report_all
};

/// What became of one item of a batch.
struct BatchFailure {
  std::size_t index;  ///< in the batch
  Error error;
};

class Bucket final : public Matters {
 public:
  /// Opens a namespace.
  /// ns        1 to 32 of [A-Za-z0-9_-].
  /// throws    Error{retry} DMM-0101 server not reachable; {invalid} DMM-0102, 0403, 0404;
  ///           {not_found} DMM-0107 streams are missing and `create` is off; {unsupported} 0104.
  static Bucket open(std::string_view ns, BucketOptions options = {});

  Bucket(Bucket&&) noexcept;
  Bucket& operator=(Bucket&&) noexcept;
  ~Bucket() override;

  /// Sends what is buffered and disconnects. Work streams must have returned from work().
  void close();

  const std::string& ns() const noexcept;

  // ---- reading and notifying: the typed forms come from Matters ----
  using Matters::matter;
  using Matters::notify;
  using Matters::poke;
  nlohmann::json matter(const Identity& identity) override;
  void notify(const Identity& identity, const nlohmann::json& cache) override;
  void poke(const Identity& identity) override;
  const std::string& type_name(std::type_index type) const override;

  /// Notifies many at once, pipelined: much faster than one by one. Returns when all are durable or
  /// have failed; failures are returned, the rest is done.
  std::vector<BatchFailure> notify_all(std::span<const std::pair<Identity, nlohmann::json>> batch);
  template <Materializer M>
  std::vector<BatchFailure> notify_all(std::span<const M> materializers) {
    std::vector<std::pair<Identity, nlohmann::json>> batch;
    batch.reserve(materializers.size());
    for (const M& m : materializers) {
      batch.emplace_back(Identity{type_name(typeid(M)), std::string(m.identity())},
                         nlohmann::json(m));
    }
    return notify_all(batch);
  }

  /// Says that an identity shall go: a tombstone token carries its last value, materialize runs
  /// with deleted() true, and its success deletes the cache entry.
  void remove(const Identity& identity);

  // ---- registration ----
  template <Materializer M>
  WorkStream& register_type(std::string type, WorkOptions options = {}) {
    return register_type(std::move(type), erase_type<M>(), options, typeid(M));
  }
  /// The form for hosts that learn types at run time.
  WorkStream& register_type(std::string type, AnyMaterializer materializer,
                            WorkOptions options = {}) {
    return register_type(std::move(type), std::move(materializer), options, typeid(void));
  }

  /// handler   called as handler(ObserveContext&, const R&) for every report of the kind; a report
  ///           that does not fit R is parked with its reason.
  template <class R, class Handler>
  Observer& observe(std::string kind, Handler handler, ObserveOptions options = {}) {
    return observe(
        std::move(kind),
        ReportHandler([handler = std::move(handler)](ObserveContext& context,
                                                     const nlohmann::json& report) mutable {
          handler(context, decode_object<R>(report, Identity{context.kind(), context.device()}));
        }),
        options);
  }
  Observer& observe(std::string kind, ReportHandler handler, ObserveOptions options = {});

  /// Declares a view: its rows are the cache objects of the type `view.type`.
  /// Throws Error{invalid} DMM-0601, DMM-0502 (the pipeline), DMM-0402 (the name is taken).
  ViewStream& view(View view);
  /// The same for the materializers of a registered C++ type.
  template <Materializer M>
  ViewStream& view(View view) {
    view.type = type_name(typeid(M));
    return this->view(std::move(view));
  }

  /// Works all registered types, observers and views, each on a thread of its own, until `stop`.
  void work(std::stop_token stop);

  // ---- reports ----
  /// Publishes a report as a device would. Durable when it returns.
  void report(std::string_view kind, std::string_view device, const nlohmann::json& state);
  /// (device, state) pairs of one kind, pipelined.
  std::vector<BatchFailure> report_all(
      std::string_view kind, std::span<const std::pair<std::string, nlohmann::json>> batch);

  // ---- the way down to devices ----
  /// As Context::command, shadow, set_shadow and clear_shadow, outside of a run.
  CommandReply command(std::string_view kind, std::string_view device,
                       const nlohmann::json& payload,
                       std::chrono::milliseconds timeout = limits::command_timeout,
                       std::stop_token stop = {});
  std::optional<nlohmann::json> shadow(std::string_view kind, std::string_view device);
  bool set_shadow(std::string_view kind, std::string_view device, const nlohmann::json& document);
  bool clear_shadow(std::string_view kind, std::string_view device);

  // ---- what is at work here, for those who want its stats() ----
  std::vector<const WorkStream*> work_streams() const;
  std::vector<const Observer*> observers() const;
  std::vector<const ViewStream*> view_streams() const;
  BucketStats stats() const;
  /// What keeps this process from doing its work, for people; empty: nothing does. One that stands
  /// by because others have all the work is ready.
  std::vector<std::string> not_ready() const;

  /// What this process answers when tools ask for it: docs/reference/wire-format.md, "Roll call".
  nlohmann::json describe() const;

  /// Asks who works in this namespace; returns who answered within `timeout`, by name and id. A
  /// worker that is stuck or cut off is not among them.
  /// Throws Error{retry} DMM-0101 no server; {unsupported} DMM-0705.
  std::vector<WorkerInfo> workers(std::chrono::milliseconds timeout = limits::roll_call) const;

  /// Tells workers how much to log, and returns who answered within `timeout`, as workers() does.
  /// A reload or another order comes before it. Throws as workers(); Error{invalid} DMM-0404.
  std::vector<WorkerInfo> set_log_level(
      const LogLevelOrder& order, std::chrono::milliseconds timeout = limits::roll_call) const;

  // ---- metrics of parts that are not the bucket's own ----
  /// Has whoever serves the metrics of this bucket serve those of `source`, too, for as long as the
  /// caller keeps it.
  void add_metrics(std::weak_ptr<const MetricSource> source);
  std::vector<std::shared_ptr<const MetricSource>> metric_sources() const;

  /// For tools: lists, watches and repairs. See dmm/inspect.h.
  Inspector& inspect();
  /// For people and tools: where views stand, and how they are changed safely. See dmm/views.h.
  Views& views();
  /// For people and tools: policies and pauses of types. See dmm/control.h.
  Control& control();

 private:
  struct Impl;
  friend const internal::Streams& internal::streams_of(const Bucket& bucket) noexcept;
  explicit Bucket(std::unique_ptr<Impl> impl);
  WorkStream& register_type(std::string type, AnyMaterializer materializer, WorkOptions options,
                            std::type_index cpp_type);

  std::unique_ptr<Impl> impl_;
};

}  // namespace dmm
