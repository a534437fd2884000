#include "dmm/resource/relay.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <set>
#include <system_error>
#include <vector>

#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/resource/migrations_internal.h"
#include "dmm/resource/rows.h"

namespace dmm::resource::internal {

namespace {

using namespace std::chrono_literals;
using postgres::internal::Session;

constexpr auto kPauseAfterTrouble = 200ms;
/// For a message; then the batch is begun anew, for the stream may have to be made again.
constexpr auto kTellDeadline = 5s;
/// Fewer messages than this leave at once; more are gathered.
constexpr std::size_t kUrgent = 8;

/// Publishes without waiting, then waits for all. Used by one thread.
class Volley {
 public:
  explicit Volley(bool urgent) : urgent_(urgent) {}

  void publish(transport::Stream& stream, transport::Publication publication, std::size_t index) {
    publication.urgent = urgent_;
    {
      const std::lock_guard lock(shared_->mutex);
      ++shared_->open;
    }
    stream.publish(std::move(publication), kTellDeadline,
                   [shared = shared_, index](const Result<Sequence>& result) {
                     const std::lock_guard lock(shared->mutex);
                     if (!result.ok()) shared->errors.emplace_back(index, result.error());
                     --shared->open;
                     shared->changed.notify_one();
                   });
  }

  /// The failures: which, and why.
  std::vector<std::pair<std::size_t, Error>> wait() {
    std::unique_lock lock(shared_->mutex);
    shared_->changed.wait(lock, [this] { return shared_->open == 0; });
    return std::move(shared_->errors);
  }

 private:
  // Shared with the completions, which may come after a publish threw.
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::size_t open = 0;
    std::vector<std::pair<std::size_t, Error>> errors;
  };
  const bool urgent_;
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

std::uint64_t hash_of(std::string_view text) {  // FNV-1a
  std::uint64_t hash = 14695981039346656037U;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 1099511628211U;
  }
  return hash;
}

}  // namespace

std::string informer_type(std::string_view kind) {
  std::string type = fmt::format("Inform-{}", kind);
  if (type.size() <= limits::type_bytes_max) return type;
  return fmt::format("{}-{:016x}", type.substr(0, limits::type_bytes_max - 17), hash_of(kind));
}

std::shared_ptr<transport::Stream> open_events(const dmm::internal::Streams& streams) {
  const auto work = streams.names.work(1);
  transport::StreamConfig config;
  // Named beside the work stream, so that a generation of it is one of the events, too.
  config.name = work.name;
  const auto at = config.name.rfind("_WORK");
  config.name.replace(at, 5, "_RESOURCE_EVENTS");
  config.subjects = {fmt::format("dmm.{}.resource.>", streams.names.ns())};
  config.replicas = streams.work->state().replicas;
  config.description = "events of resources of dmm";
  config.age = limits::resource_events_age;
  config.messages_max = limits::resource_events_max;
  return streams.transport->open(config, true);
}

std::string event_subject(std::string_view ns, std::string_view kind, std::string_view event,
                          std::string_view of_namespace, std::string_view seq) {
  const auto any = [](std::string_view text) {
    return text.empty() ? std::string_view("*") : text;
  };
  return fmt::format("dmm.{}.resource.{}.{}.{}.{}", ns, any(kind), any(event), any(of_namespace),
                     any(seq));
}

struct Relay::Line {
  std::int64_t seq = 0;
  std::string what;
  Key key;
  std::string event;
  std::int64_t at = 0;
};

Relay::Relay(const dmm::internal::Streams& streams, std::string connection, Logger log,
             std::atomic<std::uint64_t>& told)
    : streams_(streams),
      connection_(std::move(connection)),
      log_(std::move(log)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      told_(told) {
  if (wake_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

Relay::~Relay() {
  session_.reset();
  ::close(wake_);
}

void Relay::run(const std::stop_token& stop) noexcept {
  const std::stop_callback waking(stop, [this] {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_, &one, sizeof one);
  });
  while (!stop.stop_requested()) {
    bool failed = false;
    try {
      if (session_ == nullptr) connect();
      // As long as a whole batch comes there is more.
      while (pass() >= limits::resource_relay_batch && !stop.stop_requested()) {
      }
    } catch (...) {
      const Error error = postgres::internal::current_error("telling what resources wait for");
      log_.warn("the outbox of resources could not be told; it is tried again",
                {{"error", error.what()}});
      session_.reset();
      events_.reset();
      failed = true;
    }
    wait(stop, failed);
  }
}

void Relay::connect() {
  if (events_ == nullptr) events_ = open_events(streams_);
  auto session = std::make_unique<Session>(
      connection_, postgres::internal::SessionOptions{.application = "dmm resource relay"});
  {
    pqxx::nontransaction setup(session->connection());
    require_migrated(setup);
    // A host that went silent in the midst of telling must not keep the others from it. And what a
    // crash brings back into the outbox is told once more.
    setup.exec("SET idle_in_transaction_session_timeout = '30s'; SET synchronous_commit = off");
  }
  session->listen("dmm_resource");
  session_ = std::move(session);
}

/// Tells one batch. Returns how many lines it had.
std::size_t Relay::pass() {
  pqxx::work transaction(session_->connection());
  const pqxx::result rows = transaction.exec_params(
      "SELECT seq, what, namespace, kind, id, coalesce(event, ''), at FROM dmm.resource_relay($1)",
      limits::resource_relay_batch);
  if (rows.empty()) {
    transaction.commit();  // something may have been held or released
    return 0;
  }
  std::vector<Line> lines;
  lines.reserve(rows.size());
  for (const auto& row : rows) {
    lines.push_back({row[0].as<std::int64_t>(),
                     row[1].as<std::string>(),
                     {row[3].as<std::string>(), row[4].as<std::string>(), row[2].as<std::string>()},
                     row[5].as<std::string>(),
                     row[6].as<std::int64_t>()});
  }
  tell(lines);
  transaction.commit();
  told_.fetch_add(lines.size(), std::memory_order_relaxed);
  return lines.size();
}

/// What is published for a line. Nothing for one that means nothing, because somebody wrote it by
/// hand: it must not keep all others back.
std::optional<transport::Publication> Relay::publication_of(const Line& line) const {
  const std::string& ns = streams_.names.ns();
  try {
    if (line.what == "event") {
      nlohmann::json event = nlohmann::json::parse(line.event);
      const auto name = event.at("event").get<std::string>();
      event["namespace"] = line.key.ns;
      event["kind"] = line.key.kind;
      event["id"] = line.key.id;
      event["event_id"] = line.seq;
      event["at"] = line.at;
      return transport::Publication{
          .subject = event_subject(ns, line.key.kind, name, line.key.ns, std::to_string(line.seq)),
          .payload = dump_json(event),
          .expected_last = Sequence{}};
    }
    const Identity identity = line.what == "inform"
                                  ? Identity{informer_type(line.key.kind), line.key.kind}
                                  : identity_of(line.key);
    // The token says no more than that there is something to do: the news are in the database.
    return transport::Publication{.subject = streams_.names.token_subject(identity),
                                  .payload = "null"};
  } catch (const std::exception& error) {
    log_.error("a line of the outbox of resources means nothing; it is dropped",
               {{"line", line.seq}, {"what", line.what}, {"error", error.what()}});
    return std::nullopt;
  }
}

void Relay::tell(const std::vector<Line>& lines) {
  Volley volley(lines.size() < kUrgent);
  std::set<std::string> tokens;
  std::vector<transport::Publication> events(lines.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const Line& line = lines[i];
    const auto publication = publication_of(line);
    if (!publication) continue;
    if (line.what == "event") {
      events[i] = *publication;
      volley.publish(*events_, *publication, i);
    } else if (tokens.insert(publication->subject).second) {
      volley.publish(*streams_.work, *publication, i);
    }
  }
  for (const auto& [index, error] : volley.wait()) {
    if (error.kind() != Kind::conflict) throw error;
    // Told before, by a transaction that did not end; or by a database that is another one now.
    const auto there = transport::last(*events_, events[index].subject);
    if (there && there->payload == events[index].payload) continue;
    events[index].expected_last.reset();
    transport::publish(*events_, events[index], kTellDeadline);
  }
}

void Relay::wait(const std::stop_token& stop, bool failed) {
  if (stop.stop_requested()) return;
  try {
    if (failed || session_ == nullptr) {
      postgres::internal::wait_readable(wake_, kPauseAfterTrouble);
    } else {
      session_->wait(wake_, limits::resource_poll);
    }
  } catch (const std::exception& e) {
    log_.debug("waiting for notifications failed", {{"error", e.what()}});
    session_.reset();
  }
}

}  // namespace dmm::resource::internal
