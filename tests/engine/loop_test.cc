// Goal: the closed loop converges. Method: a plant that delays, reorders and loses commands and is
// disturbed by others, driven by random seeds; after the disturbance stops the loop must reach the
// desired set within a bounded number of steps and then be silent.
#include <deque>

#include "laws.h"

using namespace dmm::engine;
using namespace dmm::engine::testing;
using nlohmann::json;

namespace {

// Objects by id: a command asserts or removes one whole object, and says nothing about repeats.
class Plant {
 public:
  Plant(Random& random, int delay_max, int loss_percent)
      : random_(random), delay_max_(delay_max), loss_(loss_percent) {}
  void command(const Batch& rows, int now) {
    for (const Row& row : rows)
      if (!calm_ && random_.chance(static_cast<std::size_t>(loss_)))
        continue;
      else
        in_flight_.push_back(
            {now + 1 +
                 (calm_ ? fixed_delay_
                        : static_cast<int>(random_.below(static_cast<std::size_t>(delay_max_)))),
             row});
  }
  void disturb() {
    if (random_.chance(50)) put(object(random_.below(6), random_.below(3)));
    if (random_.chance(30)) objects_.erase(static_cast<std::int64_t>(random_.below(6)));
  }
  void advance(int now) {
    std::vector<std::pair<int, Row>> waiting;
    for (auto& [due, row] : in_flight_)
      if (due > now) waiting.emplace_back(due, row);
    std::vector<Row> arrived;
    for (auto& [due, row] : in_flight_)
      if (due <= now) arrived.push_back(row);
    if (!calm_) std::shuffle(arrived.begin(), arrived.end(), std::mt19937_64(random_.bits()));
    // Removals first, so that a replacement that arrives in one step stands.
    if (calm_)
      std::stable_sort(arrived.begin(), arrived.end(),
                       [](const Row& a, const Row& b) { return a.weight < b.weight; });
    for (const Row& row : arrived) apply(row);
    in_flight_ = std::move(waiting);
  }
  // What changed since the last look.
  Batch observe() {
    Batch delta;
    for (const auto& [id, value] : seen_) delta.push_back(Row{value, -1});
    for (const auto& [id, value] : objects_) delta.push_back(Row{value, 1});
    REQUIRE(consolidate(delta));
    seen_ = objects_;
    return delta;
  }
  void calm(int delay) {
    calm_ = true;
    fixed_delay_ = delay;
  }
  Zset set() const {
    Zset result;
    for (const auto& [id, value] : objects_) REQUIRE(result.add(value, 1));
    return result;
  }
  static Value object(std::size_t id, std::size_t state) {
    return from_json(json{{"id", id}, {"state", state}});
  }

 private:
  static std::int64_t id_of(const Value& value) {
    ValueRef id;
    REQUIRE(value->find("id", id));
    return id.as_integer();
  }
  void put(Value value) { objects_[id_of(value)] = value; }
  void apply(const Row& row) {
    const std::int64_t id = id_of(row.value);
    if (row.weight > 0)
      put(row.value);
    else if (const auto it = objects_.find(id); it != objects_.end() && it->second == row.value)
      objects_.erase(it);
  }
  Random& random_;
  int delay_max_;
  int loss_;
  bool calm_ = false;
  int fixed_delay_ = 0;
  std::map<std::int64_t, Value> objects_;
  std::map<std::int64_t, Value> seen_;
  std::vector<std::pair<int, Row>> in_flight_;
};

void run_loop(std::uint64_t seed, const char* transforms, int plant_delay) {
  INFO("seed " << seed << " " << transforms);
  Random random(seed);
  json source = {
      {"inputs", {"d", "u"}}, {"outputs", {"u"}}, {"transforms", json::parse(transforms)}};
  source["pipeline"] = json::parse(
      R"([[{"@inputs":["d"]},{"@project":{"id":"$.id","state":"$.s"}},{"@output":"u"}]])");
  Program loop = Program::parse(source.dump());
  Plant plant(random, 4, 30);
  std::map<std::size_t, Value> desired;
  StepResult result;
  int silent = 0;
  constexpr int kDisturbed = 25;
  constexpr int kBound = 30;
  for (int now = 0; now < kDisturbed + kBound; ++now) {
    StepInput input;
    if (now < kDisturbed) {
      plant.disturb();
      if (random.chance(40)) {
        const std::size_t id = random.below(6);
        Batch& changes = input.batches["d"];
        if (desired.contains(id)) changes.push_back(Row{desired[id], -1});
        desired.erase(id);
        if (random.chance(70)) {
          desired[id] =
              from_json(json{{"id", id}, {"s", random.below(3)}, {"other", random.below(100)}});
          changes.push_back(Row{desired[id], 1});
        }
      }
    } else if (now == kDisturbed) {
      plant.calm(plant_delay);
    }
    plant.advance(now);
    input.batches["u"] = plant.observe();
    REQUIRE(loop.step(input, result));
    plant.command(result.outputs["u"], now);
    silent = result.outputs["u"].empty() ? silent + 1 : 0;
  }
  Zset wanted;
  for (const auto& [id, value] : desired) {
    ValueRef state;
    REQUIRE(value->find("s", state));
    REQUIRE(wanted.add(Plant::object(id, static_cast<std::size_t>(state.as_integer())), 1));
  }
  REQUIRE(text_of(plant.set()) == text_of(wanted));
  REQUIRE(silent >= 5);
}

}  // namespace

TEST_CASE("loop: the reconciler converges after any disturbance and is silent then",
          "[loop][unit]") {
  const std::uint64_t seed = seed_of_run();
  WARN("seed " << seed);
  for (std::uint64_t i = 0; i < steps_of_run(2000); ++i)
    run_loop(
        seed + i,
        R"([{"name":"Distincter"},{"name":"Reconciler","pairs":[["u","u"]]},{"name":"Incrementalizer"}])",
        0);
}

TEST_CASE("loop: the predictor converges with the delay that it knows", "[loop][unit]") {
  const std::uint64_t seed = seed_of_run();
  WARN("seed " << seed);
  for (std::uint64_t i = 0; i < steps_of_run(2000); ++i)
    run_loop(
        seed + i,
        R"([{"name":"Distincter"},{"name":"SmithPredictor","pairs":[["u","u"]],"k":3},{"name":"Incrementalizer"}])",
        2);
}

TEST_CASE("loop: only owned fields are compared", "[loop][unit]") {
  Program loop = Program::parse(R"({"inputs":["d","u"],"outputs":["u"],
    "transforms":[{"name":"Reconciler","owned":["id","state"]},{"name":"Incrementalizer"}],
    "pipeline":[[{"@inputs":["d"]},{"@project":{"id":"$.id","state":"$.state"}},{"@output":"u"}]]})");
  StepResult result;
  StepInput input;
  input.batches["d"] = {{loop.value(R"({"id":1,"state":"on"})"), 1}};
  REQUIRE(loop.step(input, result));
  REQUIRE(result.outputs["u"].size() == 1);
  input.batches.clear();
  input.batches["u"] = {{loop.value(R"({"id":1,"state":"on","version":7})"), 1},
                        {loop.value(R"({"id":1,"state":"on","version":8})"), 1}};
  REQUIRE(loop.step(input, result));
  CHECK(result.outputs["u"].empty());
}
