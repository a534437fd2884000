// What comes from and goes to devices, as bytes.

#include "dmm/downlink/notes.h"

#include <catch2/catch.hpp>

#include <string>

using namespace dmm;
using namespace dmm::downlink;

namespace {

transport::Note command_with(const char* header, std::string value) {
  transport::Note note{.subject = "dmm.ns.command.speaker.a.c.1", .payload = "{}"};
  note.headers.emplace_back(header, std::move(value));
  return note;
}

std::string code_of(const transport::Note& note) {
  try {
    read_command("a", note);
  } catch (const Error& error) {
    return std::string(error.code().id);
  }
  return "none";
}

}  // namespace

TEST_CASE("command: a deadline or an epoch that cannot be meant refuses it", "[downlink][unit]") {
  const auto bad = GENERATE(as<std::string>(), "", "soon", "-1", "1e9", "7258118400000",
                            "9223372036854775807", "-9223372036854775808", "1700000000000 ");
  INFO(bad);
  CHECK(code_of(command_with("Dmm-Deadline", bad)) == "DMM-0206");
  if (bad != "7258118400000" && bad != "9223372036854775807") {
    CHECK(code_of(command_with("Dmm-Epoch", bad)) == "DMM-0206");
  }
}

TEST_CASE("command: what was said of its sender is read", "[downlink][unit]") {
  transport::Note note = command_with("Dmm-Deadline", "1700000000123");
  note.headers.emplace_back("Dmm-Epoch", "18446744073709551615");
  note.headers.emplace_back("Dmm-From", "song.7");
  const Command command = read_command("a", note);
  CHECK(command.from == "song.7");
  CHECK(command.epoch == Epoch{~std::uint64_t{0}});
  CHECK(command.deadline ==
        std::chrono::system_clock::time_point(std::chrono::milliseconds(1'700'000'000'123)));
  CHECK(read_command("a", transport::Note{}).deadline == std::chrono::system_clock::time_point());
}
