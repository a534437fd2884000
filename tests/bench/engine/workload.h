#pragma once

// The workloads of the engine's benchmarks: rows of numbers, the same for every engine that is
// measured. Made by mulberry32 with seed 42; the order of draws is part of a workload, so that
// anybody who follows it gets the same rows and the same checksums.
//
// W1         filter and project: (id, site, status, value); out (id, 2 * value + 1) where status =
// 0 W2         services and pods (id, service, running, address); out for each service the sorted
//            addresses of its running pods
// W3         rows (id, group, value), 100 for each group; out count, sum, min and max of the group
// W3h        the same with 10 groups, however many rows there are
// W4         desired (source, device, key, value), made distinct, and observed (device, key,
// value);
//            out what is desired and not observed, and observed keys that nothing desires
// Q3, Q4     people, auctions and bids, insertions only; out sellers in some states with auctions
// of
//            one category; out the average winning bid for each category
// endpoints  W2 with Kubernetes documents for rows
// W6         devices of 50 keys that report all they have, 1.45 kB, with one value changed; out
// what
//            each should have and has not. An observation replaces the one before of its cell.
// W6-unchanged, W6-all-changed  the same with no value and with all values changed

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dmm::bench {

/// The random numbers of all workloads.
class Mulberry32 final {
 public:
  std::uint32_t operator()();

 private:
  std::uint32_t state_ = 42;
};

/// Cells of a device in W6. A report is that many events, one after the other.
inline constexpr std::uint32_t kReportKeys = 50;

/// A row that comes (+1) or goes (-1).
struct Event {
  std::uint32_t input;
  std::array<std::uint32_t, 6> row;  ///< as many columns as the input has, then zeros
  std::int32_t weight;
};
using Events = std::vector<Event>;

/// Makes the rows of a workload. Claims its memory when made, so that what the process grows by
/// afterwards belongs to the engine.
class Generator {
 public:
  virtual ~Generator() = default;
  /// Appends the next rows of the load, a few at a time; false when there are no more.
  virtual bool load(Events& out) = 0;
  /// Appends the events of one update; after the load.
  virtual void update(Events& out) = 0;
};

/// The names above, in that order.
const std::vector<std::string>& workloads();
/// W6 and its variants: sizes count cells.
bool is_reports(const std::string& workload);

/// Throws std::invalid_argument for an unknown workload or a size below 100.
std::unique_ptr<Generator> make_generator(const std::string& workload, std::uint32_t size);

/// Changes of a result: rows of words of any length, each with a weight.
class Changes final {
 public:
  void clear();
  void add(std::int64_t weight, std::initializer_list<std::uint32_t> words) {
    add(weight, std::span(words.begin(), words.size()), {});
  }
  /// A row of `head` and `tail` together.
  void add(std::int64_t weight, std::span<const std::uint32_t> head,
           std::span<const std::uint32_t> tail);
  std::size_t size() const { return rows_.size(); }
  std::span<const std::uint32_t> words(std::size_t index) const;
  std::int64_t weight(std::size_t index) const { return rows_[index].weight; }

 private:
  struct Row {
    std::size_t end;
    std::int64_t weight;
  };
  std::vector<std::uint32_t> words_;
  std::vector<Row> rows_;
};

/// What two results are compared by: how many rows there are, and the sum over them of weight times
/// an FNV-like hash of the words. Does not depend on their order.
struct Checksum {
  std::int64_t rows = 0;
  std::uint32_t sum = 0;
  void add(const Changes& changes);
  bool operator==(const Checksum&) const = default;
};

}  // namespace dmm::bench
