#pragma once

#include <string>

namespace dmm::nats {

/// The public key ("U...") of the user nkey whose seed ("SU...") is in the file: libnats wants
/// both. Throws Error{invalid} DMM-0404 if the file cannot be read or holds no user seed. source
/// nkeys: base32 of prefix, Ed25519 key and CRC-16/XMODEM.
std::string nkey_public(const std::string& seed_file);

}  // namespace dmm::nats
