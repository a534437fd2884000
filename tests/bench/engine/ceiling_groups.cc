// W1, W2, W3 and W3h by hand: a filter, sorted lists for each service, ordered counts for each
// group.

#include <absl/container/btree_map.h>

#include <algorithm>

#include "tests/bench/engine/ceiling.h"

namespace dmm::bench {
namespace {

using u32 = std::uint32_t;

class FilterCeiling final : public Ceiling {
 public:
  void step(const Events& events, Changes& out) override {
    for (const Event& event : events) {
      const auto& [id, site, status, value, unused, unused2] = event.row;
      if (status == 0) out.add(event.weight, {id, value * 2 + 1});
    }
  }
};

// What a step touches is remembered as it was before, and compared when the step ends.
class AddressesCeiling final : public Ceiling {
 public:
  void step(const Events& events, Changes& out) override {
    before_.clear();
    for (const Event& event : events) {
      const bool is_service = event.input == 0;
      const u32 id = is_service ? event.row[0] : event.row[1];
      if (!is_service && event.row[2] == 0) continue;  // not running
      Service& service = services_[id];
      const auto [before, first] = before_.try_emplace(id);
      if (first && service.exists) before->second = service.addresses;
      if (is_service) {
        service.exists = event.weight > 0;
      } else {
        change(service.addresses, event.row[3], event.weight);
      }
    }
    for (const auto& [id, before] : before_) {
      const Service& service = services_.find(id)->second;
      const std::vector<u32> nothing;
      const std::vector<u32>& after = service.exists ? service.addresses : nothing;
      if (before == after) continue;
      add(out, -1, id, before);
      add(out, 1, id, after);
    }
  }

 private:
  struct Service {
    bool exists = false;
    std::vector<u32> addresses;  // sorted
  };
  static void change(std::vector<u32>& sorted, u32 value, std::int32_t weight) {
    const auto at = std::lower_bound(sorted.begin(), sorted.end(), value);
    if (weight > 0) {
      sorted.insert(at, value);
    } else {
      sorted.erase(at);
    }
  }
  static void add(Changes& out, std::int32_t weight, u32 id, const std::vector<u32>& addresses) {
    if (addresses.empty()) return;
    const u32 head[] = {id, static_cast<u32>(addresses.size())};
    out.add(weight, head, addresses);
  }
  HashMap<u32, Service> services_;
  HashMap<u32, std::vector<u32>> before_;
};

class GroupsCeiling final : public Ceiling {
 public:
  void step(const Events& events, Changes& out) override {
    before_.clear();
    for (const Event& event : events) {
      const auto& [id, key, value, unused, unused2, unused3] = event.row;
      Group& group = groups_[key];
      before_.try_emplace(key, totals(group));
      if (event.weight > 0) {
        ++group.count;
        group.sum += value;
        ++group.values[value];
      } else {
        --group.count;
        group.sum -= value;
        const auto at = group.values.find(value);
        if (--at->second == 0) group.values.erase(at);
      }
    }
    for (const auto& [key, before] : before_) {
      const Totals after = totals(groups_.find(key)->second);
      if (before == after) continue;
      add(out, -1, key, before);
      add(out, 1, key, after);
    }
  }

 private:
  struct Group {
    u32 count = 0;
    std::uint64_t sum = 0;
    absl::btree_map<u32, u32> values;  // how often each occurs
  };
  struct Totals {
    u32 count = 0;
    std::uint64_t sum = 0;
    u32 low = 0;
    u32 high = 0;
    bool operator==(const Totals&) const = default;
  };
  static Totals totals(const Group& group) {
    if (group.count == 0) return {};
    return {group.count, group.sum, group.values.begin()->first, group.values.rbegin()->first};
  }
  static void add(Changes& out, std::int32_t weight, u32 key, const Totals& totals) {
    if (totals.count == 0) return;
    out.add(weight, {key, totals.count, static_cast<u32>(totals.sum),
                     static_cast<u32>(totals.sum >> 32), totals.low, totals.high});
  }
  HashMap<u32, Group> groups_;
  HashMap<u32, Totals> before_;
};

}  // namespace

std::unique_ptr<Ceiling> make_filter_ceiling() {
  return std::make_unique<FilterCeiling>();
}
std::unique_ptr<Ceiling> make_addresses_ceiling() {
  return std::make_unique<AddressesCeiling>();
}
std::unique_ptr<Ceiling> make_groups_ceiling() {
  return std::make_unique<GroupsCeiling>();
}

}  // namespace dmm::bench
