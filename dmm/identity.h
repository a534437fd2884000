#pragma once

// Identity: (type, id), the key of everything.
//
// Invariants
//  1. A type is 1 to 64 characters of [A-Za-z0-9_-]; an id is 0 to 255 bytes of any value.
//  2. An id has exactly one spelling on the wire: [A-Za-z0-9_-] stay, every other byte is =XX in
//     upper-case hex, the empty id is "=". Whatever else decodes to an id is refused.
//  3. The lane of an identity is FNV-1a-32 of "<type>.<encoded id>" modulo 64, for ever.

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace dmm {

/// What a materializer is known by. A regular value.
struct Identity {
  std::string type;  ///< for example "player"
  std::string id;    ///< the id as the user spells it, before encoding

  friend auto operator<=>(const Identity&, const Identity&) = default;
  friend bool operator==(const Identity&, const Identity&) = default;
};

/// Throws Error{invalid} DMM-0201 unless type and id are within the rules above.
void check(const Identity& identity);

/// Throws Error{invalid} DMM-0201 unless `name` may be a type or a report kind.
/// what   how the message calls it: "type", "kind".
void check_name(std::string_view name, std::string_view what);

/// The one spelling of `id` in a subject or a key.
std::string encode_id(std::string_view id);

/// The id behind a spelling, or nothing if `token` is not its one spelling.
std::optional<std::string> decode_id(std::string_view token);

/// The right spelling of what someone probably meant by `token`: for error messages.
std::string suggest_spelling(std::string_view token);

/// "<type>.<encoded id>": the key of the cache entry and of the status.
std::string key_of(const Identity& identity);

/// The identity behind a key, or nothing if it is not one.
std::optional<Identity> parse_key(std::string_view key);

/// The lane, 0 to 63, of the identity with this key.
std::uint32_t lane_of_key(std::string_view key) noexcept;

}  // namespace dmm
