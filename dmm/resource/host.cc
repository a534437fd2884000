#include "dmm/resource/host.h"

#include <fmt/format.h>

#include <condition_variable>
#include <exception>
#include <mutex>
#include <set>
#include <thread>

#include "dmm/internal/streams.h"
#include "dmm/limits.h"
#include "dmm/resource/informs.h"
#include "dmm/resource/places.h"
#include "dmm/resource/relay.h"
#include "dmm/resource/upkeep.h"
#include "dmm/resource/works.h"

namespace dmm::resource {

namespace {

using namespace std::chrono_literals;

constexpr auto kSetUpAgain = 500ms;
constexpr auto kChoresInterval = 3s;  ///< between two looks for their tokens
/// Before a run is begun again that the database did not answer. Attempts of the controller have
/// their own delays, in the database.
constexpr auto kTroubleFirst = 100ms;
constexpr auto kTroubleMax = 5s;
/// Connections of informers, upkeep, user transactions and controllers' informs.
constexpr std::size_t kSessions = 16;

/// False at a stop.
bool pause(const std::stop_token& stop, std::chrono::milliseconds time) {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::unique_lock lock(mutex);
  changed.wait_for(lock, stop, time, [] { return false; });
  return !stop.stop_requested();
}

void check_options(const HostOptions& options) {
  require(options.upkeep.count() > 0, code::bad_option, "upkeep is not above zero");
  require(options.lost_after.count() > 0, code::bad_option, "lost_after is not above zero");
}

}  // namespace

struct Host::Impl {
  Impl(Bucket& bucket, std::string connection, HostOptions options)
      : parts{bucket, connection,         std::move(options),
              {},     Client(connection), {connection, kSessions, std::chrono::seconds(60)}} {
    parts.log = parts.options.logger.with({{"namespace", bucket.ns()}});
    parts.claims = std::make_unique<internal::Claims>(connection, parts.log);
    parts.finishes = std::make_unique<internal::Finishes>(connection, parts.log);
    metrics = std::make_shared<internal::HostMetrics>(parts.counters);
    bucket.add_metrics(metrics);
  }

  void set_up();
  void set_up_or_wait(const std::stop_token& stop);
  void claim_home();
  std::vector<Identity> chores() const;
  void keep_chores(const std::stop_token& stop);
  void take_inventory();
  void work(const std::stop_token& stop);

  internal::HostParts parts;
  std::vector<std::pair<AnyController, KindOptions>> controllers;
  std::set<std::string> kinds;
  bool upkeep_registered = false;
  std::shared_ptr<internal::HostMetrics> metrics;

  mutable std::mutex mutex;  ///< guards what follows
  std::condition_variable ended_changed;
  bool ended = true;
  std::exception_ptr failure;
  std::jthread thread;
};

void Host::Impl::claim_home() {
  const std::string& ns = parts.bucket.ns();
  const std::string home =
      parts.sessions.transact("noting the namespace of resources", [&](pqxx::work& transaction) {
        transaction.exec_params(
            "INSERT INTO dmm.resource_home (ns) VALUES ($1) ON CONFLICT DO NOTHING", ns);
        return transaction.exec1("SELECT ns FROM dmm.resource_home")[0].as<std::string>();
      });
  if (home != ns) {
    throw Error(
        code::other_home,
        fmt::format("the resources of this database belong to namespace {}, not {}", home, ns));
  }
}

void Host::Impl::set_up() {
  claim_home();
  for (const auto& [name, options] : parts.options.namespaces) {
    parts.client.set_namespace(name, options);
  }
  for (const auto& [controller, options] : controllers) {
    internal::register_kind(parts, controller, options);
  }
  // Each looks what is due; one that runs elsewhere in the fleet is run once more behind that.
  for (const Identity& identity : chores()) parts.bucket.poke(identity);
}

/// What has to be done again and again, and so always has a token.
std::vector<Identity> Host::Impl::chores() const {
  std::vector<Identity> all;
  if (upkeep_registered) {
    for (const char* id : internal::kUpkeepIds) all.push_back({internal::kUpkeepType, id});
  }
  for (const auto& [controller, options] : controllers) {
    if (controller.inform) {
      all.push_back({internal::informer_type(controller.kind), controller.kind});
    }
  }
  return all;
}

/// Until `stop`: a chore whose token is gone, because the stream was lost or a person purged it,
/// gets another. The chores themselves see to all other tokens.
void Host::Impl::keep_chores(const std::stop_token& stop) {
  const auto& streams = dmm::internal::streams_of(parts.bucket);
  while (pause(stop, kChoresInterval)) {
    try {
      for (const Identity& identity : chores()) {
        const std::string subject = streams.names.token_subject(identity);
        if (!transport::last(*streams.work, subject)) parts.bucket.poke(identity);
      }
    } catch (const std::exception& e) {
      parts.log.debug("the chores of resources could not be looked at", {{"error", e.what()}});
    }
    take_inventory();
  }
}

void Host::Impl::take_inventory() {
  if (!metrics->wants_inventory()) return;
  try {
    const auto begun = std::chrono::steady_clock::now();
    auto inventory = parts.sessions.transact("counting resources", internal::take_inventory);
    metrics->put(std::move(inventory), std::chrono::steady_clock::now() - begun);
  } catch (const std::exception& e) {
    parts.log.debug("resources could not be counted", {{"error", e.what()}});
  }
}

void Host::Impl::set_up_or_wait(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    try {
      return set_up();
    } catch (const Error& error) {
      if (error.kind() != Kind::retry && error.kind() != Kind::in_doubt) throw;
      parts.log.warn("resources cannot be worked yet", {{"error", error.what()}});
    }
    pause(stop, kSetUpAgain);
  }
}

void Host::Impl::work(const std::stop_token& stop) {
  set_up_or_wait(stop);
  if (stop.stop_requested()) return;
  internal::Relay relay(dmm::internal::streams_of(parts.bucket), parts.connection, parts.log,
                        parts.counters->relayed);
  {
    // Tells events until the last work has ended.
    const std::jthread relaying([&](const std::stop_token& end) { relay.run(end); });
    const std::jthread keeping([&](const std::stop_token& end) { keep_chores(end); });
    parts.stopping = false;
    const std::stop_callback stopping(stop, [this] { parts.stopping = true; });
    parts.bucket.work(stop);
  }
}

Host::Host(Bucket& bucket, std::string connection, HostOptions options) {
  check_options(options);
  postgres::internal::check_connection_string(connection);
  impl_ = std::make_unique<Impl>(bucket, std::move(connection), std::move(options));
}

Host::~Host() {
  std::jthread thread;
  {
    const std::lock_guard lock(impl_->mutex);
    thread = std::move(impl_->thread);
  }
}

void Host::add(AnyController controller, KindOptions options) {
  check_kind(controller.kind);
  require(controller.work || controller.inform, code::bad_option,
          fmt::format("the controller of {} neither works nor informs", controller.kind));
  require(options.retry != nullptr, code::bad_option, "retry is empty");
  require(options.inform_timeout.count() > 0 && options.overlap.count() >= 0, code::bad_option,
          "inform_timeout is not above zero, or overlap is below");
  if (!impl_->kinds.insert(controller.kind).second) {
    throw Error(code::type_taken,
                fmt::format("kind {} has a controller here already", controller.kind));
  }
  if (!impl_->upkeep_registered) {
    impl_->parts.bucket.register_type(
        internal::kUpkeepType, internal::make_upkeep(impl_->parts),
        {.concurrency = 3, .backoff_first = kTroubleFirst, .backoff_max = kTroubleMax});
    impl_->upkeep_registered = true;
  }
  if (controller.inform) {
    impl_->parts.bucket.register_type(internal::informer_type(controller.kind),
                                      internal::make_informs(impl_->parts, controller, options),
                                      {.concurrency = 1,
                                       .timeout = options.inform_timeout,
                                       .backoff_first = kTroubleFirst,
                                       .backoff_max = kTroubleMax,
                                       .grace = options.work.grace});
  }
  if (controller.work) {
    WorkOptions work = options.work;
    work.backoff_first = std::min<std::chrono::milliseconds>(work.backoff_first, kTroubleFirst);
    work.backoff_max = std::min<std::chrono::milliseconds>(work.backoff_max, kTroubleMax);
    work.attempts_max = 0;  // counted in the database
    work.concurrency += options.ahead.value_or(internal::usual_ahead(work.concurrency));
    impl_->parts.bucket.register_type(
        controller.kind, internal::make_works(impl_->parts, controller, options), work);
  }
  impl_->controllers.emplace_back(std::move(controller), std::move(options));
}

Client& Host::client() noexcept {
  return impl_->parts.client;
}

void Host::work(std::stop_token stop) {
  impl_->work(stop);
}

void Host::start() {
  const std::lock_guard lock(impl_->mutex);
  require(impl_->ended, code::bad_option, "the host has been started already");
  impl_->ended = false;
  impl_->failure = nullptr;
  impl_->thread = std::jthread([impl = impl_.get()](const std::stop_token& stop) {
    std::exception_ptr failure;
    try {
      impl->work(stop);
    } catch (...) {
      failure = std::current_exception();
    }
    const std::lock_guard ending(impl->mutex);
    impl->failure = failure;
    impl->ended = true;
    impl->ended_changed.notify_all();
  });
}

void Host::stop(std::chrono::milliseconds deadline) {
  std::unique_lock lock(impl_->mutex);
  impl_->thread.request_stop();
  if (!impl_->ended_changed.wait_for(lock, deadline, [this] { return impl_->ended; })) {
    throw Error(
        code::timed_out,
        fmt::format("works still run {} ms after the host was told to stop", deadline.count()));
  }
  if (impl_->failure) std::rethrow_exception(std::exchange(impl_->failure, nullptr));
}

HostStats Host::stats() const {
  const internal::Counters& counters = *impl_->parts.counters;
  return {.relayed = counters.relayed.load(),
          .worked = counters.worked.load(),
          .failed = counters.failed.load(),
          .superseded = counters.superseded.load(),
          .informed = counters.informed.load(),
          .expired = counters.expired.load(),
          .cleaned = counters.cleaned.load(),
          .rescued = counters.rescued.load()};
}

}  // namespace dmm::resource
