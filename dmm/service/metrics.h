#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "dmm/bucket.h"
#include "dmm/service/exposition.h"

namespace dmm::service {

/// Every metric of a service, in the order of the reference page.
std::span<const Metric> all_metrics() noexcept;

/// What the service itself says, beside its bucket.
struct ServiceFacts {
  std::string name;
  std::string ns;
  bool ready = false;
  std::uint64_t reloads = 0;
  std::uint64_t reloads_failed = 0;
  std::uint64_t spans_sent = 0;
  std::uint64_t spans_dropped = 0;
  bool traces = false;  ///< there is a collector
};

/// One scrape. Any thread.
/// bucket   null: it is not open yet.
std::string scrape(const Bucket* bucket, const ServiceFacts& facts);

/// The reference page of all metrics, as Markdown.
std::string metrics_page();

}  // namespace dmm::service
