#include "dmm/worker/token.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "dmm/internal/active_span.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/wire.h"

namespace dmm::worker {

namespace {

using std::chrono::milliseconds;
using std::chrono::system_clock;

/// None: it is no date that can be meant.
std::optional<system_clock::time_point> date_of(std::string_view text,
                                                system_clock::time_point stored_at) {
  const auto latest =
      std::chrono::floor<milliseconds>(stored_at + kNotBeforeMax).time_since_epoch().count();
  std::int64_t unix_ms = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), unix_ms);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size()) return std::nullopt;
  if (unix_ms < 0 || unix_ms > latest) return std::nullopt;
  return system_clock::time_point(milliseconds(unix_ms));
}

}  // namespace

Result<Token> read_token(transport::Message message) {
  const auto parts = wire::split_token(message.subject);
  if (!parts) {
    return Error(code::foreign_subject,
                 fmt::format("{} is not a token's subject", printable(message.subject, 300)));
  }
  try {
    check_name(parts->type, "type");
  } catch (const Error& error) {
    return error;
  }
  Token token;
  const std::optional<std::string> id = decode_id(parts->id);
  if (!id) {
    return Error(code::bad_spelling,
                 fmt::format("id \"{}\" of type {} is spelled {}", printable(parts->id, 300),
                             printable(parts->type), suggest_spelling(parts->id.substr(0, 300))));
  }
  token.identity = Identity{std::string(parts->type), *id};
  token.key = key_of(token.identity);
  const std::string lane = std::to_string(lane_of_key(token.key));
  if (parts->lane != lane) {
    return Error(code::wrong_lane, fmt::format("{} belongs on lane {}, not {}", token.key, lane,
                                               printable(parts->lane, 40)));
  }
  const std::optional<int> version = wire::format_version(message.headers);
  if (!version || *version > wire::kFormatVersion) {
    return Error(code::newer_format,
                 fmt::format("token of {} has format version {}, this program reads {}", token.key,
                             printable(message.header(wire::kVersion).value_or(""), 40),
                             wire::kFormatVersion));
  }
  if (message.payload.size() > limits::payload_bytes_max) {
    return Error(code::too_large, fmt::format("token of {} has {} bytes, more than {}", token.key,
                                              message.payload.size(), limits::payload_bytes_max));
  }
  token.sequence = message.sequence;
  token.stored_at = message.stored_at;
  if (const auto view = message.header(wire::kView)) token.view = *view;
  token.deleted = message.header(wire::kDeleted).has_value();
  if (const auto text = message.header(wire::kEntry)) {
    std::from_chars(text->data(), text->data() + text->size(), token.entry.value);
  }
  if (const auto text = message.header(wire::kLosses)) {
    std::from_chars(text->data(), text->data() + text->size(), token.losses);
  }
  if (const auto text = message.header(wire::kNotBefore)) {
    const auto date = date_of(*text, message.stored_at);
    if (!date) {
      return Error(code::bad_number,
                   fmt::format("token of {}: {} is \"{}\", which is not in Unix milliseconds up to "
                               "{} days from when it was stored",
                               token.key, wire::kNotBefore, printable(*text, 40),
                               kNotBeforeMax / std::chrono::hours(24)));
    }
    token.not_before = *date;
  }
  if (const auto text = message.header(wire::kDelay)) {
    milliseconds::rep delay = -1;
    const char* const end = text->data() + text->size();
    const auto read = std::from_chars(text->data(), end, delay);
    if (read.ec == std::errc() && read.ptr == end && delay >= 0)
      token.delay_max = std::min(token.delay_max, milliseconds(delay));
  }
  token.traceparent = internal::trace_of(message);
  token.news = std::move(message.payload);
  return token;
}

}  // namespace dmm::worker
