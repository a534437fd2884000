// The part of the view loop that keeps what was read, for the next beginning, and begins with it.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "dmm/internal/runtime.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/view/snapshot.h"
#include "dmm/view/view_loop.h"

namespace dmm::view {

using engine::Kind;
using engine::Value;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::system_clock;

namespace {

/// The next owner has to look at the entry of such an identity.
bool is_open(const Rows::Slot& slot) {
  return !slot.proven || slot.doubt || slot.sending || slot.twice || slot.foreign ||
         slot.row != slot.told;
}

}  // namespace

/// Which snapshot would be the right one now.
SnapshotHead ViewLoop::wanted_snapshot() const {
  SnapshotHead head;
  head.ns = streams_.names.ns();
  head.view = name();
  head.release = release_.hash;
  head.history = history_;
  head.decoder = engine::kDecoderVersion;
  head.fields = computation_->inputs().fields();
  head.saved_at = internal::SystemClock::now();
  return head;
}

// ---- the beginning

void ViewLoop::open_inputs(bool stood) {
  restored_.reset();
  known_.reset();
  removed_.clear();
  snapshot_at_ = 0;
  cold_because_.clear();
  const std::string rebuilt_because = std::exchange(rebuilt_because_, {});
  if (!snapshot_file_.kept()) return computation_->open(baselines_);
  const auto begun = Clock::now();
  try {
    cold_because_ = begin_with_snapshot(stood, rebuilt_because);
  } catch (const Error& error) {
    if (may_heal(error)) throw;
    cold_because_ = error.what();
  } catch (const std::exception& error) {
    cold_because_ = error.what();  // memory too small for what it names, for example
  }
  if (cold_because_.empty()) {
    streams_.log.info(
        "the view begins with a snapshot",
        {{"view", name()},
         {"input_rows", computation_->inputs().rows()},
         {"rows", computation_->rows().size()},
         {"entries_known", restored_.has_value()},
         {"ms", std::chrono::duration_cast<milliseconds>(Clock::now() - begun).count()}});
    return;
  }
  streams_.log.info("the view begins cold", {{"view", name()}, {"reason", cold_because_}});
  // It cannot become fit again, and half of it may have been taken.
  snapshot_file_.remove();
  computation_.emplace(streams_, view_, clock_, [this] { mailbox_.wake(); });
  computation_->open(baselines_);
}

/// Why there is none that can be used; empty if the view was computed from one. What it throws and
/// may heal is of a source that cannot be reached; all else is of the snapshot.
///
/// rebuilt_because   why all was to be computed anew, and snapshots removed; empty if it was not.
std::string ViewLoop::begin_with_snapshot(bool stood, const std::string& rebuilt_because) {
  const std::optional<std::string> bytes = snapshot_file_.read();
  if (!bytes) return rebuilt_because.empty() ? "there is no snapshot" : rebuilt_because;
  if (!stood) return "where the view stood is not known";
  SnapshotReader reader(*bytes);
  if (!reader.damage().empty()) return reader.damage();
  SnapshotHead head = read_head(reader);
  if (!reader.ok()) return "it is damaged: its head cannot be read";
  if (std::string why = misfit(head, wanted_snapshot(), snapshots_.age_max); !why.empty()) {
    return why;
  }
  if (std::string why = computation_->inputs().lost(baselines_, head.inputs); !why.empty()) {
    return why;
  }
  computation_->open(baselines_, head.inputs);
  computation_->rows().reserve(std::min<std::size_t>(head.rows, bytes->size()));
  std::vector<LeftOut> left_out;
  if (std::string why = computation_->restore(reader, left_out); !why.empty()) return why;
  for (const LeftOut& one : left_out) {
    one.error ? refuse(one.place, *one.error) : accept(one.place);
  }
  snapshot_at_ = std::chrono::duration_cast<milliseconds>(head.saved_at.time_since_epoch()).count();
  take_known(std::move(head));
  return {};
}

/// Notes which rows were told, as far as they are the rows that were: a pipeline may depend on the
/// time, and an engine on its version.
void ViewLoop::take_known(SnapshotHead head) {
  Rows& rows = computation_->rows();
  if (!head.entries || rows.digest() != head.digest) return;
  restored_ = std::move(head.entries);
  rows.each([](const std::string&, Rows::Slot& slot) {
    slot.told = slot.row;
    slot.proven = true;
  });
  for (const std::string& id : restored_->open) {
    Rows::Slot* slot = rows.find(id);
    if (slot == nullptr) continue;
    slot->told = Value();
    slot->proven = false;
  }
}

/// Finds what the effective caches say of the rows.
void ViewLoop::compare() {
  Rows& rows = computation_->rows();
  if (const auto restored = std::exchange(restored_, std::nullopt)) {
    auto known = compare_behind(streams_, name(), view_.type, rows, *restored);
    if (known) return know(std::move(*known));
    streams_.log.info("all entries are read, because too much of them is not known",
                      {{"view", name()}});
    rows.each([](const std::string&, Rows::Slot& slot) {
      slot.told = Value();
      slot.proven = false;
      slot.foreign = false;
    });
  }
  know(compare_with_cache(streams_, name(), view_.type, rows));
}

void ViewLoop::know(KnownEntries found) {
  known_ = std::move(found.mark);
  for (const std::string& id : found.open) note_removed(id);
}

// ---- keeping it

/// Its entry is still there, and the next owner has to know that nothing more is to be told of it.
void ViewLoop::note_removed(const std::string& id) {
  if (!snapshot_file_.kept() || !known_) return;
  removed_.insert(id);
  if (removed_.size() <= 2 * limits::view_snapshot_open_max) return;
  known_.reset();  // too many to look at one by one
  removed_.clear();
}

/// What was read is void, and with it every snapshot of it, wherever it lies.
void ViewLoop::void_snapshots() {
  ++history_;
  snapshot_file_.remove();
  saved_at_ = {};
}

/// last   of this owner: however long it takes.
void ViewLoop::save_snapshot(bool last) {
  if (!snapshot_file_.kept() || !telling_ || rebuild_ || removals_.in_doubt()) return;
  const std::uint64_t work = computation_->inputs().counts().changes + stats_.notified;
  if (!last && (Clock::now() < snapshot_due_ || work == snapshot_work_)) return;
  const auto begun = Clock::now();
  std::string bytes;
  try {
    bytes = snapshot(last);
  } catch (const std::exception& error) {
    ++snapshots_failed_;
    streams_.log.warn("a snapshot could not be made; the one before stays",
                      {{"view", name()}, {"error", error.what()}});
  }
  const auto took = Clock::now() - begun;
  stats_.snapshot_stall = std::chrono::duration_cast<microseconds>(took);
  snapshot_due_ = Clock::now() + std::max<Clock::duration>(snapshots_.interval,
                                                           limits::view_snapshot_share * took);
  if (bytes.empty()) return;
  snapshot_work_ = work;
  streams_.log.info("a snapshot is written",
                    {{"view", name()},
                     {"file", snapshot_file_.path().string()},
                     {"bytes", bytes.size()},
                     {"stall_ms", std::chrono::duration_cast<milliseconds>(took).count()}});
  snapshot_file_.write(std::move(bytes), [this](const std::string& failure) {
    if (failure.empty()) {
      ++snapshots_written_;
    } else {
      ++snapshots_failed_;
      streams_.log.warn("a snapshot could not be written; the one before stays",
                        {{"view", name()}, {"error", failure}});
    }
  });
}

/// Empty if there is something that was not taken in and speaks against it.
std::string ViewLoop::snapshot(bool last) {
  constexpr std::size_t kAll = ~std::size_t{0};
  if (known_) {
    known_ = prove_entries(streams_, name(), view_.type, computation_->rows(), *known_,
                           last ? kAll : limits::view_snapshot_entries_max, removed_);
  }
  SnapshotHead head = wanted_snapshot();
  Rows& rows = computation_->rows();
  head.digest = rows.digest();
  head.rows = rows.size();
  head.inputs = computation_->inputs().marks();
  if (known_) head.entries = KnownEntries{*known_, {removed_.begin(), removed_.end()}};
  rows.each([&](const std::string& id, const Rows::Slot& slot) {
    if (!head.entries || !is_open(slot)) return;
    head.entries->open.push_back(id);
    if (head.entries->open.size() > limits::view_snapshot_open_max) head.entries.reset();
  });
  if (!computation_->inputs().sound()) return {};
  SnapshotWriter writer;
  write_head(writer, head);
  computation_->inputs().save(writer);
  return writer.finish();
}

}  // namespace dmm::view
