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

std::uint64_t random_bits() {
  if (Runtime* const runtime = simulation()) return runtime->random();
  thread_local std::mt19937_64 generator{[] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }()};
  return generator();
}

std::uint64_t random_seed() {
  if (Runtime* runtime = simulation()) return runtime->random();
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

}  // namespace dmm::internal
