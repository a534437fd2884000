#include "tests/bench/engine/workload.h"

#include <algorithm>
#include <stdexcept>

namespace dmm::bench {
namespace {

using u32 = std::uint32_t;

constexpr u32 kValues = 1'000'000;  // values lie below

// All rows first, then a row that is replaced: columns that change are kept beside.
class FilterGenerator final : public Generator {
 public:
  explicit FilterGenerator(u32 size) : statuses_(size), values_(size) {}

  bool load(Events& out) override {
    if (next_ == statuses_.size()) return false;
    statuses_[next_] = random_() & 3;
    values_[next_] = random_() % kValues;
    out.push_back(row(next_++, 1));
    return true;
  }
  void update(Events& out) override {
    const u32 id = random_() % static_cast<u32>(statuses_.size());
    out.push_back(row(id, -1));
    statuses_[id] = random_() & 3;
    values_[id] = random_() % kValues;
    out.push_back(row(id, 1));
  }

 private:
  Event row(u32 id, std::int32_t weight) const {
    return {0, {id, id % 1'000, statuses_[id], values_[id]}, weight};
  }
  Mulberry32 random_;
  std::vector<u32> statuses_;
  std::vector<u32> values_;
  u32 next_ = 0;
};

// A pod changes phase and address; one of ten moves to another service, too.
class EndpointsGenerator final : public Generator {
 public:
  explicit EndpointsGenerator(u32 size)
      : services_(std::max<u32>(1, size / 10)), service_of_(size), running_(size), address_(size) {}

  bool load(Events& out) override {
    if (next_service_ < services_) {
      out.push_back({0, {next_service_++}, 1});
      return true;
    }
    if (next_pod_ == running_.size()) return false;
    service_of_[next_pod_] = random_() % services_;
    running_[next_pod_] = random_() % 10 != 0 ? 1 : 0;
    address_[next_pod_] = random_();
    out.push_back(pod(next_pod_++, 1));
    return true;
  }
  void update(Events& out) override {
    const u32 id = random_() % static_cast<u32>(running_.size());
    const bool moves = random_() % 10 == 0;
    const u32 running = random_() % 10 != 0 ? 1 : 0;
    const u32 address = random_();
    out.push_back(pod(id, -1));
    if (moves) service_of_[id] = random_() % services_;
    running_[id] = running;
    address_[id] = address;
    out.push_back(pod(id, 1));
  }

 private:
  Event pod(u32 id, std::int32_t weight) const {
    return {1, {id, service_of_[id], running_[id], address_[id]}, weight};
  }
  Mulberry32 random_;
  u32 services_;
  std::vector<u32> service_of_;
  std::vector<u32> running_;
  std::vector<u32> address_;
  u32 next_service_ = 0;
  u32 next_pod_ = 0;
};

// A row moves to another group with another value.
class GroupsGenerator final : public Generator {
 public:
  GroupsGenerator(u32 size, u32 groups) : groups_(groups), group_of_(size), value_of_(size) {}

  bool load(Events& out) override {
    if (next_ == group_of_.size()) return false;
    group_of_[next_] = random_() % groups_;
    value_of_[next_] = random_() % kValues;
    out.push_back(row(next_++, 1));
    return true;
  }
  void update(Events& out) override {
    const u32 id = random_() % static_cast<u32>(group_of_.size());
    out.push_back(row(id, -1));
    group_of_[id] = random_() % groups_;
    value_of_[id] = random_() % kValues;
    out.push_back(row(id, 1));
  }

 private:
  Event row(u32 id, std::int32_t weight) const {
    return {0, {id, group_of_[id], value_of_[id]}, weight};
  }
  Mulberry32 random_;
  u32 groups_;
  std::vector<u32> group_of_;
  std::vector<u32> value_of_;
  u32 next_ = 0;
};

// Devices of 50 keys. One desired row of ten has a duplicate of another source; one device key of a
// hundred is observed with another value, and beside one of a hundred lies a key nobody desires.
class ReconciliationGenerator final : public Generator {
 public:
  explicit ReconciliationGenerator(u32 size) : desired_(size / 2), observed_(size / 2) {}

  bool load(Events& out) override {
    if (next_ == desired_.size()) return false;
    const u32 i = next_++;
    desired_[i] = random_() % 1'000;
    push_desired(out, i, 1);
    const u32 fate = random_() % 100;
    observed_[i] = fate == 0 ? random_() % 1'000 : desired_[i];
    push_observed(out, i, 1);
    if (fate == 1) out.push_back({1, {i / 50, 1'000 + i % 50, 0}, 1});
    return true;
  }
  void update(Events& out) override {
    const bool observation = random_() % 10 < 9;
    const u32 i = random_() % static_cast<u32>(desired_.size());
    if (observation) {
      const u32 value = random_() % 2 == 0 ? desired_[i] : random_() % 1'000;
      push_observed(out, i, -1);
      observed_[i] = value;
      push_observed(out, i, 1);
    } else {
      const u32 value = random_() % 1'000;
      push_desired(out, i, -1);
      desired_[i] = value;
      push_desired(out, i, 1);
    }
  }

 private:
  void push_desired(Events& out, u32 i, std::int32_t weight) const {
    out.push_back({0, {1, i / 50, i % 50, desired_[i]}, weight});
    if (i % 10 == 0) out.push_back({0, {2, i / 50, i % 50, desired_[i]}, weight});
  }
  void push_observed(Events& out, u32 i, std::int32_t weight) const {
    out.push_back({1, {i / 50, i % 50, observed_[i]}, weight});
  }
  Mulberry32 random_;
  std::vector<u32> desired_;
  std::vector<u32> observed_;
  u32 next_ = 0;
};

// In 50 events: 1 person, 3 auctions, 46 bids. Sellers and auctions are recent ones.
class AuctionsGenerator final : public Generator {
 public:
  explicit AuctionsGenerator(u32 size) : size_(size) {}

  bool load(Events& out) override {
    if (time_ == size_) return false;
    update(out);
    return true;
  }
  void update(Events& out) override {
    const u32 now = time_++;
    const u32 place = now % 50;
    if (place == 0) {
      out.push_back({0, {now / 50, random_() % 6}, 1});
      people_ = now / 50 + 1;
    } else if (place <= 3) {
      const u32 seller = recent(1'000, people_);
      const u32 category = 10 + random_() % 5;
      const u32 expires = now + 1 + random_() % 2'000;
      out.push_back({1, {auctions_++, seller, category, now, expires}, 1});
    } else {
      const u32 auction = recent(100, auctions_);
      const u32 price = 1 + random_() % 10'000;
      out.push_back({2, {auction, price, now}, 1});
    }
  }

 private:
  u32 recent(u32 span, u32 count) {
    const u32 back = random_() % span;
    return back > count - 1 ? 0 : count - 1 - back;
  }
  Mulberry32 random_;
  u32 size_;
  u32 time_ = 0;
  u32 people_ = 0;
  u32 auctions_ = 0;
};

// Reports at first what is desired.
class ReportsGenerator final : public Generator {
 public:
  enum class Changed { one, none, all };
  ReportsGenerator(u32 size, Changed changed)
      : devices_(size / kReportKeys), values_(devices_ * kReportKeys), changed_(changed) {}

  bool load(Events& out) override {
    if (next_ == devices_) return false;
    for (u32 key = 0; key < kReportKeys; ++key) value(next_, key) = random_() % 1'000;
    push(out, 0, next_);
    push(out, 1, next_);
    ++next_;
    return true;
  }
  void update(Events& out) override {
    const u32 device = random_() % devices_;
    if (changed_ == Changed::one) {
      const u32 key = random_() % kReportKeys;
      value(device, key) = random_() % 1'000;
    } else if (changed_ == Changed::all) {
      for (u32 key = 0; key < kReportKeys; ++key) value(device, key) = random_() % 1'000;
    }
    push(out, 1, device);
  }

 private:
  u32& value(u32 device, u32 key) { return values_[device * kReportKeys + key]; }
  void push(Events& out, u32 input, u32 device) {
    for (u32 key = 0; key < kReportKeys; ++key) {
      out.push_back({input, {device, key, value(device, key)}, 1});
    }
  }
  Mulberry32 random_;
  u32 devices_;
  std::vector<u32> values_;
  Changed changed_;
  u32 next_ = 0;
};

}  // namespace

u32 Mulberry32::operator()() {
  state_ += 0x6D2B79F5U;
  u32 t = state_;
  t = (t ^ (t >> 15)) * (t | 1);
  t ^= t + (t ^ (t >> 7)) * (t | 61);
  return t ^ (t >> 14);
}

const std::vector<std::string>& workloads() {
  static const std::vector<std::string> names{
      "W1",        "W2", "W3",           "W3h",           "W4", "Q3", "Q4",
      "endpoints", "W6", "W6-unchanged", "W6-all-changed"};
  return names;
}

bool is_reports(const std::string& workload) {
  return workload.starts_with("W6");
}

std::unique_ptr<Generator> make_generator(const std::string& workload, u32 size) {
  if (size < 100) throw std::invalid_argument("a workload has at least 100 rows");
  if (workload == "W1") return std::make_unique<FilterGenerator>(size);
  if (workload == "W2" || workload == "endpoints") {
    return std::make_unique<EndpointsGenerator>(size);
  }
  if (workload == "W3") return std::make_unique<GroupsGenerator>(size, size / 100);
  if (workload == "W3h") return std::make_unique<GroupsGenerator>(size, 10);
  if (workload == "W4") return std::make_unique<ReconciliationGenerator>(size);
  if (workload == "Q3" || workload == "Q4") return std::make_unique<AuctionsGenerator>(size);
  using Changed = ReportsGenerator::Changed;
  if (workload == "W6") return std::make_unique<ReportsGenerator>(size, Changed::one);
  if (workload == "W6-unchanged") return std::make_unique<ReportsGenerator>(size, Changed::none);
  if (workload == "W6-all-changed") return std::make_unique<ReportsGenerator>(size, Changed::all);
  throw std::invalid_argument("there is no workload " + workload);
}

void Changes::clear() {
  words_.clear();
  rows_.clear();
}

void Changes::add(std::int64_t weight, std::span<const u32> head, std::span<const u32> tail) {
  words_.insert(words_.end(), head.begin(), head.end());
  words_.insert(words_.end(), tail.begin(), tail.end());
  rows_.push_back({words_.size(), weight});
}

std::span<const u32> Changes::words(std::size_t index) const {
  const std::size_t begin = index == 0 ? 0 : rows_[index - 1].end;
  return std::span(words_).subspan(begin, rows_[index].end - begin);
}

void Checksum::add(const Changes& changes) {
  for (std::size_t i = 0; i < changes.size(); ++i) {
    u32 hash = 0x811c9dc5U;
    for (const u32 word : changes.words(i)) hash = (hash ^ word) * 0x01000193U;
    rows += changes.weight(i);
    sum += hash * static_cast<u32>(changes.weight(i));
  }
}

}  // namespace dmm::bench
