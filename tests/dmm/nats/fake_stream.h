#pragma once

// Sound answers of JetStream for one stream, for a FakeServer to give, or to spoil.

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "dmm/transport/stream.h"

namespace dmm::testing::fake {

inline constexpr std::string_view kCreated = "2026-11-21T04:10:00.000000001Z";

inline transport::StreamConfig config() {
  transport::StreamConfig config;
  config.name = "S";
  config.subjects = {"s.>"};
  return config;
}

inline std::string stream_info(std::uint64_t last, int replicas = 1) {
  return fmt::format(
      R"({{"config":{{"name":"S","subjects":["s.>"],"num_replicas":{}}},"created":"{}",)"
      R"("state":{{"messages":{},"bytes":{},"first_seq":1,"last_seq":{},"consumer_count":0}}}})",
      replicas, kCreated, last, last * 100, last);
}

inline std::string consumer_info(std::string_view name, std::uint64_t pending,
                                 std::uint64_t delivered) {
  return fmt::format(R"({{"stream_name":"S","name":"{}","created":"{}","num_pending":{},)"
                     R"("delivered":{{"consumer_seq":{},"stream_seq":{}}}}})",
                     name, kCreated, pending, delivered, delivered);
}

inline std::string account_info() {
  return R"({"memory":0,"storage":0,"streams":1,"consumers":0,"limits":{"max_memory":-1,"max_storage":-1}})";
}

inline std::string acknowledgement(std::uint64_t sequence) {
  return fmt::format(R"({{"stream":"S","seq":{}}})", sequence);
}

/// What stands in a delivered message's reply.
inline std::string ack_subject(std::string_view consumer, std::uint64_t stream_sequence,
                               std::uint64_t consumer_sequence, std::uint64_t pending) {
  return fmt::format("$JS.ACK.S.{}.1.{}.{}.1700000000123456789.{}", consumer, stream_sequence,
                     consumer_sequence, pending);
}

}  // namespace dmm::testing::fake
