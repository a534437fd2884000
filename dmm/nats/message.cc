#include "dmm/nats/message.h"

#include <array>
#include <charconv>
#include <cstdlib>
#include <ctime>

#include "dmm/wire.h"

namespace dmm::nats {

namespace {

template <class Number>
bool parse_number(std::string_view text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

/// True for the names that have a meaning to dmm or JetStream.
bool means_something(std::string_view name) {
  return name.starts_with("Dmm-") || name.starts_with("Nats-") || name == wire::kTraceparent ||
         name == wire::kKvOperation;
}

/// Takes a header in. libnats 3.4.1 reads the line behind one without a value as its value; where
/// that was one that means something, it is given back.
void take_header(std::string_view key, std::string_view value, transport::Headers& headers) {
  const std::size_t colon = value.find(':');
  if (colon == std::string_view::npos || !means_something(value.substr(0, colon))) {
    headers.emplace_back(key, value);
    return;
  }
  headers.emplace_back(key, "");
  std::string_view swallowed = value.substr(colon + 1);
  while (swallowed.starts_with(' ')) swallowed.remove_prefix(1);
  headers.emplace_back(value.substr(0, colon), swallowed);
}

/// All values of a header, in their order.
void copy_values(natsMsg* message, const char* key, transport::Headers& headers) {
  const char** values = nullptr;
  int count = 0;
  if (natsMsgHeader_Values(message, key, &values, &count) != NATS_OK) return;
  for (int i = 0; i < count; ++i) {
    take_header(key, values[i] == nullptr ? "" : values[i], headers);
  }
  std::free(static_cast<void*>(values));
}

}  // namespace

Incoming copy_message(natsMsg* message) {
  Incoming incoming;
  if (const char* subject = natsMsg_GetSubject(message)) incoming.subject = subject;
  if (const char* reply = natsMsg_GetReply(message)) incoming.reply = reply;
  const int length = natsMsg_GetDataLength(message);
  if (length > 0) incoming.payload.assign(natsMsg_GetData(message), std::size_t(length));
  const char** keys = nullptr;
  int count = 0;
  const natsStatus status = natsMsgHeader_Keys(message, &keys, &count);
  if (status != NATS_OK && status != NATS_NOT_FOUND) {
    // Who looks at the version of the format refuses the message: what else it says is not known.
    incoming.headers.emplace_back(wire::kVersion, "(the headers cannot be read)");
  }
  if (status == NATS_OK) {
    for (int i = 0; i < count; ++i) copy_values(message, keys[i], incoming.headers);
    std::free(static_cast<void*>(keys));
  }
  incoming.delivery = parse_delivery(incoming.reply);
  if (incoming.payload.empty() && !incoming.delivery) {
    if (const auto number = transport::find_header(incoming.headers, "Status")) {
      parse_number(number->substr(0, 3), incoming.status);
      if (const auto words = transport::find_header(incoming.headers, "Description")) {
        incoming.description = *words;
      }
    }
  }
  return incoming;
}

MessageHandle make_message(const std::string& subject, const std::string& reply,
                           const transport::Headers& headers, std::string_view payload) {
  MessageHandle message;
  check(natsMsg_Create(message.out(), subject.c_str(), reply.empty() ? nullptr : reply.c_str(),
                       payload.data(), static_cast<int>(payload.size())),
        "making a message");
  for (const auto& [name, value] : headers) {
    check(natsMsgHeader_Add(message.get(), name.c_str(), value.c_str()), "adding a header");
  }
  return message;
}

std::optional<Delivery> parse_delivery(std::string_view reply) {
  std::array<std::string_view, 12> tokens;
  std::size_t count = 0;
  for (std::string_view rest = reply; !rest.empty() && count < tokens.size();) {
    const std::size_t dot = rest.find('.');
    tokens[count++] = rest.substr(0, dot);
    rest = dot == std::string_view::npos ? std::string_view() : rest.substr(dot + 1);
  }
  if (count < 9 || tokens[0] != "$JS" || tokens[1] != "ACK") return std::nullopt;
  // $JS.ACK.<stream>.<consumer>.<delivered>.<sseq>.<cseq>.<time>.<pending>; newer servers put the
  // domain and a hash of the account before the stream.
  const std::size_t base = count == 9 ? 4 : 6;
  Delivery delivery;
  const std::string_view stream = tokens[base - 2];
  const std::string_view consumer = tokens[base - 1];
  delivery.consumer.assign(stream.data(), consumer.data() + consumer.size());
  std::int64_t nanoseconds = 0;
  if (!parse_number(tokens[base + 1], delivery.stream_sequence.value) ||
      !parse_number(tokens[base + 2], delivery.consumer_sequence) ||
      !parse_number(tokens[base + 3], nanoseconds) ||
      !parse_number(tokens[base + 4], delivery.pending)) {
    return std::nullopt;
  }
  delivery.stored_at = std::chrono::system_clock::time_point(
      std::chrono::duration_cast<std::chrono::system_clock::duration>(
          std::chrono::nanoseconds(nanoseconds)));
  return delivery;
}

std::optional<std::chrono::system_clock::time_point> parse_time(std::string_view text) {
  using std::chrono::system_clock;
  std::tm parts{};
  const std::string copy(text);
  const char* rest = strptime(copy.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest == nullptr) return std::nullopt;
  std::int64_t nanoseconds = 0;
  if (*rest == '.') {
    std::int64_t unit = 100'000'000;
    for (++rest; *rest >= '0' && *rest <= '9'; ++rest, unit /= 10) {
      nanoseconds += (*rest - '0') * unit;
    }
  }
  // Nanoseconds since 1970 in 64 bits end in the year 2262, and before in 1677.
  constexpr int kYearMin = 1700 - 1900;
  constexpr int kYearMax = 2200 - 1900;
  const bool utc = rest == copy.c_str() + copy.size() - 1 && *rest == 'Z';
  if (!utc || parts.tm_year < kYearMin || parts.tm_year > kYearMax) return std::nullopt;
  return system_clock::from_time_t(timegm(&parts)) +
         std::chrono::duration_cast<system_clock::duration>(std::chrono::nanoseconds(nanoseconds));
}

std::optional<std::string> decode_base64(std::string_view text) {
  const auto value_of = [](char c) -> int {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+') return 62;
    if (c == '/') return 63;
    return -1;
  };
  if (text.size() % 4 != 0) return std::nullopt;
  for (int padding = 0; padding < 2 && text.ends_with('='); ++padding) text.remove_suffix(1);
  std::string out;
  out.reserve(text.size() * 3 / 4);
  std::uint32_t bits = 0;
  int held = 0;
  for (char c : text) {
    const int value = value_of(c);
    if (value < 0) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    held += 6;
    if (held >= 8) {
      held -= 8;
      out += static_cast<char>(bits >> held & 0xFF);
    }
  }
  return out;
}

transport::Headers parse_header_block(std::string_view block) {
  transport::Headers headers;
  std::size_t at = block.find("\r\n");
  while (at != std::string_view::npos) {
    const std::size_t start = at + 2;
    at = block.find("\r\n", start);
    const std::string_view line =
        block.substr(start, at == std::string_view::npos ? at : at - start);
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    std::string_view value = line.substr(colon + 1);
    while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    headers.emplace_back(line.substr(0, colon), value);
  }
  return headers;
}

}  // namespace dmm::nats
