#pragma once

// The Nemesis breaks the scene at random and mends it again.
//
// Faults come in volleys of one to three, close together or a few seconds apart, of any kinds; the
// next volley comes a moment after work went on, so that it can be said how long that took. What
// lasts (a stopped worker, a broken path) may last into the next volleys. One worker is always
// left well, or there would be nobody to take over.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/nemesis/deck.h"
#include "tests/nemesis/history.h"
#include "tests/nemesis/journal.h"
#include "tests/nemesis/options.h"
#include "tests/nemesis/scene.h"
#include "tests/nemesis/watcher.h"

namespace dmm::nemesis {

/// What was done, by kind.
struct Deeds {
  std::uint64_t worker_kills = 0;
  std::uint64_t worker_stops = 0;
  std::uint64_t worker_ends = 0;  ///< by SIGTERM
  std::uint64_t worker_cuts = 0;  ///< troubles of their paths
  std::uint64_t notifier_cuts = 0;
  std::uint64_t server_faults = 0;  ///< killed, ended or frozen
};

class Nemesis final {
 public:
  /// log   gets a line for each deed.
  Nemesis(const Options& options, Scene& scene, const Watcher& watcher, Journal& log);

  /// Does what is due. To be called every few milliseconds.
  void turn();
  /// The machine stood still: how long the recovery takes that is going on says nothing.
  void stood_still();

  /// What of a worker or server is not well, for the line of progress.
  std::string mood() const;

  const Deeds& deeds() const noexcept { return deeds_; }
  const std::vector<Volley>& volleys() const noexcept { return volleys_; }

 private:
  enum class Phase { calm, striking, recovering };
  enum class Deed { kill, stop, end, cut, cut_notifiers, strike_server };

  void begin_volley();
  void strike(Deed deed);
  void strike_worker(Deed deed);
  void kill_worker(std::size_t index);
  void stop_worker(std::size_t index);
  void end_worker(std::size_t index);
  void cut_worker(std::size_t index);
  void cut_notifiers();
  void strike_server();
  void freeze_server();
  void kill_node();
  void mark_fault();
  void struck();
  bool recovered() const;

  /// One of the first `among` workers that may be hit: it is well, and not the last one that is.
  std::optional<std::size_t> victim(std::size_t among = kWorkers);
  void later(Nanoseconds delay, std::function<void()> task);
  Nanoseconds between(Nanoseconds low, Nanoseconds high);
  bool chance(int percent);
  template <class... Arguments>
  void say(const char* text, Arguments&&... arguments);

  const Options options_;
  Scene& scene_;
  const Watcher& watcher_;
  Journal& log_;
  std::mt19937_64 random_;
  const Nanoseconds began_;
  const std::size_t lanes_;  ///< in which there are identities
  Deck<Deed> deeds_to_do_;
  Deck<Trouble> troubles_;
  Phase phase_ = Phase::calm;
  Nanoseconds next_volley_;
  Nanoseconds next_node_;
  Nanoseconds recovering_since_ = 0;
  Nanoseconds work_after_ = 0;  ///< work that is seen after this means that it goes on
  int strikes_left_ = 0;
  int servers_away_ = 0;
  std::multimap<Nanoseconds, std::function<void()>> tasks_;
  std::vector<Volley> volleys_;
  Deeds deeds_;
};

}  // namespace dmm::nemesis
