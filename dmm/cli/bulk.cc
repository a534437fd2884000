#include "dmm/cli/bulk.h"

#include <fmt/format.h>

#include "dmm/cli/human.h"
#include "dmm/cli/interrupts.h"
#include "dmm/cli/progress.h"
#include "dmm/json.h"

namespace dmm::cli {

std::string name_of(const Identity& identity) {
  return fmt::format("{}/{}", identity.type, identity.id.empty() ? "\"\"" : printable(identity.id));
}

std::size_t do_to_all(Session& session, std::string_view done, const std::vector<Matter>& matters,
                      const std::function<void(const Matter&)>& one) {
  StopOnInterrupt interrupt;
  Progress progress(session.error_terminal(), std::string(done), matters.size());
  std::size_t count = 0;
  std::size_t failed = 0;
  for (const Matter& matter : matters) {
    if (interrupt.token().stop_requested()) {
      throw Interrupted(fmt::format("interrupted; {} {} before",
                                    counted(count, "identity was", "identities were"), done));
    }
    try {
      one(matter);
    } catch (const Error& error) {
      // What hinders one hinders all: the server is away.
      if (error.kind() == Kind::retry) {
        throw error.with_context(
            fmt::format("{}, {} of {}", name_of(matter.identity), count + 1, matters.size()));
      }
      progress.clear();
      complain(error, name_of(matter.identity));
      ++failed;
    }
    ++count;
    progress.update(count, failed, count);
  }
  return failed;
}

}  // namespace dmm::cli
