#include "dmm/view/state.h"

#include <fmt/format.h>

#include <algorithm>

#include "dmm/internal/runtime.h"
#include "dmm/internal/status.h"
#include "dmm/json.h"

namespace dmm::view {

namespace {

/// Its counters, as far as something is decided by them.
bool is_sound(const nlohmann::json& state) {
  constexpr std::uint64_t kMax = std::uint64_t{1} << 62;
  return internal::counters_fit(
      state, {"release", "rolled_out", "epoch", "held", "sending", "at", "history", "snapshot_at"},
      kMax);
}

}  // namespace

std::optional<ViewInfo> parse_state(const transport::Message& message) {
  if (wire::is_removed(message)) return std::nullopt;
  const auto value = parse_json(message.payload);
  if (!value.ok() || !value.value().is_object() || !is_sound(value.value())) return std::nullopt;
  try {
    return value.value().get<ViewInfo>();
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;  // rubbish in the bucket counts as absent
  }
}

std::optional<Order> parse_order(const transport::Message& message) {
  if (wire::is_removed(message)) return std::nullopt;
  const auto value = parse_json(message.payload);
  if (!value.ok() || !value.value().is_object()) return std::nullopt;
  if (!internal::counters_fit(value.value(), {"removals"}, ~std::uint64_t{0})) return std::nullopt;
  try {
    return value.value().get<Order>();
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

std::string state_key(std::string_view view) {
  return fmt::format("view.state.{}", view);
}

std::string order_key(std::string_view view) {
  return fmt::format("view.order.{}", view);
}

std::optional<ViewInfo> load_state(const internal::Streams& streams, std::string_view view) {
  const auto message =
      transport::last(*streams.status, streams.names.status_subject(state_key(view)));
  return message ? parse_state(*message) : std::nullopt;
}

std::vector<ViewInfo> load_states(const internal::Streams& streams) {
  std::vector<ViewInfo> states;
  transport::scan(*streams.status, streams.names.status_subject("view.state.*"),
                  [&](const transport::Message& message) {
                    if (auto state = parse_state(message)) states.push_back(std::move(*state));
                  });
  std::ranges::sort(states, {}, &ViewInfo::name);
  return states;
}

namespace {

void put_order(const internal::Streams& streams, std::string_view view, Order order) {
  order.at = std::chrono::duration_cast<std::chrono::milliseconds>(
                 internal::SystemClock::now().time_since_epoch())
                 .count();
  transport::publish(*streams.status,
                     {.subject = streams.names.status_subject(order_key(view)),
                      .payload = dump_json(nlohmann::json(order))},
                     limits::publish_deadline);
}

}  // namespace

void order_approval(const internal::Streams& streams, std::string_view view,
                    std::uint64_t removals) {
  const auto state = load_state(streams, view);
  if (!state || (state->held == 0 && !state->doubt)) {
    throw Error(code::nothing_held, fmt::format("view {} holds no removals", printable(view)));
  }
  if (state->held > removals) {
    throw Error(code::nothing_held, fmt::format("view {} holds {} removals, more than the {} that "
                                                "are approved",
                                                printable(view), state->held, removals));
  }
  put_order(streams, view, {"approve", removals, 0});
}

void order_rebuild(const internal::Streams& streams, std::string_view view) {
  put_order(streams, view, {"rebuild", 0, 0});
}

}  // namespace dmm::view
