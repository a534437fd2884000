// Names, headers and tokens, whatever is in them: refused with a reason, or read so that what is
// written again is the same.
#include "dmm/wire.h"

#include "dmm/identity.h"
#include "dmm/internal/status.h"
#include "dmm/json.h"
#include "dmm/trace.h"
#include "dmm/worker/entry_store.h"
#include "dmm/worker/token.h"
#include "tests/fuzz/dmm/input.h"

using namespace dmm;
using namespace dmm::fuzz;

namespace {

void read_token(std::string_view text) {
  const transport::Message message = message_of(text);
  const Result<worker::Token> read = worker::read_token(message);
  if (!read.ok()) return must(!read.error().message().empty());
  const worker::Token& token = read.value();
  must(parse_key(token.key) == token.identity);
  const auto parts = wire::split_token(message.subject);
  const std::string subject = wire::Names("ns").token_subject(token.identity);
  const auto again = wire::split_token(subject);
  must(parts && again && parts->type == again->type && parts->lane == again->lane &&
       parts->id == again->id);
  const auto date = token.not_before.time_since_epoch();
  must(date.count() == 0 || token.not_before <= message.stored_at + worker::kNotBeforeMax);
  must(token.traceparent.empty() || TraceContext::parse(token.traceparent).has_value());
}

void read_entry(std::string_view text) {
  const worker::Entry entry = worker::Entry::from(message_of(text));
  if (!entry.done) return;
  const auto again = wire::parse_done(wire::format_done(*entry.done));
  must(again && again->created == entry.done->created && again->sequence == entry.done->sequence);
}

void read_id(std::string_view text) {
  if (const auto id = decode_id(text)) must(encode_id(*id) == text);
  if (text.size() <= limits::id_bytes_max) must(decode_id(encode_id(text)) == text);
  static_cast<void>(suggest_spelling(text));
  if (const auto identity = parse_key(text)) must(key_of(*identity) == text);
  may_refuse([&] { check_name(text, "type"); });
  may_refuse([&] { static_cast<void>(wire::Names(std::string(text))); });
}

void read_json(std::string_view text) {
  const auto value = parse_json(text);
  if (!value.ok()) return must(!value.error().message().empty());
  // An escaped character is six bytes at most.
  const auto again = parse_json(dump_json(value.value()), {.bytes_max = 6 * text.size() + 400});
  must(again.ok() && again.value() == value.value());
  check_depth(value.value());
}

void print(std::string_view text) {
  for (const std::size_t bytes_max : {0u, 1u, 40u, 2'000u}) {
    const std::string shown = printable(text, bytes_max);
    must(shown.size() <= bytes_max && !find_bad_byte(shown));
    for (const char c : shown) must(static_cast<unsigned char>(c) >= 0x20 && c != 0x7F);
  }
}

void refuse(std::string_view subject) {
  const std::string key = internal::refusal_key("token", subject);
  must(key.size() <= 1'000);
  const auto again = internal::refused_subject(key, "ns");
  if (subject.starts_with("dmm.ns.") && again) must(*again == subject);
  static_cast<void>(internal::refused_subject(subject, "ns"));
}

void read_headers(std::string_view text) {
  const transport::Headers headers = next_headers(text);
  static_cast<void>(wire::format_version(headers));
  for (const auto& [name, value] : headers) static_cast<void>(wire::view_of(value));
  if (const auto place = TraceContext::parse(text)) {
    must(TraceContext::parse(place->text()) == place);
  }
  static_cast<void>(wire::split_report(text));
  static_cast<void>(wire::split_device(text, "shadow"));
  static_cast<void>(wire::Names("ns").lease_name(text));
  static_cast<void>(wire::Names("ns").entry_key(text));
  static_cast<void>(wire::Names("ns").status_key(text));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 't':
      read_token(text);
      break;
    case 'e':
      read_entry(text);
      break;
    case 'i':
      read_id(text);
      break;
    case 'j':
      read_json(text);
      break;
    case 'p':
      print(text);
      break;
    case 'r':
      refuse(text);
      break;
    case 'h':
      read_headers(text);
      break;
    default:
      break;
  }
  return 0;
}
