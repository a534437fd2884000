#include "dmm/service/otlp.h"

#include <algorithm>

#include "dmm/json.h"
#include "dmm/limits.h"
#include "engine/version.h"

namespace dmm::service {

namespace {

using std::chrono::milliseconds;

nlohmann::json attribute(std::string_view key, std::string_view value) {
  return {{"key", key}, {"value", {{"stringValue", value}}}};
}

// As text: JSON numbers of 64 bits do not survive every reader.
std::string nanoseconds(std::chrono::system_clock::time_point time) {
  return std::to_string(
      std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count());
}

nlohmann::json otlp_json(const Span& span) {
  nlohmann::json json = {
      {"traceId", span.context.trace_id()},
      {"spanId", span.context.span_id()},
      {"name", span.name},
      {"kind", static_cast<int>(span.role)},
      {"startTimeUnixNano", nanoseconds(span.begun)},
      {"endTimeUnixNano",
       nanoseconds(span.begun +
                   std::chrono::duration_cast<std::chrono::system_clock::duration>(span.took))},
      {"attributes", nlohmann::json::array()}};
  if (span.parent) json["parentSpanId"] = span.parent->span_id();
  for (const auto& [key, value] : span.attributes) {
    json["attributes"].push_back(attribute(key, value));
  }
  for (const TraceContext& link : span.links) {
    json["links"].push_back({{"traceId", link.trace_id()}, {"spanId", link.span_id()}});
  }
  if (span.failed) json["status"] = {{"code", 2}, {"message", span.error}};
  return json;
}

std::string with_path(std::string url) {
  const std::size_t scheme = url.find("://");
  const std::size_t slash = scheme == std::string::npos ? scheme : url.find('/', scheme + 3);
  if (slash == std::string::npos) return url + "/v1/traces";
  return slash + 1 == url.size() ? url + "v1/traces" : url;
}

}  // namespace

nlohmann::json otlp_json(const std::vector<Span>& spans, const std::string& service,
                         const std::string& ns) {
  nlohmann::json all = nlohmann::json::array();
  for (const Span& span : spans) all.push_back(otlp_json(span));
  nlohmann::json scope = {{"scope", {{"name", "dmm"}, {"version", engine::version()}}},
                          {"spans", std::move(all)}};
  nlohmann::json resource = {
      {"attributes", nlohmann::json::array({attribute("service.name", service),
                                            attribute("service.namespace", ns)})}};
  nlohmann::json one = {{"resource", std::move(resource)},
                        {"scopeSpans", nlohmann::json::array({std::move(scope)})}};
  return {{"resourceSpans", nlohmann::json::array({std::move(one)})}};
}

OtlpExporter::OtlpExporter(std::string url, double sampled, std::string service, std::string ns,
                           Logger log)
    : sampled_(sampled),
      service_(std::move(service)),
      ns_(std::move(ns)),
      log_(std::move(log)),
      poster_(with_path(std::move(url)), limits::spans_timeout),
      thread_([this] { run(); }) {}

OtlpExporter::~OtlpExporter() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_one();
  if (dead_) poster_.cancel();
  thread_.join();
}

bool OtlpExporter::sample() noexcept {
  if (dead_ || sampled_ <= 0) return false;
  if (sampled_ >= 1) return true;
  thread_local std::minstd_rand generator{std::random_device()()};
  return static_cast<double>(generator()) < sampled_ * static_cast<double>(generator.max());
}

void OtlpExporter::record(Span span) noexcept {
  if (full_) {
    ++dropped_;
    return;
  }
  try {
    std::unique_lock lock(mutex_);
    waiting_.push_back(std::move(span));
    // For a dead collector a few are kept, to find out whether it is there again.
    const std::size_t size = waiting_.size();
    full_ = size >= (dead_ ? limits::spans_sent_max : limits::spans_waiting_max);
    lock.unlock();
    if (size == limits::spans_sent_max && !dead_) changed_.notify_one();
  } catch (const std::exception&) {
    ++dropped_;  // there is no memory for it
  }
}

void OtlpExporter::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    const auto enough = [this] {
      return stop_ || (!dead_ && waiting_.size() >= limits::spans_sent_max);
    };
    changed_.wait_for(lock, dead_ ? pause_ : milliseconds(limits::spans_interval), enough);
    const bool last = stop_;
    while (!waiting_.empty() && !(last && dead_)) {
      const std::size_t count = std::min(waiting_.size(), limits::spans_sent_max);
      std::vector<Span> spans;
      for (std::size_t i = 0; i < count; ++i) {
        spans.push_back(std::move(waiting_.front()));
        waiting_.pop_front();
      }
      full_ = false;
      lock.unlock();
      send(std::move(spans));
      lock.lock();
      if (dead_) break;
    }
    if (last) break;
  }
  dropped_ += waiting_.size();
}

void OtlpExporter::send(std::vector<Span> spans) {
  const std::string text =
      otlp_json(spans, service_, ns_).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  const std::string why = poster_.post(text);
  if (why.empty()) {
    sent_ += spans.size();
    if (dead_.exchange(false)) log_.info("the collector of traces is there again");
    pause_ = milliseconds(0);
    return;
  }
  dropped_ += spans.size();
  pause_ = std::clamp<milliseconds>(pause_ * 2, limits::spans_interval, limits::spans_pause_max);
  if (!dead_.exchange(true)) {
    log_.warn("the collector of traces does not take them; they are dropped",
              {{"error", printable(why, 300)}});
  }
}

}  // namespace dmm::service
