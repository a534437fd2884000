#include "dmm/service/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iterator>
#include <map>
#include <type_traits>
#include <vector>

#include "dmm/internal/runtime.h"
#include "dmm/service/process_use.h"
#include "dmm/worker/slots.h"
#include "engine/version.h"

namespace dmm::service {

namespace {

// Each family is one line of a table: its name, type, labels and help, and how its samples are read
// from what counts them. The reference page is made from the tables, too. Parts of a program that
// are no part of a bucket bring families of their own as a MetricSource (dmm/metrics.h).

/// Adds the samples of a family.
/// labels   of what they are of: the type, kind or view.
template <class Source>
using Read = void (*)(MetricSink& to, std::string_view name, const MetricLabels& labels,
                      const Source& source);

template <class Source>
struct Family {
  Metric metric;
  Read<Source> read;
};

/// A family with one sample: a member, or what a function makes of its source.
template <class Source, auto Get>
void read_one(MetricSink& to, std::string_view name, const MetricLabels& labels,
              const Source& source) {
  using Value = std::remove_cvref_t<std::invoke_result_t<decltype(Get), const Source&>>;
  if constexpr (std::is_same_v<Value, Durations>) {
    to.add(name, labels, std::invoke(Get, source));
  } else {
    to.add(name, labels, static_cast<double>(std::invoke(Get, source)));
  }
}

/// read<&WorkStats::tokens>: whatever the source is, it is the one of the table.
template <auto Get>
struct ReadOne {
  template <class Source>
  constexpr operator Read<Source>() const {
    return &read_one<Source, Get>;
  }
};
template <auto Get>
constexpr ReadOne<Get> read;

/// The same with one more label.
MetricLabels with(MetricLabels labels, std::string_view label, std::string value) {
  labels.emplace_back(label, std::move(value));
  return labels;
}

template <class Source>
void add_all(MetricSink& to, std::span<const Family<Source>> families, const MetricLabels& labels,
             const Source& source) {
  for (const Family<Source>& one : families) one.read(to, one.metric.name, labels, source);
}

double seconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

constexpr auto kCounter = MetricType::counter;
constexpr auto kGauge = MetricType::gauge;
constexpr auto kHistogram = MetricType::histogram;

// ---- what is more than a member

struct Process {
  const ServiceFacts& facts;
  const BucketStats& bucket;
};

void build_info(MetricSink& to, std::string_view name, const MetricLabels&,
                const Process& process) {
  to.add(name,
         {{"version", std::string(engine::version())},
          {"service", process.facts.name},
          {"namespace", process.facts.ns}},
         1);
}

void reloads_by_result(MetricSink& to, std::string_view name, const MetricLabels&,
                       const Process& process) {
  to.add(name, {{"result", "ok"}}, static_cast<double>(process.facts.reloads));
  to.add(name, {{"result", "failed"}}, static_cast<double>(process.facts.reloads_failed));
}

void log_level(MetricSink& to, std::string_view name, const MetricLabels&, const Process& process) {
  to.add(name, {{"level", std::string(to_string(process.facts.log_level))}}, 1);
}

void spans_by_result(MetricSink& to, std::string_view name, const MetricLabels&,
                     const Process& process) {
  if (!process.facts.traces) return;
  to.add(name, {{"result", "sent"}}, static_cast<double>(process.facts.spans_sent));
  to.add(name, {{"result", "dropped"}}, static_cast<double>(process.facts.spans_dropped));
}

void notifies_by_type(MetricSink& to, std::string_view name, const MetricLabels&,
                      const Process& process) {
  for (const auto& [type, count] : process.bucket.notifies) {
    to.add(name, {{"type", type}}, static_cast<double>(count));
  }
}

std::size_t waiting(const WorkStats& stats) {
  return stats.outstanding - std::min(stats.outstanding, stats.running + stats.parked_now);
}

double oldest_age(const WorkStats& stats) {
  if (!stats.oldest_token) return 0;
  return std::max(0.0, seconds(internal::SystemClock::now() - *stats.oldest_token));
}

void runs_by_outcome(MetricSink& to, std::string_view name, const MetricLabels& labels,
                     const WorkStats& stats) {
  const std::pair<const char*, std::uint64_t> outcomes[] = {
      {"succeeded", stats.succeeded},
      {"failed", stats.failed - std::min(stats.failed, stats.timed_out)},
      {"timed_out", stats.timed_out},
      {"unreached", stats.unreached},
      {"gave_up", stats.gave_up},
      {"conflicted", stats.conflicts},
      {"cancelled", stats.cancelled}};
  for (const auto& [outcome, count] : outcomes) {
    to.add(name, with(labels, "outcome", outcome), static_cast<double>(count));
  }
}

void rows_by_operator(MetricSink& to, std::string_view name, const MetricLabels& labels,
                      const ViewStats& stats) {
  for (const OperatorStats& one : stats.operators) {
    to.add(name, with(labels, "operator", one.name), static_cast<double>(one.rows));
  }
}

void bytes_by_operator(MetricSink& to, std::string_view name, const MetricLabels& labels,
                       const ViewStats& stats) {
  for (const OperatorStats& one : stats.operators) {
    to.add(name, with(labels, "operator", one.name), static_cast<double>(one.bytes));
  }
}

std::size_t state_bytes(const ViewStats& stats) {
  std::size_t bytes = stats.documents_bytes;
  for (const OperatorStats& one : stats.operators) bytes += one.bytes;
  return bytes;
}

// ---- the tables

// Of the process as a whole.
constexpr Family<Process> kProcessFamilies[] = {
    {{"dmm_build_info", kGauge, "version,service,namespace", "Always 1; the labels say what runs"},
     build_info},
    {{"dmm_ready", kGauge, "",
      "1 if the service does its work, or stands by for others; see /readyz"},
     read<[](const Process& p) { return p.facts.ready; }>},
    {{"dmm_connected", kGauge, "", "1 while the NATS server is connected"},
     read<[](const Process& p) { return p.bucket.connected; }>},
    {{"dmm_reconnects_total", kCounter, "",
      "Times that the connection to the server was made again"},
     read<[](const Process& p) { return p.bucket.reconnects; }>},
    {{"dmm_config_reloads_total", kCounter, "result",
      "Times that the file of options was read again; a failed one changed nothing"},
     reloads_by_result},
    {{"dmm_log_level", kGauge, "level",
      "Always 1; the label says of what level, and above, lines are logged"},
     log_level},
    {{"dmm_spans_total", kCounter, "result",
      "Spans of traces that were sent to the collector, or dropped because it did not keep up"},
     spans_by_result},
    {{"dmm_notifies_total", kCounter, "type",
      "Tokens that this process stored by notify, poke and remove; those of views are not among "
      "them"},
     notifies_by_type},
    {{"dmm_reports_published_total", kCounter, "", "Reports that this process published"},
     read<[](const Process& p) { return p.bucket.reports; }>},
};

// Of each type that is worked here.
constexpr Family<WorkStats> kTypeFamilies[] = {
    {{"dmm_tokens_read_total", kCounter, "type", "Tokens read from the work stream"},
     read<&WorkStats::tokens>},
    {{"dmm_tokens_outstanding", kGauge, "type",
      "Identities with a token in the lanes of this worker: waiting, running, retried or parked"},
     read<&WorkStats::outstanding>},
    {{"dmm_tokens_waiting", kGauge, "type",
      "Identities with a token here that neither run nor are parked"},
     read<waiting>},
    {{"dmm_oldest_token_age_seconds", kGauge, "type",
      "Age of the oldest token here that is neither parked, nor dated, nor waits for a device"},
     read<oldest_age>},
    {{"dmm_runs_started_total", kCounter, "type", "Runs of materialize that were begun: attempts"},
     read<&WorkStats::runs>},
    {{"dmm_runs_total", kCounter, "type,outcome",
      "Runs of materialize that ended: succeeded, failed, timed_out, unreached (the device is "
      "offline), gave_up (parked by the run), conflicted or cancelled (both are repeated)"},
     runs_by_outcome},
    {{"dmm_run_duration_seconds", kHistogram, "type",
      "How long runs took; cancelled ones left out"},
     read<&WorkStats::run_times>},
    {{"dmm_turnaround_seconds", kHistogram, "type",
      "From the storage of news to the success of their run, by the clocks of server and worker"},
     read<&WorkStats::turnarounds>},
    {{"dmm_runs_in_flight", kGauge, "type", "Runs that are under way"}, read<&WorkStats::running>},
    {{"dmm_run_retries_total", kCounter, "type", "Runs that were not the first on their news"},
     read<&WorkStats::retried>},
    {{"dmm_postponed_total", kCounter, "type", "Successful runs that asked to be run again later"},
     read<&WorkStats::postponed>},
    {{"dmm_identities_ready", kGauge, "type", "Identities that wait for a slot to run"},
     read<&WorkStats::ready>},
    {{"dmm_identities_retrying", kGauge, "type",
      "Identities whose status is failing, parked or offline"},
     read<&WorkStats::retrying>},
    {{"dmm_identities_parked", kGauge, "type", "Identities that were given up until news come"},
     read<&WorkStats::parked_now>},
    {{"dmm_identities_offline", kGauge, "type", "Identities that wait for the report of a device"},
     read<&WorkStats::offline>},
    {{"dmm_identities_held", kGauge, "type", "Identities that are paused by themselves"},
     read<&WorkStats::held>},
    {{"dmm_parked_total", kCounter, "type", "Times that an identity was parked"},
     read<&WorkStats::parked>},
    {{"dmm_coalesced_total", kCounter, "type", "News that were replaced before they ran"},
     read<&WorkStats::coalesced>},
    {{"dmm_entries_stored_total", kCounter, "type", "Cache entries written"},
     read<&WorkStats::stored>},
    {{"dmm_write_conflicts_total", kCounter, "type",
      "Writes of cache entries refused because someone else had written"},
     read<&WorkStats::conflicts>},
    {{"dmm_corrupt_entries_total", kCounter, "type",
      "Cache entries that could not be read and counted as missing"},
     read<&WorkStats::corrupt>},
    {{"dmm_tokens_refused_total", kCounter, "type", "Tokens parked because they could not be read"},
     read<&WorkStats::refused>},
    {{"dmm_resynced_total", kCounter, "type", "Identities that the resync told to run"},
     read<&WorkStats::resynced>},
    {{"dmm_lanes_owned", kGauge, "type", "Lanes of this worker, of 64"}, read<&WorkStats::lanes>},
    {{"dmm_lanes_wanted", kGauge, "type", "Lanes that are its by right; 0: it stands by"},
     read<&WorkStats::lanes_wanted>},
    {{"dmm_lease_losses_total", kCounter, "type", "Times that lanes were lost before their end"},
     read<&WorkStats::lease_losses>},
    {{"dmm_history_losses_total", kCounter, "type", "Times that the work stream lost its history"},
     read<&WorkStats::history_losses>},
    {{"dmm_type_paused", kGauge, "type", "1 while the type, or everything, is paused"},
     read<&WorkStats::paused>},
};

// Of each kind that is observed here.
constexpr Family<ObserveStats> kObserverFamilies[] = {
    {{"dmm_reports_read_total", kCounter, "kind", "Reports read for observers"},
     read<&ObserveStats::reports>},
    {{"dmm_reports_handled_total", kCounter, "kind", "Reports whose handler returned"},
     read<&ObserveStats::handled>},
    {{"dmm_report_failures_total", kCounter, "kind", "Calls of observe handlers that threw"},
     read<&ObserveStats::failed>},
    {{"dmm_report_repeats_total", kCounter, "kind",
      "Handlers called again because the cache had changed meanwhile"},
     read<&ObserveStats::repeated>},
    {{"dmm_reports_stale_total", kCounter, "kind",
      "Reports ignored because their seq was not above the last one"},
     read<&ObserveStats::stale>},
    {{"dmm_reports_refused_total", kCounter, "kind",
      "Reports put aside because they could not be read, or because workers ended in them"},
     read<&ObserveStats::refused>},
    {{"dmm_reports_waiting", kGauge, "kind", "Reports read, and neither handled nor refused yet"},
     read<&ObserveStats::waiting>},
    {{"dmm_report_lag_seconds", kHistogram, "kind",
      "From the storage of a report to the end of its handler, by the clocks of server and worker"},
     read<&ObserveStats::lags>},
    {{"dmm_observer_active", kGauge, "kind",
      "1 if this worker observes the kind, 0 if it stands by"},
     read<&ObserveStats::holds_lease>},
};

// Of each view that is kept here.
constexpr Family<ViewStats> kViewFamilies[] = {
    {{"dmm_view_active", kGauge, "view", "1 if this worker keeps the view, 0 if it stands by"},
     read<&ViewStats::holds_lease>},
    {{"dmm_view_loaded", kGauge, "view", "1 when all inputs were read and the cache was compared"},
     read<&ViewStats::loaded>},
    {{"dmm_view_settled", kGauge, "view", "1 while all that came of the inputs is told"},
     read<&ViewStats::settled>},
    {{"dmm_view_changes_total", kCounter, "view", "Rows of inputs that were told"},
     read<&ViewStats::changes>},
    {{"dmm_view_unchanged_total", kCounter, "view", "Rows of inputs that were told as they were"},
     read<&ViewStats::unchanged>},
    {{"dmm_view_stale_total", kCounter, "view",
      "Reports ignored because their seq was not above the last one"},
     read<&ViewStats::stale>},
    {{"dmm_view_expired_total", kCounter, "view", "Rows of inputs that passed their age"},
     read<&ViewStats::expired>},
    {{"dmm_view_refused_total", kCounter, "view", "Documents and rows left out, with a reason"},
     read<&ViewStats::refused>},
    {{"dmm_view_steps_total", kCounter, "view", "Steps of the engine"}, read<&ViewStats::steps>},
    {{"dmm_view_step_duration_seconds", kHistogram, "view", "How long steps of the engine took"},
     read<&ViewStats::step_times>},
    {{"dmm_view_lag_seconds", kHistogram, "view",
      "At each step, the age of the oldest change that it took in, once the view is loaded"},
     read<&ViewStats::lags>},
    {{"dmm_view_notifies_total", kCounter, "view", "Tokens that the view stored"},
     read<&ViewStats::notified>},
    {{"dmm_view_removals_total", kCounter, "view", "Of them, those that remove an identity"},
     read<&ViewStats::removed>},
    {{"dmm_view_rebuilds_total", kCounter, "view",
      "Times that the view was computed from its inputs"},
     read<&ViewStats::rebuilds>},
    {{"dmm_view_restored_rows_total", kCounter, "view",
      "Rows of inputs that came from a snapshot instead of their source"},
     read<&ViewStats::restored>},
    {{"dmm_view_snapshots_total", kCounter, "view", "Snapshots written"},
     read<&ViewStats::snapshots>},
    {{"dmm_view_snapshots_failed_total", kCounter, "view",
      "Snapshots that could not be written; the one before stays"},
     read<&ViewStats::snapshots_failed>},
    {{"dmm_view_snapshot_stall_seconds", kGauge, "view",
      "How long the last snapshot held up everything else"},
     read<[](const ViewStats& s) { return seconds(s.snapshot_stall); }>},
    {{"dmm_view_input_rows", kGauge, "view", "Rows of all inputs"}, read<&ViewStats::input_rows>},
    {{"dmm_view_rows", kGauge, "view", "Rows of the view"}, read<&ViewStats::rows>},
    {{"dmm_view_operator_rows", kGauge, "view,operator",
      "Rows that an operator of the pipeline keeps"},
     rows_by_operator},
    {{"dmm_view_operator_bytes", kGauge, "view,operator",
      "Memory that an operator took from the system for its packed rows; texts and lists that they "
      "share with others are not in it"},
     bytes_by_operator},
    {{"dmm_view_state_bytes", kGauge, "view",
      "Memory of the state of the view: that of its operators, as measured, and that of the "
      "documents of its inputs and of its rows, as estimated from a sample of 64"},
     read<state_bytes>},
    {{"dmm_view_held", kGauge, "view", "Removals that wait for approval"}, read<&ViewStats::held>},
    {{"dmm_view_sending", kGauge, "view", "Notifies of the view that are not confirmed yet"},
     read<&ViewStats::sending>},
};

// Of the process, under the names that every exporter gives them.
constexpr Family<ProcessUse> kUseFamilies[] = {
    {{"process_cpu_seconds_total", kCounter, "", "Processor time of the process"},
     read<&ProcessUse::cpu>},
    {{"process_resident_memory_bytes", kGauge, "", "Resident memory of the process"},
     read<&ProcessUse::resident_bytes>},
    {{"process_open_fds", kGauge, "", "Open file descriptors of the process"},
     read<&ProcessUse::open_fds>},
    {{"process_max_fds", kGauge, "", "The most that it may have open"}, read<&ProcessUse::max_fds>},
    {{"process_start_time_seconds", kGauge, "", "Start of the process, as Unix time"},
     read<&ProcessUse::started_at>},
};

/// All of them, in the order in which they are told.
std::vector<Metric> make_metrics() {
  std::vector<Metric> all;
  const auto add = [&all](const auto& families) {
    for (const auto& one : families) all.push_back(one.metric);
  };
  add(kProcessFamilies);
  add(kTypeFamilies);
  add(kObserverFamilies);
  add(kViewFamilies);
  add(kUseFamilies);
  return all;
}

/// Sources of one kind say their families once, with the samples of all of them.
std::string text_of(const std::vector<std::shared_ptr<const MetricSource>>& sources) {
  std::map<const Metric*, Exposition> kinds;
  for (const auto& source : sources) {
    const std::span<const Metric> families = source->families();
    source->collect(kinds.try_emplace(families.data(), families).first->second);
  }
  std::string text;
  for (const auto& [families, samples] : kinds) text += samples.text();
  return text;
}

}  // namespace

std::span<const Metric> all_metrics() noexcept {
  static const std::vector<Metric> all = make_metrics();
  return all;
}

std::string scrape(const Parts& parts, const ServiceFacts& facts) {
  Exposition all(all_metrics());
  add_all<Process>(all, kProcessFamilies, {}, {facts, parts.bucket});
  for (const WorkStream* stream : parts.work_streams) {
    add_all<WorkStats>(all, kTypeFamilies, {{"type", stream->type()}}, stream->stats());
  }
  for (const Observer* observer : parts.observers) {
    add_all<ObserveStats>(all, kObserverFamilies, {{"kind", observer->kind()}}, observer->stats());
  }
  for (const ViewStream* view : parts.view_streams) {
    add_all<ViewStats>(all, kViewFamilies, {{"view", view->name()}}, view->stats());
  }
  add_all<ProcessUse>(all, kUseFamilies, {}, ProcessUse::read());
  return all.text() + text_of(parts.sources);
}

std::string scrape(const Bucket* bucket, const ServiceFacts& facts) {
  if (bucket == nullptr) return scrape(Parts(), facts);
  return scrape({bucket->stats(), bucket->work_streams(), bucket->observers(),
                 bucket->view_streams(), bucket->metric_sources()},
                facts);
}

std::string metrics_table(std::span<const Metric> metrics) {
  std::string table = "| metric | type | labels | what |\n|---|---|---|---|\n";
  for (const Metric& metric : metrics) {
    const std::string labels(metric.labels);
    table += fmt::format("| `{}` | {} | {} | {} |\n", metric.name, to_string(metric.type),
                         labels.empty() ? "" : "`" + labels + "`", metric.help);
  }
  return table;
}

std::string metrics_page() {
  std::string page =
      "# Metrics\n\n"
      "What a service serves under `/metrics` (docs/how-to/run-a-service.md), in the text format "
      "of "
      "Prometheus.\nEverything counts from the start of the process, and for this process: sum "
      "over "
      "the workers of a namespace.\nThis page is made from the program, and a test compares them: "
      "run "
      "`dmm_service_test \"[pages]\"` with DMM_UPDATE_PAGES=1 after a change.\n\n";
  page += metrics_table(all_metrics());
  page += "\nFor each type that is worked:\n\n" + metrics_table(worker::Slots::kFamilies);
  std::string bounds;
  for (const Durations::Bound bound : Durations::kBounds) {
    bounds += fmt::format("{}{}", bounds.empty() ? "" : ", ",
                          static_cast<double>(bound.count()) / 1'000'000);
  }
  page += fmt::format("\nHistograms have the bounds {} seconds.\n", bounds);
  return page;
}

}  // namespace dmm::service
