#pragma once

// A view computed beside the live one, in any process, to be looked at.

#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "dmm/internal/runtime.h"
#include "dmm/view/computation.h"
#include "dmm/views.h"

namespace dmm::view {

/// Loads the inputs of a view and follows them. One thread.
class Beside {
 public:
  /// Loads everything; blocks. Throws Error{cancelled} if asked to stop, {invalid} DMM-0502,
  /// {retry} if a source cannot be reached.
  Beside(const internal::Streams& streams, const View& view, const CompareOptions& options,
         Inputs::Keep keep);

  /// Takes live changes for so long.
  void follow(std::chrono::milliseconds time);

  Computation& computation() noexcept { return *computation_; }
  /// Documents and rows that are left out now, by place.
  const std::map<std::string, Error>& left_out() const noexcept { return left_out_; }
  std::uint64_t changes() const noexcept { return computation_->inputs().counts().changes; }
  /// Rows of the view that changed, and the time that computing took; since the beginning.
  std::uint64_t touched() const noexcept { return touched_; }
  std::chrono::microseconds time() const noexcept { return time_; }

 private:
  void load();
  void read_clock();
  /// False if a source began anew: what was computed is void.
  bool advance();
  void wait(std::chrono::steady_clock::time_point until);

  const internal::Streams& streams_;
  const View& view_;
  const CompareOptions& options_;
  const Inputs::Keep keep_;
  std::map<std::string, Error> left_out_;
  std::uint64_t touched_ = 0;
  std::chrono::microseconds time_{0};

  std::mutex mutex_;
  internal::Condition changed_;
  bool woken_ = false;
  ServerClock clock_;
  std::optional<Computation> computation_;  // last: its sources end first
};

/// See Views::compare() and Views::explain().
ViewComparison compare(const internal::Streams& streams, const View& view,
                       const CompareOptions& options);
RowExplanation explain(const internal::Streams& streams, const View& view, std::string_view id,
                       const CompareOptions& options);

}  // namespace dmm::view
