#include "dmm/resource/event_text.h"

#include <algorithm>
#include <chrono>

#include <nlohmann/json.hpp>

#include "dmm/json.h"

namespace dmm::resource::internal {

namespace {

Time time_of(std::int64_t microseconds) {
  using std::chrono::duration_cast;
  constexpr auto kLast = duration_cast<std::chrono::microseconds>(Time::duration::max()).count();
  return Time(std::chrono::microseconds(std::clamp(microseconds, -kLast, kLast)));
}

/// 0 if it is missing, nothing if it is no whole number that fits.
std::optional<std::int64_t> number_in(const nlohmann::json& json, const char* name) {
  const auto found = json.find(name);
  if (found == json.end()) return 0;
  if (!found->is_number_integer()) return std::nullopt;
  const auto number = found->get<std::int64_t>();
  if (found->is_number_unsigned() && number < 0) return std::nullopt;
  return number;
}

}  // namespace

std::optional<Event> read_event(const transport::Message& message) {
  const Result<nlohmann::json> parsed = parse_json(message.payload);
  if (!parsed.ok() || !parsed.value().is_object()) return std::nullopt;
  const nlohmann::json& json = parsed.value();
  try {
    Event event;
    event.name = json.at("event").get<std::string>();
    event.key = {json.at("kind").get<std::string>(), json.at("id").get<std::string>(),
                 json.at("namespace").get<std::string>()};
    const auto id = number_in(json, "event_id");
    const auto generation = number_in(json, "generation");
    const auto attempt = number_in(json, "attempt");
    const auto at = number_in(json, "at");
    if (!json.contains("event_id") || !id || !generation || !attempt || !at) return std::nullopt;
    event.id = *id;
    event.generation = *generation;
    event.attempt = *attempt;
    event.at = time_of(*at);
    event.state = json.value("state", "");
    event.reason = json.value("reason", "");
    event.position = message.sequence;
    return event;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

}  // namespace dmm::resource::internal
