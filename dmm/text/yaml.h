#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "engine/limits.h"

namespace dmm::text {

/// What a YAML text from outside may be.
struct YamlLimits {
  std::size_t bytes_max =
      engine::limits::kProgramBytesMax;               ///< of the text, and of all its strings
                                                      ///< once aliases are written out
  std::size_t depth_max = engine::limits::kDepthMax;  ///< once aliases are written out
  std::size_t nodes_max = 100'000;                    ///< once aliases are written out
};

/// The JSON value that a YAML document stands for. Strict, so that nobody has to know what their
/// text might also have meant: docs/decisions/0007-yaml.md has the rules.
///
/// errors   throws Error{invalid}: DMM-0202 too large, DMM-0204 too deep, DMM-0205 invalid UTF-8 or
///          NUL, DMM-0501 for everything else. Messages begin with "line L, column C: ".
/// threads  any.
nlohmann::json parse_yaml(std::string_view text, const YamlLimits& limits = {});

/// The other way round, in block style: parse_yaml() makes the same value of it, and so does any
/// reader of YAML 1.1 or 1.2. Ends with a line feed. Invalid UTF-8 is replaced.
std::string yaml_text(const nlohmann::json& value);

}  // namespace dmm::text
