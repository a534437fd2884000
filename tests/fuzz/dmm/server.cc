// What a server sends, or somebody in its place: an error that says so, or what it means. Nothing
// is thrown, because nobody is there to catch it.
#include "dmm/nats/answer.h"
#include "dmm/nats/message.h"
#include "dmm/nats/nkey.h"
#include "tests/fuzz/dmm/input.h"

using namespace dmm;
using namespace dmm::fuzz;
using namespace dmm::nats;

namespace {

template <class T>
void check(const Result<T>& result) {
  if (!result.ok()) must(!result.error().message().empty());
}

void read_answer(std::string_view text) {
  Incoming answer;
  answer.payload = text;
  const auto fast = find_acknowledged(text);
  const auto acknowledged = parse_acknowledgement(answer, "fuzz");
  check(acknowledged);
  if (fast) must(acknowledged.ok() && acknowledged.value() == *fast);
  check(parse_answer(answer, "fuzz"));
  check(parse_stream_info(answer, "fuzz"));
  check(parse_subjects(answer, "fuzz"));
  check(parse_consumer_info(answer, "fuzz"));
  check(parse_consumers(answer, "fuzz"));
  check(parse_stored(answer, "fuzz"));
  check(parse_erased(answer, Sequence{5}));
  const auto account = parse_account(answer, {}, "fuzz");
  check(account);
  const auto said = parse_answer(answer, "fuzz");
  transport::ServerFacts facts;
  if (said.ok()) read_server_info(said.value(), facts);
}

void read_direct(std::string_view text) {
  Incoming answer;
  answer.headers = next_headers(text);
  answer.status = text.empty() ? 404 : 0;
  answer.payload = text;
  const auto message = parse_direct(answer, "s.a");
  check(message);
  if (message.ok() && message.value()) {
    must(message.value()->sequence.value > 0 && message.value()->subject == "s.a");
  }
}

void read_delivery(std::string_view text) {
  const auto delivery = parse_delivery(text);
  if (delivery) must(text.find(delivery->consumer) != std::string_view::npos);
}

void read_parts(std::string_view text) {
  for (const auto& [name, value] : parse_header_block(text)) {
    must(name.find(':') == std::string::npos && value.find("\r\n") == std::string::npos);
  }
  if (const auto bytes = decode_base64(text)) must(bytes->size() <= text.size() / 4 * 3);
  if (const auto time = parse_time(text)) must(text.ends_with('Z'));
}

void read_seed(std::string_view text) {
  const File file(text);
  may_refuse([&] { must(nkey_public(file.path()).starts_with('U')); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 'a':
      read_answer(text);
      break;
    case 'm':
      read_direct(text);
      break;
    case 'd':
      read_delivery(text);
      break;
    case 'h':
      read_parts(text);
      break;
    case 'n':
      read_seed(text);
      break;
    default:
      break;
  }
  return 0;
}
