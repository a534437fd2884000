#include "dmm/internal/roll_call.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <mutex>

#include "dmm/internal/runtime.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/transport/messenger.h"
#include "dmm/wire.h"
#include "engine/version.h"

namespace dmm::internal {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using std::chrono::system_clock;
using transport::Note;

/// A member of an answer, or the default where it is missing or of another type.
template <class T>
T member(const nlohmann::json& object, const char* name, T otherwise) {
  const auto found = object.find(name);
  if (found == object.end()) return otherwise;
  if constexpr (std::is_same_v<T, std::string>) {
    return found->is_string() ? found->template get<T>() : otherwise;
  } else if constexpr (std::is_same_v<T, bool>) {
    return found->is_boolean() ? found->template get<T>() : otherwise;
  } else {
    return found->is_number_integer() ? found->template get<T>() : otherwise;
  }
}

const nlohmann::json& list(const nlohmann::json& object, const char* name) {
  static const nlohmann::json kNone = nlohmann::json::array();
  const auto found = object.find(name);
  return found != object.end() && found->is_array() ? *found : kNone;
}

std::vector<WorkerPart> parts_of(const nlohmann::json& answer, const char* name) {
  std::vector<WorkerPart> parts;
  for (const nlohmann::json& one : list(answer, name)) {
    if (one.is_object()) {
      parts.push_back({member(one, "name", std::string()), member(one, "active", false)});
    }
  }
  return parts;
}

WorkerType type_of(const nlohmann::json& one) {
  WorkerType type;
  type.type = member(one, "type", std::string());
  for (const nlohmann::json& lane : list(one, "lanes")) {
    if (lane.is_number_unsigned() && lane < limits::lanes) type.lanes.push_back(lane);
  }
  type.lanes_wanted = member<std::size_t>(one, "lanes_wanted", 0);
  type.waiting = member<std::size_t>(one, "waiting", 0);
  type.running = member<std::size_t>(one, "running", 0);
  type.parked = member<std::size_t>(one, "parked", 0);
  type.oldest = milliseconds(member<std::int64_t>(one, "oldest_ms", 0));
  type.runs = member<std::uint64_t>(one, "runs", 0);
  type.failed = member<std::uint64_t>(one, "failed", 0);
  type.paused = member(one, "paused", false);
  return type;
}

nlohmann::json describe(const WorkStream& stream) {
  const WorkStats stats = stream.stats();
  nlohmann::json lanes = nlohmann::json::array();
  for (std::uint32_t lane = 0; lane < limits::lanes; ++lane) {
    if ((stats.lane_set >> lane & 1) != 0) lanes.push_back(lane);
  }
  milliseconds oldest{0};
  if (stats.oldest_token) {
    oldest = std::max(milliseconds(0), std::chrono::duration_cast<milliseconds>(
                                           internal::SystemClock::now() - *stats.oldest_token));
  }
  const std::size_t elsewhere = stats.running + stats.parked_now;
  return {{"type", stream.type()},
          {"lanes", std::move(lanes)},
          {"lanes_wanted", stats.lanes_wanted},
          {"waiting", stats.outstanding - std::min(stats.outstanding, elsewhere)},
          {"running", stats.running},
          {"parked", stats.parked_now},
          {"oldest_ms", oldest.count()},
          {"runs", stats.runs},
          {"failed", stats.failed},
          {"paused", stats.paused}};
}

/// The time at a worker when it answered, by its clock.
std::optional<system_clock::time_point> clock_of(const WorkerInfo& worker) {
  const auto now = member<std::int64_t>(worker.answer, "now", 0);
  if (now <= 0) return std::nullopt;
  return system_clock::time_point(milliseconds(now));
}

/// Publishes with a reply subject, and gathers who answers.
std::vector<WorkerInfo> call(const Streams& streams, const std::string& subject,
                             const std::string& payload, milliseconds timeout) {
  const std::shared_ptr<transport::Messenger> messenger = streams.transport->messenger();
  require(messenger != nullptr, code::no_downlink, "this transport has no messenger");
  require(timeout.count() > 0, code::bad_option, "the time for the workers is not positive");
  std::mutex mutex;
  internal::Condition changed;
  std::vector<WorkerInfo> workers;
  bool unheard = false;
  const std::string reply = streams.names.roll_answer_subject(wire::unique_id());
  const auto asked = internal::SteadyClock::now();
  const auto asked_at = internal::SystemClock::now();
  const auto subscription = messenger->subscribe(reply, "", [&](const Note& note) {
    std::optional<WorkerInfo> worker = note.unheard ? std::nullopt : parse_worker(note.payload);
    const std::lock_guard lock(mutex);
    unheard = unheard || note.unheard;
    if (worker && workers.size() < limits::workers_told_max) {
      worker->answered_in = std::chrono::duration_cast<std::chrono::microseconds>(
          internal::SteadyClock::now() - asked);
      // It looked at its clock half way, as far as we can know.
      if (const auto now = clock_of(*worker)) {
        worker->clock_ahead =
            std::chrono::duration_cast<milliseconds>(*now - (asked_at + worker->answered_in / 2));
      }
      workers.push_back(std::move(*worker));
    }
    if (unheard) changed.notify_one();
  });
  messenger->send({.subject = subject, .reply = reply, .payload = payload});
  std::unique_lock lock(mutex);
  changed.wait_until(lock, asked + timeout, [&] { return unheard; });
  std::vector<WorkerInfo> answered = std::move(workers);
  workers.clear();
  lock.unlock();
  std::ranges::sort(answered, {}, [](const WorkerInfo& w) { return std::tie(w.name, w.id); });
  return answered;
}

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

}  // namespace

nlohmann::json describe_process(const std::string& program) {
  const auto now = std::chrono::floor<milliseconds>(internal::SystemClock::now());
  return {{"id", wire::unique_id()},
          {"name", program.empty() ? program_invocation_short_name : program},
          {"host", host_name()},
          {"pid", getpid()},
          {"version", engine::version()},
          {"started_at", now.time_since_epoch().count()}};
}

std::vector<std::string> not_ready(const Parts& parts) {
  std::vector<std::string> reasons;
  for (const WorkStream* stream : parts.work_streams) {
    const WorkStats stats = stream->stats();
    if (!stats.joined) {
      reasons.push_back(fmt::format("type {}: not among its workers", stream->type()));
    } else if (stats.lanes_wanted > 0 && !stats.holds_lease) {
      reasons.push_back(fmt::format("type {}: waits for its lanes", stream->type()));
    } else if (stats.holds_lease && !stats.caught_up) {
      reasons.push_back(fmt::format("type {}: reads what is outstanding", stream->type()));
    }
  }
  for (const StuckType& stuck : parts.stuck) {
    reasons.push_back(fmt::format("type {}: slots lost: {} of {}, its handlers do not stop",
                                  stuck.type, stuck.slots, stuck.slots));
  }
  for (const ViewStream* view : parts.view_streams) {
    const ViewStats stats = view->stats();
    if (!stats.holds_lease && !stats.stands_by) {
      reasons.push_back(fmt::format("view {}: waits for its lease", view->name()));
    } else if (stats.holds_lease && !stats.loaded) {
      reasons.push_back(fmt::format("view {}: loads its inputs", view->name()));
    }
  }
  for (const Observer* observer : parts.observers) {
    const ObserveStats stats = observer->stats();
    if (!stats.holds_lease && !stats.stands_by) {
      reasons.push_back(fmt::format("reports of {}: waits for the lease", observer->kind()));
    }
  }
  return reasons;
}

nlohmann::json describe(const Parts& parts) {
  const auto now = std::chrono::floor<milliseconds>(internal::SystemClock::now());
  nlohmann::json answer = {{"now", now.time_since_epoch().count()},
                           {"types", nlohmann::json::array()},
                           {"views", nlohmann::json::array()},
                           {"observers", nlohmann::json::array()}};
  for (const WorkStream* stream : parts.work_streams) answer["types"].push_back(describe(*stream));
  for (const ViewStream* view : parts.view_streams) {
    answer["views"].push_back({{"name", view->name()}, {"active", view->stats().holds_lease}});
  }
  for (const Observer* observer : parts.observers) {
    answer["observers"].push_back(
        {{"name", observer->kind()}, {"active", observer->stats().holds_lease}});
  }
  return answer;
}

bool is_meant(std::string_view worker, const nlohmann::json& answer) {
  if (worker.empty() || worker == member(answer, "id", std::string())) return true;
  return worker == member(answer, "name", std::string()) ||
         worker == fmt::format("{}:{}", member(answer, "host", std::string()),
                               member<std::int64_t>(answer, "pid", 0));
}

void answer_roll_call(const Streams& streams, const std::stop_token& stop, LogLevelKeeper& levels,
                      const std::function<nlohmann::json()>& answer) {
  const std::shared_ptr<transport::Messenger> messenger = streams.transport->messenger();
  if (!messenger) return;
  const auto take = [&](const Note& ask) {
    if (ask.reply.empty()) return;
    try {
      messenger->send({.subject = ask.reply, .payload = dump_json(answer())});
    } catch (const std::exception& e) {
      streams.log.warn("who asked for the workers got no answer", {{"error", e.what()}});
    }
  };
  const auto obey = [&](const Note& told) {
    const std::optional<LogLevelOrder> order = parse_order(told.payload);
    if (!order) {
      streams.log.warn("what this worker was told is no order", {{"subject", told.subject}});
    } else if (is_meant(order->worker, answer())) {
      levels.take(*order);
      take(told);
    }
  };
  std::mutex mutex;
  internal::StopCondition never;
  std::unique_lock lock(mutex);
  while (!stop.stop_requested()) {
    try {
      const auto asked = messenger->subscribe(streams.names.roll_call_subject(), "", take);
      const auto told = messenger->subscribe(streams.names.roll_order_subject(), "", obey);
      levels.keep(stop);
    } catch (const Error& error) {
      if (error.kind() == Kind::cancelled) return;
      streams.log.warn("who asks for the workers gets no answer; tried again",
                       {{"error", error.what()}});
      never.wait_for(lock, stop, limits::retry_delay_max, [] { return false; });
    }
  }
}

std::vector<WorkerInfo> call_roll(const Streams& streams, milliseconds timeout) {
  return call(streams, streams.names.roll_call_subject(), "", timeout);
}

std::vector<WorkerInfo> order_log_level(const Streams& streams, const LogLevelOrder& order,
                                        milliseconds timeout) {
  require(order.level != Level::off, code::bad_option, "workers cannot be told to log nothing");
  require(
      order.duration.count() >= 0 && order.duration <= limits::log_level_for_max, code::bad_option,
      fmt::format("workers log otherwise for at most {} hours", limits::log_level_for_max.count()));
  return call(streams, streams.names.roll_order_subject(), order_text(order), timeout);
}

std::optional<WorkerInfo> parse_worker(std::string_view text) {
  Result<nlohmann::json> read = parse_json(text);
  if (!read.ok() || !read.value().is_object()) return std::nullopt;
  nlohmann::json& answer = read.value();
  WorkerInfo worker;
  worker.id = member(answer, "id", std::string());
  if (worker.id.empty()) return std::nullopt;
  worker.name = member(answer, "name", std::string());
  worker.host = member(answer, "host", std::string());
  worker.pid = member<std::int64_t>(answer, "pid", 0);
  worker.version = member(answer, "version", std::string());
  worker.started_at =
      system_clock::time_point(milliseconds(member<std::int64_t>(answer, "started_at", 0)));
  for (const nlohmann::json& reason : list(answer, "not_ready")) {
    if (reason.is_string()) worker.not_ready.push_back(reason);
  }
  for (const nlohmann::json& one : list(answer, "types")) {
    if (one.is_object()) worker.types.push_back(type_of(one));
  }
  worker.log_level = level_of(member(answer, "log_level", std::string()));
  if (const auto until = member<std::int64_t>(answer, "log_level_until", 0); until > 0) {
    worker.log_level_until = system_clock::time_point(milliseconds(until));
  }
  worker.views = parts_of(answer, "views");
  worker.observers = parts_of(answer, "observers");
  worker.answer = std::move(answer);
  return worker;
}

}  // namespace dmm::internal
