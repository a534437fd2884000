#include "tests/bench/loop/start.h"

#include <fmt/format.h>

#include <cstdio>
#include <stdexcept>

#include "tests/bench/loop/stage.h"

namespace dmm::bench {

namespace {

double replay(Stage& stage, std::size_t messages, bool and_cache) {
  Subject bare(stage.role("bare", and_cache));
  bare.wait("to begin", 0, [](const Board& board) { return board.begun_ns != 0; });
  return bare
      .wait("to read all", bare->begun_ns,
            [&](const Board& board) { return board.taken == messages; })
      .count();
}

/// Until the view has compared its rows with the caches; says on the way how long it has read.
double until_loaded(Subject& view, std::size_t objects) {
  view.wait("to begin", 0, [](const Board& board) { return board.begun_ns != 0; });
  const auto read = view.wait("to read all", view->begun_ns,
                              [&](const Board& board) { return board.taken >= objects; });
  view.wait("to load", 0, [](const Board& board) { return board.loaded_ns != 0; });
  if (view->rows != objects) {
    throw std::runtime_error(
        fmt::format("no figure: the view has {} rows, not {}", view->rows.load(), objects));
  }
  const double loaded = static_cast<double>(view->loaded_ns - view->begun_ns) * 1e-9;
  fmt::print(stderr,
             "  loaded in {:.2f} s, of which {:.2f} s until all reports were in the engine\n",
             loaded, read.count());
  return loaded;
}

void cold(Stage& stage, const Fleet& fleet, Start& start) {
  stage.purge_tokens();
  Subject view(stage.role("view"));
  start.cold.push_back(until_loaded(view, fleet.size()));
  const auto told = view.wait("to tell all", view->begun_ns, [&](const Board& board) {
    return board.notified >= fleet.size() && board.sending == 0;
  });
  start.cold_told.push_back(told.count());
  start.cold_peak_bytes = static_cast<double>(view.peak_bytes());
  view.stop();
  stage.verify_tokens(fleet);
}

void resync(Stage& stage, const Fleet& fleet, Start& start) {
  Subject view(stage.role("view"));
  const double loaded = until_loaded(view, fleet.size());
  start.resync_peak_bytes = static_cast<double>(view.peak_bytes());
  view.stop();
  if (view->notified != 0 || view->sending != 0 || stage.tokens() != 0) {
    throw std::runtime_error(
        fmt::format("no figure: nothing had changed and the view notified {}, with {} on the way",
                    view->notified.load(), view->sending.load()));
  }
  start.resync.push_back(loaded);
}

/// With the snapshot that the keeper before has left. Returns when it has left its own.
double with_snapshot(Stage& stage, const Fleet& fleet, std::uint64_t to_tell, Start& start) {
  Subject view(stage.role_with_snapshots());
  view.wait("to begin", 0, [](const Board& board) { return board.begun_ns != 0; });
  view.wait("to load", 0, [](const Board& board) { return board.loaded_ns != 0; });
  const double loaded = static_cast<double>(view->loaded_ns - view->begun_ns) * 1e-9;
  view.wait("to tell", 0,
            [&](const Board& board) { return board.notified >= to_tell && board.sending == 0; });
  start.snapshot_peak_bytes = static_cast<double>(view.peak_bytes());
  view.stop();
  start.snapshot_stall.push_back(static_cast<double>(view->stall_us) * 1e-6);
  fmt::print(stderr, "  loaded in {:.2f} s, stalled by the snapshot for {:.2f} s\n", loaded,
             start.snapshot_stall.back());
  if (view->rows != fleet.size() || view->restored < fleet.size() || view->notified != to_tell) {
    throw std::runtime_error(fmt::format(
        "no figure: of {} rows {} are there, {} input rows came from the snapshot, and {} were "
        "notified, not {}",
        fleet.size(), view->rows.load(), view->restored.load(), view->notified.load(), to_tell));
  }
  return loaded;
}

void snapshots(Stage& stage, Fleet& fleet, std::size_t rounds, Start& start) {
  {
    Subject first(stage.role_with_snapshots());
    until_loaded(first, fleet.size());
    first.stop();
  }
  for (std::size_t round = 0; round < rounds; ++round) {
    fmt::print(stderr, "start with {} objects and a snapshot, round {} of {}\n", fleet.size(),
               round + 1, rounds);
    start.snapshot_resync.push_back(with_snapshot(stage, fleet, 0, start));
    const std::uint64_t changed = fleet.changed();
    stage.report_next(fleet, fleet.size() / 100);
    start.snapshot.push_back(with_snapshot(stage, fleet, fleet.changed() - changed, start));
  }
}

}  // namespace

Start measure_start(const testing::NatsServer& server, std::size_t objects, std::size_t rounds,
                    bool and_resync) {
  Start start;
  Stage stage(server, fmt::format("start{}", objects));
  Fleet fleet(objects);
  stage.report_all(fleet);
  for (std::size_t round = 0; round < rounds; ++round) {
    fmt::print(stderr, "start with {} objects, round {} of {}\n", objects, round + 1, rounds);
    start.replay.push_back(replay(stage, objects, false));
    cold(stage, fleet, start);
  }
  stage.purge_tokens();
  stage.store_entries(fleet);
  if (!and_resync) {
    start.replay_cached.push_back(replay(stage, 2 * objects, true));
    snapshots(stage, fleet, rounds, start);
    return start;
  }
  for (std::size_t round = 0; round < rounds; ++round) {
    fmt::print(stderr, "resync of {} objects, round {} of {}\n", objects, round + 1, rounds);
    start.replay_cached.push_back(replay(stage, 2 * objects, true));
    resync(stage, fleet, start);
  }
  snapshots(stage, fleet, rounds, start);
  return start;
}

}  // namespace dmm::bench
