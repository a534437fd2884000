#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dmm/bucket.h"
#include "dmm/service/exposition.h"

namespace dmm::service {

/// Every metric of a service, in the order of the reference page; not those of sources.
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
  Level log_level = Level::info;
};

/// What a scrape reads beside. Borrowed but for the sources.
struct Parts {
  BucketStats bucket;
  std::vector<const WorkStream*> work_streams;
  std::vector<const Observer*> observers;
  std::vector<const ViewStream*> view_streams;
  std::vector<std::shared_ptr<const MetricSource>> sources;
};

/// One scrape. Any thread.
/// bucket   null: it is not open yet.
std::string scrape(const Bucket* bucket, const ServiceFacts& facts);
std::string scrape(const Parts& parts, const ServiceFacts& facts);

/// Families as a table of a reference page, as Markdown.
std::string metrics_table(std::span<const Metric> metrics);
/// The reference page of all metrics, as Markdown.
std::string metrics_page();

}  // namespace dmm::service
