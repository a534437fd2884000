#include "dmm/internal/status.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <string_view>

#include "dmm/error.h"
#include "dmm/identity.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/wire.h"

namespace dmm::internal {

namespace {

// A server refuses a protocol line of more than 4,096 bytes and closes the connection; a key of
// this size stays well below, with every prefix and reply subject around it.
constexpr std::size_t kKeyBytesMax = 1'000;

std::uint64_t fnv1a_64(std::string_view text) noexcept {
  std::uint64_t hash = 14695981039346656037u;
  for (char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 1099511628211u;
  }
  return hash;
}

// "dmm.<ns>.report.player.7" is "report.player.7" behind the namespace.
std::string_view behind_namespace(std::string_view subject) noexcept {
  if (!subject.starts_with("dmm.")) return subject;
  const std::size_t dot = subject.find('.', 4);
  return dot == std::string_view::npos ? subject : subject.substr(dot + 1);
}

/// What encode_id() was given, of whatever length: it need not be an id.
std::optional<std::string> decode_part(std::string_view part) {
  std::string out;
  if (part == "=") return out;
  for (std::size_t i = 0; i < part.size(); ++i) {
    if (part[i] != '=') {
      out += part[i];
      continue;
    }
    if (i + 2 >= part.size()) return std::nullopt;
    unsigned byte = 0;
    const char* end = part.data() + i + 3;
    if (std::from_chars(part.data() + i + 1, end, byte, 16).ptr != end) return std::nullopt;
    out += static_cast<char>(byte);
    i += 2;
  }
  return out;
}

constexpr std::size_t kFailuresRead = 1'000;  ///< others may keep more
constexpr std::uint64_t kInt32Max = 0x7FFF'FFFF;
constexpr std::uint64_t kInt64Max = 0x7FFF'FFFF'FFFF'FFFF;
constexpr std::uint64_t kUint64Max = 0xFFFF'FFFF'FFFF'FFFF;

bool are_failures(const nlohmann::json& status) {
  const auto failures = status.find("failures");
  if (failures == status.end()) return true;
  return failures->is_array() && failures->size() <= kFailuresRead &&
         std::ranges::all_of(*failures, [](const nlohmann::json& one) {
           return one.is_object() && counters_fit(one, {"attempt"}, kInt32Max) &&
                  counters_fit(one, {"at"}, kInt64Max) && counters_fit(one, {"token"}, kUint64Max);
         });
}

bool is_sound(const nlohmann::json& value, const Status*) {
  const auto phase = value.find("phase");
  return phase != value.end() &&
         (*phase == "failing" || *phase == "parked" || *phase == "offline") &&
         counters_fit(value, {"attempts", "crashes", "named"}, kInt32Max) &&
         value.value("charged", nlohmann::json(false)).is_boolean() &&
         counters_fit(value, {"failed_at", "next_retry_at"}, kInt64Max) &&
         counters_fit(value, {"token"}, kUint64Max) && are_failures(value);
}

bool is_sound(const nlohmann::json& value, const Refusal*) {
  return counters_fit(value, {"at"}, kInt64Max) && counters_fit(value, {"sequence"}, kUint64Max);
}

bool are_ends(const nlohmann::json& ends) {
  return ends.is_object() && std::ranges::all_of(ends, [](const nlohmann::json& one) {
           return one.is_object() && counters_fit(one, {"count"}, kInt32Max) &&
                  counters_fit(one, {"at"}, kInt64Max);
         });
}

bool is_sound(const nlohmann::json& value, const Cursor*) {
  const auto ends = value.find("ends");
  return counters_fit(value, {"sequence", "losses"}, kUint64Max) &&
         counters_fit(value, {"stored_at"}, kInt64Max) && (ends == value.end() || are_ends(*ends));
}

}  // namespace

bool counters_fit(const nlohmann::json& value, std::initializer_list<const char*> members,
                  std::uint64_t max) {
  for (const char* key : members) {
    const auto at = value.find(key);
    if (at == value.end()) continue;
    if (!at->is_number_unsigned() || at->get<std::uint64_t>() > max) return false;
  }
  return true;
}

std::string refusal_key(std::string_view what, std::string_view subject) {
  std::string key = "refused." + encode_id(what);
  std::string_view rest = behind_namespace(subject);
  for (bool more = true; more;) {
    const std::size_t dot = rest.find('.');
    key += '.';
    key += encode_id(rest.substr(0, dot));
    more = dot != std::string_view::npos;
    if (more) rest.remove_prefix(dot + 1);
  }
  if (key.size() <= kKeyBytesMax) return key;
  // Too long to be a key: its beginning, and a hash of the whole in place of the rest, in a part
  // that no encoded text can be.
  const std::string hash = fmt::format(".=={:016X}", fnv1a_64(subject));
  key.resize(kKeyBytesMax - hash.size());
  while (key.back() == '.') key.pop_back();
  return key + hash;
}

std::optional<std::string> refused_subject(std::string_view key, std::string_view ns) {
  constexpr std::string_view kPrefix = "refused.";
  if (!key.starts_with(kPrefix)) return std::nullopt;
  const std::size_t what_ends = key.find('.', kPrefix.size());
  if (what_ends == std::string_view::npos) return std::nullopt;
  std::string subject = fmt::format("dmm.{}", ns);
  std::string_view rest = key.substr(what_ends + 1);
  for (bool more = true; more;) {
    const std::size_t dot = rest.find('.');
    const auto part = decode_part(rest.substr(0, dot));
    if (!part) return std::nullopt;  // the hash of a long one
    subject += '.';
    subject += *part;
    more = dot != std::string_view::npos;
    if (more) rest.remove_prefix(dot + 1);
  }
  return subject;
}

void add_failure(Status& status, const Status* before) {
  if (before != nullptr) status.failures = before->failures;
  PastFailure now{status.failed_at, status.token, status.attempts, status.error_code,
                  printable(status.error, limits::failure_text_bytes_max)};
  std::vector<PastFailure>& all = status.failures;
  const bool overdue = now.error_code == code::materialize_timed_out.id;
  if (overdue && !all.empty() && all.back().token == now.token &&
      all.back().attempt == now.attempt && all.back().error_code == now.error_code) {
    all.pop_back();
  }
  all.push_back(std::move(now));
  if (all.size() > limits::failures_kept) {
    all.erase(all.begin(), all.end() - static_cast<std::ptrdiff_t>(limits::failures_kept));
  }
}

std::string cursor_key(std::string_view kind) {
  return "observer.cursor." + encode_id(kind);
}

template <class T>
std::optional<T> parse_status(const transport::Message& message) {
  if (wire::is_removed(message)) return std::nullopt;
  const Result<nlohmann::json> value = parse_json(message.payload);
  if (!value.ok() || !value.value().is_object()) return std::nullopt;
  try {
    if (!is_sound(value.value(), static_cast<const T*>(nullptr))) return std::nullopt;
    return value.value().get<T>();
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;  // a field of another type: rubbish counts as absent
  }
}

template std::optional<Status> parse_status<Status>(const transport::Message&);
template std::optional<Refusal> parse_status<Refusal>(const transport::Message&);
template std::optional<Cursor> parse_status<Cursor>(const transport::Message&);

}  // namespace dmm::internal
