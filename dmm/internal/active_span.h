#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "dmm/trace.h"
#include "dmm/transport/stream.h"

namespace dmm::internal {

/// The traceparent of what this thread is doing; empty: it belongs to no trace.
const std::string& current_trace() noexcept;

/// Adds the header `traceparent` if this thread is doing something that belongs to a trace.
void add_trace(transport::Headers& headers);

/// The header's value if it is a sound one, else empty.
std::string trace_of(const transport::Message& message);

/// While it lives, what its thread does belongs to a trace. Without a sink, or where the trace is
/// not sampled, that is the place that was given; else a new one behind it, which is recorded at
/// the end. Without a trace and a sink it costs nothing.
class ActiveSpan final {
 public:
  /// sink     null: nothing is recorded. Outlives this.
  /// parent   a traceparent; empty or unsound: none.
  /// what     "<what> <of>" is the span's name; both outlive this.
  ActiveSpan(SpanSink* sink, std::string_view parent, Span::Role role, std::string_view what,
             std::string_view of);
  ActiveSpan(const ActiveSpan&) = delete;
  ActiveSpan& operator=(const ActiveSpan&) = delete;
  ~ActiveSpan();

  bool recording() const noexcept { return span_.has_value(); }
  /// Nothing unless it is recorded.
  void attribute(std::string_view key, std::string value);
  void link(const TraceContext& context);
  void fail(std::string error);

 private:
  SpanSink* const sink_;
  std::string before_;
  bool set_ = false;
  std::optional<Span> span_;
  std::chrono::steady_clock::time_point begun_;
};

}  // namespace dmm::internal
