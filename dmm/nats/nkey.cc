#include "dmm/nats/nkey.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <cstdint>
#include <fstream>
#include <memory>
#include <vector>

#include "dmm/error.h"

namespace dmm::nats {

namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
constexpr std::size_t kKeyBytes = 32;

std::vector<std::uint8_t> decode_base32(std::string_view text) {
  std::vector<std::uint8_t> out;
  std::uint32_t bits = 0;
  int held = 0;
  for (char c : text) {
    const std::size_t value = kAlphabet.find(c);
    if (value == std::string_view::npos) return {};
    bits = bits << 5 | static_cast<std::uint32_t>(value);
    held += 5;
    if (held >= 8) {
      held -= 8;
      out.push_back(static_cast<std::uint8_t>(bits >> held & 0xFF));
    }
  }
  return out;
}

std::string encode_base32(const std::vector<std::uint8_t>& data) {
  std::string out;
  std::uint32_t bits = 0;
  int held = 0;
  for (std::uint8_t byte : data) {
    bits = bits << 8 | byte;
    held += 8;
    while (held >= 5) {
      held -= 5;
      out += kAlphabet[bits >> held & 31];
    }
  }
  if (held > 0) out += kAlphabet[bits << (5 - held) & 31];
  return out;
}

std::uint16_t crc16(const std::vector<std::uint8_t>& data) {
  std::uint16_t crc = 0;
  for (std::uint8_t byte : data) {
    crc = static_cast<std::uint16_t>(crc ^ (byte << 8));
    for (int i = 0; i < 8; ++i) {
      crc = static_cast<std::uint16_t>((crc & 0x8000) != 0 ? (crc << 1) ^ 0x1021 : crc << 1);
    }
  }
  return crc;
}

}  // namespace

std::string nkey_public(const std::string& seed_file) {
  std::ifstream file(seed_file);
  std::string seed;
  // The file may hold comments and armour, as creds files do; the seed is the line that begins SU.
  for (std::string line; seed.empty() && std::getline(file, line);) {
    if (line.starts_with("SU")) seed = line.substr(0, line.find_last_not_of(" \t\r\n") + 1);
  }
  const std::vector<std::uint8_t> raw = decode_base32(seed);
  if (raw.size() != 2 + kKeyBytes + 2) {
    throw Error(
        code::bad_option,
        fmt::format("{} cannot be read or holds no seed of a user nkey (SU...)", seed_file));
  }
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, raw.data() + 2, kKeyBytes),
      &EVP_PKEY_free);
  std::array<std::uint8_t, kKeyBytes> public_key{};
  std::size_t length = public_key.size();
  if (!key || EVP_PKEY_get_raw_public_key(key.get(), public_key.data(), &length) != 1) {
    throw Error(code::bad_option, fmt::format("{} holds no usable Ed25519 seed", seed_file));
  }
  constexpr std::uint8_t kUserPrefix = 20 << 3;  // "U"
  std::vector<std::uint8_t> out{kUserPrefix};
  out.insert(out.end(), public_key.begin(), public_key.end());
  const std::uint16_t crc = crc16(out);
  out.push_back(static_cast<std::uint8_t>(crc & 0xFF));
  out.push_back(static_cast<std::uint8_t>(crc >> 8));
  return encode_base32(out);
}

}  // namespace dmm::nats
