#include "dmm/internal/diagnose.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <utility>

#include "dmm/internal/diagnose_workers.h"
#include "dmm/internal/secret_files.h"
#include "dmm/json.h"
#include "dmm/limits.h"

namespace dmm::internal {

namespace {

using Severity = Finding::Severity;
using Findings = std::vector<Finding>;

constexpr std::uint64_t kConsumersMany = 200;  // dmm's own are ephemeral: a few a process
constexpr std::uint64_t kHeaderBytes = 1'000;  // of dmm, on top of a payload
constexpr auto kRoundTripSlow = std::chrono::milliseconds(20);
constexpr auto kRoundTripBad = std::chrono::milliseconds(250);

constexpr ServerVersion kTested{2, 9, 10};        // of Debian 12
constexpr ServerVersion kSyncInterval{2, 10, 0};  // sync_interval became a setting
constexpr ServerVersion kAtomicUpdate{2, 9, 21};  // compare-and-set on more than one replica

std::string bytes_text(std::uint64_t bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string milliseconds_text(std::chrono::microseconds time) {
  return fmt::format("{:.2f} ms", static_cast<double>(time.count()) / 1000);
}

void look_at_server(const Survey& survey, Findings& out) {
  const transport::ServerFacts& facts = survey.facts;
  const std::optional<ServerVersion> version = parse_version(facts.version);
  const std::string where =
      facts.cluster.empty() ? facts.url : fmt::format("{} in cluster {}", facts.url, facts.cluster);
  if (!version) {
    out.push_back({Severity::note, "server",
                   fmt::format("the server at {} does not say its version", where),
                   "Check that it is a nats-server; dmm assumes the least of it."});
  } else if (*version < kTested) {
    out.push_back(
        {Severity::warning, "server",
         fmt::format("nats-server {} at {} is older than 2.9.10, which dmm is tested with",
                     facts.version, where),
         "Upgrade nats-server to 2.9.10 or newer."});
  } else {
    out.push_back(
        {Severity::good, "server", fmt::format("nats-server {} at {}", facts.version, where), {}});
  }
  if (facts.jetstream) {
    out.push_back({Severity::good,
                   "jetstream",
                   fmt::format("enabled; {} streams and {} consumers in this account",
                               facts.streams, facts.consumers),
                   {}});
  } else {
    out.push_back({Severity::failure, "jetstream", "JetStream is not enabled for this account",
                   "Start nats-server with -js, or enable JetStream for the account."});
  }
}

void look_at_round_trip(std::chrono::microseconds time, Findings& out) {
  const Severity severity = time >= kRoundTripBad    ? Severity::warning
                            : time >= kRoundTripSlow ? Severity::note
                                                     : Severity::good;
  out.push_back({severity, "round trip", milliseconds_text(time),
                 severity == Severity::good
                     ? std::string()
                     : "Run workers nearer to the server, or look at its load: each run waits for "
                       "a few round trips."});
}

// What is left when the server answered "stored" and then the power failed.
void look_at_durability(const Survey& survey, Findings& out) {
  if (survey.streams.empty() || !survey.streams.front().state) return;
  const int replicas = survey.streams.front().state->replicas;
  const ServerVersion version = parse_version(survey.facts.version).value_or(ServerVersion{});
  const bool old = version < kSyncInterval;
  if (replicas <= 1) {
    out.push_back(
        {old ? Severity::warning : Severity::note, "durability",
         old ? "an acknowledgement means: in the file of one server, not yet on its disk. A crash "
               "of nats-server loses nothing; a power cut may lose the last 60 s, and this version "
               "has no setting for it"
             : "an acknowledgement means: in the file of one server. Unless it runs with "
               "sync_interval: always, a power cut may lose the last 2 minutes",
         old ? "Upgrade nats-server to 2.10 or newer and set sync_interval, or use three replicas. "
               "What is lost is what devices and desired state bring again."
             : "Set sync_interval: always in the jetstream block of the server, or use three "
               "replicas. What is lost is what devices and desired state bring again."});
    return;
  }
  out.push_back({Severity::good,
                 "durability",
                 fmt::format("an acknowledgement means: in the files of {} of {} servers. The loss "
                             "of {} is survived; a power cut of all at once may lose the last {}",
                             replicas / 2 + 1, replicas, (replicas - 1) / 2,
                             old ? "60 s" : "2 minutes, or what sync_interval says"),
                 {}});
  if (version < kAtomicUpdate) {
    out.push_back(
        {Severity::warning, "compare-and-set",
         fmt::format("on {} replicas of nats-server {} two conditional writes of one key can both "
                     "succeed; only the leases keep workers apart",
                     replicas, survey.facts.version.empty() ? "?" : survey.facts.version),
         "Upgrade nats-server to 2.9.21 or newer."});
  }
}

void look_at_limits(const transport::ServerFacts& facts, Findings& out) {
  const std::uint64_t needed = limits::payload_bytes_max + kHeaderBytes;
  if (facts.payload_bytes_max != 0 && facts.payload_bytes_max < needed) {
    out.push_back({Severity::warning, "max_payload",
                   fmt::format("the server takes messages of {} bytes, dmm allows values of {}: "
                               "larger ones are refused",
                               facts.payload_bytes_max, limits::payload_bytes_max),
                   fmt::format("Set max_payload to at least {} in the server, or keep values "
                               "smaller.",
                               needed)});
  }
  if (facts.storage_bytes_max < 0) {
    out.push_back({Severity::good,
                   "storage",
                   fmt::format("{} used, no limit of the account", bytes_text(facts.storage_bytes)),
                   {}});
    return;
  }
  const auto max = static_cast<std::uint64_t>(facts.storage_bytes_max);
  const double used =
      max == 0 ? 1.0 : static_cast<double>(facts.storage_bytes) / static_cast<double>(max);
  const Severity severity = used >= 0.95   ? Severity::failure
                            : used >= 0.80 ? Severity::warning
                                           : Severity::good;
  out.push_back({severity, "storage",
                 fmt::format("{} of {} used ({:.0f} %)", bytes_text(facts.storage_bytes),
                             bytes_text(max), used * 100),
                 severity == Severity::good
                     ? std::string()
                     : "Raise max_file of JetStream, or purge streams that are not needed: a full "
                       "account refuses every write."});
}

void look_at_stream(const StreamSurvey& stream, int replicas_expected, Findings& out) {
  const std::string subject = "stream " + stream.name;
  if (!stream.state) {
    out.push_back({Severity::failure, subject, stream.error, stream.remedy});
    return;
  }
  const transport::StreamState& state = *stream.state;
  out.push_back({Severity::good,
                 subject,
                 fmt::format("{} message{}, {}, {} replica{}, {} consumer{}", state.messages,
                             state.messages == 1 ? "" : "s", bytes_text(state.bytes),
                             state.replicas, state.replicas == 1 ? "" : "s", state.consumers,
                             state.consumers == 1 ? "" : "s"),
                 {}});
  if (state.replicas != replicas_expected) {
    out.push_back(
        {Severity::warning, subject,
         fmt::format("{} replicas, but the work stream has {}: the namespace is only as "
                     "durable as its weakest stream",
                     state.replicas, replicas_expected),
         fmt::format("Run `nats stream edit {} --replicas={}`.", stream.name, replicas_expected)});
  }
  if (state.replicas > 1 && state.replicas % 2 == 0) {
    out.push_back(
        {Severity::warning, subject,
         fmt::format("{} replicas survive no more than {}", state.replicas, state.replicas - 1),
         "Use 1, 3 or 5 replicas."});
  }
  if (state.consumers > kConsumersMany) {
    out.push_back({Severity::warning, subject,
                   fmt::format("{} consumers, more than {}: someone leaves them behind",
                               state.consumers, kConsumersMany),
                   fmt::format("Look for their owner with `nats consumer ls {}`; those of dmm "
                               "vanish {} s after their process.",
                               stream.name, limits::consumer_inactive_threshold.count())});
  }
}

std::string held_by(const LeaseInfo& lease) {
  if (lease.lanes == 0) return fmt::format("{} stands by", lease.holder);
  return fmt::format("{}held by {} at epoch {}",
                     lease.lanes ? fmt::format("{} lanes ", *lease.lanes) : "", lease.holder,
                     lease.epoch.value);
}

void look_at_lease(const LeaseInfo& lease, std::chrono::system_clock::time_point now,
                   Findings& out) {
  const std::string subject = "lease " + lease.name;
  if (lease.released) {
    out.push_back({Severity::note, subject,
                   fmt::format("{}released at epoch {}; nobody holds {}",
                               lease.lanes ? fmt::format("{} lanes ", *lease.lanes) : "",
                               lease.epoch.value, lease.lanes ? "them" : "it"),
                   "Start a worker: what this lease stands for is not being done."});
    return;
  }
  const auto silent = lease.last_beat ? now - *lease.last_beat : std::chrono::hours(24);
  // The beat carries the server's clock, `now` is ours: allow a TTL for the difference.
  if (silent <= 2 * limits::lease_ttl) {
    out.push_back({Severity::good, subject, held_by(lease), {}});
    return;
  }
  if (lease.lanes == 0) return;  // it ended, and others have its lanes
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(silent).count();
  out.push_back(
      {Severity::warning, subject,
       lease.last_beat
           ? fmt::format("its holder {} has not been heard of for {} s", lease.holder, seconds)
           : fmt::format("its holder {} has never been heard of", lease.holder),
       "Start a worker, or look for the pause of the one that runs. If one works, the "
       "clocks of server and this machine differ."});
}

void look_at_losses(const Survey& survey, Findings& out) {
  for (const HistoryLoss& loss : survey.losses) {
    const auto age = survey.now - loss.at;
    const auto minutes = std::chrono::duration_cast<std::chrono::minutes>(age).count();
    out.push_back(
        {age < std::chrono::hours(24) ? Severity::warning : Severity::note, "history",
         fmt::format("{} min ago it was found that the {} stream lost what it had: {}", minutes,
                     loss.stream, printable(loss.reason, 300)),
         "Views and observers have compared and told everything again. News that only programs "
         "bring have to be brought again. Look at the disk and at sync_interval of the server."});
  }
}

}  // namespace

std::optional<ServerVersion> parse_version(std::string_view text) {
  if (text.starts_with('v')) text.remove_prefix(1);
  ServerVersion version;
  for (int* part : {&version.major, &version.minor, &version.patch}) {
    if (part != &version.major) {
      if (!text.starts_with('.')) return std::nullopt;
      text.remove_prefix(1);
    }
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), *part);
    if (failure != std::errc() || *part < 0) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  }
  return version;
}

std::vector<Finding> diagnose(const Survey& survey) {
  Findings out;
  look_at_server(survey, out);
  look_at_round_trip(survey.facts.round_trip, out);
  look_at_durability(survey, out);
  look_at_limits(survey.facts, out);
  for (const std::string& file : survey.exposed) {
    out.push_back({Severity::warning, "secrets",
                   fmt::format("others than its owner can read {}", file), kHideSecrets});
  }
  int replicas = 1;
  if (!survey.streams.empty() && survey.streams.front().state) {
    replicas = survey.streams.front().state->replicas;
  }
  look_at_clocks(survey, out);
  for (const StreamSurvey& stream : survey.streams) {
    look_at_stream(stream, replicas, out);
    look_at_readers(stream, out);
  }
  look_at_workers(survey, out);
  for (const LeaseInfo& lease : survey.leases) look_at_lease(lease, survey.now, out);
  look_at_losses(survey, out);
  return out;
}

}  // namespace dmm::internal
