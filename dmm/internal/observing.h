#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "dmm/internal/streams.h"
#include "dmm/observer.h"

namespace dmm::internal {

/// What an observe handler's context needs of its bucket. Thread-safe.
class Notifier {
 public:
  virtual ~Notifier() = default;
  /// As Matters::matter; `token` gets the sequence of the last message on the token's subject.
  virtual nlohmann::json matter(const Identity& identity, Sequence* token) = 0;
  /// As Matters::notify; with `expected` only if that is the token's sequence still. Returns the
  /// new one. Throws Error{conflict} DMM-0306. deadline   behind it nothing is sent any more.
  virtual Sequence notify(const Identity& identity, const nlohmann::json& cache,
                          std::optional<Sequence> expected, std::chrono::milliseconds deadline) = 0;
  virtual void poke(const Identity& identity) = 0;
  virtual const std::string& type_name(std::type_index type) const = 0;
};

std::unique_ptr<Observer> make_observer(const Streams& streams, Notifier& notifier,
                                        std::string kind, ReportHandler handler,
                                        ObserveOptions options);

}  // namespace dmm::internal
