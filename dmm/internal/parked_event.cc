#include "dmm/internal/parked_event.h"

#include "dmm/json.h"
#include "dmm/transport/messenger.h"

namespace dmm::internal {

namespace {

void tell(const Streams& streams, std::string subject, const nlohmann::json& value,
          Sequence revision) noexcept {
  try {
    const auto messenger = streams.transport ? streams.transport->messenger() : nullptr;
    if (!messenger) return;
    messenger->send({.subject = subject,
                     .headers = {{std::string(wire::kRevision), std::to_string(revision.value)}},
                     .payload = dump_json(value)});
  } catch (const std::exception& error) {
    streams.log.debug("an event was not sent", {{"subject", subject}, {"error", error.what()}});
  }
}

}  // namespace

void tell_parked(const Streams& streams, const std::string& key, const Status& status,
                 Sequence revision) noexcept {
  tell(streams, streams.names.parked_subject(key), status, revision);
}

void tell_refused(const Streams& streams, const Refusal& refusal, Sequence revision) noexcept {
  tell(streams, streams.names.refused_event_subject(refusal.what), refusal, revision);
}

}  // namespace dmm::internal
