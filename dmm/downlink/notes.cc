#include "dmm/downlink/notes.h"

#include <fmt/format.h>

#include <charconv>
#include <utility>

#include "dmm/internal/unix_time.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/wire.h"

namespace dmm::downlink {

using transport::Note;

namespace {

[[noreturn]] void refuse(std::string_view header, std::string_view text, std::string_view wanted) {
  throw Error(code::bad_number,
              fmt::format("{} is \"{}\", which is no {}", header, printable(text, 40), wanted));
}

}  // namespace

Command read_command(const std::string& device, const Note& note) {
  Command command;
  command.device = device;
  command.payload = parse_json(note.payload.empty() ? "null" : note.payload).value();
  if (const auto from = note.header(wire::kFrom)) command.from = *from;
  if (const auto text = note.header(wire::kEpoch)) {
    const char* const end = text->data() + text->size();
    const auto [read_to, error] = std::from_chars(text->data(), end, command.epoch.value);
    if (error != std::errc() || read_to != end) refuse(wire::kEpoch, *text, "epoch");
  }
  if (const auto text = note.header(wire::kDeadline)) {
    const auto deadline = internal::parse_unix_ms(*text);
    if (!deadline) refuse(wire::kDeadline, *text, "date in Unix milliseconds before 2200");
    command.deadline = *deadline;
  }
  command.headers = note.headers;
  return command;
}

CommandReply read_reply(std::string_view kind, std::string_view device, const Note& note) {
  using Result = CommandReply::Result;
  const auto reply = [&](Result result, nlohmann::json answer, std::string reason) {
    return CommandReply(result, std::string(kind), std::string(device), std::move(answer),
                        std::move(reason));
  };
  const auto refusal = note.header(wire::kServiceError);
  if (refusal) return reply(Result::refused, {}, printable(*refusal, limits::error_text_bytes_max));
  if (note.subject.ends_with(".refused")) {
    return reply(Result::refused, {}, printable(note.payload, limits::error_text_bytes_max));
  }
  if (note.payload.empty()) return reply(Result::answered, {}, {});
  dmm::Result<nlohmann::json> answer = parse_json(note.payload);
  if (!answer.ok()) return reply(Result::unreadable, {}, answer.error().what());
  return reply(Result::answered, std::move(answer).value(), {});
}

}  // namespace dmm::downlink
