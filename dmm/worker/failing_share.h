#pragma once

#include <bitset>
#include <cstddef>

namespace dmm::worker {

/// The share of failures among the last first runs of news. Only first runs count: an identity that
/// fails over and over says nothing of the others. A run that ended its worker left no word here:
/// such ends are counted beside, as failures. One thread.
class FailingShare final {
 public:
  static constexpr std::size_t kWindow = 50;
  static constexpr std::size_t kEnough = 20;  ///< with fewer nothing is said

  void note(bool failed) {
    failed_[at_] = failed;
    at_ = (at_ + 1) % kWindow;
    if (count_ < kWindow) ++count_;
  }
  /// Workers that ended in runs of the type, all that are known.
  void set_ends(std::size_t ends) noexcept { ends_ = ends; }
  void clear() {
    ends_ = 0;
    failed_.reset();
    count_ = 0;
    at_ = 0;
  }
  /// percent   0: nothing passes.
  bool passes(int percent) const {
    return percent > 0 && count() >= kEnough &&
           failed() * 100 > count() * static_cast<std::size_t>(percent);
  }
  std::size_t failed() const { return failed_.count() + ends_; }
  std::size_t count() const noexcept { return count_ + ends_; }
  std::size_t ends() const noexcept { return ends_; }

 private:
  std::bitset<kWindow> failed_;
  std::size_t at_ = 0;
  std::size_t count_ = 0;
  std::size_t ends_ = 0;
};

}  // namespace dmm::worker
