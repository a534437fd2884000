#include "dmm/downlink/ask_server.h"

#include <mutex>

#include "dmm/internal/runtime.h"
#include "dmm/limits.h"
#include "dmm/transport/messenger.h"
#include "dmm/wire.h"

namespace dmm::downlink {

namespace {

using transport::Message;
using transport::Note;

/// Kept alive by the answers that are under way.
struct Desk {
  std::shared_ptr<transport::Messenger> messenger;
  std::shared_ptr<transport::Stream> shadows;
  wire::Names names;
  Logger log;

  void answer(const Note& ask, std::string_view device,
              const std::optional<Message>& shadow) const {
    try {
      Note note{.subject = ask.reply.empty() ? std::string(device) : ask.reply};
      if (shadow) {
        note.payload = shadow->payload;
        note.headers.emplace_back(wire::kRevision, std::to_string(shadow->sequence.value));
      }
      messenger->send(note);
    } catch (const Error& error) {
      log.warn("a device asked for its shadow and was not answered",
               {{"subject", ask.subject}, {"error", error.what()}});
    }
  }
};

void take(const std::shared_ptr<Desk>& desk, Note ask) {
  const auto parts = wire::split_device(ask.subject, "ask");
  const std::optional<std::string> device = parts ? decode_id(parts->device) : std::nullopt;
  if (!device) return;  // nobody can have a shadow under another spelling
  const std::string kind(parts->kind);
  desk->shadows->last(
      desk->names.shadow_subject(kind, *device),
      [desk, ask = std::move(ask), told = desk->names.desired_subject(kind, *device)](
          const Result<std::optional<Message>>& found) {
        // It asks again: better no answer than a wrong one.
        if (found.ok()) desk->answer(ask, told, found.value());
      });
}

}  // namespace

void serve_asks(const internal::Streams& streams, const std::stop_token& stop) {
  auto desk = std::make_shared<Desk>(
      Desk{streams.transport->messenger(), streams.shadows, streams.names, streams.log});
  if (!desk->messenger || !desk->shadows) return;
  std::mutex mutex;
  internal::StopCondition never;
  std::unique_lock lock(mutex);
  while (!stop.stop_requested()) {
    try {
      const auto subscription = desk->messenger->subscribe(
          desk->names.ask_filter(), "dmm", [desk](Note ask) { take(desk, std::move(ask)); });
      never.wait(lock, stop, [] { return false; });
    } catch (const Error& error) {
      if (error.kind() == Kind::cancelled) return;
      desk->log.warn("devices that ask for their shadow get no answer; tried again",
                     {{"error", error.what()}});
      never.wait_for(lock, stop, limits::retry_delay_max, [] { return false; });
    }
  }
}

}  // namespace dmm::downlink
