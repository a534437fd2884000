#pragma once

// Traces: what one report or one declaration led to, across processes. The context of a trace
// travels as the header `traceparent` (W3C Trace Context) from a report to the tokens of what was
// notified for it, and from there into materialize. It is passed on whether or not anybody records
// spans; a program that wants them recorded gives its bucket a SpanSink.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dmm {

/// A place in a trace.
struct TraceContext {
  std::array<std::uint8_t, 16> trace{};
  std::array<std::uint8_t, 8> span{};
  bool sampled = false;

  /// Reads "00-<32 hex>-<16 hex>-<2 hex>"; nothing for anything that is no such text.
  static std::optional<TraceContext> parse(std::string_view text) noexcept;
  /// A place in a trace of its own.
  static TraceContext begin(bool sampled);
  /// The next place in the same trace.
  TraceContext child() const;

  std::string text() const;
  std::string trace_id() const;  ///< 32 hex digits
  std::string span_id() const;   ///< 16 hex digits

  friend bool operator==(const TraceContext&, const TraceContext&) = default;
};

/// Something that was done, and how long it took.
struct Span {
  /// Who waits for whom, as OpenTelemetry counts it.
  enum class Role : std::uint8_t { internal = 1, server, client, producer, consumer };

  TraceContext context;
  std::optional<TraceContext> parent;
  std::string name;  ///< a constant and a type: "materialize player"
  Role role = Role::internal;
  std::chrono::system_clock::time_point begun;
  std::chrono::nanoseconds took{0};
  std::vector<std::pair<std::string, std::string>> attributes;
  std::vector<TraceContext> links;  ///< other places that led to this
  bool failed = false;
  std::string error;  ///< of a failed one
};

/// Takes what was done. Thread-safe.
class SpanSink {
 public:
  virtual ~SpanSink() = default;
  /// Whether a trace that begins here is to be recorded. What others began says so itself.
  virtual bool sample() noexcept = 0;
  /// Takes a span that has ended. Neither blocks nor throws: a sink that cannot keep up drops and
  /// counts what it dropped.
  virtual void record(Span span) noexcept = 0;
};

}  // namespace dmm
