// init, leases, doctor: the namespace itself, and the server below it.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>

#include "dmm/cli/documents.h"
#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/program.h"
#include "dmm/cli/table.h"
#include "dmm/json.h"
#include "dmm/limits.h"

namespace dmm::cli {

namespace {

constexpr const char* kGroup = "Namespace";

std::string stream_table(const Session& session,
                         const std::vector<transport::StreamState>& streams) {
  Table table({{.title = "STREAM", .flexible = true},
               {.title = "MESSAGES", .number = true},
               {.title = "SIZE", .number = true},
               {.title = "LAST", .number = true},
               {.title = "READERS", .number = true},
               {.title = "REPLICAS", .number = true}});
  for (const transport::StreamState& stream : streams) {
    table.add({{stream.name},
               {human_count(stream.messages)},
               {human_bytes(stream.bytes)},
               {human_count(stream.last.value)},
               {human_count(stream.consumers)},
               {std::to_string(stream.replicas)}});
  }
  return table.render(session.terminal());
}

nlohmann::json documents_of(const std::vector<transport::StreamState>& streams) {
  auto documents = nlohmann::json::array();
  for (const transport::StreamState& stream : streams) documents.push_back(document_of(stream));
  return documents;
}

int init(Session& session, int replicas) {
  Bucket bucket = session.create(replicas);
  const auto streams = bucket.inspect().streams();
  if (session.json()) {
    session.show({{"namespace", bucket.ns()},
                  {"generation", session.globals().generation},
                  {"streams", documents_of(streams)}});
    return exit_code::ok;
  }
  session.say(fmt::format("namespace {} is ready", bucket.ns()));
  session.out().write(stream_table(session, streams));
  const bool differs = std::any_of(streams.begin(), streams.end(),
                                   [&](const auto& stream) { return stream.replicas != replicas; });
  if (differs) {
    session.warn(
        fmt::format("streams that were there before keep their replicas; {} asked for", replicas));
  }
  return exit_code::ok;
}

std::string state_of(const LeaseInfo& lease, Time now) {
  if (lease.released) return "released";
  if (lease.last_beat && now - *lease.last_beat > limits::lease_ttl) return "silent";
  return lease.lanes == 0 ? "standby" : "held";
}

int leases(Session& session) {
  Bucket bucket = session.open();
  const std::vector<LeaseInfo> found = bucket.inspect().leases();
  const Time now = std::chrono::system_clock::now();
  if (session.json()) {
    auto documents = nlohmann::json::array();
    for (const LeaseInfo& lease : found) {
      documents.push_back(document_of(lease));
      documents.back()["state"] = state_of(lease, now);
    }
    session.show(documents);
    return exit_code::ok;
  }
  if (found.empty()) {
    if (session.terminal().interactive) session.say("no leases: no worker has run here yet");
    return exit_code::ok;
  }
  Table table({{.title = "LEASE", .flexible = true},
               {.title = "STATE"},
               {.title = "LANES", .number = true},
               {.title = "EPOCH", .number = true},
               {.title = "LAST BEAT"},
               {.title = "HOLDER", .flexible = true}});
  for (const LeaseInfo& lease : found) {
    const std::string state = state_of(lease, now);
    table.add({{lease.name},
               {state, state == "held" ? Color::green : Color::yellow},
               {lease.lanes ? std::to_string(*lease.lanes) : ""},
               {std::to_string(lease.epoch.value)},
               {human_age(lease.last_beat, now)},
               {lease.holder}});
  }
  session.out().write(table.render(session.terminal()));
  return exit_code::ok;
}

struct Limit {
  const char* name;
  std::uint64_t value;
  const char* unit;
};

std::vector<Limit> limit_list() {
  const auto ms = [](auto duration) {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
  };
  return {
      {"namespace_bytes_max", limits::namespace_bytes_max, "bytes"},
      {"type_bytes_max", limits::type_bytes_max, "bytes"},
      {"id_bytes_max", limits::id_bytes_max, "bytes"},
      {"payload_bytes_max", limits::payload_bytes_max, "bytes"},
      {"json_depth_max", limits::json_depth_max, "levels"},
      {"error_text_bytes_max", limits::error_text_bytes_max, "bytes"},
      {"lanes", limits::lanes, "lanes"},
      {"request_timeout", ms(limits::request_timeout), "ms"},
      {"publish_deadline", ms(limits::publish_deadline), "ms"},
      {"retry_delay_first", ms(limits::retry_delay_first), "ms"},
      {"retry_delay_max", ms(limits::retry_delay_max), "ms"},
      {"publishes_in_flight_max", limits::publishes_in_flight_max, "messages"},
      {"erases_in_flight_max", limits::erases_in_flight_max, "requests"},
      {"dedupe_window", ms(limits::dedupe_window), "ms"},
      {"read_batch", limits::read_batch, "messages"},
      {"pull_expiry", ms(limits::pull_expiry), "ms"},
      {"pull_heartbeat", ms(limits::pull_heartbeat), "ms"},
      {"consumer_inactive_threshold", ms(limits::consumer_inactive_threshold), "ms"},
      {"stream_check_interval", ms(limits::stream_check_interval), "ms"},
      {"concurrency", limits::concurrency, "runs"},
      {"identities_ready_max", limits::identities_ready_max, "identities"},
      {"ready_bytes_max", limits::ready_bytes_max, "bytes"},
      {"entries_held_bytes_max", limits::entries_held_bytes_max, "bytes"},
      {"run_timeout", ms(limits::run_timeout), "ms"},
      {"pace_wait_max", ms(limits::pace_wait_max), "ms"},
      {"backoff_first", ms(limits::backoff_first), "ms"},
      {"backoff_max", ms(limits::backoff_max), "ms"},
      {"lease_ttl", ms(limits::lease_ttl), "ms"},
      {"lease_beat", ms(limits::lease_beat), "ms"},
      {"lease_margin", ms(limits::lease_margin), "ms"},
      {"lease_poll", ms(limits::lease_poll), "ms"},
      {"grace", ms(limits::grace), "ms"},
      {"observe_concurrency", limits::observe_concurrency, "handlers"},
      {"devices_tracked_max", limits::devices_tracked_max, "devices"},
      {"cursor_interval", ms(limits::cursor_interval), "ms"},
      {"report_toll_max", limits::report_toll_max, "devices"},
      {"view_step_changes", limits::view_step_changes, "changes"},
      {"view_state_interval", ms(limits::view_state_interval), "ms"},
      {"view_snapshot_interval", ms(limits::view_snapshot_interval), "ms"},
      {"view_snapshot_age_max", ms(limits::view_snapshot_age_max), "ms"},
      {"view_snapshot_bytes_max", limits::view_snapshot_bytes_max, "bytes"},
      {"view_snapshot_open_max", limits::view_snapshot_open_max, "entries"},
      {"view_snapshot_entries_max", limits::view_snapshot_entries_max, "entries"},
      {"removals_free", limits::removals_free, "rows"},
      {"removals_percent", limits::removals_percent, "percent"},
      {"removals_window", ms(limits::removals_window), "ms"},
      {"command_timeout", ms(limits::command_timeout), "ms"},
      {"offline_retry", ms(limits::offline_retry), "ms"},
      {"report_reader_idle", ms(limits::report_reader_idle), "ms"},
      {"commands_waiting_max", limits::commands_waiting_max, "commands"},
      {"shadows_untold_max", limits::shadows_untold_max, "shadows"},
      {"device_concurrency", limits::device_concurrency, "handlers"},
      {"recreate_delay", ms(limits::recreate_delay), "ms"},
      {"resource_tags_max", limits::resource_tags_max, "tags"},
      {"resource_tag_bytes_max", limits::resource_tag_bytes_max, "bytes"},
      {"resource_metadata_bytes_max", limits::resource_metadata_bytes_max, "bytes"},
      {"resource_batch", limits::resource_batch, "objects"},
      {"resource_batch_bytes", limits::resource_batch_bytes, "bytes"},
      {"resource_list_max", limits::resource_list_max, "resources"},
      {"resource_groups", limits::resource_groups, "statements"},
      {"resource_group_lock", ms(limits::resource_group_lock), "ms"},
      {"resource_ahead_min", limits::resource_ahead_min, "resources"},
      {"resource_ahead_max", limits::resource_ahead_max, "resources"},
      {"resource_quick_work", ms(limits::resource_quick_work), "ms"},
      {"resource_attempts", limits::resource_attempts, "attempts"},
      {"resource_errors_kept", limits::resource_errors_kept, "errors"},
      {"resource_poll", ms(limits::resource_poll), "ms"},
      {"resource_relay_batch", limits::resource_relay_batch, "lines"},
      {"resource_answer", ms(limits::resource_answer), "ms"},
      {"resource_retry_max", ms(limits::resource_retry_max), "ms"},
      {"resource_upkeep_interval", ms(limits::resource_upkeep_interval), "ms"},
      {"resource_upkeep_batch", limits::resource_upkeep_batch, "resources"},
      {"resource_lost_after", ms(limits::resource_lost_after), "ms"},
      {"resource_lost_batch", limits::resource_lost_batch, "resources"},
      {"inform_interval", ms(limits::inform_interval), "ms"},
      {"inform_jitter", ms(limits::inform_jitter), "ms"},
      {"inform_overlap", ms(limits::inform_overlap), "ms"},
      {"inform_timeout", ms(limits::inform_timeout), "ms"},
      {"inform_backoff_first", ms(limits::inform_backoff_first), "ms"},
      {"inform_backoff_max", ms(limits::inform_backoff_max), "ms"},
      {"inform_attempts", limits::inform_attempts, "attempts"},
      {"skipped_events_max", limits::skipped_events_max, "events"},
      {"resource_events_max", limits::resource_events_max, "events"},
      {"resource_events_age", ms(limits::resource_events_age), "ms"},
      {"roll_call", ms(limits::roll_call), "ms"},
      {"workers_told_max", limits::workers_told_max, "workers"},
      {"log_level_for", ms(limits::log_level_for), "ms"},
      {"log_level_for_max", ms(limits::log_level_for_max), "ms"},
      {"clock_skew_warned", ms(limits::clock_skew_warned), "ms"},
      {"memory_sample", limits::memory_sample, "rows"},
      {"recount_interval", ms(limits::recount_interval), "ms"},
      {"recount_share", limits::recount_share, "times"},
      {"service_grace", ms(limits::service_grace), "ms"},
      {"service_alive", ms(limits::service_alive), "ms"},
      {"http_threads", limits::http_threads, "threads"},
      {"http_body_bytes_max", limits::http_body_bytes_max, "bytes"},
      {"http_timeout", ms(limits::http_timeout), "ms"},
      {"spans_waiting_max", limits::spans_waiting_max, "spans"},
      {"spans_sent_max", limits::spans_sent_max, "spans"},
      {"spans_interval", ms(limits::spans_interval), "ms"},
      {"spans_timeout", ms(limits::spans_timeout), "ms"},
      {"spans_pause_max", ms(limits::spans_pause_max), "ms"},
  };
}

std::pair<std::string_view, Color> mark_of(Finding::Severity severity) {
  switch (severity) {
    case Finding::Severity::good:
      return {"ok", Color::green};
    case Finding::Severity::note:
      return {"note", Color::none};
    case Finding::Severity::warning:
      return {"WARN", Color::yellow};
    case Finding::Severity::failure:
      return {"FAIL", Color::red};
  }
  return {"FAIL", Color::red};
}

/// What the doctor saw; parts that could not be looked at are empty.
struct Diagnosis {
  std::vector<Finding> findings;
  std::vector<transport::StreamState> streams;
  std::optional<transport::ServerFacts> server;
  int result = exit_code::ok;
};

// A server that is away and a namespace that is missing are findings, too.
Diagnosis examine(const Session& session) {
  Diagnosis diagnosis;
  try {
    Bucket bucket = session.open();
    diagnosis.findings = bucket.inspect().diagnose();
    diagnosis.server = bucket.inspect().server();
    diagnosis.streams = bucket.inspect().streams();
  } catch (const Error& error) {
    const bool away = exit_code_of(error) == exit_code::unreachable;
    diagnosis.findings.push_back({.severity = Finding::Severity::failure,
                                  .subject = away ? "server" : "namespace",
                                  .text = error.what(),
                                  .remedy = std::string(error.remedy())});
    diagnosis.result = exit_code_of(error);
  }
  const bool failed = std::any_of(
      diagnosis.findings.begin(), diagnosis.findings.end(),
      [](const Finding& finding) { return finding.severity == Finding::Severity::failure; });
  if (failed && diagnosis.result == exit_code::ok) diagnosis.result = exit_code::failed;
  return diagnosis;
}

void show_json(Session& session, const Diagnosis& diagnosis, bool with_limits) {
  nlohmann::json document{{"namespace", session.globals().ns},
                          {"findings", nlohmann::json::array()},
                          {"streams", documents_of(diagnosis.streams)},
                          {"server", nullptr}};
  for (const Finding& finding : diagnosis.findings) {
    document["findings"].push_back(document_of(finding));
  }
  if (diagnosis.server) document["server"] = document_of(*diagnosis.server);
  if (with_limits) {
    for (const Limit& limit : limit_list()) {
      document["limits"][limit.name] = {{"value", limit.value}, {"unit", limit.unit}};
    }
  }
  session.show(document);
}

int doctor(Session& session, bool with_limits) {
  const Diagnosis diagnosis = examine(session);
  if (session.json()) {
    show_json(session, diagnosis, with_limits);
    return diagnosis.result;
  }
  const Terminal& terminal = session.terminal();
  constexpr std::size_t kIndent = 6;
  for (const Finding& finding : diagnosis.findings) {
    const auto [mark, color] = mark_of(finding.severity);
    const std::string text =
        wrap(printable(fmt::format("{:<5} {}: {}", mark, finding.subject, finding.text), 4'000),
             terminal.width, kIndent);
    session.out().write(terminal.paint(text.substr(0, mark.size()), color) +
                        text.substr(mark.size()) + "\n");
    if (!finding.remedy.empty()) {
      const std::string remedy =
          wrap(std::string(kIndent, ' ') + printable(finding.remedy), terminal.width, kIndent);
      session.out().write(terminal.paint(remedy, Color::dim) + "\n");
    }
  }
  if (!diagnosis.streams.empty()) {
    session.out().write("\n" + stream_table(session, diagnosis.streams));
  }
  if (with_limits) {
    Table table({{.title = "LIMIT"}, {.title = "VALUE", .number = true}, {.title = "UNIT"}});
    for (const Limit& limit : limit_list()) {
      table.add({{limit.name}, {human_count(limit.value)}, {limit.unit}});
    }
    session.out().write("\n" + table.render(terminal));
  }
  return diagnosis.result;
}

}  // namespace

void add_namespace_commands(Program& program) {
  auto replicas = std::make_shared<int>(1);
  CLI::App* create = program.add_verb(
      "init", "Create the streams of a namespace", kGroup,
      {"dmm init                             namespace default, one replica",
       "dmm init -n music --replicas 3       on a cluster",
       "dmm init --generation 2              again, after the streams were deleted"},
      [replicas](Session& session) { return init(session, *replicas); });
  create->add_option("--replicas", *replicas, "Copies of each stream in a cluster")
      ->check(CLI::IsMember({1, 3, 5}))
      ->type_name("N");

  program.repeat(*program.add_verb(
      "leases", "List who works on what", kGroup,
      {"dmm leases                  holders, epochs, last signs of life"}, leases));

  auto with_limits = std::make_shared<bool>(false);
  CLI::App* look = program.add_verb(
      "doctor", "Check server and namespace; say what an acknowledgement is worth", kGroup,
      {"dmm doctor                  exit code 0 if nothing has failed",
       "dmm doctor --limits         with every limit of this version"},
      [with_limits](Session& session) { return doctor(session, *with_limits); });
  look->add_flag("--limits", *with_limits, "List the limits, too");
}

}  // namespace dmm::cli
