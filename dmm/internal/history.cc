#include "dmm/internal/history.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "dmm/internal/runtime.h"
#include "dmm/internal/status.h"
#include "dmm/internal/streams.h"
#include "dmm/json.h"
#include "dmm/limits.h"

namespace dmm::internal {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using std::chrono::system_clock;
using transport::StreamState;

constexpr std::size_t kLossesKept = 16;
constexpr std::size_t kReasonBytesMax = 300;
constexpr const char* kCopy = "history";  ///< the beat of the lease stream that holds the copy

std::int64_t unix_ms() {
  return std::chrono::duration_cast<milliseconds>(internal::SystemClock::now().time_since_epoch())
      .count();
}

/// Epochs grow by less than one a second, so whatever was given before is below this.
std::uint64_t epochs_until(std::int64_t at) {
  constexpr std::int64_t kBegin = 1'704'067'200'000;  // 2024-01-01
  return at > kBegin ? static_cast<std::uint64_t>((at - kBegin) / 1'000) : 0;
}

std::map<std::string, std::shared_ptr<transport::Stream>> all_of(const Streams& streams) {
  std::map<std::string, std::shared_ptr<transport::Stream>> all{{"work", streams.work},
                                                                {"cache", streams.cache},
                                                                {"reports", streams.reports},
                                                                {"status", streams.status},
                                                                {"leases", streams.leases}};
  if (streams.shadows) all.emplace("shadows", streams.shadows);
  return all;
}

/// One that is gone is left out: when it is there again, it is another one. As is one that does not
/// answer just now, but for the leases: nobody takes any before their stream was looked at.
std::map<std::string, StreamState> states_of(const Streams& streams) {
  std::map<std::string, StreamState> states;
  for (const auto& [name, stream] : all_of(streams)) {
    try {
      states.emplace(name, stream->state());
    } catch (const Error& error) {
      const bool may_be_missing = error.kind() == Kind::retry && name != "leases";
      if (error.kind() != Kind::not_found && !may_be_missing) throw;
    }
  }
  return states;
}

std::string reason_of(const StreamPosition& before, const StreamState& now) {
  if (before.created != now.created) return "it was created again";
  return fmt::format("it ends at {}, but went to {}", now.last.value, before.last);
}

bool lost(const StreamPosition& before, const StreamState& now) {
  return before.created != now.created || now.last.value < before.last;
}

}  // namespace

std::optional<HistoryRecord> parse_history(const transport::Message& message) {
  if (wire::is_removed(message)) return std::nullopt;
  const Result<nlohmann::json> value = parse_json(message.payload);
  if (!value.ok() || !value.value().is_object()) return std::nullopt;
  constexpr std::uint64_t kMost = ~std::uint64_t{0};
  if (!counters_fit(value.value(), {"found", "losses"}, kMost) ||
      !counters_fit(value.value(), {"epoch_floor"}, kEpochMax)) {
    return std::nullopt;
  }
  try {
    auto record = value.value().get<HistoryRecord>();
    if (record.last.size() > kLossesKept) record.last.resize(kLossesKept);
    return record;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;  // rubbish counts as absent
  }
}

std::size_t note_losses(HistoryRecord& record, const std::map<std::string, StreamState>& now,
                        std::int64_t at) {
  std::size_t found = 0;
  for (const auto& [name, state] : now) {
    const auto before = record.streams.find(name);
    if (before != record.streams.end() && lost(before->second, state)) {
      ++found;
      ++record.found;
      if (name == "work" || name == "cache") ++record.losses;
      if (name == "leases") record.epoch_floor = std::max(record.epoch_floor, epochs_until(at));
      record.last.push_back({name, reason_of(before->second, state), at});
      if (record.last.size() > kLossesKept) record.last.erase(record.last.begin());
    }
    record.streams[name] = {state.created, state.last.value};
  }
  return found;
}

std::optional<std::uint64_t> History::losses() const noexcept {
  const std::uint64_t losses = losses_.load();
  if (losses == kUnknown) return std::nullopt;
  return losses;
}

History::Kept History::read(const Streams& streams) {
  const auto first = transport::last(*streams.status, streams.names.status_subject(kHistoryKey));
  const auto copy = transport::last(*streams.leases, streams.names.beat_subject(kCopy));
  Kept kept;
  if (first) {
    kept.sequence = first->sequence;
    kept.record = parse_history(*first);
  }
  if (copy) {
    auto record = parse_history(*copy);
    if (record && (!kept.record || record->found > kept.record->found)) {
      kept.record = std::move(record);
    }
  }
  return kept;
}

void History::adopt(const Streams& streams, const HistoryRecord& kept) {
  if (!known_) {
    known_ = kept;
    return;
  }
  if (kept.found > known_->found) {
    for (const FoundLoss& loss : kept.last) {
      streams.log.warn(
          "another process found that a stream lost its history",
          {{"stream", loss.stream}, {"reason", printable(loss.reason, kReasonBytesMax)}});
    }
    const std::uint64_t floor = known_->epoch_floor;
    known_ = kept;
    known_->epoch_floor = std::max(known_->epoch_floor, floor);
    return;
  }
  known_->epoch_floor = std::max(known_->epoch_floor, kept.epoch_floor);
  if (kept.found < known_->found) return;  // it knows the streams as they were before a loss
  for (const auto& [name, position] : kept.streams) {
    if (position.created.empty()) continue;
    StreamPosition& known = known_->streams.try_emplace(name, position).first->second;
    if (known.created == position.created) known.last = std::max(known.last, position.last);
  }
}

void History::leases_were_lost(Epoch used, std::string reason) {
  const std::lock_guard lock(told_mutex_);
  told_ = {"leases", std::move(reason), unix_ms()};
  told_used_ = std::max(told_used_, used);
  look_now_ = true;
  told_changed_.notify_all();
}

bool History::knows_leases(const std::string& created) {
  const std::lock_guard lock(told_mutex_);
  return created == leases_created_;
}

void History::wait(const std::stop_token& stop, milliseconds time) {
  std::unique_lock lock(told_mutex_);
  told_changed_.wait_for(lock, stop, time, [&] { return look_now_; });
  look_now_ = false;  // if that look fails, the next one comes in its time
}

/// Notes what holders noticed. Returns how many losses that are.
std::size_t History::note_told() {
  const std::lock_guard lock(told_mutex_);
  known_->epoch_floor = std::max(known_->epoch_floor, told_used_.value);
  if (!told_) return 0;
  ++known_->found;
  known_->last.push_back(*std::exchange(told_, std::nullopt));
  if (known_->last.size() > kLossesKept) known_->last.erase(known_->last.begin());
  return 1;
}

History::Turn::Turn(History& history) : history_(history) {
  std::unique_lock lock(history_.told_mutex_);
  history_.told_changed_.wait(lock, [&] { return !history_.looking_; });
  history_.looking_ = true;
}

History::Turn::~Turn() {
  const std::lock_guard lock(history_.told_mutex_);
  history_.looking_ = false;
  history_.told_changed_.notify_all();
}

void History::look(const Streams& streams) {
  const Turn turn(*this);
  // In this order: what others have seen of a stream is not newer than what it is.
  Kept kept;
  try {
    kept = read(streams);
  } catch (const Error&) {
    states_of(streams);  // which brings back a stream that is gone
    kept = read(streams);
  }
  std::map<std::string, StreamState> states = states_of(streams);
  if (kept.record) adopt(streams, *kept.record);
  if (!known_) known_.emplace();
  const auto now = internal::SteadyClock::now();
  std::erase_if(states, [&](const auto& pair) {
    const auto& [name, state] = pair;
    const auto before = known_->streams.find(name);
    if (before != known_->streams.end() && lost(before->second, state)) {
      // A stream that was created again is another one, whoever says so.
      const bool may_be_stale = state.replicas > 1 && before->second.created == state.created;
      return !doubts_[name].believed(may_be_stale, now);
    }
    doubts_[name].clear();
    return false;
  });
  const std::size_t found = note_losses(*known_, states, unix_ms()) + note_told();
  for (std::size_t i = known_->last.size() - std::min(found, known_->last.size());
       i < known_->last.size(); ++i) {
    streams.log.error("a stream lost its history",
                      {{"stream", known_->last[i].stream}, {"reason", known_->last[i].reason}});
  }
  std::exception_ptr failure;
  if (is_behind(kept) ||
      internal::SteadyClock::now() - written_ >= limits::history_record_interval) {
    try {
      write(streams, kept.sequence);
    } catch (const Error&) {
      failure = std::current_exception();
    }
  }
  publish_known();
  if (failure) std::rethrow_exception(failure);
}

/// True if what is kept tells less than what is known here.
bool History::is_behind(const Kept& kept) const {
  return !kept.record || kept.record->found < known_->found ||
         kept.record->epoch_floor < known_->epoch_floor;
}

void History::publish_known() {
  epoch_floor_ = known_->epoch_floor;
  losses_ = known_->losses;
  const std::lock_guard lock(told_mutex_);
  const auto leases = known_->streams.find("leases");
  if (leases != known_->streams.end()) leases_created_ = leases->second.created;
}

/// Of several that write at once one does. The others take over what it wrote, and write again if
/// it lacks what they know.
void History::write(const Streams& streams, Sequence expected) {
  written_ = internal::SteadyClock::now();
  std::string text;
  const auto keep = [&] {
    text = dump_json(nlohmann::json(*known_));
    try {
      transport::publish(*streams.status,
                         {.subject = streams.names.status_subject(kHistoryKey),
                          .payload = text,
                          .expected_last = expected},
                         limits::request_timeout);
      return true;
    } catch (const Error& error) {
      if (error.kind() != Kind::conflict) throw;
      return false;
    }
  };
  if (!keep()) {
    const Kept others = read(streams);
    if (others.record) adopt(streams, *others.record);
    expected = others.sequence;
    // Where a third one is faster, the next look does it.
    if (!is_behind(others) || !keep()) return;
  }
  transport::publish(*streams.leases,
                     {.subject = streams.names.beat_subject(kCopy), .payload = text},
                     limits::request_timeout);
}

void History::store(const Streams& streams) noexcept {
  try {
    look(streams);
    const Turn turn(*this);
    write(streams, read(streams).sequence);
  } catch (const std::exception& error) {
    streams.log.debug("where the streams stand was not stored", {{"error", error.what()}});
  }
}

void add_losses(const Streams& streams, transport::Headers& headers) {
  const auto losses = streams.history ? streams.history->losses() : std::nullopt;
  if (losses.value_or(0) > 0) headers.emplace_back(wire::kLosses, std::to_string(*losses));
}

void watch_history(const Streams& streams, const std::stop_token& stop) {
  bool failed = false;
  for (;;) {
    streams.history->wait(stop, limits::stream_check_interval);
    if (stop.stop_requested()) break;
    try {
      streams.history->look(streams);
      failed = false;
    } catch (const Error& error) {
      if (error.kind() == Kind::cancelled) return;
      // Who begins now takes nothing before one was looked at: said once.
      const auto level = std::exchange(failed, true) ? Level::debug : Level::warn;
      streams.log.log(level, "the streams could not be looked at", {{"error", error.what()}});
    }
  }
  streams.history->store(streams);
}

}  // namespace dmm::internal
