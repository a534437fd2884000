#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace dmm::nats {

/// What a server says of itself to everyone who connects, before any login: its version, cluster
/// and limits. libnats 3.4.1 keeps it to itself, so this asks over a connection of its own.
/// url       of one server, "nats://host:port" (a user and password in it are not used).
/// returns   the INFO object; null if it could not be had within a second.
/// source    NATS client protocol, INFO.
nlohmann::json ask_server_info(const std::string& url);

}  // namespace dmm::nats
