#include "dmm/downlink/downlink.h"

#include <fmt/format.h>

#include <charconv>

#include "dmm/downlink/notes.h"
#include "dmm/internal/active_span.h"
#include "dmm/internal/runtime.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/wire.h"

namespace dmm::downlink {

namespace {

using std::chrono::steady_clock;
using transport::Message;
using transport::Note;

void check_device(std::string_view kind, std::string_view device) {
  check_name(kind, "kind");
  check(Identity{std::string(kind), std::string(device)});
}

std::string checked_text(const nlohmann::json& value, std::string_view what) {
  check_depth(value);
  std::string text = dump_json(value);
  require(
      text.size() <= limits::payload_bytes_max, code::too_large,
      fmt::format("{} has {} bytes, more than {}", what, text.size(), limits::payload_bytes_max));
  return text;
}

/// Unix milliseconds of a moment of the monotonic clock.
std::int64_t unix_ms(steady_clock::time_point moment) {
  const auto then = internal::SystemClock::now() + (moment - internal::SteadyClock::now());
  return std::chrono::duration_cast<std::chrono::milliseconds>(then.time_since_epoch()).count();
}

void add_sender(const Sender& sender, transport::Headers& headers) {
  headers.emplace_back(wire::kVersion, std::to_string(wire::kFormatVersion));
  internal::add_trace(headers);
  if (sender.from.empty()) return;
  headers.emplace_back(wire::kFrom, sender.from);
  headers.emplace_back(wire::kEpoch, std::to_string(sender.epoch.value));
}

/// True if the identity that writes has written this one under a later lease.
bool written_later(const Message& message, const Sender& sender) {
  const auto from = message.header(wire::kFrom);
  const auto text = message.header(wire::kEpoch);
  if (sender.from.empty() || !from || *from != sender.from || !text) return false;
  std::uint64_t epoch = 0;
  std::from_chars(text->data(), text->data() + text->size(), epoch);
  return epoch > sender.epoch.value;
}

}  // namespace

Downlink::Downlink(const internal::Streams& streams)
    : names_(streams.names),
      log_(streams.log),
      messenger_(streams.transport->messenger()),
      reports_(streams.reports),
      shadows_(streams.shadows),
      caller_(wire::unique_id()) {
  if (messenger_) reconnects_ = messenger_->on_reconnect([this] { tell_untold(); });
}

Calls& Downlink::calls() {
  require(messenger_ != nullptr, code::no_downlink, "this transport has no messenger");
  const std::lock_guard lock(mutex_);
  if (!calls_) calls_ = std::make_unique<Calls>(messenger_, names_.reply_filter(caller_));
  return *calls_;
}

Sequence Downlink::last_report() const {
  return reports_->state().last;
}

std::optional<Note> Downlink::send(std::string_view kind, std::string_view device,
                                   const std::string& payload, const Sender& sender,
                                   steady_clock::time_point deadline, const std::stop_token& stop) {
  const std::string call = fmt::format("{}.{}", caller_, ++number_);
  Note note{.subject = names_.command_subject(kind, device, call),
            .reply = names_.reply_subject(kind, device, call),
            .payload = payload};
  add_sender(sender, note.headers);
  note.headers.emplace_back(wire::kDeadline, std::to_string(unix_ms(deadline)));
  return calls().call(note, deadline, stop);
}

CommandReply Downlink::command(std::string_view kind, std::string_view device,
                               const nlohmann::json& payload, const Sender& sender,
                               steady_clock::time_point deadline, const std::stop_token& stop) {
  check_device(kind, device);
  const std::string text = checked_text(payload, "the command");
  if (stop.stop_requested()) throw Error(code::run_cancelled, "asked to stop before the command");
  const std::optional<Note> note = send(kind, device, text, sender, deadline, stop);
  const auto without = [&](CommandReply::Result result, std::string reason) {
    return CommandReply(result, std::string(kind), std::string(device), {}, std::move(reason));
  };
  if (!note) {
    return without(CommandReply::Result::no_answer,
                   fmt::format("{} {} did not answer in time", kind, printable(device, 300)));
  }
  if (note->unheard) {
    return without(CommandReply::Result::offline,
                   fmt::format("{} {} is not connected", kind, printable(device, 300)));
  }
  return read_reply(kind, device, *note);
}

// ---- shadows

std::optional<Message> Downlink::stored(std::string_view kind, std::string_view device) const {
  check_device(kind, device);
  require(shadows_ != nullptr, code::stream_missing,
          fmt::format("stream {} does not exist", names_.shadows(1).name));
  try {
    return transport::last(*shadows_, names_.shadow_subject(kind, device));
  } catch (const Error& error) {
    // Nobody answers: if the stream is gone, asking for it brings it back.
    if (&error.code() == &code::timed_out) shadows_->state();
    throw;
  }
}

std::optional<nlohmann::json> Downlink::shadow(std::string_view kind, std::string_view device) {
  const std::optional<Message> message = stored(kind, device);
  if (!message || message->payload.empty()) return std::nullopt;
  return parse_json(message->payload).value();
}

bool Downlink::set_shadow(std::string_view kind, std::string_view device,
                          const nlohmann::json& document, const Sender& sender) {
  return replace(kind, device, checked_text(document, "the shadow"), sender);
}

bool Downlink::clear_shadow(std::string_view kind, std::string_view device, const Sender& sender) {
  return replace(kind, device, {}, sender);
}

/// text   empty: nothing is desired. The empty message is told as well, and then removed.
bool Downlink::replace(std::string_view kind, std::string_view device, const std::string& text,
                       const Sender& sender) {
  while (true) {
    const std::optional<Message> before = stored(kind, device);
    if (before && written_later(*before, sender)) {
      throw Error(code::lease_lost,
                  fmt::format("the shadow of {} {} was written under a later lease", kind,
                              printable(device, 300)));
    }
    const bool same = (before ? before->payload : std::string()) == text;
    if (same) {
      // Whoever stored it may have ended before it was told.
      tell(kind, device, text, before ? before->sequence : Sequence{});
      if (before && text.empty()) transport::erase(*shadows_, before->sequence);
      return false;
    }
    transport::Publication publication{.subject = names_.shadow_subject(kind, device),
                                       .payload = text,
                                       .expected_last = before ? before->sequence : Sequence{},
                                       .urgent = true};
    add_sender(sender, publication.headers);
    try {
      const Sequence revision =
          transport::publish(*shadows_, std::move(publication), limits::publish_deadline);
      tell(kind, device, text, revision);
      if (text.empty()) transport::erase(*shadows_, revision);
      return true;
    } catch (const Error& error) {
      if (error.kind() != Kind::conflict) throw;  // else someone wrote meanwhile: look again
    }
  }
}

/// A device that does not hear it asks when it comes online, so a failure is not one of the caller.
/// But it may be online, and only this side has lost its server: then it is told when that is back.
void Downlink::tell(std::string_view kind, std::string_view device, const std::string& text,
                    Sequence revision) {
  if (!messenger_) return;
  transport::Note note{.subject = names_.desired_subject(kind, device),
                       .headers = {{std::string(wire::kRevision), std::to_string(revision.value)}},
                       .payload = text};
  {
    const std::lock_guard lock(untold_mutex_);
    if (untold_.size() >= limits::shadows_untold_max && !untold_.contains(note.subject)) {
      log_.warn("a shadow is stored and is not told: too many wait",
                {{"kind", std::string(kind)}, {"device", std::string(device)}});
      return;
    }
    std::string subject = note.subject;
    untold_.insert_or_assign(std::move(subject), std::move(note));
  }
  tell_untold();
}

void Downlink::tell_untold() noexcept {
  const std::lock_guard lock(untold_mutex_);
  try {
    while (!untold_.empty()) {
      messenger_->send(untold_.begin()->second);
      untold_.erase(untold_.begin());
    }
  } catch (const Error& error) {
    if (error.kind() == Kind::invalid) untold_.erase(untold_.begin());  // it will never pass
    log_.warn("a shadow is stored and could not be told yet", {{"error", error.what()}});
  }
}

}  // namespace dmm::downlink
