#pragma once

#include <stdexcept>
#include <string>

namespace dmm::engine {

/// What the engine throws outside the per-row path: a program, a circuit, a state image or a
/// document that cannot be accepted. The message says where, what and why.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
};

}  // namespace dmm::engine
