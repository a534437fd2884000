#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>

namespace dmm::worker {

/// Why something is ready.
enum class Turn : std::uint8_t {
  fresh,     ///< news came
  backlog,   ///< news waited when this worker came, and there are many
  retrying,  ///< it failed before
  alone,     ///< workers ended while they ran it: nothing may run beside it
};

/// What is ready to run, each kind in the order of its arrival. What is fresh and what is of a
/// backlog take turns, so that who brings news now does not wait for all that waited; what failed
/// before stands behind both, but for every eighth turn. None starves another. What has
/// to run alone is asked for apart. One thread.
template <class T>
class ReadyQueue final {
 public:
  void push(T item, Turn turn) { queue(turn).push_back(std::move(item)); }
  const T& front() { return next().front(); }
  T pop() {
    std::deque<T>& queue = next();
    ++turn_;
    T item = std::move(queue.front());
    queue.pop_front();
    return item;
  }
  /// But for what has to run alone.
  bool empty() const noexcept { return size() == size(Turn::alone); }
  const T& front_alone() { return queue(Turn::alone).front(); }
  T pop_alone() {
    T item = std::move(queue(Turn::alone).front());
    queue(Turn::alone).pop_front();
    return item;
  }
  /// Of all.
  std::size_t size() const noexcept {
    std::size_t sum = 0;
    for (const std::deque<T>& queue : queues_) sum += queue.size();
    return sum;
  }
  std::size_t size(Turn turn) const noexcept {
    return queues_[static_cast<std::size_t>(turn)].size();
  }
  template <class Gone>
  void erase_if(Gone gone) {
    for (std::deque<T>& queue : queues_) std::erase_if(queue, gone);
  }
  void clear() {
    for (std::deque<T>& queue : queues_) queue.clear();
  }

 private:
  std::deque<T>& queue(Turn turn) { return queues_[static_cast<std::size_t>(turn)]; }
  std::deque<T>& next() {
    std::deque<T>& first = queue(turn_ % 2 == 0 ? Turn::fresh : Turn::backlog);
    std::deque<T>& second = queue(turn_ % 2 == 0 ? Turn::backlog : Turn::fresh);
    std::deque<T>& retrying = queue(Turn::retrying);
    if (turn_ % 8 == 7 && !retrying.empty()) return retrying;
    if (!first.empty()) return first;
    return second.empty() ? retrying : second;
  }

  std::array<std::deque<T>, 4> queues_;
  std::size_t turn_ = 0;
};

}  // namespace dmm::worker
