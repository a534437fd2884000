#include "tests/bench/engine/workload.h"

#include <algorithm>
#include <set>
#include <tuple>

namespace dmm::bench {

using u32 = std::uint32_t;

Shape shape_of(const std::string& workload) {
  if (workload == "w1")
    return {R"({"inputs":["in"],"pipeline":[{"@select":{"@eq":["$.st",0]}},
      {"@project":{"id":"$.id","v":{"@add":[{"@mul":["$.val",2]},1]}}}]})",
            {"in"},
            {{"id", "site", "st", "val"}}};
  if (workload == "w2")
    return {R"({"inputs":["svc","pod"],"pipeline":[
      {"@join":{"@and":[{"@eq":["$.svc.id","$.pod.app"]},{"@eq":["$.pod.run",1]}]}},
      {"@groupBy":["$.svc.id","$.pod.ip"]},{"@project":{"id":"$.key","ips":"$.values"}}]})",
            {"svc", "pod"},
            {{"id"}, {"id", "app", "run", "ip"}}};
  if (workload == "w3" || workload == "w3h")
    return {R"({"inputs":["in"],"pipeline":[{"@groupBy":["$.g","$.v"]},{"@project":{"g":"$.key",
      "c":{"@len":"$.values"},"s":{"@sum":"$.values"},"lo":{"@min":"$.values"},"hi":{"@max":"$.values"}}}]})",
            {"in"},
            {{"id", "g", "v"}}};
  if (workload == "w4")
    return {R"({"inputs":["des","obs"],"pipeline":[
      [{"@inputs":["des"]},{"@project":{"d":"$.d","k":"$.k","v":"$.v"}},"@distinct",{"@output":"want"}],
      [{"@inputs":["des"]},{"@project":{"d":"$.d","k":"$.k"}},"@distinct",{"@output":"keys"}],
      [{"@inputs":["want","obs"]},{"@join":[{"@and":[{"@eq":["$.want.d","$.obs.d"]},{"@eq":["$.want.k","$.obs.k"]},
         {"@eq":["$.want.v","$.obs.v"]}]},{"soft":["obs"]}]},{"@select":{"@isnil":"$.obs"}},
         {"@project":{"t":0,"d":"$.want.d","k":"$.want.k","v":"$.want.v"}},{"@output":"output"}],
      [{"@inputs":["obs","keys"]},{"@join":[{"@and":[{"@eq":["$.obs.d","$.keys.d"]},{"@eq":["$.obs.k","$.keys.k"]}]},
         {"soft":["keys"]}]},{"@select":{"@isnil":"$.keys"}},
         {"@project":{"t":1,"d":"$.obs.d","k":"$.obs.k"}},{"@output":"output"}]]})",
            {"des", "obs"},
            {{"src", "d", "k", "v"}, {"d", "k", "v"}}};
  if (workload == "q3")
    return {R"({"inputs":["person","auction","bid"],"pipeline":[
      {"@join":[{"@and":[{"@eq":["$.auction.seller","$.person.id"]},{"@eq":["$.auction.cat",10]},{"@in":["$.person.st",[0,1,2]]}]},
         {"inputs":["person","auction"]}]},
      {"@project":{"a":"$.auction.id","p":"$.person.id","st":"$.person.st"}}]})",
            {"person", "auction", "bid"},
            {{"id", "st"}, {"id", "seller", "cat", "ts", "ex"}, {"auction", "price", "ts"}}};
  return {R"({"inputs":["person","auction","bid"],"pipeline":[
      [{"@inputs":["auction","bid"]},{"@join":{"@and":[{"@eq":["$.auction.id","$.bid.auction"]},
         {"@gte":["$.bid.ts","$.auction.ts"]},{"@lte":["$.bid.ts","$.auction.ex"]}]}},
       {"@groupBy":[{"a":"$.auction.id","cat":"$.auction.cat"},"$.bid.price"]},
       {"@project":{"cat":"$.key.cat","top":{"@max":"$.values"}}},{"@output":"tops"}],
      [{"@inputs":["tops"]},{"@groupBy":["$.cat","$.top"]},
       {"@project":{"cat":"$.key","avg":{"@div":[{"@sum":"$.values"},{"@len":"$.values"}]}}},{"@output":"output"}]]})",
          {"person", "auction", "bid"},
          {{"id", "st"}, {"id", "seller", "cat", "ts", "ex"}, {"auction", "price", "ts"}}};
}

u32 Generator::draw() {
  state_ += 0x6D2B79F5U;
  u32 t = state_;
  t = (t ^ (t >> 15)) * (t | 1);
  t ^= t + (t ^ (t >> 7)) * (t | 61);
  return t ^ (t >> 14);
}

// 1 person : 3 auctions : 46 bids in every 50 events.
void Generator::next_auction_event(Events& out) {
  const u32 n = events_++;
  const u32 place = n % 50;
  if (place == 0) {
    out.push_back({0, {n / 50, draw() % 6}, 1});
    people_ = n / 50 + 1;
  } else if (place <= 3) {
    const u32 back = draw() % 1000;
    const u32 last = people_ - 1;
    const u32 seller = back > last ? 0 : last - back;
    const u32 category = 10 + draw() % 5;
    const u32 expires = n + 1 + draw() % 2000;
    out.push_back({1, {auctions_++, seller, category, n, expires}, 1});
  } else {
    const u32 back = draw() % 100;
    const u32 last = auctions_ - 1;
    const u32 auction = back > last ? 0 : last - back;
    out.push_back({2, {auction, 1 + draw() % 10000, n}, 1});
  }
}

void Generator::load(Events& out) {
  if (workload_ == "w1") {
    for (u32 i = 0; i < size_; ++i) {
      a_.push_back(draw() & 3);
      b_.push_back(draw() % 1000000);
      out.push_back({0, {i, i % 1000, a_[i], b_[i]}, 1});
    }
  } else if (workload_ == "w2") {
    groups_ = std::max<u32>(1, size_ / 10);
    for (u32 i = 0; i < groups_; ++i) out.push_back({0, {i}, 1});
    for (u32 i = 0; i < size_; ++i) {
      a_.push_back(draw() % groups_);
      b_.push_back(draw() % 10 != 0 ? 1 : 0);
      c_.push_back(draw());
      out.push_back({1, {i, a_[i], b_[i], c_[i]}, 1});
    }
  } else if (workload_ == "w3" || workload_ == "w3h") {
    groups_ = workload_ == "w3" ? std::max<u32>(1, size_ / 100) : 10;
    for (u32 i = 0; i < size_; ++i) {
      a_.push_back(draw() % groups_);
      b_.push_back(draw() % 1000000);
      out.push_back({0, {i, a_[i], b_[i]}, 1});
    }
  } else if (workload_ == "w4") {
    for (u32 i = 0; i < size_ / 2; ++i) {
      const u32 d = i / 50;
      const u32 k = i % 50;
      const u32 v = draw() % 1000;
      a_.push_back(v);
      out.push_back({0, {1, d, k, v}, 1});
      if (i % 10 == 0) out.push_back({0, {2, d, k, v}, 1});
      const u32 x = draw() % 100;
      b_.push_back(x == 0 ? draw() % 1000 : v);
      out.push_back({1, {d, k, b_[i]}, 1});
      if (x == 1) out.push_back({1, {d, 1000 + k, 0}, 1});
    }
  } else {
    for (u32 i = 0; i < size_; ++i) next_auction_event(out);
  }
}

void Generator::update(Events& out) {
  if (workload_ == "w1") {
    const u32 i = draw() % size_;
    const u32 status = draw() & 3;
    const u32 value = draw() % 1000000;
    out.push_back({0, {i, i % 1000, a_[i], b_[i]}, -1});
    a_[i] = status;
    b_[i] = value;
    out.push_back({0, {i, i % 1000, status, value}, 1});
  } else if (workload_ == "w2") {
    const u32 i = draw() % size_;
    const u32 moves = draw() % 10;
    const u32 running = draw() % 10 != 0 ? 1 : 0;
    const u32 ip = draw();
    out.push_back({1, {i, a_[i], b_[i], c_[i]}, -1});
    if (moves == 0) a_[i] = draw() % groups_;
    b_[i] = running;
    c_[i] = ip;
    out.push_back({1, {i, a_[i], running, ip}, 1});
  } else if (workload_ == "w3" || workload_ == "w3h") {
    const u32 i = draw() % size_;
    const u32 group = draw() % groups_;
    const u32 value = draw() % 1000000;
    out.push_back({0, {i, a_[i], b_[i]}, -1});
    a_[i] = group;
    b_[i] = value;
    out.push_back({0, {i, group, value}, 1});
  } else if (workload_ == "w4") {
    const u32 type = draw() % 10;
    const u32 i = draw() % (size_ / 2);
    const u32 d = i / 50;
    const u32 k = i % 50;
    if (type < 9) {
      const u32 observed = draw() % 2 == 0 ? a_[i] : draw() % 1000;
      out.push_back({1, {d, k, b_[i]}, -1});
      b_[i] = observed;
      out.push_back({1, {d, k, observed}, 1});
      return;
    }
    const u32 value = draw() % 1000;
    out.push_back({0, {1, d, k, a_[i]}, -1});
    if (i % 10 == 0) out.push_back({0, {2, d, k, a_[i]}, -1});
    a_[i] = value;
    out.push_back({0, {1, d, k, value}, 1});
    if (i % 10 == 0) out.push_back({0, {2, d, k, value}, 1});
  } else {
    next_auction_event(out);
  }
}

namespace {

using Rows = std::map<std::vector<u32>, std::int64_t>;

std::vector<Rows> collections(const Events& events) {
  std::vector<Rows> result(3);
  for (const Event& event : events) {
    const std::vector<u32> row(event.row, event.row + 6);
    if ((result[event.input][row] += event.weight) == 0) result[event.input].erase(row);
  }
  return result;
}

void reconcile(const std::vector<Rows>& in, Result& out) {
  std::set<std::tuple<u32, u32, u32>> want;
  std::set<std::pair<u32, u32>> keys;
  std::set<std::tuple<u32, u32, u32>> observed;
  for (const auto& [r, w] : in[0]) {
    want.emplace(r[1], r[2], r[3]);
    keys.emplace(r[1], r[2]);
  }
  for (const auto& [r, w] : in[1]) {
    observed.emplace(r[0], r[1], r[2]);
    if (!keys.contains({r[0], r[1]})) out[{1, r[0], r[1]}] += w;
  }
  for (const auto& [d, k, v] : want)
    if (!observed.contains({d, k, v})) out[{0, d, k, v}] += 1;
}

void winning_bids(const std::vector<Rows>& in, Result& out) {
  std::map<u32, std::vector<u32>> auctions;
  for (const auto& [r, w] : in[1]) auctions[r[0]] = r;
  std::map<u32, u32> top;
  for (const auto& [r, w] : in[2]) {
    const auto it = auctions.find(r[0]);
    if (it == auctions.end() || r[2] < it->second[3] || r[2] > it->second[4]) continue;
    top[r[0]] = std::max(top[r[0]], r[1]);
  }
  std::map<u32, std::pair<std::uint64_t, std::uint64_t>> categories;
  for (const auto& [auction, price] : top) {
    auto& [sum, count] = categories[auctions[auction][2]];
    sum += price;
    ++count;
  }
  for (const auto& [category, total] : categories)
    out[{category, static_cast<u32>(total.first / total.second)}] += 1;
}

}  // namespace

Result recompute(const std::string& workload, const Events& events) {
  const std::vector<Rows> in = collections(events);
  Result out;
  if (workload == "w1") {
    for (const auto& [r, w] : in[0])
      if (r[2] == 0) out[{r[0], r[3] * 2 + 1}] += w;
  } else if (workload == "w2") {
    std::map<u32, std::vector<u32>> addresses;
    for (const auto& [r, w] : in[1])
      if (r[2] == 1) addresses[r[1]].push_back(r[3]);
    for (const auto& [r, w] : in[0]) {
      const auto it = addresses.find(r[0]);
      if (it == addresses.end()) continue;
      std::vector<u32> words = {r[0], static_cast<u32>(it->second.size())};
      std::sort(it->second.begin(), it->second.end());
      words.insert(words.end(), it->second.begin(), it->second.end());
      out[words] += 1;
    }
  } else if (workload == "w3" || workload == "w3h") {
    std::map<u32, std::vector<u32>> groups;
    for (const auto& [r, w] : in[0]) groups[r[1]].push_back(r[2]);
    for (const auto& [group, values] : groups) {
      std::uint64_t sum = 0;
      for (const u32 value : values) sum += value;
      const auto [low, high] = std::minmax_element(values.begin(), values.end());
      out[{group, static_cast<u32>(values.size()), static_cast<u32>(sum),
           static_cast<u32>(sum >> 32), *low, *high}] += 1;
    }
  } else if (workload == "w4") {
    reconcile(in, out);
  } else if (workload == "q3") {
    std::map<u32, u32> people;
    for (const auto& [r, w] : in[0])
      if (r[1] < 3) people[r[0]] = r[1];
    for (const auto& [r, w] : in[1])
      if (r[2] == 10 && people.contains(r[1])) out[{r[0], r[1], people[r[1]]}] += w;
  } else {
    winning_bids(in, out);
  }
  return out;
}

void Checksum::add(const std::vector<u32>& words, std::int64_t weight) {
  u32 hash = 0x811c9dc5U;
  for (const u32 word : words) hash = (hash ^ word) * 0x01000193U;
  rows += weight;
  sum += hash * static_cast<u32>(weight);
}

}  // namespace dmm::bench
