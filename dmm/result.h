#pragma once

#include <optional>
#include <utility>
#include <variant>

#include "dmm/error.h"

namespace dmm {

/// A value, or the Error that came instead. For outcomes that a caller is expected to handle and
/// for answers that arrive on another thread, where an exception cannot travel.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit

  bool ok() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return ok(); }

  /// The value; throws the Error if there is none.
  T& value() & {
    if (!ok()) throw std::get<1>(state_);
    return std::get<0>(state_);
  }
  const T& value() const& {
    if (!ok()) throw std::get<1>(state_);
    return std::get<0>(state_);
  }
  T value() && {
    if (!ok()) throw std::get<1>(state_);
    return std::move(std::get<0>(state_));
  }

  /// The error; only where ok() is false.
  const Error& error() const {
    DMM_ASSERT(!ok());
    return std::get<1>(state_);
  }

 private:
  std::variant<T, Error> state_;
};

}  // namespace dmm
