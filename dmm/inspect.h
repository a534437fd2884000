#pragma once

// What tools see of a namespace: the dmm CLI is written against this.

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/identity.h"
#include "dmm/transport/stream.h"
#include "dmm/types.h"

namespace dmm {

/// Where an identity stands.
enum class Phase : std::uint8_t {
  settled,  ///< no token: the last run succeeded
  waiting,  ///< a token waits or is being worked on
  failing,  ///< the last run failed; it is retried
  offline,  ///< its device is not connected; the device's next report runs it
  parked,   ///< given up until news come
};
std::string_view to_string(Phase phase) noexcept;

/// A run that did not succeed, or one that took its worker with it.
struct Failure {
  std::chrono::system_clock::time_point at;
  Sequence token;  ///< that was tried
  int attempt = 0;
  std::string error_code;
  std::string error;  ///< its beginning
};

/// A stream of a namespace that lost messages that it had.
struct HistoryLoss {
  std::string stream;  ///< "work", "cache", "reports", "status", "leases" or "shadows"
  std::string reason;
  std::chrono::system_clock::time_point at;  ///< when it was found
};

/// Everything known of one identity, or of a parked report.
struct Matter {
  Identity identity;
  Phase phase = Phase::settled;
  /// What the next reader takes as the cache: see "effective cache" in docs/concepts. Text, because
  /// it may be anything that someone wrote.
  std::optional<std::string> effective;
  std::optional<std::string> stored;  ///< the entry of the last successful run
  Sequence revision;                  ///< of the entry, 0 if there is none
  Sequence token;                     ///< of the waiting token, 0 if there is none
  std::string view;                   ///< that the entry belongs to; empty: to none
  bool deleted = false;               ///< the token is a tombstone
  std::optional<std::chrono::system_clock::time_point> stored_at;
  std::optional<std::chrono::system_clock::time_point> notified_at;
  int attempts = 0;
  std::string error_code;  ///< "DMM-0301"
  std::string error;
  std::string waits_for;  ///< offline: "<kind>.<device>", as spelled on the wire
  std::optional<std::chrono::system_clock::time_point> failed_at;
  std::optional<std::chrono::system_clock::time_point> next_retry_at;
  /// Not empty: the value cannot be read, and why.
  std::string damage;
  /// What the waiting token carries; empty text: a poke. Nothing without a token, and in lists.
  std::optional<std::string> news = {};
  int crashes = 0;  ///< workers that ended while they ran the present news
  /// The last limits::failures_kept failures since the last success, oldest first.
  std::vector<Failure> failures = {};
};

/// A report or token that could not be read.
struct Refused {
  std::string what;     ///< "report", "token" or "view"
  std::string subject;  ///< where it was published, for people
  Sequence sequence;
  std::string error_code;
  std::string error;
  std::chrono::system_clock::time_point at;
  /// Of the status bucket, where this is kept. `subject` is made fit for people, and a long one
  /// cut.
  std::string key = {};
};

/// The last report of a device.
struct LastReport {
  std::string kind;
  std::string device;
  std::string state;  ///< as published
  Sequence sequence;
  std::chrono::system_clock::time_point at;
};

/// The desired document that is kept for a device.
struct Shadow {
  std::string kind;
  std::string device;
  std::string document;  ///< as stored
  Sequence revision;
  std::chrono::system_clock::time_point at;
  std::string from;  ///< "<type>.<id>" that wrote it; empty: nobody's run
};

/// The lanes of a type are one lease for each of their owners, called "work.<type>".
struct LeaseInfo {
  std::string name;                  ///< for example "view.zones" or "work.player"
  Epoch epoch;                       ///< of lanes: the highest
  std::optional<std::size_t> lanes;  ///< how many lanes; 0: a worker that stands by
  std::string holder;
  bool released = false;
  std::optional<std::chrono::system_clock::time_point> last_beat;
};

/// Something that changed, for watch().
struct Change {
  std::string what;  ///< "token", "stored", "removed", "status", "report"
  std::string key;   ///< "<type>.<id>" or "<kind>.<device>", as spelled on the wire
  std::string value;
  Sequence sequence;
  std::chrono::system_clock::time_point at;
};

/// One line of `dmm doctor`.
struct Finding {
  enum class Severity : std::uint8_t { good, note, warning, failure };
  Severity severity = Severity::good;
  std::string subject;  ///< "server", "durability", "stream DMM_music_WORK"
  std::string text;
  std::string remedy;
};
std::string_view to_string(Finding::Severity severity) noexcept;

/// Thread-safe. Methods block and throw Error{retry} when the server does not answer.
class Inspector {
 public:
  virtual ~Inspector() = default;

  /// Every identity of a type (or of all types, if empty), with the refused tokens left out;
  /// ordered by key. Values are left out unless `values`.
  virtual std::vector<Matter> list(std::string_view type, bool values = false) = 0;

  /// One identity; nothing if there is no entry, token or status of it.
  virtual std::optional<Matter> get(const Identity& identity) = 0;

  virtual std::vector<Refused> refused() = 0;
  virtual std::vector<LastReport> reports(std::string_view kind) = 0;
  /// The shadows of a kind of devices (or of all, if empty), by kind and device.
  virtual std::vector<Shadow> shadows(std::string_view kind) = 0;
  virtual std::vector<LeaseInfo> leases() = 0;

  /// Calls `visit` for every change from now on (of one type or kind, if not empty) until `stop`.
  virtual void watch(std::string_view type, std::stop_token stop,
                     const std::function<void(const Change&)>& visit) = 0;

  /// Calls `visit` when something is parked or refused, from now on until `stop`: `what` is "parked"
  /// or "refused", `value` the status as JSON, `sequence` its revision. Best effort: what happens
  /// while the connection is away is not told; list() and refused() have it. What `visit` throws
  /// ends the watch and is passed on.
  /// type   of parked identities; not empty: nothing that was refused.
  virtual void watch_parked(std::string_view type, std::stop_token stop,
                            const std::function<void(const Change&)>& visit) = 0;

  /// Losses of history that were found, newest last; the last few.
  virtual std::vector<HistoryLoss> losses() = 0;

  /// Deletes entry, token and status of an identity without a run. False if there was nothing.
  virtual bool purge(const Identity& identity) = 0;

  /// Gives up the news of a parked identity: token and status go, the entry of its last success
  /// stays. False if it is not parked (any more).
  virtual bool drop(const Identity& identity) = 0;
  /// Forgets a report or token that could not be read; the token goes, unless it can be read now.
  /// False for what a view left out: its owner tells that again.
  virtual bool drop(const Refused& refused) = 0;

  /// Looks at server and streams; says what an acknowledgement is worth here.
  virtual std::vector<Finding> diagnose() = 0;

  virtual transport::ServerFacts server() = 0;
  virtual std::vector<transport::StreamState> streams() = 0;
};

}  // namespace dmm
