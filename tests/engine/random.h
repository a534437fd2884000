// Random data for tests. The seed is printed by the tests that use it; DMM_SEED sets it, DMM_STEPS
// multiplies the number of steps.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "engine/zset.h"

namespace dmm::engine::testing {

inline std::uint64_t seed_of_run() {
  if (const char* text = std::getenv("DMM_SEED")) return std::strtoull(text, nullptr, 10);
  return 20260724;
}

inline std::size_t steps_of_run(std::size_t usual) {
  if (const char* text = std::getenv("DMM_STEPS")) return usual * std::strtoull(text, nullptr, 10);
  return usual;
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  /// 0 … below-1
  std::size_t below(std::size_t limit) { return static_cast<std::size_t>(engine_() % limit); }
  bool chance(std::size_t percent) { return below(100) < percent; }
  std::uint64_t bits() { return engine_(); }

  /// A value of a small domain, so that equal ones are frequent.
  nlohmann::json scalar() {
    switch (below(12)) {
      case 0:
        return nullptr;
      case 1:
        return "x" + std::to_string(below(3));
      case 2:
        return 0.5 * static_cast<double>(below(5)) - 0.25;
      case 3:
        return true;
      case 4:
        return "7";
      default:
        return static_cast<int>(below(6)) - 2;
    }
  }
  nlohmann::json number() {
    if (chance(30)) return 0.1 * static_cast<double>(below(7));
    return static_cast<int>(below(7)) - 3;
  }
  /// {k, v, n, l, o}: key, any scalar, number, list, object; each is missing now and then.
  nlohmann::json document() {
    nlohmann::json result = nlohmann::json::object();
    if (!chance(4)) result["k"] = below(3);
    if (!chance(8)) result["v"] = scalar();
    if (!chance(3)) result["n"] = number();
    if (chance(40)) {
      result["l"] = nlohmann::json::array();
      for (std::size_t i = below(3); i > 0; --i) result["l"].push_back(below(3));
    } else if (chance(5)) {
      result["l"] = 5;
    }
    if (chance(20)) result["o"] = {{"p", below(2)}};
    return result;
  }

 private:
  std::mt19937_64 engine_;
};

/// Changes to a collection that it keeps: mostly insertions, deletions of what is there, updates,
/// repeated rows, and (when allowed) deletions of what is not there.
class Mutator {
 public:
  Mutator(Random& random, bool owing) : random_(random), owing_(owing) {}

  Batch next() {
    Batch batch;
    for (std::size_t i = random_.below(4); i > 0; --i) {
      if (level_.size() > 10 || (!level_.empty() && random_.chance(45))) {
        const Row row = level_.row(random_.below(level_.size()));
        const Weight gone = random_.chance(80) ? row.weight : (row.weight > 0 ? 1 : -1);
        push(batch, row.value, -gone);
        if (random_.chance(40)) push(batch, fresh(), 1);
      } else {
        push(batch, fresh(), random_.chance(20) ? 2 : 1);
      }
      if (owing_ && random_.chance(5)) push(batch, fresh(), -1);
    }
    return batch;
  }
  const Zset& level() const { return level_; }

 private:
  Value fresh() { return from_json(random_.document()); }
  void push(Batch& batch, const Value& value, Weight weight) {
    if (!level_.add(value, weight)) return;
    batch.push_back(Row{value, weight});
  }
  Random& random_;
  bool owing_;
  Zset level_;
};

}  // namespace dmm::engine::testing
