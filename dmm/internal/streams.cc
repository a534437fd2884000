#include "dmm/internal/streams.h"

#include "dmm/json.h"

namespace dmm::internal {

Effective read_effective(const Streams& streams, const Identity& identity) {
  Effective effective;
  effective.token = transport::last(*streams.work, streams.names.token_subject(identity));
  if (effective.token) effective.token_sequence = effective.token->sequence;
  effective.entry =
      transport::last(*streams.cache, streams.names.entry_subject(key_of(identity)));
  if (effective.token && effective.entry) {
    const auto header = effective.entry->header(wire::kDone);
    const auto done = header ? wire::parse_done(*header) : std::nullopt;
    if (done && done->covers(streams.work->created(), effective.token->sequence)) {
      effective.token.reset();
    }
  }
  if (effective.entry && wire::is_removed(*effective.entry)) effective.entry.reset();
  return effective;
}

std::string lay_over(std::string_view entry, std::string_view news) {
  nlohmann::json merged = entry.empty() ? nlohmann::json::object() : parse_json(entry).value();
  const nlohmann::json fields = parse_json(news).value();
  if (!merged.is_object() || !fields.is_object()) return std::string(news);
  for (const auto& [name, value] : fields.items()) merged[name] = value;
  return dump_json(merged);
}

std::optional<std::string> effective_text(const Effective& effective) {
  std::optional<std::string> text;
  if (effective.entry) text = effective.entry->payload;
  if (!effective.token || effective.token->payload.empty()) return text;
  if (!effective.token->header(wire::kView)) return effective.token->payload;
  return lay_over(text.value_or(""), effective.token->payload);
}

}  // namespace dmm::internal
