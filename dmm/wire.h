#pragma once

// Names on the wire: streams, subjects and headers of a namespace. See
// docs/reference/wire-format.md.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "dmm/identity.h"
#include "dmm/transport/stream.h"
#include "dmm/types.h"

namespace dmm::wire {

inline constexpr int kFormatVersion = 1;

inline constexpr std::string_view kVersion = "Dmm-Version";  ///< absent means 1
inline constexpr std::string_view kDone = "Dmm-Done";        ///< the token an entry came from
inline constexpr std::string_view kEpoch = "Dmm-Epoch";      ///< of the writer's lease
inline constexpr std::string_view kDeleted = "Dmm-Deleted";  ///< a tombstone token
inline constexpr std::string_view kView = "Dmm-View";        ///< news are the fields of a view
inline constexpr std::string_view kEntry =
    "Dmm-Entry";  ///< revision that the news were compared with
inline constexpr std::string_view kLosses =
    "Dmm-Losses";  ///< of news or caches that the teller knew of; absent means 0
inline constexpr std::string_view kNotBefore = "Dmm-Not-Before";  ///< Unix ms: run no earlier
inline constexpr std::string_view kDelay =
    "Dmm-Delay";  ///< ms: how long kNotBefore is from now, where clocks are right
inline constexpr std::string_view kFrom = "Dmm-From";          ///< identity that commands or wants
inline constexpr std::string_view kDeadline = "Dmm-Deadline";  ///< Unix ms: no answer is read later
inline constexpr std::string_view kRevision =
    "Dmm-Revision";  ///< of a shadow that is told, of a status in an event
inline constexpr std::string_view kServiceError = "Nats-Service-Error";  ///< NATS: why refused
inline constexpr std::string_view kTraceparent = "traceparent";
inline constexpr std::string_view kKvOperation = "KV-Operation";  ///< NATS: DEL or PURGE

/// The names of one namespace.
class Names {
 public:
  /// Throws Error{invalid} DMM-0403 unless `ns` is 1 to 32 of [A-Za-z0-9_-].
  /// generation   of the streams' names, from 1; a stream that was deleted is created again under
  ///              the next one, because re-used names diverge on clusters of old servers.
  explicit Names(std::string ns, int generation = 1);

  const std::string& ns() const noexcept { return ns_; }

  transport::StreamConfig work(int replicas) const;
  transport::StreamConfig reports(int replicas) const;
  transport::StreamConfig leases(int replicas) const;
  transport::StreamConfig cache(int replicas) const;
  transport::StreamConfig status(int replicas) const;
  transport::StreamConfig shadows(int replicas) const;

  /// dmm.<ns>.work.<type>.<lane>.<id>
  std::string token_subject(const Identity& identity) const;
  /// dmm.<ns>.work.<type>.*.* or, for all types, dmm.<ns>.work.*.*.*
  std::string token_filter(std::string_view type = {}) const;
  /// dmm.<ns>.report.<kind>.<device>
  std::string report_subject(std::string_view kind, std::string_view device) const;
  std::string report_filter(std::string_view kind = {}) const;
  /// dmm.<ns>.shadow.<kind>.<device>, where the desired document of a device is stored
  std::string shadow_subject(std::string_view kind, std::string_view device) const;
  std::string shadow_filter(std::string_view kind = {}) const;
  /// dmm.<ns>.desired.<kind>.<device>, where it is told to the device
  std::string desired_subject(std::string_view kind, std::string_view device) const;
  /// dmm.<ns>.ask.<kind>.<device>, where the device asks for it
  std::string ask_subject(std::string_view kind, std::string_view device) const;
  std::string ask_filter() const;
  /// dmm.<ns>.command.<kind>.<device>.<call>; for the device's subscription the call is ">".
  std::string command_subject(std::string_view kind, std::string_view device,
                              std::string_view call) const;
  /// dmm.<ns>.reply.<kind>.<device>.<call>
  std::string reply_subject(std::string_view kind, std::string_view device,
                            std::string_view call) const;
  /// dmm.<ns>.reply.*.*.<caller>.>, all that comes back to one caller
  std::string reply_filter(std::string_view caller) const;
  /// dmm.<ns>.event.parked.<type>.<id>, on which it is told that an identity was parked
  std::string parked_subject(std::string_view key) const;
  /// Those of a type, or of all types.
  std::string parked_filter(std::string_view type = {}) const;
  /// dmm.<ns>.event.refused.<what>: a message could not be read, or a view leaves
  /// something out. what: "report", "token", "view".
  std::string refused_event_subject(std::string_view what) const;
  /// dmm.<ns>.workers.ask, on which workers are asked who they are
  std::string roll_call_subject() const;
  /// dmm.<ns>.workers.answer.<call>, on which they answer
  std::string roll_answer_subject(std::string_view call) const;
  /// dmm.<ns>.workers.tell, on which workers are told to log more or less for a while
  std::string roll_order_subject() const;
  /// The message that holds the cache entry of a key.
  std::string entry_subject(std::string_view key) const;
  std::string entry_filter(std::string_view type = {}) const;
  std::string status_subject(std::string_view key) const;
  std::string status_filter(std::string_view type = {}) const;
  std::string lease_subject(std::string_view name, Epoch epoch) const;
  std::string lease_filter(std::string_view name) const;
  std::string beat_subject(std::string_view holder) const;
  /// dmm.<ns>.lease.work.<type>.<lane>.<epoch>: who owns a lane.
  std::string lane_subject(std::string_view type, std::uint32_t lane, Epoch epoch) const;
  /// dmm.<ns>.lease.seat.<type>.<holder>: a worker of the type lives.
  std::string seat_subject(std::string_view type, std::string_view holder) const;
  /// dmm.<ns>.lease.*.<type>.>: lanes and seats of a type.
  std::string lanes_filter(std::string_view type) const;
  /// What stands behind "dmm.<ns>.lease." in a subject; empty if it is another one.
  std::string_view lease_name(std::string_view subject) const;

  /// The key at the end of a cache or status subject.
  std::string_view entry_key(std::string_view subject) const;
  std::string_view status_key(std::string_view subject) const;

 private:
  std::string stream(std::string_view what) const;

  std::string ns_;
  std::string suffix_;
};

/// The parts of a token's subject as they were written; nothing is checked but their number.
struct TokenSubject {
  std::string_view type, lane, id;
};
std::optional<TokenSubject> split_token(std::string_view subject);

struct ReportSubject {
  std::string_view kind, device;
};
std::optional<ReportSubject> split_report(std::string_view subject);

/// The kind and the device of dmm.<ns>.<word>.<kind>.<device>.
std::optional<ReportSubject> split_device(std::string_view subject, std::string_view word);

/// Dmm-Done: which token a cache entry came from.
struct Done {
  std::string created;  ///< of the work stream
  Sequence sequence;

  /// True if the token `sequence` of the work stream `created_now` is covered by this entry.
  bool covers(std::string_view created_now, Sequence token) const noexcept {
    return created == created_now && token <= sequence;
  }
};
std::string format_done(const Done& done);
std::optional<Done> parse_done(std::string_view text);

/// Dmm-View is "<view>;<hash of its pipeline>": the name in it.
std::string_view view_of(std::string_view header) noexcept;

/// True if a KV message says that its key is absent.
bool is_removed(const transport::Message& message) noexcept;

/// The Dmm-Version of a message, 1 if it has none; nothing if it is not a number.
std::optional<int> format_version(const transport::Headers& headers);

/// A globally unique text of 22 characters: for message ids, holders and nonces.
std::string unique_id();

}  // namespace dmm::wire
