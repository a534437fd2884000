#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "dmm/context.h"
#include "dmm/materializer.h"
#include "dmm/outcome.h"
#include "dmm/trace.h"

namespace dmm::downlink {
class Downlink;
}

namespace dmm::worker {

/// What a run begins with. Set by the owner, read by the thread that runs.
struct RunInput {
  Identity identity;
  /// The cache as text. None: missing, materialize gets a zeroed object.
  std::optional<std::string> value;
  /// `value` are news, which must be readable; an entry that is not counts as missing instead.
  bool is_news = false;
  bool deleted = false;
  int attempt = 1;
  std::chrono::steady_clock::time_point deadline;
  Epoch epoch;
  std::string traceparent = {};  ///< of the news; empty: none
};

/// How a run ended.
struct RunResult {
  enum class End : std::uint8_t {
    succeeded,  ///< materialize returned `outcome`
    failed,     ///< it threw
    refused     ///< the news cannot be read, or the cache that came out cannot be stored
  };
  End end = End::failed;
  Outcome outcome = Outcome::done();
  std::optional<std::string> value;  ///< the cache after a success; none if there is none
  std::string error_code;
  std::string error;
  /// Where a report is waited for: those up to this one do not count.
  Sequence reported;
  std::string healed;  ///< not empty: the entry could not be read, and why
};

/// Runs materialize once, on the calling thread; contains whatever it throws.
/// matters    serves the context's matter() and notify().
/// downlink   serves its command() and shadow(); null: they throw DMM-0705.
/// spans      take what the run was; null: nobody does.
RunResult run_once(const AnyMaterializer& materializer, const RunInput& input, Matters& matters,
                   const std::stop_token& stop, const Logger& log,
                   downlink::Downlink* downlink = nullptr, SpanSink* spans = nullptr);

}  // namespace dmm::worker
