#pragma once

// What the figures should be: the floor, to ship, and the aim.

#include <cstdint>
#include <string>

#include "tests/bench/engine/figures.h"

namespace dmm::bench {

struct FigureKey {
  std::string workload;
  std::string statistic;  ///< "one-row p50"
  std::uint32_t size;
  bool text;
};

/// Sets floor and aim of a figure that has them.
void set_goals(const FigureKey& key, Compared& compared);

}  // namespace dmm::bench
