// The views of a namespace, for people and tools.

#include "dmm/views.h"

#include <fmt/format.h>

#include "dmm/error.h"
#include "dmm/json.h"
#include "dmm/view/beside.h"
#include "dmm/view/release.h"
#include "dmm/view/state.h"

namespace dmm {

std::string_view to_string(RowDifference::Kind kind) noexcept {
  switch (kind) {
    case RowDifference::Kind::added:
      return "added";
    case RowDifference::Kind::changed:
      return "changed";
    case RowDifference::Kind::removed:
      return "removed";
  }
  return "changed";
}

namespace view {

namespace {

[[noreturn]] void not_there(std::string_view name) {
  throw Error(code::not_found,
              fmt::format("there is no view {}; `dmm view ls` lists them", printable(name, 100)));
}

class StreamViews final : public Views {
 public:
  explicit StreamViews(const internal::Streams& streams) : streams_(streams) {}

  std::vector<ViewInfo> list() override { return load_states(streams_); }

  ViewInfo find(std::string_view name) override {
    auto state = load_state(streams_, name);
    if (!state) not_there(name);
    return *std::move(state);
  }

  ViewRelease release(std::string_view name) override {
    auto release = load_release(streams_, name);
    if (!release) not_there(name);
    return *std::move(release);
  }

  std::vector<InputLag> lag(const View& view) override {
    const ViewInfo state = find(view.name);
    std::vector<InputLag> lags;
    for (const ViewInput& input : view.inputs) {
      InputLag lag;
      lag.input = input.called();
      const auto source = input.source ? input.source : stream_source(streams_, input);
      lag.description = source->description();
      for (const ViewInputInfo& info : state.inputs) {
        if (info.name != lag.input) continue;
        lag.position = info.position;
        lag.changed_at = info.changed_at;
      }
      if (const auto backlog = source->backlog(lag.position)) {
        lag.behind = backlog->rows;
        if (backlog->oldest) {
          lag.oldest_at = std::chrono::duration_cast<std::chrono::milliseconds>(
                              backlog->oldest->time_since_epoch())
                              .count();
        }
      }
      lags.push_back(std::move(lag));
    }
    return lags;
  }

  void approve(std::string_view name, std::uint64_t removals) override {
    order_approval(streams_, name, removals);
  }
  void rebuild(std::string_view name) override {
    static_cast<void>(find(name));
    order_rebuild(streams_, name);
  }

  ViewComparison compare(const View& view, const CompareOptions& options) override {
    return view::compare(streams_, view, options);
  }
  RowExplanation explain(const View& view, std::string_view id,
                         const CompareOptions& options) override {
    return view::explain(streams_, view, id, options);
  }

  ViewRelease apply(const View& view, const Rollout& rollout) override {
    compile(view);  // for its errors
    return apply_release(streams_, view_to_json(view), rollout, "applied");
  }
  ViewRelease roll_back(std::string_view name, const Rollout& rollout) override {
    return roll_back_release(streams_, name, rollout);
  }

 private:
  const internal::Streams& streams_;
};

}  // namespace

}  // namespace view

std::unique_ptr<Views> internal::make_views(const Streams& streams) {
  return std::make_unique<view::StreamViews>(streams);
}

}  // namespace dmm
