#include "dmm/view/stream_mark.h"

#include <fmt/format.h>

#include "dmm/internal/status.h"

namespace dmm::view {

nlohmann::json mark_of(const transport::StreamState& state) {
  return {{"created", state.created}, {"last", state.last.value}, {"messages", state.messages}};
}

nlohmann::json mark_without_count(const transport::StreamState& state) {
  return {{"created", state.created}, {"last", state.last.value}};
}

Sequence last_of(const nlohmann::json& mark) {
  return is_mark(mark) ? Sequence{mark.value("last", std::uint64_t{0})} : Sequence{};
}

bool is_mark(const nlohmann::json& mark) {
  return mark.is_object() && mark.contains("created") && mark["created"].is_string() &&
         internal::counters_fit(mark, {"last", "messages"}, ~std::uint64_t{0});
}

std::string loss_since(const nlohmann::json& before, const transport::StreamState& now) {
  if (!is_mark(before)) return {};
  if (before["created"] != now.created) {
    return fmt::format("stream {} is another one than before", now.name);
  }
  if (const auto last = before.value("last", std::uint64_t{0}); now.last.value < last) {
    return fmt::format("stream {} went back from sequence {} to {}", now.name, last,
                       now.last.value);
  }
  if (const auto messages = before.value("messages", std::uint64_t{0}); now.messages < messages) {
    return fmt::format("stream {} held {} messages and holds {}", now.name, messages, now.messages);
  }
  return {};
}

}  // namespace dmm::view
