#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/log.h"
#include "dmm/service/http.h"
#include "dmm/trace.h"

namespace dmm::service {

/// Spans as a collector takes them: OTLP in its JSON form.
nlohmann::json otlp_json(const std::vector<Span>& spans, const std::string& service,
                         const std::string& ns);

/// Sends spans to a collector, over HTTP, on a thread of its own. What waits is bounded; what does
/// not fit, and what a collector that is away did not get, is dropped and counted. A dead collector
/// is asked more and more seldom, and nothing waits for it.
class OtlpExporter final : public SpanSink {
 public:
  /// url      of the collector; without a path, /v1/traces is meant.
  /// sampled  share of the traces that begin here.
  /// Throws Error{invalid} DMM-0404 for a URL that is none.
  OtlpExporter(std::string url, double sampled, std::string service, std::string ns, Logger log);
  /// Sends what waits, once, if the collector was there the last time.
  ~OtlpExporter() override;

  bool sample() noexcept override;
  void record(Span span) noexcept override;

  std::uint64_t sent() const noexcept { return sent_; }
  std::uint64_t dropped() const noexcept { return dropped_; }

 private:
  void run();
  void send(std::vector<Span> spans);

  const double sampled_;
  const std::string service_;
  const std::string ns_;
  const Logger log_;
  HttpPoster poster_;
  std::atomic<std::uint64_t> sent_{0};
  std::atomic<std::uint64_t> dropped_{0};
  std::atomic<bool> dead_{false};
  std::atomic<bool> full_{false};  ///< nothing more is taken

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Span> waiting_;
  bool stop_ = false;
  std::chrono::milliseconds pause_{0};  ///< of the thread
  std::thread thread_;
};

}  // namespace dmm::service
