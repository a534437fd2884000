#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/bench/engine/measure.h"

namespace dmm::bench {

/// What a run of the area "engine" measures.
struct Options {
  std::vector<std::string> workloads;
  std::vector<std::uint32_t> sizes;
  int rounds = 3;
  std::optional<std::size_t> updates;  ///< single ones; by the size if not given
  bool quick = false;
  bool full = false;          ///< peers in each round and at each size
  bool instructions = false;  ///< under callgrind, too
  bool check = false;
  std::string json;   ///< file for figures
  std::string peers;  ///< directory with the npm packages of peers/; empty: without db-ivm

  bool verify = false;        ///< compares results at the sizes and measures nothing
  std::optional<Task> child;  ///< measures this and prints it as JSON
};

extern const char* const kUsage;

/// Throws std::invalid_argument with a sentence for the user.
Options parse_options(const std::vector<std::string>& arguments);

/// "1k", "100k", "1M", "2500".
std::string size_name(std::uint32_t size);

}  // namespace dmm::bench
