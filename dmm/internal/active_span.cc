#include "dmm/internal/active_span.h"

#include <utility>

#include "dmm/internal/runtime.h"
#include "dmm/wire.h"

namespace dmm::internal {

namespace {

thread_local std::string current;

}  // namespace

const std::string& current_trace() noexcept {
  return current;
}

void add_trace(transport::Headers& headers) {
  if (!current.empty()) headers.emplace_back(wire::kTraceparent, current);
}

std::string trace_of(const transport::Message& message) {
  const auto header = message.header(wire::kTraceparent);
  return header && TraceContext::parse(*header) ? std::string(*header) : std::string();
}

ActiveSpan::ActiveSpan(SpanSink* sink, std::string_view parent, Span::Role role,
                       std::string_view what, std::string_view of)
    : sink_(sink) {
  if (sink == nullptr && parent.empty() && current.empty()) return;
  const std::optional<TraceContext> before = TraceContext::parse(parent);
  std::string here = before ? std::string(parent) : std::string();
  const bool begins = sink != nullptr && !before && sink->sample();
  if (begins || (sink != nullptr && before && before->sampled)) {
    span_.emplace();
    span_->context = before ? before->child() : TraceContext::begin(true);
    span_->parent = before;
    span_->name.append(what).append(" ").append(of);
    span_->role = role;
    span_->begun = internal::SystemClock::now();
    begun_ = internal::SteadyClock::now();
    here = span_->context.text();
  }
  before_ = std::exchange(current, std::move(here));
  set_ = true;
}

ActiveSpan::~ActiveSpan() {
  if (set_) current = std::move(before_);
  if (!span_) return;
  span_->took = internal::SteadyClock::now() - begun_;
  sink_->record(std::move(*span_));
}

void ActiveSpan::attribute(std::string_view key, std::string value) {
  if (span_) span_->attributes.emplace_back(key, std::move(value));
}

void ActiveSpan::link(const TraceContext& context) {
  if (span_) span_->links.push_back(context);
}

void ActiveSpan::fail(std::string error) {
  if (!span_) return;
  span_->failed = true;
  span_->error = std::move(error);
}

}  // namespace dmm::internal
