#include "dmm/internal/runtime.h"

#include <random>

namespace dmm::internal {

namespace {

thread_local Runtime* t_runtime = nullptr;

}  // namespace

std::atomic<bool> simulated = false;

Runtime* Runtime::current() noexcept {
  return t_runtime;
}

void Runtime::set_current(Runtime* runtime) noexcept {
  if (runtime != nullptr) simulated.store(true, std::memory_order_relaxed);
  t_runtime = runtime;
}

std::uint64_t random_seed() {
  if (Runtime* runtime = simulation()) return runtime->random();
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

}  // namespace dmm::internal
