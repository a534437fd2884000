#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <stdexcept>
#include <string>

#include "tests/bench/engine/measure.h"

namespace dmm::bench {
namespace {

constexpr const char* kLoad = "the load";

using Rows = std::map<std::vector<std::uint32_t>, std::int64_t>;

void add(const Changes& changes, Rows& rows) {
  for (std::size_t i = 0; i < changes.size(); ++i) {
    const auto words = changes.words(i);
    const auto at = rows.try_emplace({words.begin(), words.end()}).first;
    if ((at->second += changes.weight(i)) == 0) rows.erase(at);
  }
}

std::string first_difference(const Rows& rows, const Rows& expected) {
  for (const auto& [words, weight] : expected) {
    const auto at = rows.find(words);
    if (at == rows.end()) return fmt::format("{} is missing", words);
    if (at->second != weight) return fmt::format("{} is there {} times", words, at->second);
  }
  for (const auto& [words, weight] : rows) {
    if (!expected.contains(words)) return fmt::format("{} is too many", words);
  }
  return {};
}

/// After the load of 1,000 rows, by another implementation of the same workloads.
const std::map<std::string, Checksum> kKnown{
    {"W1", {275, 2'905'682'684}}, {"W2", {100, 652'917'894}},  {"W3", {10, 3'405'208'692}},
    {"W3h", {10, 3'405'208'692}}, {"W4", {13, 2'084'947'110}}, {"Q3", {17, 1'020'964'004}},
    {"Q4", {5, 2'833'363'812}},
};

void require_known(const std::string& workload, const Changes& result) {
  const auto known = kKnown.find(workload);
  Checksum sum;
  sum.add(result);
  if (known == kKnown.end() || sum == known->second) return;
  throw std::runtime_error(fmt::format("{} 1k: {} rows with the sum {}, not {} with {}: other rows",
                                       workload, sum.rows, sum.sum, known->second.rows,
                                       known->second.sum));
}

struct Contestant {
  const char* name;
  std::unique_ptr<Subject> subject;
  Rows rows;
};

}  // namespace

void verify(const std::string& workload, std::uint32_t size) {
  const auto generator = make_generator(workload, size);
  const auto judge = make_sqlite(workload);
  std::vector<Contestant> contestants;
  for (const char* name : {"dmm", "dmm-json", "ceiling", "ceiling-json", "sqlite"}) {
    contestants.push_back({name, make_subject(name, workload), {}});
  }
  Events events;
  Changes changes;
  const auto step = [&](const std::string& point) {
    judge->prepare(events);
    judge->step();
    Rows expected;
    changes.clear();
    judge->recompute(changes);
    if (point == kLoad && size == 1'000) require_known(workload, changes);
    add(changes, expected);
    for (Contestant& contestant : contestants) {
      contestant.subject->prepare(events);
      contestant.subject->step();
      changes.clear();
      contestant.subject->changes(changes);
      add(changes, contestant.rows);
      const std::string difference = first_difference(contestant.rows, expected);
      if (difference.empty()) continue;
      throw std::runtime_error(fmt::format("{} {}: {} is wrong after {}: {}", workload, size,
                                           contestant.name, point, difference));
    }
    events.clear();
  };
  while (generator->load(events)) continue;
  step(kLoad);
  for (int i = 1; i <= 100; ++i) {
    generator->update(events);
    step(fmt::format("update {}", i));
  }
  for (int i = 1; i <= 5; ++i) {
    for (std::size_t j = 0; j < kBatchReports; ++j) generator->update(events);
    step(fmt::format("batch {}", i));
  }
}

}  // namespace dmm::bench
