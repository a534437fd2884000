#include "dmm/resource/metrics.h"

#include <algorithm>
#include <array>
#include <utility>

#include <pqxx/pqxx>

#include "dmm/limits.h"
#include "dmm/resource/rows.h"

namespace dmm::resource::internal {

namespace {

constexpr auto kCounter = MetricType::counter;
constexpr auto kGauge = MetricType::gauge;

struct Counted {
  Metric metric;
  std::atomic<std::uint64_t> Counters::*member;
};

constexpr std::array<Counted, 8> kCounted{
    {{{"dmm_resource_relayed_total", kCounter, "", "Tokens and events told to NATS"},
      &Counters::relayed},
     {{"dmm_resource_works_total", kCounter, "", "Works of resources that ended, however"},
      &Counters::worked},
     {{"dmm_resource_works_failed_total", kCounter, "", "Of them, failed attempts"},
      &Counters::failed},
     {{"dmm_resource_works_superseded_total", kCounter, "",
       "Of them, those whose result was dropped, because of new content or a take-over"},
      &Counters::superseded},
     {{"dmm_resource_informed_total", kCounter, "", "Objects that informers put"},
      &Counters::informed},
     {{"dmm_resource_expired_total", kCounter, "", "Resources that expired"}, &Counters::expired},
     {{"dmm_resource_cleaned_total", kCounter, "", "Resources removed after their retention"},
      &Counters::cleaned},
     {{"dmm_resource_rescued_total", kCounter, "", "Resources whose token was lost and told again"},
      &Counters::rescued}}};

constexpr Metric kResources{"dmm_resources", kGauge, "kind,state",
                            "Resources in the database; each host tells the same"};
constexpr Metric kUnsyncedAge{
    "dmm_resource_unsynced_age_seconds", kGauge, "kind",
    "How long the resource that waits or fails the longest has been in its state"};
constexpr Metric kOutbox{"dmm_resource_outbox_lines", kGauge, "",
                         "Tokens and events that are not told to NATS yet, or held"};

constexpr std::array<Metric, kCounted.size() + 3> make_families() {
  std::array<Metric, kCounted.size() + 3> all{};
  for (std::size_t i = 0; i < kCounted.size(); ++i) all[i] = kCounted[i].metric;
  all[kCounted.size()] = kResources;
  all[kCounted.size() + 1] = kUnsyncedAge;
  all[kCounted.size() + 2] = kOutbox;
  return all;
}

constexpr auto kFamilies = make_families();

}  // namespace

Inventory take_inventory(pqxx::transaction_base& transaction) {
  Inventory inventory;
  for (const auto& row : transaction.exec(
           "SELECT kind, state, count(*), dmm.microseconds(min(state_at)) FROM dmm.resource"
           " GROUP BY kind, state")) {
    Inventory::Kind& kind = inventory.kinds[row[0].as<std::string>()];
    const auto state = row[1].as<std::string>();
    kind.by_state[state] = row[2].as<std::int64_t>();
    if (state == "scheduled" || state == "running" || state == "expired" || state == "failing") {
      const Time since = time_of(row[3].as<std::int64_t>());
      kind.oldest = std::min(kind.oldest.value_or(since), since);
    }
  }
  inventory.outbox =
      transaction.exec1("SELECT count(*) FROM dmm.resource_outbox")[0].as<std::int64_t>();
  return inventory;
}

HostMetrics::HostMetrics(std::shared_ptr<const Counters> counters)
    : counters_(std::move(counters)) {}

std::span<const Metric> HostMetrics::families() const noexcept {
  return kFamilies;
}

void HostMetrics::collect(MetricSink& to) const {
  for (const Counted& one : kCounted) {
    const auto value = ((*counters_).*one.member).load(std::memory_order_relaxed);
    to.add(one.metric.name, {}, static_cast<double>(value));
  }
  read_ = true;
  const std::lock_guard lock(mutex_);
  if (!inventory_) return;
  const Time now = std::chrono::system_clock::now();
  for (const auto& [kind, of_kind] : inventory_->kinds) {
    for (const auto& [state, count] : of_kind.by_state) {
      to.add(kResources.name, {{"kind", kind}, {"state", state}}, static_cast<double>(count));
    }
    const auto age = std::max(now - of_kind.oldest.value_or(now), Time::duration(0));
    to.add(kUnsyncedAge.name, {{"kind", kind}}, std::chrono::duration<double>(age).count());
  }
  to.add(kOutbox.name, {}, static_cast<double>(inventory_->outbox));
}

bool HostMetrics::wants_inventory() const {
  const std::lock_guard lock(mutex_);
  return read_ && std::chrono::steady_clock::now() >= next_;
}

void HostMetrics::put(Inventory inventory, std::chrono::steady_clock::duration took) {
  const std::lock_guard lock(mutex_);
  inventory_ = std::move(inventory);
  read_ = false;
  next_ = std::chrono::steady_clock::now() + took * limits::recount_share;
}

}  // namespace dmm::resource::internal
