#pragma once

// Messages as they come from and go to libnats, and the few formats inside them.

#include <nats/nats.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "dmm/nats/handle.h"
#include "dmm/transport/stream.h"

namespace dmm::nats {

/// What JetStream says of a delivered message in its reply subject.
struct Delivery {
  std::string consumer;  ///< "<stream>.<consumer>"
  Sequence stream_sequence;
  std::uint64_t consumer_sequence = 0;
  std::uint64_t pending = 0;  ///< matching messages behind this one
  std::chrono::system_clock::time_point stored_at;
};
/// Reads both forms, with 9 tokens and with 11 or 12. Nothing if it is neither.
std::optional<Delivery> parse_delivery(std::string_view reply);

/// A received message.
struct Incoming {
  std::string subject;
  std::string reply;
  transport::Headers headers;
  std::string payload;
  /// The status of an answer without content (404 none, 408 expired, 409 consumer gone, 503 nobody
  /// there, 100 heartbeat); 0 for a message.
  int status = 0;
  std::string description;  ///< the server's words for the status
  /// Set if a consumer delivered it; the subject is then the one it was published on.
  std::optional<Delivery> delivery;
};

/// Copies everything out of `message`.
Incoming copy_message(natsMsg* message);

/// Throws Error{too_large} and others of check().
MessageHandle make_message(const std::string& subject, const std::string& reply,
                           const transport::Headers& headers, std::string_view payload);

/// The server's time format, with up to nine decimals; nothing for any other text, and for years
/// that the clock does not reach.
std::optional<std::chrono::system_clock::time_point> parse_time(std::string_view text);

/// Nothing if `text` is no base64 in groups of four.
std::optional<std::string> decode_base64(std::string_view text);

/// The header block of a stored message ("NATS/1.0" and lines).
transport::Headers parse_header_block(std::string_view block);

}  // namespace dmm::nats
