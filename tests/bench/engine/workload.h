// The workloads of the engine's benchmarks: generators (mulberry32, seed 42) and, for each, the
// pipeline that the engine runs and a plain recomputation whose result every run is compared with.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace dmm::bench {

struct Event {
  std::uint8_t input;
  std::uint32_t row[6];
  int weight;
};
using Events = std::vector<Event>;

/// What a workload needs to be run on any engine.
struct Shape {
  std::string pipeline;  // {"inputs", "pipeline"}
  std::vector<std::string> inputs;
  std::vector<std::vector<std::string>> columns;  // of each input
};
Shape shape_of(const std::string& workload);

/// Makes the rows of a workload. The order of draws is part of its specification.
class Generator {
 public:
  Generator(std::string workload, std::uint32_t size)
      : workload_(std::move(workload)), size_(size) {}
  void load(Events& out);
  void update(Events& out);

 private:
  std::uint32_t draw();
  void next_auction_event(Events& out);
  std::string workload_;
  std::uint32_t size_;
  std::uint32_t state_ = 42;
  std::uint32_t groups_ = 1;
  std::uint32_t events_ = 0;
  std::uint32_t people_ = 0;
  std::uint32_t auctions_ = 0;
  std::vector<std::uint32_t> a_;
  std::vector<std::uint32_t> b_;
  std::vector<std::uint32_t> c_;
};

/// Rows of the result as words, with the multiplicity of each.
using Result = std::map<std::vector<std::uint32_t>, std::int64_t>;

/// The result of a workload computed from all rows at once, with plain maps.
Result recompute(const std::string& workload, const Events& events);

/// Number of rows and the sum over rows of weight * FNV-like hash of the words.
struct Checksum {
  std::int64_t rows = 0;
  std::uint32_t sum = 0;
  void add(const std::vector<std::uint32_t>& words, std::int64_t weight);
  bool operator==(const Checksum&) const = default;
};

}  // namespace dmm::bench
