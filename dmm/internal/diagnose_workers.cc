#include "dmm/internal/diagnose_workers.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>

#include "dmm/json.h"
#include "dmm/limits.h"

namespace dmm::internal {

namespace {

using Severity = Finding::Severity;
using Findings = std::vector<Finding>;
using std::chrono::milliseconds;

constexpr const char* kSetClocks =
    "Let the machines set their clocks by one source (`timedatectl`, chrony). Nothing is lost by "
    "it: leases count on no clock. But ages, lags and the dates of requeue_after are wrong by it.";

std::string name_of(const WorkerInfo& worker) {
  return fmt::format("{} at {}:{}", printable(worker.name, 100), printable(worker.host, 100),
                     worker.pid);
}

/// "120 ms ahead of", "120 ms behind".
std::string compared(milliseconds ahead) {
  return fmt::format("{} ms {}", std::abs(ahead.count()),
                     ahead.count() < 0 ? "behind" : "ahead of");
}

/// Whether two clocks differ by more than how they were asked explains.
bool differ(milliseconds ahead, std::chrono::microseconds uncertainty) {
  return milliseconds(std::abs(ahead.count())) > limits::clock_skew_warned + uncertainty;
}

}  // namespace

void look_at_clocks(const Survey& survey, Findings& out) {
  const auto server = survey.server_ahead;
  std::size_t good = 0;
  if (server && differ(*server, survey.facts.round_trip)) {
    out.push_back(
        {Severity::warning, "clock",
         fmt::format("the clock of the server is {} that of this machine", compared(*server)),
         kSetClocks});
  } else if (server) {
    ++good;
  }
  // Workers and the server have to agree; this machine may be anybody's.
  for (const WorkerInfo& worker : survey.workers) {
    if (!worker.clock_ahead) continue;
    const milliseconds ahead = *worker.clock_ahead - server.value_or(milliseconds(0));
    if (!differ(ahead, survey.facts.round_trip + worker.answered_in / 2)) {
      ++good;
      continue;
    }
    out.push_back({Severity::warning, "clock",
                   fmt::format("the clock of {} is {} that of {}", name_of(worker), compared(ahead),
                               server ? "the server" : "this machine"),
                   kSetClocks});
  }
  if (good == 0) return;
  out.push_back({Severity::good,
                 "clock",
                 fmt::format("{} to within {} ms",
                             survey.workers.empty() ? "this machine and the server agree"
                                                    : fmt::format("{} clocks agree", good + 1),
                             milliseconds(limits::clock_skew_warned).count()),
                 {}});
}

void look_at_workers(const Survey& survey, Findings& out) {
  if (!survey.asked_workers) return;
  if (survey.workers.empty()) {
    out.push_back({Severity::note, "workers", "nobody who works here answers",
                   "Start a worker. If one runs, look whether it is cut off from the server, or "
                   "may not subscribe to the subject of the roll call (how-to \"Secure a "
                   "namespace\")."});
    return;
  }
  std::map<std::string, std::size_t> versions;
  for (const WorkerInfo& worker : survey.workers) {
    ++versions[worker.version];
    if (worker.not_ready.empty()) continue;
    out.push_back(
        {Severity::warning, "workers",
         fmt::format("{} is not ready: {}", name_of(worker),
                     printable(fmt::format("{}", fmt::join(worker.not_ready, "; ")), 300)),
         "Give it a minute; then look at its log (`dmm log-level debug --worker ...`)."});
  }
  const std::size_t count = survey.workers.size();
  if (versions.size() == 1 && versions.begin()->first == survey.version) {
    out.push_back(
        {Severity::good,
         "workers",
         fmt::format("{} worker{} of version {}", count, count == 1 ? "" : "s", survey.version),
         {}});
    return;
  }
  std::string text;
  for (const auto& [version, number] : versions) {
    text += fmt::format("{}{} of {}", text.empty() ? "" : ", ", number,
                        version.empty() ? "an unknown version" : printable(version, 50));
  }
  out.push_back({versions.size() > 1 ? Severity::warning : Severity::note, "workers",
                 fmt::format("{} worker{}: {}; this tool is {}", count, count == 1 ? "" : "s", text,
                             survey.version),
                 versions.size() > 1 ? "Finish the rollout, or roll it back: what a newer version "
                                       "wrote, an older one may refuse (DMM-0210)."
                                     : "Use the tool of the version that works here."});
}

void look_at_readers(const StreamSurvey& stream, Findings& out) {
  const std::string subject = "readers of " + stream.name;
  if (!stream.readers_error.empty()) {
    out.push_back({Severity::note, subject,
                   fmt::format("they cannot be listed: {}", printable(stream.readers_error, 300)),
                   fmt::format("Allow this user to publish to $JS.API.CONSUMER.LIST.{}, or ask as "
                               "an operator.",
                               stream.name)});
    return;
  }
  if (stream.readers.empty()) return;
  std::uint64_t behind = 0;
  std::size_t stuck = 0;
  for (const transport::ConsumerState& reader : stream.readers) {
    behind = std::max(behind, reader.pending);
    // A look is a moment; whoever neither asked nor got on between two of them reads no more.
    const auto before =
        std::ranges::find(stream.readers_before, reader.name, &transport::ConsumerState::name);
    if (before == stream.readers_before.end()) continue;
    if (reader.pending > 0 && reader.waiting == 0 && before->waiting == 0 &&
        reader.delivered == before->delivered) {
      ++stuck;
    }
  }
  if (stuck > 0) {
    out.push_back(
        {Severity::warning, subject,
         fmt::format("{} of {} do not read what is there for them", stuck, stream.readers.size()),
         "Their process hangs, or is gone: they vanish 30 s after it. If they stay, look "
         "at /livez of the workers, and at who is missing in `dmm workers`."});
    return;
  }
  out.push_back({Severity::good,
                 subject,
                 fmt::format("{}, at most {} message{} behind", stream.readers.size(), behind,
                             behind == 1 ? "" : "s"),
                 {}});
}

}  // namespace dmm::internal
