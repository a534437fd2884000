#pragma once

// The lines that `dmm pipeline run` reads; docs/reference/cli.md describes them.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/decode.h"
#include "engine/zset.h"

namespace dmm::cli {

/// What a line asks for.
struct PipelineLine {
  std::vector<std::pair<std::string, engine::Row>> rows;  ///< with the name of their input
  bool ends_step = false;                                 ///< the step so far runs now
  bool alone = false;                                     ///< the rows are a step of their own
  std::optional<std::int64_t> now;                        ///< of that step, Unix seconds
  std::optional<std::uint64_t> seed;                      ///< of that step
};

/// Reads lines. Not thread-safe; the rows belong to the thread of the parser.
class PipelineLineParser final {
 public:
  /// inputs   the names that a line may use; a single one may be left out.
  explicit PipelineLineParser(std::vector<std::string> inputs);

  /// throws   Error{invalid}: DMM-0203 no JSON that the engine accepts, DMM-0209 it is no change
  /// and
  ///          no step, or names an unknown input.
  PipelineLine parse(std::string_view text);

 private:
  std::string input_of(engine::ValueRef name) const;
  void add_change(engine::ValueRef line, PipelineLine& result) const;
  void add_step(engine::ValueRef batches, PipelineLine& result) const;

  std::vector<std::string> inputs_;
  engine::Decoder decoder_;
};

/// "2026-01-31T23:59:59Z", or seconds since 1970. Nothing if it is neither.
std::optional<std::int64_t> parse_time(std::string_view text);

}  // namespace dmm::cli
