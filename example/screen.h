#pragma once

// Where the demo shows itself: on a terminal a table that is redrawn in place, elsewhere a plain
// line whenever something has changed.

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "example/overview.h"

namespace example {

/// Used by one thread.
class Screen final {
 public:
  explicit Screen(std::FILE* out);

  bool terminal() const noexcept { return terminal_; }
  /// A line that stays.
  void say(std::string_view text);
  /// The picture of now; replaces the one before. `seconds` since the scene began.
  void show(const std::vector<PlayerView>& players, double seconds);
  /// The picture stays; what comes next goes below it.
  void keep();

 private:
  void print(std::string_view text);

  std::FILE* const out_;
  const bool terminal_;
  std::size_t drawn_ = 0;  ///< lines of the picture that can be redrawn
  std::string last_;       ///< what a plain line said last
};

}  // namespace example
