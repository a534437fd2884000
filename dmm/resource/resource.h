#pragma once

// A Resource is what dmm keeps of an object: its content, and where its work stands.
//
//   inform ──▶ scheduled ──▶ running ──▶ synced ──▶ expired ──▶ running ...
//                              │ ▲
//                              ▼ │ retry       degraded: its attempts are used up
//                            failing ──▶ degraded     deleted: its controller said so
//
// New content makes every state scheduled. See docs/reference/resources.md.

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/resource/object.h"

namespace dmm::resource {

enum class State : std::uint8_t {
  scheduled,  ///< to be worked
  running,    ///< being worked
  synced,     ///< its last work succeeded
  expired,    ///< synced too long ago, or invalidated: to be worked again
  failing,    ///< its last attempt failed; it is tried again
  degraded,   ///< its attempts are used up; it waits for news or for a person
  deleted,    ///< its controller said that it is gone
};

/// "scheduled" and so on, as it is stored.
std::string_view to_string(State state) noexcept;
std::optional<State> parse_state(std::string_view text) noexcept;

/// What names a resource. A regular value.
struct Key {
  std::string kind;
  std::string id;
  std::string ns = kDefaultNamespace;

  friend auto operator<=>(const Key&, const Key&) = default;
  friend bool operator==(const Key&, const Key&) = default;
};

template <Object T>
Key key_of(const T& object) {
  const AnyObject any = erase(object);
  return {any.kind, any.id, any.options.ns.value_or(kDefaultNamespace)};
}

/// The identity of the materializer that works a resource: its type is the kind; its id is the
/// resource's, with "NAMESPACE/" before it unless the namespace is "default" and the id has no "/".
/// Throws Error{invalid} DMM-0803.
Identity identity_of(const Key& key);
Key key_of_identity(const Identity& identity);

/// A failed attempt, or why a resource was deleted.
struct WorkFailure {
  std::string at;  ///< UTC, as 2026-01-31T12:00:00.123456Z
  std::int64_t attempt = 0;
  std::string error;
  std::string trace;  ///< the exceptions behind it, one a line; empty if there is none
};

/// A resource whose type is learned at run time.
struct AnyResource {
  Key key;
  std::int64_t number = 0;      ///< stays for its life
  std::int64_t generation = 0;  ///< grows with each content
  State state = State::scheduled;
  nlohmann::json content;
  std::int64_t attempt = 0;  ///< of its life, the present one included
  int tries = 0;             ///< of this generation, the present one included
  int max_attempts = 0;
  nlohmann::json metadata;
  std::vector<std::string> tags;
  std::vector<WorkFailure> errors;  ///< the newest 20, oldest first
  Time created_at;                  ///< of the row
  std::optional<Time> external_created_at;
  std::optional<Time> state_at;  ///< since when it is in its state
  std::optional<Time> attempted_at;
  std::optional<Time> synced_at;
  std::optional<Time> retry_at;
  /// A full list did not name it any more: is it gone? Its controller decides.
  std::optional<Time> missing_since;

  bool missing() const noexcept { return missing_since.has_value(); }
};

/// What a controller works on.
template <Object T>
struct Resource : AnyResource {
  T object;

  explicit Resource(AnyResource any)
      : AnyResource(std::move(any)),
        object(decode_object<T>(content, Identity{key.kind, key.id})) {}
};

}  // namespace dmm::resource
