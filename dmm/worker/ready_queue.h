#pragma once

#include <cstddef>
#include <deque>
#include <utility>

namespace dmm::worker {

/// What is ready to run, in the order of its arrival; what failed before stands behind what is
/// fresh, but for every eighth turn, so that neither starves the other. One thread.
template <class T>
class ReadyQueue final {
 public:
  void push(T item, bool retrying) { (retrying ? retrying_ : fresh_).push_back(std::move(item)); }
  const T& front() { return next().front(); }
  T pop() {
    std::deque<T>& queue = next();
    ++turn_;
    T item = std::move(queue.front());
    queue.pop_front();
    return item;
  }
  bool empty() const noexcept { return fresh_.empty() && retrying_.empty(); }
  std::size_t size() const noexcept { return fresh_.size() + retrying_.size(); }
  template <class Gone>
  void erase_if(Gone gone) {
    std::erase_if(fresh_, gone);
    std::erase_if(retrying_, gone);
  }
  void clear() {
    fresh_.clear();
    retrying_.clear();
  }

 private:
  std::deque<T>& next() {
    if (fresh_.empty()) return retrying_;
    return retrying_.empty() || turn_ % 8 != 7 ? fresh_ : retrying_;
  }

  std::deque<T> fresh_;
  std::deque<T> retrying_;
  std::size_t turn_ = 0;
};

}  // namespace dmm::worker
