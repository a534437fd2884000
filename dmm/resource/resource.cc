#include "dmm/resource/resource.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/resource/check_internal.h"

namespace dmm::resource {

namespace {

constexpr std::array<std::pair<State, std::string_view>, 7> kStates{
    {{State::scheduled, "scheduled"},
     {State::running, "running"},
     {State::synced, "synced"},
     {State::expired, "expired"},
     {State::failing, "failing"},
     {State::degraded, "degraded"},
     {State::deleted, "deleted"}}};

bool is_word(std::string_view text, std::size_t length_max) {
  if (text.empty() || text.size() > length_max) return false;
  bool between = true;  // a separator may not stand here
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (!letter && (between || (c != '_' && c != '-'))) return false;
    between = !letter;
  }
  return !between;
}

[[noreturn]] void refuse(std::string message) {
  throw Error(code::bad_resource, std::move(message));
}

void check_tag(const std::string& tag) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  };
  const bool ends = !tag.empty() && tag.front() != '-' && tag.back() != '-';
  if (tag.size() < 3 || tag.size() > limits::resource_tag_bytes_max || !ends ||
      !std::all_of(tag.begin(), tag.end(), allowed)) {
    refuse(
        fmt::format("tag \"{}\" is not 3 to {} of A-Z a-z 0-9 _ -, with no - at its begin and end",
                    printable(tag, 100), limits::resource_tag_bytes_max));
  }
}

void check_options(const InformOptions& options) {
  if (options.ns) internal::check_namespace(*options.ns);
  if (options.max_attempts && *options.max_attempts < 1) {
    refuse(fmt::format("{} attempts are not at least one", *options.max_attempts));
  }
  if (options.tags) {
    if (options.tags->size() > limits::resource_tags_max) {
      refuse(
          fmt::format("{} tags are more than {}", options.tags->size(), limits::resource_tags_max));
    }
    for (const std::string& tag : *options.tags) check_tag(tag);
  }
  if (options.metadata) {
    if (!options.metadata->is_object()) refuse("the metadata is not a JSON object");
    internal::stored_text(*options.metadata, limits::resource_metadata_bytes_max, "the metadata");
  }
}

}  // namespace

std::string_view to_string(State state) noexcept {
  for (const auto& [value, text] : kStates) {
    if (value == state) return text;
  }
  return "?";
}

std::optional<State> parse_state(std::string_view text) noexcept {
  for (const auto& [value, name] : kStates) {
    if (name == text) return value;
  }
  return std::nullopt;
}

void InformOptions::fill_from(const InformOptions& other) {
  if (!ns) ns = other.ns;
  if (!tags) tags = other.tags;
  if (!metadata) metadata = other.metadata;
  if (!max_attempts) max_attempts = other.max_attempts;
  force = force || other.force;
}

void check_kind(std::string_view kind) {
  if (!is_word(kind, limits::type_bytes_max)) {
    refuse(fmt::format("kind \"{}\" is not 1 to {} of a-z 0-9 with single _ or - between",
                       printable(kind, 100), limits::type_bytes_max));
  }
}

Identity identity_of(const Key& key) {
  internal::check_key(key);
  const bool plain = key.ns == kDefaultNamespace && key.id.find('/') == std::string::npos;
  return {key.kind, plain ? key.id : key.ns + "/" + key.id};
}

Key key_of_identity(const Identity& identity) {
  const auto slash = identity.id.find('/');
  if (slash == std::string::npos) return {identity.type, identity.id};
  return {identity.type, identity.id.substr(slash + 1), identity.id.substr(0, slash)};
}

namespace internal {

void check_namespace(std::string_view ns) {
  if (!is_word(ns, limits::namespace_bytes_max)) {
    refuse(fmt::format("namespace \"{}\" is not 1 to {} of a-z 0-9 with single _ or - between",
                       printable(ns, 100), limits::namespace_bytes_max));
  }
}

void check_key(const Key& key) {
  check_kind(key.kind);
  check_namespace(key.ns);
  const bool plain = key.ns == kDefaultNamespace && key.id.find('/') == std::string::npos;
  const std::size_t length_max = limits::id_bytes_max - (plain ? 0 : key.ns.size() + 1);
  if (key.id.empty() || key.id.size() > length_max) {
    refuse(fmt::format("the id of a {} has {} bytes, not 1 to {}", key.kind, key.id.size(),
                       length_max));
  }
  if (const auto bad = find_bad_byte(key.id)) {
    refuse(
        fmt::format("id \"{}\" is not UTF-8 without NUL at byte {}", printable(key.id, 100), *bad));
  }
}

std::string stored_text(const nlohmann::json& value, std::size_t bytes_max, std::string_view what) {
  try {
    check_depth(value);
  } catch (const Error& error) {
    refuse(fmt::format("{}: {}", what, error.message()));
  }
  std::string text = dump_json(value);
  if (text.size() > bytes_max) {
    refuse(fmt::format("{} has {} bytes, more than {}", what, text.size(), bytes_max));
  }
  // PostgreSQL keeps no U+0000. A backslash before the u that is itself escaped means another
  // thing.
  for (auto at = text.find("\\u0000"); at != std::string::npos; at = text.find("\\u0000", at + 1)) {
    std::size_t slashes = 1;
    while (slashes <= at && text[at - slashes] == '\\') ++slashes;
    if (slashes % 2 == 1) refuse(fmt::format("{} holds U+0000", what));
  }
  return text;
}

void check_object(const AnyObject& object) {
  check_key({object.kind, object.id, object.options.ns.value_or(kDefaultNamespace)});
  check_options(object.options);
  if (!object.content.is_object()) {
    refuse(fmt::format("the content of {} {} is not a JSON object", object.kind,
                       printable(object.id, 100)));
  }
}

}  // namespace internal

}  // namespace dmm::resource
