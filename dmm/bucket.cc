#include "dmm/bucket.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <unordered_map>

#include "dmm/downlink/ask_server.h"
#include "dmm/downlink/downlink.h"
#include "dmm/internal/active_span.h"
#include "dmm/internal/control_store.h"
#include "dmm/internal/diagnose.h"
#include "dmm/internal/history.h"
#include "dmm/internal/log_level.h"
#include "dmm/internal/notify_counts.h"
#include "dmm/internal/observing.h"
#include "dmm/internal/roll_call.h"
#include "dmm/internal/runtime.h"
#include "dmm/internal/secret_files.h"
#include "dmm/internal/streams.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/nats/nats_transport.h"
#include "dmm/view/view_loop.h"
#include "dmm/worker/life_locks.h"
#include "dmm/worker/run_loop.h"

namespace dmm {

struct Bucket::Impl final : internal::Notifier {
  explicit Impl(wire::Names names)
      : streams{std::move(names), {}, {}, {}, {}, {}, {}, {}, {}, {}} {}

  // ---- Notifier ----
  nlohmann::json matter(const Identity& identity, Sequence* token) override;
  Sequence notify(const Identity& identity, const nlohmann::json& cache,
                  std::optional<Sequence> expected, std::chrono::milliseconds deadline) override;
  void poke(const Identity& identity) override;
  const std::string& type_name(std::type_index type) const override;

  transport::Publication token(const Identity& identity, const nlohmann::json& news) const;
  internal::Parts parts() const;
  std::vector<std::string> not_ready() const;
  nlohmann::json describe() const;
  /// Publishes a token made of what is read, as often as someone else comes between.
  /// make   gets what lies there; returns the token to publish.
  template <class Make>
  void replace_token(const Identity& identity, Make make);
  std::vector<BatchFailure> publish_all(transport::Stream& stream, std::size_t count,
                                        const std::function<transport::Publication(std::size_t)>&);
  void close();

  internal::Streams streams;
  ViewSnapshots snapshots;
  std::unique_ptr<Matters> matters;  ///< what the contexts of handlers call
  std::unique_ptr<Inspector> inspector;
  std::unique_ptr<Views> views_for_people;
  std::unique_ptr<Control> control;
  internal::NotifyCounts notifies;
  std::atomic<std::uint64_t> reports{0};
  nlohmann::json process;  ///< what this process says of itself when it is asked
  std::function<nlohmann::json()> describe_more;
  std::unique_ptr<internal::LogLevelKeeper> log_level;
  std::atomic<int> working{0};  ///< calls of work()

  mutable std::mutex mutex;  ///< guards what follows
  std::unordered_map<std::type_index, std::string> type_names;
  std::map<std::string, std::unique_ptr<worker::RunLoop>> work_streams;
  std::map<std::string, std::unique_ptr<Observer>> observers;
  std::map<std::string, std::unique_ptr<view::ViewLoop>> views;
  std::vector<std::weak_ptr<const MetricSource>> metrics;
  bool closed = false;
};

namespace {

/// Matters for handlers, independent of where the bucket is moved to.
class HandlerMatters final : public Matters {
 public:
  explicit HandlerMatters(internal::Notifier& notifier) : notifier_(notifier) {}
  nlohmann::json matter(const Identity& identity) override {
    return notifier_.matter(identity, nullptr);
  }
  void notify(const Identity& identity, const nlohmann::json& cache) override {
    notifier_.notify(identity, cache, std::nullopt, limits::publish_deadline);
  }
  void poke(const Identity& identity) override { notifier_.poke(identity); }
  const std::string& type_name(std::type_index type) const override {
    return notifier_.type_name(type);
  }

 private:
  internal::Notifier& notifier_;
};

/// Says that work() is going on.
class Working final {
 public:
  explicit Working(std::atomic<int>& calls) : calls_(calls) { ++calls_; }
  Working(const Working&) = delete;
  Working& operator=(const Working&) = delete;
  ~Working() { --calls_; }

 private:
  std::atomic<int>& calls_;
};

/// What a map of the bucket owns. With its mutex held.
template <class Noun, class Owned>
std::vector<const Noun*> all_of(const std::map<std::string, std::unique_ptr<Owned>>& owned) {
  std::vector<const Noun*> all;
  for (const auto& [name, one] : owned) all.push_back(one.get());
  return all;
}

/// An older dmm made namespaces without this stream; all but shadows works in them.
std::shared_ptr<transport::Stream> open_shadows(transport::Transport& server,
                                                const transport::StreamConfig& config,
                                                bool create) {
  try {
    return server.open(config, create);
  } catch (const Error& error) {
    if (&error.code() != &code::stream_missing) throw;
    return nullptr;
  }
}

}  // namespace

// ---- tokens

nlohmann::json Bucket::Impl::matter(const Identity& identity, Sequence* token) {
  check(identity);
  const internal::Effective effective = internal::read_effective(streams, identity);
  if (token != nullptr) *token = effective.token_sequence;
  try {
    const std::optional<std::string> text = internal::effective_text(effective);
    if (!text) return nullptr;
    return parse_json(*text).value();
  } catch (const Error& error) {
    if (error.kind() == Kind::unsupported) throw;  // not damaged, but of a newer version
    // Lost, zeroed or stale caches are normal; a damaged one is as good as lost.
    streams.log.warn("a cache entry could not be read and counts as missing",
                     {{"key", key_of(identity)},
                      {"code", std::string(code::corrupt_entry.id)},
                      {"error", error.message()}});
    return nullptr;
  }
}

transport::Publication Bucket::Impl::token(const Identity& identity,
                                           const nlohmann::json& news) const {
  check(identity);
  check_depth(news);
  transport::Publication publication{.subject = streams.names.token_subject(identity),
                                     .payload = dump_json(news)};
  internal::add_trace(publication.headers);
  internal::add_losses(streams, publication.headers);
  return publication;
}

Sequence Bucket::Impl::notify(const Identity& identity, const nlohmann::json& cache,
                              std::optional<Sequence> expected,
                              std::chrono::milliseconds deadline) {
  transport::Publication publication = token(identity, cache);
  publication.expected_last = expected;
  const Sequence stored = transport::publish(*streams.work, std::move(publication), deadline);
  notifies.add(identity.type);
  return stored;
}

template <class Make>
void Bucket::Impl::replace_token(const Identity& identity, Make make) {
  check(identity);
  while (true) {
    const internal::Effective effective = internal::read_effective(streams, identity);
    transport::Publication publication = make(effective);
    publication.subject = streams.names.token_subject(identity);
    publication.expected_last = effective.token_sequence;
    internal::add_trace(publication.headers);
    try {
      transport::publish(*streams.work, std::move(publication), limits::publish_deadline);
      notifies.add(identity.type);
      return;
    } catch (const Error& error) {
      if (error.kind() != Kind::conflict) throw;
    }
  }
}

void Bucket::Impl::poke(const Identity& identity) {
  replace_token(identity, [](const internal::Effective& effective) {
    transport::Publication publication;
    if (!effective.token) return publication;
    publication.payload = effective.token->payload;
    // The date of a requeue goes, everything else of the waiting token stays.
    for (const auto& [name, value] : effective.token->headers) {
      const bool goes_on = name == wire::kTraceparent && internal::current_trace().empty();
      const bool date = name == wire::kNotBefore || name == wire::kDelay;
      if ((name.starts_with("Dmm-") && !date) || goes_on) {
        publication.headers.emplace_back(name, value);
      }
    }
    return publication;
  });
}

const std::string& Bucket::Impl::type_name(std::type_index type) const {
  const std::lock_guard lock(mutex);
  const auto found = type_names.find(type);
  if (found == type_names.end()) {
    throw Error(code::type_unknown,
                fmt::format("the C++ type {} was not registered with this bucket", type.name()));
  }
  return found->second;
}

std::vector<BatchFailure> Bucket::Impl::publish_all(
    transport::Stream& stream, std::size_t count,
    const std::function<transport::Publication(std::size_t)>& make) {
  struct Shared {
    std::mutex mutex;
    internal::Condition changed;
    std::size_t in_flight = 0;
    std::vector<BatchFailure> failures;
  };
  auto shared = std::make_shared<Shared>();
  const auto failed = [&](std::size_t index, const Error& error) {
    const std::lock_guard lock(shared->mutex);
    shared->failures.push_back({index, error});
  };
  for (std::size_t index = 0; index < count; ++index) {
    std::optional<transport::Publication> publication;
    try {
      publication = make(index);
    } catch (const Error& error) {
      failed(index, error);
      continue;
    }
    {
      std::unique_lock lock(shared->mutex);
      shared->changed.wait(lock,
                           [&] { return shared->in_flight < limits::publishes_in_flight_max; });
      ++shared->in_flight;
    }
    stream.publish(std::move(*publication), limits::publish_deadline,
                   [shared, index](const Result<Sequence>& result) {
                     const std::lock_guard lock(shared->mutex);
                     if (!result.ok()) shared->failures.push_back({index, result.error()});
                     --shared->in_flight;
                     shared->changed.notify_one();
                   });
  }
  std::unique_lock lock(shared->mutex);
  shared->changed.wait(lock, [&] { return shared->in_flight == 0; });
  std::sort(shared->failures.begin(), shared->failures.end(),
            [](const BatchFailure& a, const BatchFailure& b) { return a.index < b.index; });
  return shared->failures;
}

internal::Parts Bucket::Impl::parts() const {
  const std::lock_guard lock(mutex);
  internal::Parts parts{all_of<WorkStream>(work_streams), all_of<Observer>(observers),
                        all_of<ViewStream>(views)};
  for (const auto& [type, loop] : work_streams) {
    const worker::Slots& slots = *loop->run_slots();
    if (slots.all() > 0 && slots.lost() >= slots.all()) parts.stuck.push_back({type, slots.lost()});
  }
  return parts;
}

std::vector<std::string> Bucket::Impl::not_ready() const {
  if (working == 0) return {"it does not work yet"};
  const std::string trouble = streams.transport->trouble();
  if (!streams.transport->connected()) {
    return {"not connected to the NATS server" + (trouble.empty() ? trouble : ": " + trouble)};
  }
  std::vector<std::string> reasons = internal::not_ready(parts());
  if (!trouble.empty()) reasons.insert(reasons.begin(), trouble);
  return reasons;
}

nlohmann::json Bucket::Impl::describe() const {
  nlohmann::json answer = process;
  answer.update(internal::describe(parts()));
  answer["not_ready"] = not_ready();
  log_level->describe(answer);
  if (describe_more) answer.update(describe_more());
  return answer;
}

void Bucket::Impl::close() {
  {
    const std::lock_guard lock(mutex);
    if (closed) return;
    closed = true;
  }
  if (streams.transport) streams.transport->close();
}

// ---- the bucket

Bucket::Bucket(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Bucket::Bucket(Bucket&&) noexcept = default;
Bucket& Bucket::operator=(Bucket&& other) noexcept {
  if (this != &other) {
    if (impl_) impl_->close();
    impl_ = std::move(other.impl_);
  }
  return *this;
}
Bucket::~Bucket() {
  if (impl_) impl_->close();
}

Bucket Bucket::open(std::string_view ns, BucketOptions options) {
  auto impl = std::make_unique<Impl>(wire::Names(std::string(ns), options.generation));
  require(options.replicas == 1 || options.replicas == 3 || options.replicas == 5, code::bad_option,
          "replicas is not 1, 3 or 5");
  impl->snapshots = options.snapshots;
  impl->process = internal::describe_process(options.program);
  impl->describe_more = std::move(options.describe);
  internal::Streams& streams = impl->streams;
  if (!options.run_directory.empty()) {
    streams.life_locks = std::make_shared<worker::LifeLocks>(std::move(options.run_directory));
  }
  streams.spans = std::move(options.spans);
  streams.log = options.logger.with({{"namespace", std::string(ns)}});
  impl->log_level = std::make_unique<internal::LogLevelKeeper>(streams.log);
  streams.transport = std::move(options.transport);
  std::vector<std::string> exposed;
  try {
    if (!streams.transport) {
      ConnectionOptions connection = options.connection;
      connection.fill_from(ConnectionOptions::load());
      streams.transport = nats::connect(connection, streams.log);
      exposed = internal::exposed_files(internal::secret_files(connection));
    }
    transport::Transport& server = *streams.transport;
    const wire::Names& names = streams.names;
    streams.work = server.open(names.work(options.replicas), options.create);
    streams.cache = server.open(names.cache(options.replicas), options.create);
    streams.reports = server.open(names.reports(options.replicas), options.create);
    streams.status = server.open(names.status(options.replicas), options.create);
    streams.leases = server.open(names.leases(options.replicas), options.create);
    streams.shadows = open_shadows(server, names.shadows(options.replicas), options.create);
  } catch (const Error& error) {
    throw error.with_context(fmt::format("opening namespace {}", ns));
  }
  streams.downlink = std::make_shared<downlink::Downlink>(streams);
  streams.history = std::make_shared<internal::History>();
  impl->matters = std::make_unique<HandlerMatters>(*impl);
  for (const std::string& file : exposed) {
    streams.log.warn("others can read a secret",
                     {{"file", file}, {"remedy", internal::kHideSecrets}});
  }
  impl->inspector = internal::make_inspector(streams, std::move(exposed));
  impl->views_for_people = internal::make_views(streams);
  impl->control = internal::make_control(streams);
  return Bucket(std::move(impl));
}

void Bucket::close() {
  impl_->close();
}
const internal::Streams& internal::streams_of(const Bucket& bucket) noexcept {
  return bucket.impl_->streams;
}
const std::string& Bucket::ns() const noexcept {
  return impl_->streams.names.ns();
}

nlohmann::json Bucket::matter(const Identity& identity) {
  return impl_->matter(identity, nullptr);
}

void Bucket::notify(const Identity& identity, const nlohmann::json& cache) {
  impl_->notify(identity, cache, std::nullopt, limits::publish_deadline);
}

void Bucket::poke(const Identity& identity) {
  impl_->poke(identity);
}

const std::string& Bucket::type_name(std::type_index type) const {
  return impl_->type_name(type);
}

std::vector<BatchFailure> Bucket::notify_all(
    std::span<const std::pair<Identity, nlohmann::json>> batch) {
  std::vector<BatchFailure> failures = impl_->publish_all(
      *impl_->streams.work, batch.size(),
      [&](std::size_t index) { return impl_->token(batch[index].first, batch[index].second); });
  auto failed = failures.begin();
  for (std::size_t index = 0; index < batch.size(); ++index) {
    if (failed != failures.end() && failed->index == index) {
      ++failed;
    } else {
      impl_->notifies.add(batch[index].first.type);
    }
  }
  return failures;
}

void Bucket::remove(const Identity& identity) {
  impl_->replace_token(identity, [](const internal::Effective& effective) {
    transport::Publication publication;
    try {
      publication.payload = internal::effective_text(effective).value_or("");
    } catch (const Error&) {
      // A value that cannot be read cannot help to tear down.
    }
    publication.headers.emplace_back(wire::kDeleted, "1");
    return publication;
  });
}

WorkStream& Bucket::register_type(std::string type, AnyMaterializer materializer,
                                  WorkOptions options, std::type_index cpp_type) {
  check_name(type, "type");
  require(materializer.materialize != nullptr, code::bad_option, "the materializer is empty");
  const std::lock_guard lock(impl_->mutex);
  const bool erased = cpp_type == std::type_index(typeid(void));
  if (impl_->work_streams.contains(type) || (!erased && impl_->type_names.contains(cpp_type))) {
    throw Error(code::type_taken,
                fmt::format("type \"{}\", or its C++ type, is registered already", type));
  }
  auto loop = std::make_unique<worker::RunLoop>(impl_->streams, *impl_->matters, type,
                                                std::move(materializer), options);
  if (!erased) impl_->type_names.emplace(cpp_type, type);
  impl_->metrics.push_back(loop->run_slots());
  return *impl_->work_streams.emplace(type, std::move(loop)).first->second;
}

Observer& Bucket::observe(std::string kind, ReportHandler handler, ObserveOptions options) {
  check_name(kind, "kind");
  require(handler != nullptr, code::bad_option, "the handler is empty");
  const std::lock_guard lock(impl_->mutex);
  if (impl_->observers.contains(kind)) {
    throw Error(code::type_taken, fmt::format("kind \"{}\" is observed already", kind));
  }
  auto observer =
      internal::make_observer(impl_->streams, *impl_, kind, std::move(handler), options);
  return *impl_->observers.emplace(std::move(kind), std::move(observer)).first->second;
}

ViewStream& Bucket::view(View view) {
  check_name(view.name, "view");
  check_name(view.type, "type");
  require(!view.inputs.empty(), code::bad_view, "the view has no inputs");
  require(!view.key.empty(), code::bad_view, "the view has no key");
  const std::lock_guard lock(impl_->mutex);
  if (impl_->views.contains(view.name)) {
    throw Error(code::type_taken, fmt::format("view \"{}\" is declared already", view.name));
  }
  std::string name = view.name;
  auto loop = std::make_unique<view::ViewLoop>(impl_->streams, std::move(view), impl_->snapshots);
  return *impl_->views.emplace(std::move(name), std::move(loop)).first->second;
}

void Bucket::work(std::stop_token stop) {
  try {
    // What was lost meanwhile decides with what the parts begin.
    impl_->streams.history->look(impl_->streams);
  } catch (const Error& error) {
    if (error.kind() != Kind::retry && error.kind() != Kind::in_doubt) throw;
    impl_->streams.log.warn("the streams could not be looked at", {{"error", error.what()}});
  }
  // Whoever fails for good ends the others: half a worker would look like a whole one.
  std::stop_source all;
  const std::stop_callback forward(stop, [&all] { all.request_stop(); });
  std::mutex mutex;
  std::exception_ptr failure;
  const auto guarded = [&](auto& part) {
    try {
      part.work(all.get_token());
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
      all.request_stop();
    }
  };
  const Working working(impl_->working);
  {
    std::vector<internal::Thread> threads;  // joined at the end of this block
    const std::lock_guard lock(impl_->mutex);
    for (auto& [type, part] : impl_->work_streams) {
      threads.emplace_back([&guarded, &part = *part] { guarded(part); });
    }
    for (auto& [kind, part] : impl_->observers) {
      threads.emplace_back([&guarded, &part = *part] { guarded(part); });
    }
    for (auto& [name, part] : impl_->views) {
      threads.emplace_back([&guarded, &part = *part] { guarded(part); });
    }
    if (!threads.empty()) {
      threads.emplace_back([&streams = impl_->streams, stopped = all.get_token()] {
        downlink::serve_asks(streams, stopped);
      });
      threads.emplace_back([impl = impl_.get(), stopped = all.get_token()] {
        internal::answer_roll_call(impl->streams, stopped, *impl->log_level,
                                   [impl] { return impl->describe(); });
      });
      threads.emplace_back([&streams = impl_->streams, stopped = all.get_token()] {
        internal::watch_history(streams, stopped);
      });
    }
  }
  if (failure) std::rethrow_exception(failure);
}

void Bucket::report(std::string_view kind, std::string_view device, const nlohmann::json& state) {
  check_name(kind, "kind");
  check(Identity{std::string(kind), std::string(device)});
  check_depth(state);
  transport::Publication publication{.subject = impl_->streams.names.report_subject(kind, device),
                                     .payload = dump_json(state)};
  internal::add_trace(publication.headers);
  transport::publish(*impl_->streams.reports, std::move(publication), limits::publish_deadline);
  ++impl_->reports;
}

std::vector<BatchFailure> Bucket::report_all(
    std::string_view kind, std::span<const std::pair<std::string, nlohmann::json>> batch) {
  check_name(kind, "kind");
  std::vector<BatchFailure> failures = impl_->publish_all(
      *impl_->streams.reports, batch.size(), [&](std::size_t index) -> transport::Publication {
        check(Identity{std::string(kind), batch[index].first});
        check_depth(batch[index].second);
        return {.subject = impl_->streams.names.report_subject(kind, batch[index].first),
                .payload = dump_json(batch[index].second)};
      });
  impl_->reports += batch.size() - failures.size();
  return failures;
}

CommandReply Bucket::command(std::string_view kind, std::string_view device,
                             const nlohmann::json& payload, std::chrono::milliseconds timeout,
                             std::stop_token stop) {
  require(timeout.count() > 0, code::bad_option, "the time for a command is not positive");
  return impl_->streams.downlink->command(kind, device, payload, {},
                                          internal::SteadyClock::now() + timeout, stop);
}

std::optional<nlohmann::json> Bucket::shadow(std::string_view kind, std::string_view device) {
  return impl_->streams.downlink->shadow(kind, device);
}

bool Bucket::set_shadow(std::string_view kind, std::string_view device,
                        const nlohmann::json& document) {
  return impl_->streams.downlink->set_shadow(kind, device, document, {});
}

bool Bucket::clear_shadow(std::string_view kind, std::string_view device) {
  return impl_->streams.downlink->clear_shadow(kind, device, {});
}

std::vector<const WorkStream*> Bucket::work_streams() const {
  const std::lock_guard lock(impl_->mutex);
  return all_of<WorkStream>(impl_->work_streams);
}

std::vector<const Observer*> Bucket::observers() const {
  const std::lock_guard lock(impl_->mutex);
  return all_of<Observer>(impl_->observers);
}

std::vector<const ViewStream*> Bucket::view_streams() const {
  const std::lock_guard lock(impl_->mutex);
  return all_of<ViewStream>(impl_->views);
}

BucketStats Bucket::stats() const {
  return {.connected = impl_->streams.transport->connected(),
          .reconnects = impl_->streams.transport->reconnects(),
          .notifies = impl_->notifies.all(),
          .reports = impl_->reports};
}

std::vector<std::string> Bucket::not_ready() const {
  return impl_->not_ready();
}

nlohmann::json Bucket::describe() const {
  return impl_->describe();
}

std::vector<WorkerInfo> Bucket::workers(std::chrono::milliseconds timeout) const {
  return internal::call_roll(impl_->streams, timeout);
}

std::vector<WorkerInfo> Bucket::set_log_level(const LogLevelOrder& order,
                                              std::chrono::milliseconds timeout) const {
  return internal::order_log_level(impl_->streams, order, timeout);
}

void Bucket::add_metrics(std::weak_ptr<const MetricSource> source) {
  const std::lock_guard lock(impl_->mutex);
  std::erase_if(impl_->metrics, [](const auto& old) { return old.expired(); });
  impl_->metrics.push_back(std::move(source));
}

std::vector<std::shared_ptr<const MetricSource>> Bucket::metric_sources() const {
  const std::lock_guard lock(impl_->mutex);
  std::vector<std::shared_ptr<const MetricSource>> sources;
  for (const auto& one : impl_->metrics) {
    if (auto source = one.lock()) sources.push_back(std::move(source));
  }
  return sources;
}

Inspector& Bucket::inspect() {
  return *impl_->inspector;
}

Views& Bucket::views() {
  return *impl_->views_for_people;
}

Control& Bucket::control() {
  return *impl_->control;
}

}  // namespace dmm
