// W6 by hand: the cells of a device side by side, an observation beside what is desired.

#include <array>

#include "tests/bench/engine/ceiling.h"

namespace dmm::bench {
namespace {

using u32 = std::uint32_t;

class ReportsCeiling final : public Ceiling {
 public:
  void step(const Events& events, Changes& out) override {
    for (const Event& event : events) {
      const auto& [device, key, value, unused, unused2, unused3] = event.row;
      Cell& cell = devices_[device][key];
      const Cell before = cell;
      if (event.input == 0) {
        cell.has_desired = true;
        cell.desired = value;
      } else {
        cell.has_observed = true;
        cell.observed = value;
      }
      if (cell == before) continue;
      if (before.to_write()) out.add(-1, {device, key, before.desired});
      if (cell.to_write()) out.add(1, {device, key, cell.desired});
    }
  }

 private:
  struct Cell {
    u32 desired = 0;
    u32 observed = 0;
    bool has_desired = false;
    bool has_observed = false;
    bool operator==(const Cell&) const = default;
    // A device that has never reported is not there to be written to.
    bool to_write() const { return has_desired && has_observed && desired != observed; }
  };
  HashMap<u32, std::array<Cell, kReportKeys>> devices_;
};

}  // namespace

std::unique_ptr<Ceiling> make_reports_ceiling() {
  return std::make_unique<ReportsCeiling>();
}

}  // namespace dmm::bench
