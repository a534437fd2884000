// Goal: the context of a trace is read and written as W3C Trace Context says, and what a thread
// does belongs to the trace that it was given.
// Method: texts of the specification; a sink that keeps what it gets.

#include <catch2/catch.hpp>

#include <string>
#include <vector>

#include "dmm/internal/active_span.h"
#include "dmm/trace.h"

namespace {

using dmm::Span;
using dmm::TraceContext;
using dmm::internal::ActiveSpan;
using dmm::internal::current_trace;

constexpr const char* kSampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
constexpr const char* kUnsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

struct Kept final : dmm::SpanSink {
  bool samples = true;
  std::vector<Span> spans;
  bool sample() noexcept override { return samples; }
  void record(Span span) noexcept override { spans.push_back(std::move(span)); }
};

}  // namespace

TEST_CASE("trace: a traceparent is read and written back", "[service][trace][unit]") {
  for (const char* text : {kSampled, kUnsampled}) {
    const auto context = TraceContext::parse(text);
    REQUIRE(context);
    CHECK(context->text() == text);
    CHECK(context->trace_id() == "4bf92f3577b34da6a3ce929d0e0e4736");
    CHECK(context->span_id() == "00f067aa0ba902b7");
  }
  CHECK(TraceContext::parse(kSampled)->sampled);
  CHECK_FALSE(TraceContext::parse(kUnsampled)->sampled);
  // A later version may have more behind it, and more flags.
  CHECK(
      TraceContext::parse(std::string("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-09-x"))
          ->sampled);
}

TEST_CASE("trace: what is no traceparent is none", "[service][trace][unit]") {
  const std::string sound = kSampled;
  std::vector<std::string> bad = {"", "00", sound.substr(0, 54), sound + "-x", sound + "x"};
  for (std::size_t at = 0; at < sound.size(); ++at) {
    std::string other = sound;
    other[at] = other[at] == '-' ? '0' : 'G';
    bad.push_back(other);
    other[at] = 'A';  // upper case is not allowed
    bad.push_back(other);
  }
  bad.push_back("ff" + sound.substr(2));
  bad.push_back("00-00000000000000000000000000000000-00f067aa0ba902b7-01");
  bad.push_back("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01");
  for (const std::string& text : bad) {
    INFO(text);
    CHECK_FALSE(TraceContext::parse(text));
  }
}

TEST_CASE("trace: new places differ and a child stays in its trace", "[service][trace][unit]") {
  const TraceContext one = TraceContext::begin(true);
  CHECK(TraceContext::parse(one.text()) == one);
  CHECK_FALSE(TraceContext::begin(true) == one);
  const TraceContext child = one.child();
  CHECK(child.trace == one.trace);
  CHECK(child.span != one.span);
  CHECK(child.sampled);
}

TEST_CASE("trace: without a sink the given place is passed on and nothing is begun",
          "[service][trace][unit]") {
  CHECK(current_trace().empty());
  {
    const ActiveSpan span(nullptr, kSampled, Span::Role::consumer, "materialize", "player");
    CHECK(current_trace() == kSampled);
    CHECK_FALSE(span.recording());
    {
      // What belongs to no trace does not borrow that of its thread.
      const ActiveSpan inner(nullptr, "", Span::Role::consumer, "materialize", "player");
      CHECK(current_trace().empty());
    }
    CHECK(current_trace() == kSampled);
    const ActiveSpan unsound(nullptr, "nonsense", Span::Role::consumer, "materialize", "player");
    CHECK(current_trace().empty());
  }
  CHECK(current_trace().empty());
}

TEST_CASE("trace: with a sink a span is recorded behind its parent", "[service][trace][unit]") {
  Kept kept;
  {
    ActiveSpan span(&kept, kSampled, Span::Role::consumer, "materialize", "player");
    REQUIRE(span.recording());
    const auto here = TraceContext::parse(current_trace());
    REQUIRE(here);
    CHECK(here->trace_id() == "4bf92f3577b34da6a3ce929d0e0e4736");
    CHECK(here->span_id() != "00f067aa0ba902b7");
    span.attribute("dmm.id", "kitchen");
    span.fail("no");
    CHECK(kept.spans.empty());
  }
  REQUIRE(kept.spans.size() == 1);
  CHECK(kept.spans[0].name == "materialize player");
  CHECK(kept.spans[0].parent == TraceContext::parse(kSampled));
  CHECK(kept.spans[0].failed);
  CHECK(kept.spans[0].attributes.at(0).second == "kitchen");
}

TEST_CASE("trace: who is not sampled is not recorded and who begins is asked",
          "[service][trace][unit]") {
  Kept kept;
  { const ActiveSpan span(&kept, kUnsampled, Span::Role::consumer, "observe", "player"); }
  CHECK(kept.spans.empty());
  { const ActiveSpan span(&kept, "", Span::Role::consumer, "observe", "player"); }
  REQUIRE(kept.spans.size() == 1);
  CHECK_FALSE(kept.spans[0].parent);
  kept.samples = false;
  {
    const ActiveSpan span(&kept, "", Span::Role::consumer, "observe", "player");
    CHECK(current_trace().empty());
  }
  CHECK(kept.spans.size() == 1);
}
