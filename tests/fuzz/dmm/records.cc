// What lies in the lease stream, the status bucket and a snapshot, whoever wrote it: rubbish counts
// as absent or is refused with a reason; what is read and written again is the same.
#include <nlohmann/json.hpp>

#include "dmm/internal/control_store.h"
#include "dmm/internal/history.h"
#include "dmm/internal/policy.h"
#include "dmm/internal/status.h"
#include "dmm/json.h"
#include "dmm/view/release.h"
#include "dmm/view/snapshot.h"
#include "dmm/view/state.h"
#include "dmm/view/stream_mark.h"
#include "dmm/worker/lane_table.h"
#include "dmm/worker/lease.h"
#include "tests/fuzz/dmm/input.h"

using namespace dmm;
using namespace dmm::fuzz;

namespace {

/// Reads a record, writes it and reads that.
template <class Read>
auto read_twice(Read read, std::string_view text) {
  auto record = read(payload_of(text));
  if (record) {
    const std::string written = dump_json(nlohmann::json(*record));
    const auto again = read(payload_of(written));
    must(again && dump_json(nlohmann::json(*again)) == written);
  }
  return record;
}

void read_lease(std::string_view text) {
  const worker::LeaseRecord record = worker::read_lease_record(text);
  const worker::LeaseRecord again = worker::read_lease_record(worker::to_text(record));
  must(again.holder == record.holder && again.released == record.released);
}

/// Messages of leases and seats, the name of each in a line, its text in the next.
void read_lanes(std::string_view text) {
  const worker::LaneTable::Clock::time_point now{};
  worker::LaneTable table("player", "me", std::chrono::seconds(3));
  std::uint64_t sequence = 0;
  while (!text.empty()) {
    const std::string_view name = next_line(text);
    transport::Message message = payload_of(next_line(text));
    message.sequence = Sequence{++sequence};
    if (const auto lane = table.take(name, message, now)) must(*lane < limits::lanes);
    static_cast<void>(worker::epoch_in(name));
  }
  const auto later = now + std::chrono::minutes(5);
  for (const std::string& holder : table.suspects(later)) table.confirm(holder, later);
  must(table.members(later) >= 1 && table.share(later) <= limits::lanes);
  for (const auto& offer : table.offers()) {
    must(offer.lane < limits::lanes && offer.epoch.value > offer.before.value);
  }
  static_cast<void>(table.clear_seats(later));
}

void read_history(std::string_view text) {
  auto record = read_twice(internal::parse_history, text);
  if (!record) return;
  transport::StreamState state;
  state.name = "S";
  state.created = "now";
  state.last = Sequence{7};
  internal::note_losses(*record, {{"work", state}, {"leases", state}}, 1);
  static_cast<void>(internal::note_losses(*record, {{"work", state}}, 2));
}

void read_status(std::string_view text) {
  read_twice(internal::parse_status<internal::Refusal>, text);
  read_twice(internal::parse_status<internal::Cursor>, text);
  const auto status = read_twice(internal::parse_status<internal::Status>, text);
  if (!status) return;
  internal::Status next = *status;
  internal::add_failure(next, &*status);
  must(next.failures.size() <= limits::failures_kept);
}

void read_policy(std::string_view text) {
  const WorkOptions declared;
  const internal::InForce now = internal::in_force(text, declared, declared);
  internal::check(now.options);
  may_refuse([&] {
    const Policy policy = internal::parse_policy(text);
    must(internal::parse_policy(internal::policy_text(policy)) == policy);
    internal::check(policy);
    must(now.unsound.empty());
  });
}

void read_pause(std::string_view text) {
  const std::string_view key = next_line(text);
  const auto scope = internal::parse_pause_key(key);
  if (scope) must(internal::pause_key(*scope) == key);
  const Pause pause = internal::parse_pause(scope.value_or(PauseScope{}), payload_of(text));
  const Pause again = internal::parse_pause(pause.scope, payload_of(internal::pause_text(pause)));
  must(again.reason == pause.reason && again.by == pause.by);
}

void read_view(std::string_view text) {
  read_twice(view::parse_state, text);
  read_twice(view::parse_order, text);
  const auto release = read_twice(view::parse_release, text);
  if (!release) return;
  may_refuse([&] { static_cast<void>(view_from_json(release->view)); });
}

void read_mark(std::string_view text) {
  const auto mark = parse_json(text);
  if (!mark.ok()) return;
  transport::StreamState state;
  state.created = "now";
  state.last = Sequence{7};
  static_cast<void>(view::is_mark(mark.value()));
  static_cast<void>(view::last_of(mark.value()));
  static_cast<void>(view::loss_since(mark.value(), state));
}

/// Content with a checksum that fits: refused, or values that are the same when written again.
void read_snapshot(std::string_view text) {
  view::SnapshotWriter writer;
  for (std::size_t at = 0; at + 8 <= text.size(); at += 8) {
    std::uint64_t bytes = 0;
    for (int i = 7; i >= 0; --i) {
      bytes = bytes << 8 | static_cast<unsigned char>(text[at + static_cast<std::size_t>(i)]);
    }
    writer.fixed(bytes);
  }
  const std::string image = writer.finish();
  {
    view::SnapshotReader reader(image);
    const view::SnapshotHead head = view::read_head(reader);
    static_cast<void>(view::misfit(head, head, std::chrono::hours(1)));
  }
  view::SnapshotReader reader(image);
  view::SnapshotWriter copy;
  std::vector<engine::Value> values;
  while (reader.ok() && !reader.at_end()) {
    values.push_back(reader.value());
    if (!reader.ok()) values.pop_back();
  }
  for (const engine::Value& value : values) copy.value(value);
  const std::string copied = copy.finish();
  view::SnapshotReader again(copied);
  for (const engine::Value& value : values) must(again.value() == value && again.ok());
  must(again.at_end());
  must(!view::SnapshotReader(text).damage().empty() || !text.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 'l':
      read_lease(text);
      break;
    case 'n':
      read_lanes(text);
      break;
    case 'h':
      read_history(text);
      break;
    case 's':
      read_status(text);
      break;
    case 'p':
      read_policy(text);
      break;
    case 'P':
      read_pause(text);
      break;
    case 'v':
      read_view(text);
      break;
    case 'm':
      read_mark(text);
      break;
    case 'x':
      read_snapshot(text);
      break;
    default:
      break;
  }
  return 0;
}
