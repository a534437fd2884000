#pragma once

// What JetStream answers, read strictly: a member that is missing or of another type than the
// server gives it makes the whole an answer that makes no sense, DMM-0109. Nothing here throws: who
// waits for an answer waits on another thread, and has to be told in every case.
//
// answer   as it came, or why none came.
// what     was asked, for the message of an error: "reading x".

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/error.h"
#include "dmm/nats/message.h"
#include "dmm/result.h"
#include "dmm/transport/stream.h"

namespace dmm::nats {

/// Codes of the JetStream API that mean something to us.
namespace js {
inline constexpr int kStreamNotFound = 10059;
inline constexpr int kWrongLastSequence = 10071;
inline constexpr int kNoMessage = 10037;
inline constexpr int kSequenceNotFound = 10043;
inline constexpr int kMessageDeleteFailed = 10057;
inline constexpr int kNotEnabled = 10076;
inline constexpr int kNotEnabledForAccount = 10039;
inline constexpr int kAccountExceeded = 10002;
inline constexpr int kInsufficientResources = 10023;
inline constexpr int kMemoryExceeded = 10028;
inline constexpr int kStorageExceeded = 10047;
inline constexpr int kStoreFailed = 10077;  ///< the words say why: "maximum bytes exceeded"
}  // namespace js

/// A JSON object that holds no error of the server. An error of the server becomes the Error that
/// it means.
Result<nlohmann::json> parse_answer(const Result<Incoming>& answer, std::string_view what);

/// The sequence in an acknowledgement as the server writes it, without parsing all of it; nothing
/// if it has another form, which parse_acknowledgement() is for.
std::optional<Sequence> find_acknowledged(std::string_view answer) noexcept;
/// The acknowledgement of a publish. An error DMM-0109 says nothing of whether it was stored.
Result<Sequence> parse_acknowledgement(const Incoming& answer, std::string_view what);

Result<transport::StreamState> parse_stream_info(const Result<Incoming>& answer,
                                                 std::string_view what);

/// The subjects that the state of a stream was asked for, and when the stream was created.
struct StreamSubjects {
  std::string created;
  std::vector<std::string> subjects;
};
Result<StreamSubjects> parse_subjects(const Result<Incoming>& answer, std::string_view what);

struct ConsumerInfo {
  std::string name;
  std::uint64_t pending = 0;                      ///< messages that it has not delivered
  std::uint64_t delivered = 0;                    ///< its last sequence
  std::chrono::system_clock::time_point created;  ///< the server's clock
};
Result<ConsumerInfo> parse_consumer_info(const Result<Incoming>& answer, std::string_view what);

/// Those that a list of consumers names.
Result<std::vector<transport::ConsumerState>> parse_consumers(const Result<Incoming>& answer,
                                                              std::string_view what);

/// The message of a "get by JSON"; nothing if the server says that there is none.
Result<std::optional<transport::Message>> parse_stored(const Result<Incoming>& answer,
                                                       std::string_view what);
/// The same of a direct get of the last message of `subject`, which comes as itself.
Result<std::optional<transport::Message>> parse_direct(Result<Incoming> answer,
                                                       std::string_view subject);

/// The answer to the deletion of a message: true if it was there.
Result<bool> parse_erased(const Result<Incoming>& answer, Sequence sequence);

/// What an account has and may have, into the facts of its server.
Result<transport::ServerFacts> parse_account(const Result<Incoming>& answer,
                                             transport::ServerFacts facts, std::string_view what);

/// What a server says of itself when it is connected to: version, cluster, name. What is not said,
/// or makes no sense, stays as it is in `facts`.
void read_server_info(const nlohmann::json& info, transport::ServerFacts& facts);

}  // namespace dmm::nats
