#include "dmm/internal/control_store.h"

#include <fmt/format.h>

#include "dmm/error.h"
#include "dmm/identity.h"
#include "dmm/internal/policy.h"
#include "dmm/internal/runtime.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/wire.h"

namespace dmm::internal {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::system_clock;

namespace {

constexpr std::string_view kPolicy = "work.policy.";
constexpr std::string_view kState = "work.state.";
constexpr std::string_view kPauseAll = "work.pause.all";
constexpr std::string_view kPauseType = "work.pause.type.";
constexpr std::string_view kPauseId = "work.pause.id.";

constexpr int kChangeAttempts = 20;  ///< people and scripts are few

std::int64_t unix_ms(system_clock::time_point time) {
  return std::chrono::duration_cast<milliseconds>(time.time_since_epoch()).count();
}

/// The last part of a key behind `prefix`, if it is the name of a type.
std::optional<std::string> type_behind(std::string_view key, std::string_view prefix) {
  if (!key.starts_with(prefix)) return std::nullopt;
  const std::string_view type = key.substr(prefix.size());
  try {
    check_name(type, "type");
  } catch (const Error&) {
    return std::nullopt;
  }
  return std::string(type);
}

void check(const PauseScope& scope) {
  if (scope.type.empty()) {
    require(!scope.id, code::bad_identity, "an id is paused together with its type");
    return;
  }
  check_name(scope.type, "type");
  if (scope.id) dmm::check(Identity{scope.type, *scope.id});
}

class StoredControl final : public Control {
 public:
  explicit StoredControl(const Streams& streams) : streams_(streams) {}

  std::vector<TypeControl> types() override {
    std::map<std::string, TypeControl> types;
    std::map<std::string, std::string> not_used;  // by a worker, and why
    scan([&](std::string_view key, const transport::Message& message) {
      if (const auto type = type_behind(key, kPolicy)) read_set(message, types[*type]);
      if (const auto type = type_behind(key, kState)) {
        not_used[*type] = read_state(message, types[*type]);
      }
    });
    std::vector<TypeControl> list;
    for (auto& [type, control] : types) {
      control.type = type;
      // A worker may be older than what is set; what it said of another policy is of the past.
      if (!control.set.empty() && control.unsound.empty()) control.unsound = not_used[type];
      list.push_back(std::move(control));
    }
    return list;
  }

  void set_policy(std::string_view type, const Policy& policy) override {
    check_name(type, "type");
    internal::check(policy);
    put(policy_key(type), policy.empty() ? std::string() : policy_text(policy));
  }

  Policy change_policy(std::string_view type, const std::function<void(Policy&)>& change) override {
    check_name(type, "type");
    const std::string key = policy_key(type);
    for (int left = kChangeAttempts;; --left) {
      const auto present = transport::last(*streams_.status, streams_.names.status_subject(key));
      TypeControl control;
      if (present && !wire::is_removed(*present)) read_set(*present, control);
      change(control.set);
      internal::check(control.set);
      try {
        put(key, control.set.empty() ? std::string() : policy_text(control.set),
            present ? present->sequence : Sequence{});
        return control.set;
      } catch (const Error& error) {
        if (error.kind() != Kind::conflict || left == 0) throw;
      }
    }
  }

  std::vector<Pause> pauses() override {
    std::vector<Pause> pauses;
    scan([&](std::string_view key, const transport::Message& message) {
      if (auto scope = parse_pause_key(key)) {
        pauses.push_back(parse_pause(std::move(*scope), message));
      }
    });
    return pauses;
  }

  void pause(const PauseScope& scope, std::string_view reason, std::string_view by) override {
    check(scope);
    put(pause_key(scope),
        pause_text({scope, std::string(reason), std::string(by), internal::SystemClock::now()}));
  }

  bool resume(const PauseScope& scope) override {
    check(scope);
    const std::string key = pause_key(scope);
    const auto present = transport::last(*streams_.status, streams_.names.status_subject(key));
    // Also where there is none: a worker may hold one that the server has lost.
    put(key, "");
    return present && !wire::is_removed(*present);
  }

 private:
  /// Every key under "work." that holds something.
  template <class Visit>
  void scan(Visit visit) {
    transport::scan(*streams_.status, streams_.names.status_subject(kControlFilter),
                    [&](const transport::Message& message) {
                      if (wire::is_removed(message)) return;
                      visit(streams_.names.status_key(message.subject), message);
                    });
  }

  /// text       empty: the key is removed.
  /// expected   of the last message of the key; nothing: whatever it is.
  void put(const std::string& key, std::string text, std::optional<Sequence> expected = {}) {
    transport::Publication publication{.subject = streams_.names.status_subject(key)};
    if (text.empty()) publication.headers = {{std::string(wire::kKvOperation), "DEL"}};
    publication.payload = std::move(text);
    publication.expected_last = expected;
    transport::publish(*streams_.status, std::move(publication), limits::publish_deadline);
  }

  static void read_set(const transport::Message& message, TypeControl& control) {
    try {
      control.set = parse_policy(message.payload);
      internal::check(control.set);
    } catch (const Error& error) {
      control.unsound = error.message();
    }
  }

  /// Returns why the worker does not use what is set; empty if it does.
  static std::string read_state(const transport::Message& message, TypeControl& control) {
    const auto state = parse_json(message.payload);
    if (!state.ok() || !state.value().is_object()) return {};
    try {
      control.in_force = parse_policy(state.value().value("in_force", json::object()).dump());
      return state.value().value("unsound", "");
    } catch (const Error&) {
      return {};  // rubbish counts as absent
    } catch (const json::exception&) {
      return {};
    }
  }

  const Streams& streams_;
};

}  // namespace

std::string policy_key(std::string_view type) {
  return fmt::format("{}{}", kPolicy, type);
}

std::string work_state_key(std::string_view type) {
  return fmt::format("{}{}", kState, type);
}

std::string pause_key(const PauseScope& scope) {
  if (scope.type.empty()) return std::string(kPauseAll);
  if (!scope.id) return fmt::format("{}{}", kPauseType, scope.type);
  return fmt::format("{}{}", kPauseId, key_of(Identity{scope.type, *scope.id}));
}

std::optional<PauseScope> parse_pause_key(std::string_view key) {
  if (key == kPauseAll) return PauseScope{};
  if (auto type = type_behind(key, kPauseType)) return PauseScope{std::move(*type), {}};
  if (!key.starts_with(kPauseId)) return std::nullopt;
  auto identity = parse_key(key.substr(kPauseId.size()));
  if (!identity) return std::nullopt;
  return PauseScope{std::move(identity->type), std::move(identity->id)};
}

std::string policy_text(const Policy& policy) {
  return json(policy).dump();
}

Policy parse_policy(std::string_view text) {
  const json value = parse_json(text).value();
  require(value.is_object(), code::wrong_shape, "a policy is a JSON object");
  Policy policy;
  for (const auto& [name, setting] : value.items()) {
    require(setting.is_number(), code::wrong_shape,
            fmt::format("the setting \"{}\" is not a number", printable(name, 100)));
    policy.emplace(name, setting.get<double>());
  }
  return policy;
}

std::string pause_text(const Pause& pause) {
  return dump_json({{"reason", pause.reason}, {"by", pause.by}, {"at", unix_ms(pause.at)}});
}

Pause parse_pause(PauseScope scope, const transport::Message& message) {
  Pause pause{std::move(scope), {}, {}, message.stored_at};
  const auto value = parse_json(message.payload);
  if (!value.ok() || !value.value().is_object()) return pause;
  const auto text = [&](const char* member) {
    const auto at = value.value().find(member);
    return at != value.value().end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  pause.reason = text("reason");
  pause.by = text("by");
  return pause;
}

std::string work_state_text(const Policy& in_force, std::string_view unsound) {
  nlohmann::json state{{"in_force", in_force}, {"at", unix_ms(internal::SystemClock::now())}};
  if (!unsound.empty()) state["unsound"] = printable(unsound, limits::error_text_bytes_max);
  return dump_json(state);
}

std::unique_ptr<Control> make_control(const Streams& streams) {
  return std::make_unique<StoredControl>(streams);
}

}  // namespace dmm::internal
