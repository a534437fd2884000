#pragma once

// What the status bucket holds: only what is not plain success. The value of key "<type>.<id>" is a
// Status; of "refused.<what>.<rest>" a Refusal; of "observer.cursor.<kind>" a cursor. Times are
// Unix milliseconds.

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/transport/stream.h"
#include "dmm/types.h"

namespace dmm::internal {

/// One of the last failures of an identity.
struct PastFailure {
  std::int64_t at = 0;
  std::uint64_t token = 0;
  int attempt = 0;
  std::string error_code;
  std::string error;  ///< its beginning
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(PastFailure, at, token, attempt, error_code, error)

/// An identity that is failing, parked or waiting for a device.
struct Status {
  std::string phase;  ///< "failing", "parked" or "offline"
  int attempts = 0;   ///< on the news of `token`
  std::string error_code;
  std::string error;
  std::int64_t failed_at = 0;
  std::int64_t next_retry_at = 0;  ///< 0 when parked
  std::string created;             ///< of the work stream
  std::uint64_t token = 0;         ///< the sequence that was tried
  int crashes = 0;                 ///< workers that ended while they ran it
  int named = 0;               ///< so many of them said in their last words that it was this run
  bool charged = false;        ///< `crashes` counts the worker that runs it now as one of them
  std::string waits_for = {};  ///< offline: "<kind>.<device>" whose report is waited for
  /// Since the last success, oldest first, at most limits::failures_kept.
  std::vector<PastFailure> failures = {};
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Status, phase, attempts, error_code, error,
                                                failed_at, next_retry_at, created, token, crashes,
                                                named, charged, waits_for, failures)

/// Adds what the status says to the failures of the one before, if there is one. A run that is said
/// to be overdue is told once, also if it is said again when the run has ended.
void add_failure(Status& status, const Status* before);

/// A report or a token that could not be read.
struct Refusal {
  std::string what;  ///< "report", "token" or "view"
  std::string subject;
  std::uint64_t sequence = 0;
  std::string error_code;
  std::string error;
  std::int64_t at = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Refusal, what, subject, sequence, error_code, error,
                                                at)

/// Workers that ended while they handled reports of a device.
struct ReportEnd {
  int count = 0;
  std::int64_t at = 0;  ///< the last one

  friend bool operator==(const ReportEnd&, const ReportEnd&) = default;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(ReportEnd, count, at)
using ReportEnds = std::map<std::string, ReportEnd, std::less<>>;  ///< by encoded device

/// How far an observer has come.
struct Cursor {
  std::string created;  ///< of the report stream
  std::uint64_t sequence = 0;
  std::uint64_t losses = 0;  ///< of the namespace that were known: what was told before may be gone
  std::int64_t stored_at = 0;  ///< Unix nanoseconds: of the report `sequence`; 0: not known
  ReportEnds ends = {};
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Cursor, created, sequence, losses, stored_at, ends)

/// The status key of a refused message: "refused.<what>.<subject behind the namespace, encoded>".
std::string refusal_key(std::string_view what, std::string_view subject);
/// The subject of namespace `ns` that such a key was made of; nothing if it was too long for that,
/// or the key is another one.
std::optional<std::string> refused_subject(std::string_view key, std::string_view ns);
std::string cursor_key(std::string_view kind);

/// True if each of these members of a value from outside is a whole number from 0 to `max`, or
/// missing: nlohmann would convert anything else silently.
bool counters_fit(const nlohmann::json& value, std::initializer_list<const char*> members,
                  std::uint64_t max);

/// Reads a status value; nothing if it is not one (rubbish in the bucket counts as absent).
template <class T>
std::optional<T> parse_status(const transport::Message& message);

}  // namespace dmm::internal
