#include "tests/simulation/bugs.h"

#include <fmt/format.h>

#include <array>
#include <utility>

namespace dmm::simulation {

namespace {

/// A promise, by its number in docs/concepts; 0: that the simulator itself sees that nothing works.
struct Promise {
  int number;
  std::string_view text;
};
constexpr std::array kPromises = {
    Promise{1, "no lost wake-up"},      Promise{2, "one at a time"},
    Promise{3, "coalescing"},           Promise{4, "until success"},
    Promise{5, "news beat backoff"},    Promise{6, "poison is contained"},
    Promise{7, "exactly what changed"}, Promise{8, "absence is evidence only when said"},
    Promise{9, "rebuildable"},          Promise{10, "bounded"},
    Promise{11, "deterministic"},       Promise{0, "nothing works, and it is seen"},
};

struct Known {
  Bug bug;
  std::string_view name;
  int promise;
  std::string_view word;
};
constexpr std::array kKnown = {
    Known{Bug::drop_news, "drop-news", 1, "lost"},
    Known{Bug::erase_newest, "erase-newest", 1, "lost"},
    Known{Bug::cursor_first, "cursor-first", 1, "cursor"},
    Known{Bug::no_lease, "no-lease", 2, "overlap"},
    Known{Bug::no_fence, "no-fence", 2, "stale"},
    Known{Bug::run_twice, "run-twice", 3, "coalescing"},
    Known{Bug::forget_attempts, "forget-attempts", 4, "attempts"},
    Known{Bug::hasty, "hasty", 4, "attempts"},
    Known{Bug::forget_parked, "forget-parked", 4, "parked"},
    Known{Bug::lose_parked, "lose-parked", 4, "lost"},
    Known{Bug::ignore_pauses, "ignore-pauses", 4, "paused"},
    Known{Bug::ignore_policies, "ignore-policies", 4, "pace"},
    Known{Bug::backoff_first, "backoff-first", 5, "news"},
    Known{Bug::shared_backoff, "shared-backoff", 6, "poison"},
    Known{Bug::forget_crashes, "forget-crashes", 6, "poison"},
    Known{Bug::view_silent, "view-silent", 7, "lost"},
    Known{Bug::view_chatty, "view-chatty", 7, "exactness"},
    Known{Bug::snapshot_gap, "snapshot-gap", 7, "lost"},
    Known{Bug::half_loaded, "half-loaded", 8, "absence"},
    Known{Bug::remove_freely, "remove-freely", 8, "absence"},
    Known{Bug::ignore_losses, "ignore-losses", 9, "history"},
    Known{Bug::leak_readers, "leak-readers", 10, "bounded"},
    Known{Bug::round_numbers, "round-numbers", 11, "deterministic"},
    Known{Bug::unseeded, "unseeded", 11, "deterministic"},
    Known{Bug::mute, "mute", 0, "alive"},
    Known{Bug::give_up, "give-up", 0, "ended"},
};

}  // namespace

std::string_view to_string(Bug bug) noexcept {
  for (const Known& known : kKnown) {
    if (known.bug == bug) return known.name;
  }
  return "none";
}

std::optional<Bug> bug_called(std::string_view name) noexcept {
  for (const Known& known : kKnown) {
    if (known.name == name) return known.bug;
  }
  return std::nullopt;
}

const std::vector<Bug>& all_bugs() {
  static const std::vector<Bug> bugs = [] {
    std::vector<Bug> all;
    for (const Known& known : kKnown) all.push_back(known.bug);
    return all;
  }();
  return bugs;
}

std::string_view broken_by(Bug bug) noexcept {
  for (const Known& known : kKnown) {
    if (known.bug == bug) return known.word;
  }
  return "none";
}

std::string bugs_by_promise() {
  std::string lines;
  for (const Promise& promise : kPromises) {
    std::string names;
    for (const Known& known : kKnown) {
      if (known.promise != promise.number) continue;
      names += fmt::format("{}{}", names.empty() ? "" : ", ", known.name);
    }
    const std::string number = promise.number > 0 ? std::to_string(promise.number) : "-";
    lines += fmt::format("                {:>2} {}: {}\n", number, promise.text, names);
  }
  return lines;
}

}  // namespace dmm::simulation
