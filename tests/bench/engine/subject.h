#pragma once

// What is measured: something that takes the events of a workload and delivers how the result
// changes. Every subject does the same steps on the same events; only step() is timed.

#include <cstdint>
#include <memory>
#include <string>

#include "tests/bench/engine/workload.h"

namespace dmm::bench {

class Subject {
 public:
  virtual ~Subject() = default;
  /// Brings the events into the form that the subject takes: rows, text, bound values.
  virtual void prepare(const Events& events) = 0;
  /// Takes what was prepared, all at once, and has the changed result at hand in its own form.
  virtual void step() = 0;
  /// Appends the changes that the last step delivered.
  virtual void changes(Changes& out) = 0;
  /// Frees what belongs to the last step alone, so that what remains is state.
  virtual void forget() = 0;
  /// Appends the whole result, computed from all rows at once; false where a subject cannot.
  virtual bool recompute(Changes& /*out*/) { return false; }
};

/// dmm's engine running the workload's pipeline.
///
/// text   events come as JSON text and decoding is part of the step; else as decoded documents.
std::unique_ptr<Subject> make_dmm(const std::string& workload, bool text);

/// Written by hand for each workload, with hash maps and ordered maps: what a generic engine cannot
/// be expected to beat. `text`: reads JSON text by simdjson, within the step.
std::unique_ptr<Subject> make_ceiling(const std::string& workload, bool text);

/// SQLite in memory and an application that asks, before and after a write, for what the write
/// touches. Its recompute() is a query over all rows: the judge of everybody's checksums.
std::unique_ptr<Subject> make_sqlite(const std::string& workload);

}  // namespace dmm::bench
