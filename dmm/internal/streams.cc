#include "dmm/internal/streams.h"

#include <fmt/format.h>

#include "dmm/internal/done.h"
#include "dmm/json.h"

namespace dmm::internal {

namespace {

/// Whether the run that stored `entry` did the token. The creation time of the stream is asked for
/// before that is believed: in a stream that was created again sequences begin anew.
bool did(transport::Stream& work, const transport::Message& entry,
         const transport::Message& token) {
  const auto header = entry.header(wire::kDone);
  const auto done = header ? wire::parse_done(*header) : std::nullopt;
  const auto by = [&](std::string_view created) {
    return is_done(*done, created, token.sequence, token.stored_at, entry.stored_at);
  };
  return done && by(work.created()) && by(work.state().created);
}

}  // namespace

Effective read_effective(const Streams& streams, const Identity& identity) {
  Effective effective;
  effective.token = transport::last(*streams.work, streams.names.token_subject(identity));
  if (effective.token) effective.token_sequence = effective.token->sequence;
  effective.entry = transport::last(*streams.cache, streams.names.entry_subject(key_of(identity)));
  if (effective.token && effective.entry &&
      did(*streams.work, *effective.entry, *effective.token)) {
    effective.token.reset();
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

std::optional<Error> newer(const transport::Message& message, std::string_view what) {
  const std::optional<int> version = wire::format_version(message.headers);
  if (version && *version <= wire::kFormatVersion) return std::nullopt;
  return Error(code::newer_format,
               fmt::format("{} has format version {}, this program reads {}", what,
                           printable(message.header(wire::kVersion).value_or(""), 40),
                           wire::kFormatVersion));
}

std::optional<std::string> effective_text(const Effective& effective) {
  if (effective.token) {
    if (const auto error = newer(*effective.token, "the token")) throw *error;
  }
  std::optional<std::string> text;
  if (effective.entry) {
    if (const auto error = newer(*effective.entry, "the entry")) throw *error;
    text = effective.entry->payload;
  }
  if (!effective.token || effective.token->payload.empty()) return text;
  if (!effective.token->header(wire::kView)) return effective.token->payload;
  return lay_over(text.value_or(""), effective.token->payload);
}

}  // namespace dmm::internal
