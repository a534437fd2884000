#include "dmm/cli/repeat.h"

#include <fmt/format.h>

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/interrupts.h"

namespace dmm::cli {

int repeat(Session& session, const std::string& title, double every_s, std::uint64_t times,
           const std::function<void()>& once) {
  const Terminal& terminal = session.terminal();
  for (std::uint64_t done = 1;; ++done) {
    if (terminal.moves && !session.json()) {
      session.out().write("\x1b[H\x1b[2J");
      session.say(terminal.paint(fmt::format("{}, every {:g} s, at {}; end with Ctrl-C", title,
                                             every_s, clock_time(std::chrono::system_clock::now())),
                                 Color::dim));
    }
    try {
      once();
      session.out().flush();
    } catch (const Error& error) {
      session.out().flush();
      if (error.kind() != Kind::retry && error.kind() != Kind::not_found) throw;
      complain(error);
    }
    if (done == times) return exit_code::ok;
    StopOnInterrupt interrupt;
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    never.wait_for(lock, interrupt.token(), std::chrono::duration<double>(every_s),
                   [] { return false; });
    if (interrupt.interrupted()) return exit_code::interrupted;
  }
}

}  // namespace dmm::cli
