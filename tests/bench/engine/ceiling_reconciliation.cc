// W4 by hand: a count for each desired value and for each key, and the observed value beside it.

#include <tuple>
#include <utility>

#include "tests/bench/engine/ceiling.h"

namespace dmm::bench {
namespace {

using u32 = std::uint32_t;
using DeviceKey = std::pair<u32, u32>;
using Cell = std::tuple<u32, u32, u32>;  // device, key, value

class ReconciliationCeiling final : public Ceiling {
 public:
  void step(const Events& events, Changes& out) override {
    to_write_before_.clear();
    to_delete_before_.clear();
    for (const Event& event : events) take(event);
    for (const auto& [cell, before] : to_write_before_) {
      const auto at = cells_.find(cell);
      const bool after = at->second.to_write();
      const auto& [device, key, value] = cell;
      if (before != after) out.add(after ? 1 : -1, {0, device, key, value});
      if (at->second.desired == 0 && !at->second.observed) cells_.erase(at);
    }
    for (const auto& [key, before] : to_delete_before_) {
      const auto at = keys_.find(key);
      const bool after = at->second.to_delete();
      if (before != after) out.add(after ? 1 : -1, {1, key.first, key.second});
      if (at->second.desired == 0 && at->second.observed == 0) keys_.erase(at);
    }
  }

 private:
  struct CellState {
    std::int32_t desired = 0;  // by how many sources
    bool observed = false;
    bool to_write() const { return desired > 0 && !observed; }
  };
  struct KeyState {
    std::int32_t desired = 0;
    std::int32_t observed = 0;
    bool to_delete() const { return observed > 0 && desired == 0; }
  };

  void take(const Event& event) {
    const bool desired = event.input == 0;
    const auto& row = event.row;
    const Cell cell = desired ? Cell{row[1], row[2], row[3]} : Cell{row[0], row[1], row[2]};
    const DeviceKey key{std::get<0>(cell), std::get<1>(cell)};
    CellState& cell_state = cells_[cell];
    KeyState& key_state = keys_[key];
    to_write_before_.try_emplace(cell, cell_state.to_write());
    to_delete_before_.try_emplace(key, key_state.to_delete());
    if (desired) {
      cell_state.desired += event.weight;
      key_state.desired += event.weight;
    } else {
      cell_state.observed = event.weight > 0;
      key_state.observed += event.weight;
    }
  }

  HashMap<Cell, CellState> cells_;
  HashMap<DeviceKey, KeyState> keys_;
  HashMap<Cell, bool> to_write_before_;
  HashMap<DeviceKey, bool> to_delete_before_;
};

}  // namespace

std::unique_ptr<Ceiling> make_reconciliation_ceiling() {
  return std::make_unique<ReconciliationCeiling>();
}

}  // namespace dmm::bench
