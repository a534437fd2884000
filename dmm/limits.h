#pragma once

// Every limit of the framework, with its default. A limit that can be changed per type or per
// bucket is named again in the options that change it; `dmm doctor --limits` prints this list.

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace dmm::limits {

using namespace std::chrono_literals;

// Names.
inline constexpr std::size_t namespace_bytes_max = 32;
inline constexpr std::size_t type_bytes_max = 64;
inline constexpr std::size_t id_bytes_max = 255;  ///< before encoding

// Values.
inline constexpr std::size_t payload_bytes_max = 1'000'000;  ///< a report, a token, a cache entry
inline constexpr std::size_t json_depth_max = 64;
inline constexpr std::size_t error_text_bytes_max = 2'000;  ///< kept of a handler's message

// What dmm says and reads of its own.
inline constexpr std::size_t log_line_bytes_max = 16'384;  ///< longer ones are cut and say so
inline constexpr std::size_t config_file_bytes_max = 1'000'000;

// Lanes: a constant of the wire format.
inline constexpr std::uint32_t lanes = 64;

// Requests to the server.
inline constexpr auto request_timeout = 2s;    ///< one attempt
inline constexpr auto publish_deadline = 20s;  ///< with all attempts
inline constexpr auto retry_delay_first = 50ms;
inline constexpr auto retry_delay_max = 1s;
inline constexpr std::size_t publishes_in_flight_max = 2'048;
inline constexpr std::size_t erases_in_flight_max = 256;  ///< newer servers drop more
inline constexpr auto dedupe_window = 10s;

// Reading.
inline constexpr std::size_t read_batch = 1'000;  ///< messages asked for at once
inline constexpr auto pull_expiry = 10s;
inline constexpr auto pull_heartbeat = 2s;
inline constexpr auto consumer_inactive_threshold = 30s;
inline constexpr auto recreate_delay = 1s;  ///< between finding a stream gone and creating it again
inline constexpr auto stream_check_interval = 5s;  ///< how often loss of history is looked for
inline constexpr auto history_record_interval = 60s;  ///< how often where streams stand is stored

// Work.
inline constexpr std::size_t concurrency = 16;                    ///< runs at a time, per type
inline constexpr std::size_t identities_ready_max = 20'000;       ///< tokens held in memory
inline constexpr std::size_t ready_bytes_max = 64u << 20;         ///< their payloads
inline constexpr std::size_t entries_held_bytes_max = 64u << 20;  ///< cache entries kept in memory
inline constexpr auto run_timeout = 15min;
inline constexpr int crashes_max = 5;     ///< workers that may end in a run before it is parked
inline constexpr int crashes_shared = 1;  ///< with more crashes behind it, an identity runs alone
inline constexpr auto alone_wait = 5s;   ///< for runs to end beside which it must not begin
inline constexpr auto alone_max = 10s;   ///< then others begin beside it again
inline constexpr std::size_t failures_kept = 8;  ///< of an identity, since its last success
inline constexpr std::size_t failure_text_bytes_max = 200;  ///< of the message of each of them
inline constexpr double rate_least = 0.001;  ///< runs a second; 0 means no limit
inline constexpr auto pace_wait_max = 1h;    ///< until it is looked again whether a run may begin
inline constexpr auto backoff_first = 500ms;
inline constexpr auto backoff_max = 5min;

// Leases.
inline constexpr auto lease_ttl = 3s;
inline constexpr auto lease_beat = 1s;
inline constexpr auto lease_margin =
    500ms;  ///< work stops this long before the lease may be another's
inline constexpr auto lease_poll = 250ms;  ///< how often a standby looks

// Shutdown.
inline constexpr auto grace = 10s;  ///< for runs in flight

// Observers.
inline constexpr std::size_t observe_concurrency = 8;
inline constexpr std::size_t devices_tracked_max = 1'000'000;  ///< whose last `seq` is remembered
inline constexpr auto cursor_interval = 1s;                    ///< how often a cursor is stored
inline constexpr std::size_t report_toll_max = 100;  ///< devices counted whose reports end workers

// Views.
inline constexpr std::size_t view_step_changes = 10'000;  ///< changes of rows taken into one step
inline constexpr std::size_t removals_free = 100;         ///< rows that may vanish unasked, or
inline constexpr std::size_t removals_percent = 5;  ///< this share of them, whichever is more,
inline constexpr auto removals_window = 60s;        ///< within this time
inline constexpr auto rollout_settle = 5s;          ///< without failures, before a rollout is over
inline constexpr auto view_complete_wait = 5s;   ///< for a quiet moment behind the load of inputs
inline constexpr auto view_state_interval = 1s;  ///< how often a view says where it stands
inline constexpr auto view_snapshot_interval = 5min;  ///< between two, while something changes
inline constexpr int view_snapshot_share = 100;       ///< and so many times what making one took
inline constexpr auto view_snapshot_age_max = 24h;    ///< an older one is not used
inline constexpr std::size_t view_snapshot_bytes_max = std::size_t{4} << 30;  ///< of a file
/// Entries that are compared one by one; with more, all are read.
inline constexpr std::size_t view_snapshot_open_max = 5'000;
/// Entries that an owner reads between two snapshots; more are left to the end of its work.
inline constexpr std::size_t view_snapshot_entries_max = 100'000;

// The way down to devices.
inline constexpr auto command_timeout = 5s;      ///< for the answer of a device
inline constexpr auto offline_retry = 5min;      ///< without a report of the device; with jitter
inline constexpr auto report_reader_idle = 30s;  ///< until a reader that nobody needs is closed
inline constexpr std::size_t commands_waiting_max = 64;  ///< of a device; more are refused
inline constexpr std::size_t shadows_untold_max = 2'048;  ///< wait for the connection
inline constexpr std::size_t device_concurrency = 8;     ///< handlers of a DeviceHost at a time

// Resources.
inline constexpr std::size_t resource_tags_max = 64;
inline constexpr std::size_t resource_tag_bytes_max = 255;
inline constexpr std::size_t resource_metadata_bytes_max = 65'536;
inline constexpr std::size_t resource_batch = 500;             ///< objects in one statement
inline constexpr std::size_t resource_batch_bytes = 4u << 20;  ///< and no more than these
inline constexpr std::size_t resource_list_max = 10'000;       ///< in one page
inline constexpr std::size_t resource_groups = 2;     ///< statements of a client that callers share
inline constexpr auto resource_group_lock = 100ms;    ///< such a statement waits for a lock
inline constexpr std::size_t resource_ahead_min = 8;  ///< works claimed beside those that run
inline constexpr std::size_t resource_ahead_max = 64;
inline constexpr auto resource_quick_work = 20ms;  ///< on average, and works are claimed ahead
inline constexpr int resource_attempts = 10;      ///< failures of one content until degraded
inline constexpr int resource_errors_kept = 20;   ///< of a resource, the newest
inline constexpr auto resource_poll = 1s;         ///< how often it is looked without a notification
inline constexpr std::size_t resource_relay_batch = 1'000;  ///< tokens and events sent at once
inline constexpr auto resource_answer = 10s;      ///< of the database, before a run is tried again
inline constexpr auto resource_retry_max = 24h;   ///< between two attempts
inline constexpr auto resource_upkeep_interval = 10s;
inline constexpr std::size_t resource_upkeep_batch = 2'000;  ///< rows that one statement changes
inline constexpr auto resource_lost_after = 30s;  ///< without a change, until its token is looked for
inline constexpr std::size_t resource_lost_batch = 1'000;    ///< tokens looked for in one round
inline constexpr auto inform_interval = 1h;
inline constexpr auto inform_jitter = 1min;
inline constexpr auto inform_overlap = 5min;      ///< what was listed last is listed again
inline constexpr auto inform_timeout = 1h;
inline constexpr auto inform_backoff_first = 1s;
inline constexpr auto inform_backoff_max = 5min;
inline constexpr int inform_attempts = 20;  ///< of a run that was asked for, until it is given up
inline constexpr std::size_t skipped_events_max = 1'000;  ///< of one run of an informer
inline constexpr std::int64_t resource_events_max = 1'000'000;
inline constexpr auto resource_events_age = 7 * 24h;

// Workers as services.
inline constexpr auto roll_call = 1s;  ///< in which workers answer who asks for them
inline constexpr std::size_t workers_told_max = 10'000;  ///< answers that are taken
inline constexpr auto log_level_for = 15min;      ///< that a worker logs otherwise when told to
inline constexpr auto log_level_for_max = 24h;    ///< at most
inline constexpr auto clock_skew_warned = 250ms;  ///< between clocks, until `dmm doctor` warns
inline constexpr std::size_t memory_sample = 64;  ///< rows measured to estimate what all take
inline constexpr auto recount_interval = 1s;             ///< of what a counter cannot tell
inline constexpr int recount_share = 100;                ///< and so many times what it took
inline constexpr auto service_grace = 30s;  ///< from SIGTERM until the process ends by force
inline constexpr auto service_alive = 60s;  ///< a loop that does not turn for so long is stuck
inline constexpr std::size_t http_threads = 4;
inline constexpr std::size_t http_body_bytes_max = 4'096;
inline constexpr auto http_timeout = 5s;
inline constexpr std::size_t spans_waiting_max = 4'096;  ///< more are dropped, and counted
inline constexpr std::size_t spans_sent_max = 512;       ///< at once
inline constexpr auto spans_interval = 1s;               ///< between two sendings
inline constexpr auto spans_timeout = 5s;                ///< for the collector
inline constexpr auto spans_pause_max = 60s;  ///< between attempts to reach a dead collector

}  // namespace dmm::limits
