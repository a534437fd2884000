#include "tests/bench/loop/intake.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "tests/bench/loop/stage.h"

namespace dmm::bench {

namespace {

constexpr auto kPatience = std::chrono::seconds(120);

/// Lets one side take in what waits, and freezes it again.
void take_in(Subject& subject, pid_t server, std::uint64_t target, std::size_t count,
             IntakeSide& side) {
  const auto before = subject.cpu();
  const auto server_before = exact_cpu_time(server);
  const auto begun = monotonic_ns();
  subject.thaw();
  const auto time = subject.wait(
      "to take in a burst", begun,
      [&](const Board& board) { return board.taken >= target && board.sending == 0; }, kPatience);
  subject.freeze();
  const double each = 1e6 / static_cast<double>(count);
  side.rate.push_back(static_cast<double>(count) / time.count());
  side.cpu_us.push_back((subject.cpu() - before).count() * each);
  side.server_us.push_back((exact_cpu_time(server) - server_before).count() * each);
}

void check_exact(const Subject& view, std::uint64_t expected) {
  if (view->rebuilds > 1) {
    throw std::runtime_error(
        "no figure: the view lost its lease while it was frozen, so it began anew; the machine is "
        "too busy for this size of a burst: try a smaller --burst");
  }
  if (view->notified != expected) {
    throw std::runtime_error(fmt::format("no figure: the view notified {} times, not {} times",
                                         view->notified.load(), expected));
  }
}

}  // namespace

Intake measure_intake(const testing::NatsServer& server, const IntakeSize& size) {
  Intake intake;
  Stage stage(server, "intake");
  Fleet fleet(size.devices);
  stage.report_all(fleet);
  Subject bare(stage.role("bare"));
  bare.wait("to read what is there", 0,
            [&](const Board& board) { return board.taken == size.devices; });
  bare.freeze();
  Subject view(stage.role("view"));
  view.wait("to load", 0, [&](const Board& board) {
    return board.loaded_ns != 0 && board.notified >= size.devices && board.sending == 0;
  });
  view.freeze();
  const std::uint64_t loaded = view->taken;  // with the zones
  std::uint64_t published = 0;
  for (int burst = 0; published < size.reports; ++burst) {
    const std::size_t count =
        std::min({size.burst, size.devices, size.reports - static_cast<std::size_t>(published)});
    stage.report_next(fleet, count);
    published += count;
    const auto bare_turn = [&] {
      take_in(bare, stage.server_pid(), size.devices + published, count, intake.bare);
    };
    const auto view_turn = [&] {
      take_in(view, stage.server_pid(), loaded + published, count, intake.view);
      check_exact(view, size.devices + fleet.changed());
    };
    if (burst % 2 == 0) {
      bare_turn();
      view_turn();
    } else {
      view_turn();
      bare_turn();
    }
  }
  intake.changed = fleet.changed();
  intake.bare.peak_bytes = static_cast<double>(bare.peak_bytes());
  intake.view.peak_bytes = static_cast<double>(view.peak_bytes());
  view.stop();
  stage.verify_tokens(fleet);
  return intake;
}

}  // namespace dmm::bench
