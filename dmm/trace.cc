#include "dmm/trace.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "dmm/internal/runtime.h"

namespace dmm {

namespace {

constexpr std::size_t kTextBytes = 55;  ///< of version 00; later ones may be longer

int digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/// False unless the text is lower-case hex of exactly these bytes, and not all zero.
bool read_hex(std::string_view text, std::span<std::uint8_t> bytes) noexcept {
  bool any = false;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const int high = digit(text[2 * i]);
    const int low = digit(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    bytes[i] = static_cast<std::uint8_t>(high * 16 + low);
    any = any || bytes[i] != 0;
  }
  return any;
}

void add_hex(std::span<const std::uint8_t> bytes, std::string& text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (const std::uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
}

template <std::size_t N>
void fill_random(std::array<std::uint8_t, N>& bytes) {
  do {
    for (std::size_t at = 0; at < N; at += 8) {
      const std::uint64_t bits = internal::random_bits();
      std::memcpy(bytes.data() + at, &bits, 8);
    }
  } while (std::ranges::all_of(bytes, [](std::uint8_t byte) { return byte == 0; }));
}

}  // namespace

std::optional<TraceContext> TraceContext::parse(std::string_view text) noexcept {
  // A later version may add parts behind these; "ff" is none.
  if (text.size() < kTextBytes || text[2] != '-' || text[35] != '-' || text[52] != '-') {
    return std::nullopt;
  }
  if (digit(text[0]) < 0 || digit(text[1]) < 0 || text.starts_with("ff")) return std::nullopt;
  if (text.size() > kTextBytes && (text.starts_with("00") || text[kTextBytes] != '-')) {
    return std::nullopt;
  }
  const int high = digit(text[53]);
  const int low = digit(text[54]);
  TraceContext context;
  if (high < 0 || low < 0 || !read_hex(text.substr(3, 32), context.trace) ||
      !read_hex(text.substr(36, 16), context.span)) {
    return std::nullopt;
  }
  context.sampled = (low & 1) != 0;
  return context;
}

TraceContext TraceContext::begin(bool sampled) {
  TraceContext context;
  fill_random(context.trace);
  fill_random(context.span);
  context.sampled = sampled;
  return context;
}

TraceContext TraceContext::child() const {
  TraceContext context = *this;
  fill_random(context.span);
  return context;
}

std::string TraceContext::text() const {
  std::string text = "00-";
  add_hex(trace, text);
  text += '-';
  add_hex(span, text);
  text += sampled ? "-01" : "-00";
  return text;
}

std::string TraceContext::trace_id() const {
  std::string text;
  add_hex(trace, text);
  return text;
}

std::string TraceContext::span_id() const {
  std::string text;
  add_hex(span, text);
  return text;
}

}  // namespace dmm
