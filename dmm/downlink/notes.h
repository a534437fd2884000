#pragma once

// What devices are sent and what they answer, read: either may come from anybody who has the right
// to publish there.

#include <string>
#include <string_view>

#include "dmm/command.h"
#include "dmm/device.h"
#include "dmm/transport/messenger.h"

namespace dmm::downlink {

/// A command for `device`. Throws Error{invalid} DMM-0202 to 0206, 0213: a payload that is no JSON,
/// an epoch or a deadline that is no number of its range.
Command read_command(const std::string& device, const transport::Note& note);

/// What a device answered, whatever it is.
CommandReply read_reply(std::string_view kind, std::string_view device,
                        const transport::Note& note);

}  // namespace dmm::downlink
