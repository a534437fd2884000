// A pipeline beside what is cached.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "dmm/internal/runtime.h"
#include "dmm/json.h"
#include "dmm/view/beside.h"
#include "dmm/view/difference.h"
#include "dmm/view/state.h"

namespace dmm::view {

using engine::Value;
using std::chrono::milliseconds;
using Clock = internal::SteadyClock;

namespace {

/// What differs at one look: of each id what the pipeline says and what the cache says.
struct Look {
  struct Pair {
    Value row;     ///< null: it has none
    Value cached;  ///< null: it has none
  };
  std::map<std::string, Pair> pairs;
  std::uint64_t foreign = 0;
};

Look look(const internal::Streams& streams, const View& view, Rows& rows) {
  Look look;
  rows.each([](const std::string&, Rows::Slot& slot) {
    slot.told = Value();
    slot.foreign = false;
  });
  compare_with_cache(
      streams, view.name, view.type, rows,
      [&](const std::string& id, const Value& effective) { look.pairs[id].cached = effective; });
  rows.each([&](const std::string& id, Rows::Slot& slot) {
    if (slot.foreign) ++look.foreign;
    if (slot.foreign || slot.twice || slot.row == slot.told) return;
    Look::Pair& pair = look.pairs[id];
    pair.row = slot.row;
    if (slot.told.kind() != engine::Kind::null) pair.cached = slot.told;
  });
  return look;
}

/// What the first look found and the second one found unchanged.
void keep_same(Look& first, const Look& second) {
  std::erase_if(first.pairs, [&](const auto& item) {
    const auto found = second.pairs.find(item.first);
    return found == second.pairs.end() || found->second.row != item.second.row ||
           found->second.cached != item.second.cached;
  });
}

void tell(const Look& look, std::size_t samples_max, ViewComparison& comparison) {
  std::map<RowDifference::Kind, std::size_t> shown;
  for (const auto& [id, pair] : look.pairs) {
    RowDifference difference;
    difference.id = id;
    if (pair.row.kind() == engine::Kind::null) {
      difference.kind = RowDifference::Kind::removed;
      ++comparison.removed;
    } else if (pair.cached.kind() == engine::Kind::null) {
      ++comparison.added;
    } else {
      difference.kind = RowDifference::Kind::changed;
      ++comparison.changed;
    }
    if (shown[difference.kind]++ >= samples_max) continue;
    difference.row = engine::to_json(pair.row);
    difference.cached = engine::to_json(pair.cached);
    comparison.samples.push_back(std::move(difference));
  }
  comparison.foreign = look.foreign;
}

/// The same rows need no more proof. Other ones mean something only at the same place of every
/// input, with nothing on its way.
std::optional<bool> same_rows(const internal::Streams& streams, const View& view,
                              const Computation& computation) {
  const auto owner = load_state(streams, view.name);
  if (!owner || !owner->loaded) return std::nullopt;
  if (owner->digest == fmt::format("{:016x}", computation.rows().digest())) return true;
  const auto here = computation.inputs().infos();
  const bool same_place =
      here.size() == owner->inputs.size() &&
      std::ranges::all_of(here, [&](const ViewInputInfo& input) {
        const auto found = std::ranges::find(owner->inputs, input.name, &ViewInputInfo::name);
        return found != owner->inputs.end() && found->position == input.position;
      });
  if (!same_place || owner->sending > 0) return std::nullopt;
  return false;
}

}  // namespace

ViewComparison compare(const internal::Streams& streams, const View& view,
                       const CompareOptions& options) {
  ViewComparison comparison;
  const auto begun = Clock::now();
  Beside beside(streams, view, options, Inputs::Keep::documents);
  comparison.loading = std::chrono::duration_cast<milliseconds>(Clock::now() - begun);
  Computation& computation = beside.computation();

  Look differences = look(streams, view, computation.rows());
  if (!differences.pairs.empty()) {
    beside.follow(options.settle);
    keep_same(differences, look(streams, view, computation.rows()));
  }
  tell(differences, options.samples_max, comparison);
  comparison.same_as_owner = same_rows(streams, view, computation);

  if (options.follow.count() > 0) {
    const std::uint64_t changes = beside.changes();
    const std::uint64_t touched = beside.touched();
    const auto time = beside.time();
    beside.follow(options.follow);
    comparison.followed = options.follow;
    comparison.live_changes = beside.changes() - changes;
    comparison.live_rows = beside.touched() - touched;
    comparison.live_time = beside.time() - time;
  }
  comparison.input_rows = computation.inputs().rows();
  comparison.rows = computation.rows().size();
  comparison.twice = computation.rows().twice();
  comparison.without_key = computation.rows().without_key();
  comparison.left_out = beside.left_out().size();
  for (const auto& [place, error] : beside.left_out()) {
    if (comparison.left_out_why.size() == options.samples_max) break;
    comparison.left_out_why.push_back(
        fmt::format("{}: {} {}", printable(place, 200), error.code().id, error.message()));
  }
  return comparison;
}

}  // namespace dmm::view
