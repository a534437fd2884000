#include "dmm/service/metrics.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <sstream>

#include "engine/version.h"

namespace dmm::service {

namespace {

using std::chrono::system_clock;

double seconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

template <class Number>
double as_double(Number number) {
  return static_cast<double>(number);
}

constexpr auto kCounter = MetricType::counter;
constexpr auto kGauge = MetricType::gauge;
constexpr auto kHistogram = MetricType::histogram;

// The page in docs/reference is made from this.
constexpr Metric kMetrics[] = {
    {"dmm_build_info", kGauge, "version,service,namespace", "Always 1; the labels say what runs"},
    {"dmm_ready", kGauge, "",
     "1 if the service does its work, or stands by for others; see /readyz"},
    {"dmm_connected", kGauge, "", "1 while the NATS server is connected"},
    {"dmm_reconnects_total", kCounter, "",
     "Times that the connection to the server was made again"},
    {"dmm_config_reloads_total", kCounter, "result",
     "Times that the file of options was read again; a failed one changed nothing"},
    {"dmm_spans_total", kCounter, "result",
     "Spans of traces that were sent to the collector, or dropped because it did not keep up"},
    {"dmm_notifies_total", kCounter, "type",
     "Tokens that this process stored by notify, poke and remove; those of views are not among "
     "them"},
    {"dmm_reports_published_total", kCounter, "", "Reports that this process published"},

    {"dmm_tokens_read_total", kCounter, "type", "Tokens read from the work stream"},
    {"dmm_tokens_outstanding", kGauge, "type",
     "Identities with a token in the lanes of this worker: waiting, running, retried or parked"},
    {"dmm_oldest_token_age_seconds", kGauge, "type",
     "Age of the oldest token here that is neither parked, nor dated, nor waits for a device"},
    {"dmm_runs_started_total", kCounter, "type", "Runs of materialize that were begun"},
    {"dmm_runs_total", kCounter, "type,outcome",
     "Runs of materialize that ended: succeeded, failed, timed_out, unreached (the device is "
     "offline), gave_up (parked by the run), conflicted or cancelled (both are repeated)"},
    {"dmm_run_duration_seconds", kHistogram, "type", "How long runs took; cancelled ones left out"},
    {"dmm_turnaround_seconds", kHistogram, "type",
     "From the storage of news to the success of their run, by the clocks of server and worker"},
    {"dmm_runs_in_flight", kGauge, "type", "Runs that are under way"},
    {"dmm_run_retries_total", kCounter, "type", "Runs that were not the first on their news"},
    {"dmm_postponed_total", kCounter, "type", "Successful runs that asked to be run again later"},
    {"dmm_identities_ready", kGauge, "type", "Identities that wait for a slot to run"},
    {"dmm_identities_retrying", kGauge, "type",
     "Identities whose status is failing, parked or offline"},
    {"dmm_identities_parked", kGauge, "type", "Identities that were given up until news come"},
    {"dmm_identities_offline", kGauge, "type", "Identities that wait for the report of a device"},
    {"dmm_identities_held", kGauge, "type", "Identities that are paused by themselves"},
    {"dmm_parked_total", kCounter, "type", "Times that an identity was parked"},
    {"dmm_coalesced_total", kCounter, "type", "News that were replaced before they ran"},
    {"dmm_entries_stored_total", kCounter, "type", "Cache entries written"},
    {"dmm_write_conflicts_total", kCounter, "type",
     "Writes of cache entries refused because someone else had written"},
    {"dmm_corrupt_entries_total", kCounter, "type",
     "Cache entries that could not be read and counted as missing"},
    {"dmm_tokens_refused_total", kCounter, "type", "Tokens parked because they could not be read"},
    {"dmm_resynced_total", kCounter, "type", "Identities that the resync told to run"},
    {"dmm_lanes_owned", kGauge, "type", "Lanes of this worker, of 64"},
    {"dmm_lanes_wanted", kGauge, "type", "Lanes that are its by right; 0: it stands by"},
    {"dmm_lease_losses_total", kCounter, "type", "Times that lanes were lost before their end"},
    {"dmm_history_losses_total", kCounter, "type", "Times that the work stream lost its history"},
    {"dmm_type_paused", kGauge, "type", "1 while the type, or everything, is paused"},

    {"dmm_reports_read_total", kCounter, "kind", "Reports read for observers"},
    {"dmm_reports_handled_total", kCounter, "kind", "Reports whose handler returned"},
    {"dmm_report_failures_total", kCounter, "kind", "Calls of observe handlers that threw"},
    {"dmm_report_repeats_total", kCounter, "kind",
     "Handlers called again because the cache had changed meanwhile"},
    {"dmm_reports_stale_total", kCounter, "kind",
     "Reports ignored because their seq was not above the last one"},
    {"dmm_reports_refused_total", kCounter, "kind",
     "Reports parked because they could not be read"},
    {"dmm_reports_waiting", kGauge, "kind", "Reports read, and neither handled nor refused yet"},
    {"dmm_report_lag_seconds", kHistogram, "kind",
     "From the storage of a report to the end of its handler, by the clocks of server and worker"},
    {"dmm_observer_active", kGauge, "kind",
     "1 if this worker observes the kind, 0 if it stands by"},

    {"dmm_view_active", kGauge, "view", "1 if this worker keeps the view, 0 if it stands by"},
    {"dmm_view_loaded", kGauge, "view", "1 when all inputs were read and the cache was compared"},
    {"dmm_view_settled", kGauge, "view", "1 while all that came of the inputs is told"},
    {"dmm_view_changes_total", kCounter, "view", "Rows of inputs that were told"},
    {"dmm_view_unchanged_total", kCounter, "view", "Rows of inputs that were told as they were"},
    {"dmm_view_stale_total", kCounter, "view",
     "Reports ignored because their seq was not above the last one"},
    {"dmm_view_expired_total", kCounter, "view", "Rows of inputs that passed their age"},
    {"dmm_view_refused_total", kCounter, "view", "Documents and rows left out, with a reason"},
    {"dmm_view_steps_total", kCounter, "view", "Steps of the engine"},
    {"dmm_view_step_duration_seconds", kHistogram, "view", "How long steps of the engine took"},
    {"dmm_view_lag_seconds", kHistogram, "view",
     "At each step, the age of the oldest change that it took in, once the view is loaded"},
    {"dmm_view_notifies_total", kCounter, "view", "Tokens that the view stored"},
    {"dmm_view_removals_total", kCounter, "view", "Of them, those that remove an identity"},
    {"dmm_view_rebuilds_total", kCounter, "view",
     "Times that the view was computed from its inputs"},
    {"dmm_view_restored_rows_total", kCounter, "view",
     "Rows of inputs that came from a snapshot instead of their source"},
    {"dmm_view_snapshots_total", kCounter, "view", "Snapshots written"},
    {"dmm_view_snapshot_stall_seconds", kGauge, "view",
     "How long the last snapshot held up everything else"},
    {"dmm_view_input_rows", kGauge, "view", "Rows of all inputs"},
    {"dmm_view_rows", kGauge, "view", "Rows of the view"},
    {"dmm_view_operator_rows", kGauge, "view,operator",
     "Rows that an operator of the pipeline keeps"},
    {"dmm_view_held", kGauge, "view", "Removals that wait for approval"},
    {"dmm_view_sending", kGauge, "view", "Notifies of the view that are not confirmed yet"},

    {"process_cpu_seconds_total", kCounter, "", "Processor time of the process"},
    {"process_resident_memory_bytes", kGauge, "", "Resident memory of the process"},
    {"process_open_fds", kGauge, "", "Open file descriptors of the process"},
    {"process_max_fds", kGauge, "", "The most that it may have open"},
    {"process_start_time_seconds", kGauge, "", "Start of the process, as Unix time"},
};

void add_type(Exposition& to, const WorkStream& stream) {
  const WorkStats stats = stream.stats();
  const Labels type = {{"type", stream.type()}};
  const auto add = [&](std::string_view name, auto value) { to.add(name, type, as_double(value)); };
  const auto ended = [&](const char* outcome, std::uint64_t count) {
    to.add("dmm_runs_total", {{"type", stream.type()}, {"outcome", outcome}}, as_double(count));
  };
  add("dmm_tokens_read_total", stats.tokens);
  add("dmm_tokens_outstanding", stats.outstanding);
  const auto oldest = stats.oldest_token ? system_clock::now() - *stats.oldest_token
                                         : system_clock::duration::zero();
  add("dmm_oldest_token_age_seconds", std::max(0.0, seconds(oldest)));
  add("dmm_runs_started_total", stats.runs);
  ended("succeeded", stats.succeeded);
  ended("failed", stats.failed - std::min(stats.failed, stats.timed_out));
  ended("timed_out", stats.timed_out);
  ended("unreached", stats.unreached);
  ended("gave_up", stats.gave_up);
  ended("conflicted", stats.conflicts);
  ended("cancelled", stats.cancelled);
  to.add("dmm_run_duration_seconds", type, stats.run_times);
  to.add("dmm_turnaround_seconds", type, stats.turnarounds);
  add("dmm_runs_in_flight", stats.running);
  add("dmm_run_retries_total", stats.retried);
  add("dmm_postponed_total", stats.postponed);
  add("dmm_identities_ready", stats.ready);
  add("dmm_identities_retrying", stats.retrying);
  add("dmm_identities_parked", stats.parked_now);
  add("dmm_identities_offline", stats.offline);
  add("dmm_identities_held", stats.held);
  add("dmm_parked_total", stats.parked);
  add("dmm_coalesced_total", stats.coalesced);
  add("dmm_entries_stored_total", stats.stored);
  add("dmm_write_conflicts_total", stats.conflicts);
  add("dmm_corrupt_entries_total", stats.corrupt);
  add("dmm_tokens_refused_total", stats.refused);
  add("dmm_resynced_total", stats.resynced);
  add("dmm_lanes_owned", stats.lanes);
  add("dmm_lanes_wanted", stats.lanes_wanted);
  add("dmm_lease_losses_total", stats.lease_losses);
  add("dmm_history_losses_total", stats.history_losses);
  add("dmm_type_paused", stats.paused);
}

void add_observer(Exposition& to, const Observer& observer) {
  const ObserveStats stats = observer.stats();
  const Labels kind = {{"kind", observer.kind()}};
  const auto add = [&](std::string_view name, auto value) { to.add(name, kind, as_double(value)); };
  add("dmm_reports_read_total", stats.reports);
  add("dmm_reports_handled_total", stats.handled);
  add("dmm_report_failures_total", stats.failed);
  add("dmm_report_repeats_total", stats.repeated);
  add("dmm_reports_stale_total", stats.stale);
  add("dmm_reports_refused_total", stats.refused);
  add("dmm_reports_waiting", stats.waiting);
  to.add("dmm_report_lag_seconds", kind, stats.lags);
  add("dmm_observer_active", stats.holds_lease);
}

void add_view(Exposition& to, const ViewStream& stream) {
  const ViewStats stats = stream.stats();
  const Labels view = {{"view", stream.name()}};
  const auto add = [&](std::string_view name, auto value) { to.add(name, view, as_double(value)); };
  add("dmm_view_active", stats.holds_lease);
  add("dmm_view_loaded", stats.loaded);
  add("dmm_view_settled", stats.settled);
  add("dmm_view_changes_total", stats.changes);
  add("dmm_view_unchanged_total", stats.unchanged);
  add("dmm_view_stale_total", stats.stale);
  add("dmm_view_expired_total", stats.expired);
  add("dmm_view_refused_total", stats.refused);
  add("dmm_view_steps_total", stats.steps);
  to.add("dmm_view_step_duration_seconds", view, stats.step_times);
  to.add("dmm_view_lag_seconds", view, stats.lags);
  add("dmm_view_notifies_total", stats.notified);
  add("dmm_view_removals_total", stats.removed);
  add("dmm_view_rebuilds_total", stats.rebuilds);
  add("dmm_view_restored_rows_total", stats.restored);
  add("dmm_view_snapshots_total", stats.snapshots);
  to.add("dmm_view_snapshot_stall_seconds", view, seconds(stats.snapshot_stall));
  add("dmm_view_input_rows", stats.input_rows);
  add("dmm_view_rows", stats.rows);
  for (const auto& [name, rows] : stats.operators) {
    to.add("dmm_view_operator_rows", {{"view", stream.name()}, {"operator", name}},
           as_double(rows));
  }
  add("dmm_view_held", stats.held);
  add("dmm_view_sending", stats.sending);
}

/// Of /proc/self/stat: resident pages and the start, in ticks after the boot.
struct Stat {
  double resident_pages = 0;
  double started_ticks = 0;
};

Stat read_stat() {
  std::ifstream file("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  // The name of the program stands in parentheses and may hold spaces.
  std::istringstream fields(text.substr(std::min(text.size(), text.rfind(')') + 1)));
  Stat stat;
  std::string field;
  for (int number = 3; fields >> field; ++number) {
    if (number == 22) stat.started_ticks = std::strtod(field.c_str(), nullptr);
    if (number == 24) stat.resident_pages = std::strtod(field.c_str(), nullptr);
  }
  return stat;
}

double boot_time() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("btime ")) return std::strtod(line.c_str() + 6, nullptr);
  }
  return 0;
}

double open_fds() {
  DIR* directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) return 0;
  double count = -3;  // ".", ".." and the directory itself
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count;
}

void add_process(Exposition& to) {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto of = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1'000'000;
  };
  to.add("process_cpu_seconds_total", {}, of(used.ru_utime) + of(used.ru_stime));
  const Stat stat = read_stat();
  to.add("process_resident_memory_bytes", {},
         stat.resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE)));
  to.add("process_open_fds", {}, open_fds());
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  to.add("process_max_fds", {}, static_cast<double>(limit.rlim_cur));
  to.add("process_start_time_seconds", {},
         boot_time() + stat.started_ticks / static_cast<double>(sysconf(_SC_CLK_TCK)));
}

void add_service(Exposition& to, const ServiceFacts& facts) {
  to.add("dmm_build_info",
         {{"version", std::string(engine::version())},
          {"service", facts.name},
          {"namespace", facts.ns}},
         1);
  to.add("dmm_ready", {}, as_double(facts.ready));
  to.add("dmm_config_reloads_total", {{"result", "ok"}}, as_double(facts.reloads));
  to.add("dmm_config_reloads_total", {{"result", "failed"}}, as_double(facts.reloads_failed));
  if (!facts.traces) return;
  to.add("dmm_spans_total", {{"result", "sent"}}, as_double(facts.spans_sent));
  to.add("dmm_spans_total", {{"result", "dropped"}}, as_double(facts.spans_dropped));
}

}  // namespace

std::span<const Metric> all_metrics() noexcept {
  return kMetrics;
}

std::string scrape(const Bucket* bucket, const ServiceFacts& facts) {
  Exposition all(kMetrics);
  add_service(all, facts);
  const BucketStats stats = bucket != nullptr ? bucket->stats() : BucketStats();
  all.add("dmm_connected", {}, as_double(stats.connected));
  all.add("dmm_reconnects_total", {}, as_double(stats.reconnects));
  all.add("dmm_reports_published_total", {}, as_double(stats.reports));
  for (const auto& [type, count] : stats.notifies) {
    all.add("dmm_notifies_total", {{"type", type}}, as_double(count));
  }
  if (bucket != nullptr) {
    for (const WorkStream* stream : bucket->work_streams()) add_type(all, *stream);
    for (const Observer* observer : bucket->observers()) add_observer(all, *observer);
    for (const ViewStream* view : bucket->view_streams()) add_view(all, *view);
  }
  add_process(all);
  return all.text();
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
      "`dmm_service_test \"[pages]\"` with DMM_UPDATE_PAGES=1 after a change.\n\n"
      "| metric | type | labels | what |\n|---|---|---|---|\n";
  for (const Metric& metric : kMetrics) {
    std::string labels(metric.labels);
    page += fmt::format("| `{}` | {} | {} | {} |\n", metric.name, to_string(metric.type),
                        labels.empty() ? "" : "`" + labels + "`", metric.help);
  }
  std::string bounds;
  for (const Durations::Bound bound : Durations::kBounds) {
    bounds += fmt::format("{}{}", bounds.empty() ? "" : ", ",
                          static_cast<double>(bound.count()) / 1'000'000);
  }
  page += fmt::format("\nHistograms have the bounds {} seconds.\n", bounds);
  return page;
}

}  // namespace dmm::service
