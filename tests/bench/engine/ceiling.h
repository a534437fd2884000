#pragma once

// The ceiling: each workload maintained by a program of its own over rows of numbers. See
// make_ceiling() in subject.h; here is what the programs share.

#include <absl/container/flat_hash_map.h>

#include <memory>

#include "tests/bench/engine/workload.h"

namespace dmm::bench {

class Ceiling {
 public:
  virtual ~Ceiling() = default;
  /// Takes all events as one change and appends how the result differs from before.
  virtual void step(const Events& events, Changes& out) = 0;
};

template <class Key, class Value>
using HashMap = absl::flat_hash_map<Key, Value>;

std::unique_ptr<Ceiling> make_filter_ceiling();
std::unique_ptr<Ceiling> make_addresses_ceiling();
std::unique_ptr<Ceiling> make_groups_ceiling();
std::unique_ptr<Ceiling> make_reconciliation_ceiling();
std::unique_ptr<Ceiling> make_sellers_ceiling();
std::unique_ptr<Ceiling> make_winning_bids_ceiling();
std::unique_ptr<Ceiling> make_reports_ceiling();

}  // namespace dmm::bench
