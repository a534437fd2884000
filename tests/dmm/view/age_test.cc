// Goal: a row expires when its device was silent for its age, whatever the clock of the machine
// says that keeps the view.
// Method: an owner on streams in memory, in simulated time; the clock of its machine jumps, the
// server's does not, or is put back.

#include <catch2/catch.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dmm/internal/runtime.h"
#include "dmm/json.h"
#include "dmm/testing/internal/scheduler.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/view/view_loop.h"
#include "dmm/wire.h"
#include "tests/dmm/memory_namespace.h"

namespace dmm::view {

namespace {

using nlohmann::json;
using namespace std::chrono_literals;

constexpr auto kAge = 10min;
constexpr testing::Scheduler::Group kWorker = 1;

struct Scene {
  testing::Scheduler scheduler{{.seed = 7}};
  testing::MemoryNamespace ns;
  testing::TemporaryDirectory directory;
  View view;

  Scene() {
    view.name = "things";
    view.type = "thing";
    view.inputs = {ViewInput::reports("player")};
    view.inputs[0].age = kAge;
    view.pipeline = json::parse(R"([{"@project": {"id": "$.device", "volume": "$.volume"}}])");
  }

  void report(const std::vector<std::string>& devices,
              std::optional<std::chrono::system_clock::time_point> at = {}) {
    for (const std::string& device : devices) {
      ns.reports->put(ns.streams.names.report_subject("player", device), R"({"volume":1})", {}, at);
    }
  }
};

// A machine that keeps the view.
class Owner {
 public:
  Owner(Scene& scene, bool snapshots) : scene_(scene) {
    ViewSnapshots kept;
    if (snapshots) kept.directory = scene.directory.path();
    scene.scheduler.set_group(kWorker);
    loop_.emplace(scene.ns.streams, scene.view, kept);
    thread_ = internal::Thread([this](const std::stop_token& stop) { loop_->work(stop); });
    scene.scheduler.set_group(0);
    for (int i = 0; i < 600 && !loop_->stats().loaded; ++i) scene.scheduler.pass(100ms);
    REQUIRE(loop_->stats().loaded);
    scene.scheduler.pass(1s);
  }
  ViewStats stats() const { return loop_->stats(); }
  // Some report every minute, for so long.
  void go_on(std::chrono::minutes time, const std::vector<std::string>& some) {
    for (auto passed = 0min; passed < time; ++passed) {
      scene_.report(some);
      scene_.scheduler.pass(1min);
    }
  }

 private:
  Scene& scene_;
  std::optional<ViewLoop> loop_;
  internal::Thread thread_;  // last: it ends first
};

}  // namespace

TEST_CASE("view age: a clock that jumps expires nothing early and nothing late", "[view][unit]") {
  Scene scene;
  const auto jump = GENERATE(0h, 1h, -1h);
  CAPTURE(jump.count());
  scene.report({"a", "b", "c"});
  {
    Owner owner(scene, false);
    scene.scheduler.shift_clock(kWorker, jump);
    owner.go_on(9min, {"a"});
    CHECK(owner.stats().expired == 0);
    CHECK(owner.stats().rows == 3);
    owner.go_on(2min, {"a"});
    CHECK(owner.stats().expired == 2);
    CHECK(owner.stats().rows == 1);
  }
}

TEST_CASE("view age: a machine whose clock is wrong from the start counts right",
          "[view][snapshot][unit]") {
  Scene scene;
  const auto wrong = GENERATE(1h, -1h);
  const bool snapshots = GENERATE(true, false);
  CAPTURE(wrong.count(), snapshots);
  scene.report({"a", "b", "c"});
  { Owner owner(scene, snapshots); }
  scene.scheduler.shift_clock(kWorker, wrong);
  scene.scheduler.pass(5min);
  {
    Owner owner(scene, snapshots);
    CHECK(owner.stats().expired == 0);
    CHECK(owner.stats().rows == 3);
    CHECK(owner.stats().restored == (snapshots && wrong > 0h ? 3 : 0));  // none of the future
  }
  scene.scheduler.pass(1min);
  scene.report({"a"});
  scene.scheduler.pass(6min);
  // Two were silent for long enough, most of it while nobody looked.
  Owner owner(scene, snapshots);
  CHECK(owner.stats().expired == 2);
  CHECK(owner.stats().rows == 1);
}

TEST_CASE("view age: a server whose clock is put back loses no row", "[view][unit]") {
  Scene scene;
  const auto hour_ahead = internal::SystemClock::now() + 1h;
  scene.report({"a", "b", "c"}, hour_ahead);
  Owner owner(scene, false);
  // One more of before, as the newest that it tells.
  scene.report({"a"}, hour_ahead + 1min);
  scene.scheduler.pass(1min);
  owner.go_on(30min, {"a", "b", "c"});
  CHECK(owner.stats().expired == 0);
  CHECK(owner.stats().rows == 3);
  owner.go_on(12min, {"a"});
  CHECK(owner.stats().expired == 2);
}

TEST_CASE("view age: a device whose reports are of a newer format is not silent", "[view][unit]") {
  Scene scene;
  scene.report({"a", "b"});
  Owner owner(scene, false);
  for (int minute = 0; minute < 11; ++minute) {
    scene.ns.reports->put(scene.ns.streams.names.report_subject("player", "a"), R"({"volume":2})",
                          {{std::string(wire::kVersion), "2"}});
    scene.scheduler.pass(1min);
  }
  CHECK(owner.stats().refused > 0);
  CHECK(owner.stats().expired == 1);
  CHECK(owner.stats().rows == 1);
}

}  // namespace dmm::view
