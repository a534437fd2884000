#pragma once

// The deliberate bugs of the worker of the scene. Without one, nothing here does anything.

#include <cstdint>
#include <functional>
#include <memory>

#include <nlohmann/json.hpp>

#include "dmm/context.h"
#include "tests/nemesis/options.h"

namespace dmm::nemesis {

/// Thread-safe.
class Defects final {
 public:
  explicit Defects(const Role& role);
  ~Defects();
  Defects(const Defects&) = delete;
  Defects& operator=(const Defects&) = delete;

  /// Begins what a defect does beside the work.
  /// run   does the work of an identity on its news.
  void start(std::function<void(std::uint32_t identity, std::uint64_t news)> run);
  void stop();

  /// Whether these news are to be dropped: Bug::drop_news.
  bool drops(std::uint32_t identity, std::uint64_t news) const noexcept;

  /// Tells of a run that is about to succeed with this cache: Bug::no_fence.
  void ran(const Context& context, const nlohmann::json& cache);

 private:
  class Rogue;
  class LateWriter;

  const Role role_;
  std::unique_ptr<Rogue> rogue_;
  std::unique_ptr<LateWriter> late_writer_;
};

}  // namespace dmm::nemesis
