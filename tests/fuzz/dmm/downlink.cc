// What goes down to devices and comes back, and what workers say and are told: refused with a
// reason, or read so that what is written again is the same.
#include <nlohmann/json.hpp>

#include "dmm/downlink/calls.h"
#include "dmm/downlink/notes.h"
#include "dmm/internal/log_level.h"
#include "dmm/internal/roll_call.h"
#include "dmm/json.h"
#include "tests/fuzz/dmm/input.h"

using namespace dmm;
using namespace dmm::fuzz;

namespace {

/// The subject in the first line, headers, an empty line, the payload.
transport::Note note_of(std::string_view text) {
  transport::Message message = message_of(text);
  return {.subject = std::move(message.subject),
          .headers = std::move(message.headers),
          .payload = std::move(message.payload)};
}

/// Answers each note with another one before it is asked for.
class Echo final : public transport::Messenger {
 public:
  explicit Echo(transport::Note answer) : answer_(std::move(answer)) {}
  void send(const transport::Note&) override { handler_(answer_); }
  std::unique_ptr<transport::Subscription> subscribe(const std::string&, const std::string&,
                                                     transport::NoteHandler handler) override {
    handler_ = std::move(handler);
    return std::make_unique<transport::Subscription>();
  }
  std::shared_ptr<void> on_reconnect(std::function<void()>) override { return nullptr; }
  void close() override {}

 private:
  const transport::Note answer_;
  transport::NoteHandler handler_;
};

void read_command(std::string_view text) {
  may_refuse([&] {
    const Command command = downlink::read_command("a", note_of(text));
    must(command.deadline.time_since_epoch().count() >= 0);
  });
}

void read_reply(std::string_view text) {
  const transport::Note note = note_of(text);
  const CommandReply reply = downlink::read_reply("speaker", "a", note);
  must(reply.answered() == reply.reason().empty() || reply.refused());
  may_refuse([&] { static_cast<void>(reply.get()); });
}

void call(std::string_view text) {
  const transport::Note note = note_of(text);
  downlink::Calls calls(std::make_shared<Echo>(note), "r.>");
  const transport::Note asked{.subject = "s", .reply = "r.1"};
  const auto answer = calls.call(asked, std::chrono::steady_clock::now(), {});
  must(answer.has_value() == (note.subject == "r.1" ||
                              (note.subject.starts_with("r.1.") && note.subject.rfind('.') == 3)));
}

void read_worker(std::string_view text) {
  static_cast<void>(internal::parse_worker(text));
  const auto answer = parse_json(text);
  if (answer.ok()) static_cast<void>(internal::is_meant("host:7", answer.value()));
}

void read_order(std::string_view text) {
  const auto order = internal::parse_order(text);
  if (!order) return;
  const auto again = internal::parse_order(internal::order_text(*order));
  must(again && again->level == order->level && again->duration == order->duration &&
       again->worker == order->worker);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 'c':
      read_command(text);
      break;
    case 'r':
      read_reply(text);
      break;
    case 'a':
      call(text);
      break;
    case 'w':
      read_worker(text);
      break;
    case 'o':
      read_order(text);
      break;
    default:
      break;
  }
  return 0;
}
