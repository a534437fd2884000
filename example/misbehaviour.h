#pragma once

#include <nlohmann/json.hpp>

namespace example {

/// How a player fails those who ask it. Shares of its requests from 0 to 1, together at most 1.
struct Misbehaviour {
  double refuse = 0;    ///< drops the connection
  double hang = 0;      ///< does not answer
  double error500 = 0;  ///< answers 500
  double seconds = 0;   ///< for so long; 0: until told otherwise

  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(Misbehaviour, refuse, hang, error500, seconds)
};

}  // namespace example
