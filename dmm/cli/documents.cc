#include "dmm/cli/documents.h"

#include "dmm/cli/human.h"
#include "dmm/json.h"

namespace dmm::cli {

namespace {

nlohmann::json time_or_null(const std::optional<Time>& time) {
  return time ? nlohmann::json(rfc3339(*time)) : nlohmann::json();
}

}  // namespace

void set_value(nlohmann::json& document, const std::string& name, std::string_view text) {
  auto value = parse_json(text);
  document[name] = value ? std::move(value).value() : nlohmann::json();
  if (document[name].is_null() && text != "null") document[name + "_text"] = text;
}

std::string spelled_id(std::string_view token) {
  auto id = decode_id(token);
  return id ? *id : std::string(token);
}

nlohmann::json document_of(const Matter& matter, bool values) {
  nlohmann::json document{
      {"type", matter.identity.type},
      {"id", matter.identity.id},
      {"phase", to_string(matter.phase)},
      {"revision", matter.revision.value},
      {"token", matter.token.value},
      {"deleted", matter.deleted},
      {"view", matter.view},
      {"stored_at", time_or_null(matter.stored_at)},
      {"notified_at", time_or_null(matter.notified_at)},
      {"attempts", matter.attempts},
      {"waits_for", matter.waits_for.empty() ? nlohmann::json() : nlohmann::json(matter.waits_for)},
      {"error_code", matter.error_code},
      {"error", matter.error},
      {"failed_at", time_or_null(matter.failed_at)},
      {"next_retry_at", time_or_null(matter.next_retry_at)},
      {"damage", matter.damage},
  };
  if (values) {
    document["value"] = nullptr;
    document["stored"] = nullptr;
    if (matter.effective) set_value(document, "value", *matter.effective);
    if (matter.stored) set_value(document, "stored", *matter.stored);
    document["news"] = nullptr;
    if (matter.news && !matter.news->empty()) set_value(document, "news", *matter.news);
    document["crashes"] = matter.crashes;
    document["failures"] = nlohmann::json::array();
    for (const Failure& one : matter.failures) document["failures"].push_back(document_of(one));
  }
  return document;
}

nlohmann::json document_of(const Failure& failure) {
  return {{"at", rfc3339(failure.at)},
          {"token", failure.token.value},
          {"attempt", failure.attempt},
          {"error_code", failure.error_code},
          {"error", failure.error}};
}

nlohmann::json document_of(const Refused& refused) {
  return {{"what", refused.what},
          {"subject", refused.subject},
          {"sequence", refused.sequence.value},
          {"error_code", refused.error_code},
          {"error", refused.error},
          {"at", rfc3339(refused.at)}};
}

std::string_view name_in(const Refused& refused) {
  // dmm.<ns>.work.<type>.<lane>.<id>, dmm.<ns>.report.<kind>.<device>, view.<view>.<place>. The
  // subject may be cut at its end.
  std::string_view rest = refused.subject;
  for (int parts = refused.what == "view" ? 1 : 3; parts > 0; --parts) {
    const std::size_t dot = rest.find('.');
    if (dot == std::string_view::npos) return {};
    rest.remove_prefix(dot + 1);
  }
  return rest.substr(0, rest.find('.'));
}

nlohmann::json documents_of(const std::vector<ViewInputInfo>& inputs) {
  auto documents = nlohmann::json::array();
  for (const ViewInputInfo& input : inputs) {
    documents.push_back({{"name", input.name},
                         {"description", input.description},
                         {"rows", input.rows},
                         {"loaded", input.loaded},
                         {"position", input.position},
                         {"changed_at_ms", input.changed_at}});
  }
  return documents;
}

nlohmann::json document_of(const ViewInfo& view) {
  return {{"name", view.name},
          {"type", view.type},
          {"key", view.key},
          {"pipeline", view.pipeline},
          {"release", view.release},
          {"rolled_out", view.rolled_out},
          {"rollout_told", view.rollout_told},
          {"rollout_failing", view.rollout_failing},
          {"stopped", view.stopped},
          {"digest", view.digest},
          {"epoch", view.epoch},
          {"loaded", view.loaded},
          {"rows", view.rows},
          {"notified", view.notified},
          {"removed", view.removed},
          {"refused", view.refused},
          {"stale", view.stale},
          {"sending", view.sending},
          {"twice", view.twice},
          {"without_key", view.without_key},
          {"held", view.held},
          {"held_reason", view.held_reason},
          {"held_some", view.held_some},
          {"doubt", view.doubt},
          {"snapshot_at_ms", view.snapshot_at},
          {"cold_because", view.cold_because},
          {"written_at_ms", view.at},
          {"inputs", documents_of(view.inputs)}};
}

nlohmann::json document_of(const LastReport& report) {
  nlohmann::json document{{"kind", report.kind},
                          {"device", report.device},
                          {"sequence", report.sequence.value},
                          {"at", rfc3339(report.at)}};
  set_value(document, "state", report.state);
  return document;
}

nlohmann::json document_of(const LeaseInfo& lease) {
  nlohmann::json document{{"name", lease.name},
                          {"epoch", lease.epoch.value},
                          {"holder", lease.holder},
                          {"released", lease.released},
                          {"last_beat", time_or_null(lease.last_beat)}};
  if (lease.lanes) document["lanes"] = *lease.lanes;
  return document;
}

nlohmann::json document_of(const Change& change) {
  const std::size_t dot = std::min(change.key.find('.'), change.key.size());
  const std::string_view rest = std::string_view(change.key).substr(dot);
  nlohmann::json document{{"what", change.what},
                          {"key", change.key},
                          {"type", change.key.substr(0, dot)},
                          {"id", spelled_id(rest.empty() ? rest : rest.substr(1))},
                          {"sequence", change.sequence.value},
                          {"at", rfc3339(change.at)}};
  document["value"] = nullptr;
  if (!change.value.empty()) set_value(document, "value", change.value);
  return document;
}

nlohmann::json document_of(const Finding& finding) {
  return {{"severity", to_string(finding.severity)},
          {"subject", finding.subject},
          {"text", finding.text},
          {"remedy", finding.remedy}};
}

nlohmann::json document_of(const transport::StreamState& stream) {
  return {{"name", stream.name},           {"created", stream.created},
          {"first", stream.first.value},   {"last", stream.last.value},
          {"messages", stream.messages},   {"bytes", stream.bytes},
          {"consumers", stream.consumers}, {"replicas", stream.replicas}};
}

nlohmann::json document_of(const transport::ServerFacts& server) {
  return {{"url", server.url},
          {"version", server.version},
          {"name", server.name},
          {"cluster", server.cluster},
          {"jetstream", server.jetstream},
          {"payload_bytes_max", server.payload_bytes_max},
          {"memory_bytes_max", server.memory_bytes_max},
          {"storage_bytes_max", server.storage_bytes_max},
          {"storage_bytes", server.storage_bytes},
          {"streams", server.streams},
          {"consumers", server.consumers},
          {"round_trip_us", server.round_trip.count()}};
}

}  // namespace dmm::cli
