#include "dmm/nats/message.h"

#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <utility>

#include "dmm/wire.h"

namespace dmm::nats {

namespace {

template <class Number>
bool parse_number(std::string_view text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
  while (text.ends_with(' ') || text.ends_with('\t')) text.remove_suffix(1);
  return text;
}

/// The block of headers of a received message, as it came; nothing where it cannot be had.
///
/// libnats 3 gives no access to it, and what it makes of it itself cannot be used: it drops all
/// headers behind a last one without a value, swallows the one behind any other such, and takes
/// half a minute for a megabyte of headers of one name. It lays a message out in one piece, though:
/// subject, reply, headers and payload, each with a NUL behind it. Where anything looks otherwise,
/// it is asked in its own way.
std::optional<std::string_view> raw_headers(const natsMsg* message) {
  static const bool known =
      nats_GetVersionNumber() >= 0x030000 && nats_GetVersionNumber() < 0x040000;
  const char* const subject = natsMsg_GetSubject(message);
  const char* const reply = natsMsg_GetReply(message);
  const char* const data = natsMsg_GetData(message);
  if (!known || subject == nullptr || data == nullptr) return std::nullopt;
  const char* const before = reply != nullptr ? reply : subject;
  const char* const begin = before + std::strlen(before) + 1;
  if (data == begin) return std::string_view();
  constexpr std::size_t kBytesMax = 64u << 20;  // of a message of any server
  constexpr std::string_view kLine = "NATS/1.0";
  const auto distance = std::less<>()(begin, data) ? static_cast<std::size_t>(data - begin) : 0;
  if (distance <= kLine.size() || distance > kBytesMax) return std::nullopt;
  const std::string_view block(begin, distance - 1);
  const bool sound = block.starts_with(kLine) && block.ends_with("\r\n") && *(data - 1) == '\0' &&
                     block.find('\0') == std::string_view::npos;
  return sound ? std::optional(block) : std::nullopt;
}

/// "NATS/1.0 404 No Messages": what stands behind the version, also as the headers that NATS
/// clients make of it.
void read_status(std::string_view block, Incoming& incoming) {
  const std::string_view line = trimmed(block.substr(0, block.find("\r\n")).substr(8));
  const std::string_view number = line.substr(0, 3);
  if (number.empty()) return;
  if (!parse_number(number, incoming.status)) incoming.status = 0;
  incoming.headers.emplace_back("Status", number);
  const std::string_view words = trimmed(line.substr(number.size()));
  if (words.empty()) return;
  incoming.description = words;
  incoming.headers.emplace_back("Description", words);
}

/// As libnats reads them.
void copy_headers(natsMsg* message, Incoming& incoming) {
  const char** keys = nullptr;
  int count = 0;
  const natsStatus status = natsMsgHeader_Keys(message, &keys, &count);
  if (status != NATS_OK && status != NATS_NOT_FOUND) {
    // Who looks at the version of the format refuses the message: what else it says is not known.
    incoming.headers.emplace_back(wire::kVersion, "(the headers cannot be read)");
  }
  for (int i = 0; i < count; ++i) {
    const char** values = nullptr;
    int of_key = 0;
    if (natsMsgHeader_Values(message, keys[i], &values, &of_key) != NATS_OK) continue;
    for (int j = 0; j < of_key; ++j) incoming.headers.emplace_back(keys[i], values[j]);
    std::free(static_cast<void*>(values));
  }
  std::free(static_cast<void*>(keys));
  if (const auto number = transport::find_header(incoming.headers, "Status")) {
    parse_number(number->substr(0, 3), incoming.status);
    const auto words = transport::find_header(incoming.headers, "Description");
    if (words) incoming.description = *words;
  }
}

}  // namespace

Incoming copy_message(natsMsg* message) {
  Incoming incoming;
  if (const char* subject = natsMsg_GetSubject(message)) incoming.subject = subject;
  if (const char* reply = natsMsg_GetReply(message)) incoming.reply = reply;
  const int length = natsMsg_GetDataLength(message);
  if (length > 0) incoming.payload.assign(natsMsg_GetData(message), std::size_t(length));
  const auto block = raw_headers(message);
  if (!block) {
    copy_headers(message, incoming);
  } else if (!block->empty()) {
    read_status(*block, incoming);
    for (auto& header : parse_header_block(*block)) incoming.headers.push_back(std::move(header));
  }
  incoming.delivery = parse_delivery(incoming.reply);
  if (!incoming.payload.empty() || incoming.delivery) incoming.status = 0;
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
    headers.emplace_back(line.substr(0, colon), trimmed(line.substr(colon + 1)));
  }
  return headers;
}

}  // namespace dmm::nats
