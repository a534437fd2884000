#include "dmm/command.h"

#include <fmt/format.h>

#include "dmm/json.h"

namespace dmm {

DeviceOffline::DeviceOffline(std::string kind, std::string device)
    : Error(code::device_offline,
            fmt::format("{} {} is not connected", kind, printable(device, 300))),
      kind_(std::move(kind)),
      device_(std::move(device)) {}

nlohmann::json CommandReply::get() const {
  switch (result_) {
    case Result::answered:
      return answer_;
    case Result::offline:
      throw DeviceOffline(kind_, device_);
    case Result::no_answer:
      throw Error(code::no_reply, reason_);
    case Result::refused:
      throw Error(code::command_refused,
                  fmt::format("{} {} refused: {}", kind_, printable(device_, 300), reason_));
    case Result::unreadable:
      throw Error(code::bad_reply,
                  fmt::format("{} {} answered {}", kind_, printable(device_, 300), reason_));
  }
  throw Error(code::bug, "a reply without a result");
}

std::string_view to_string(CommandReply::Result result) noexcept {
  switch (result) {
    case CommandReply::Result::answered:
      return "answered";
    case CommandReply::Result::refused:
      return "refused";
    case CommandReply::Result::unreadable:
      return "unreadable";
    case CommandReply::Result::no_answer:
      return "no_answer";
    case CommandReply::Result::offline:
      return "offline";
  }
  return "offline";
}

}  // namespace dmm
