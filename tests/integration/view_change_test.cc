// Goal: a pipeline is changed without harm: it is tried beside the live one, comes in at a rate,
// stops when it does damage, and goes back. Whether a view is right, and why, can be asked.

#include <catch2/catch.hpp>

#include "view_scene.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

// The same players, with twice the volume.
View louder_view() {
  View view = zones_view();
  view.pipeline = json::parse(R"([
    {"@join": {"@eq": ["$.player.zone", "$.zones.key"]}},
    {"@project": {"id": "$.player.device", "list": "$.zones.list",
                  "volume": {"@mul": ["$.player.volume", 2]}}}])");
  return view;
}

void settle(Scene& scene, int players) {
  scene.zone("z", "jazz");
  for (int i = 0; i < players; ++i) {
    scene.report("p" + std::to_string(i), {{"zone", "z"}, {"volume", i + 1}});
  }
}

ViewInfo state(Scene& scene) {
  return scene.bucket.views().find(kView);
}

void wait_release(Scene& scene, std::uint64_t number) {
  wait_for("the release to be rolled out", [&] { return state(scene).rolled_out == number; });
}

CompareOptions at_once() {
  CompareOptions options;
  options.settle = 300ms;
  return options;
}

}  // namespace

TEST_CASE("view change: a plan tells what would change and changes nothing",
          "[view_change][integration]") {
  Scene scene;
  settle(scene, 5);
  scene.report("stray", {{"zone", "nowhere"}, {"volume", 1}});
  Keeper keeper(scene.server, zones_view());
  const Sequence before = last_token(scene.bucket);
  View next = louder_view();
  next.pipeline[0] = json::parse(R"({"@join": {"@eq": ["$.player.zone", "$.zones.key"]}})");
  next.pipeline.insert(next.pipeline.begin() + 1,
                       json::parse(R"({"@select": {"@neq": ["$.player.device", "p4"]}})"));
  scene.report("p9", {{"zone", "z"}, {"volume", 0}});
  keeper.wait_taken(8);
  const ViewComparison found = scene.bucket.views().compare(next, at_once());
  CHECK(found.rows == 5);
  CHECK(found.changed == 4);  // p9 is as loud as before: not at all
  CHECK(found.removed == 1);
  CHECK(found.added == 0);
  for (const RowDifference& one : found.samples) {
    if (one.id == "p1") {
      CHECK(one.row == json{{"id", "p1"}, {"list", "jazz"}, {"volume", 4}});
      CHECK(one.cached.at("volume") == 2);
    }
    if (one.id == "p4") CHECK(one.row.is_null());
  }
  CHECK(last_token(scene.bucket) > before);  // p9
  CHECK(ids_with_token_after(scene.bucket, before) == std::set<std::string>{"p9"});
  CHECK(state(scene).release == 1);
}

TEST_CASE("view change: a pipeline comes in at its rate and goes back",
          "[view_change][integration]") {
  Scene scene;
  settle(scene, 30);
  Keeper keeper(scene.server, zones_view());
  wait_release(scene, 1);
  const ViewRelease release = scene.bucket.views().apply(louder_view(), {.per_minute = 600});
  CHECK(release.number == 2);
  wait_for("the rollout to begin", [&] { return state(scene).rollout_told > 0; });
  CHECK(state(scene).rolled_out == 1);
  CHECK(state(scene).sending > 0);
  wait_release(scene, 2);
  for (int i = 0; i < 30; ++i) {
    CHECK(effective(scene.bucket, "p" + std::to_string(i))["volume"] == 2 * (i + 1));
  }
  scene.bucket.views().roll_back(kView, {});
  wait_release(scene, 3);
  CHECK(effective(scene.bucket, "p3")["volume"] == 4);
  CHECK(keeper.view.stats().removed == 0);
}

TEST_CASE("view change: a rollout that does damage stops until it is applied again or rolled back",
          "[view_change][fault][integration]") {
  Scene scene;
  settle(scene, 40);
  // What is louder than the players were before breaks them.
  Bucket workers = open_bucket(scene.server);
  workers.register_type(kType, AnyMaterializer{[](Context&, json& cache) {
                          if (cache.value("volume", 0) > 40) throw std::runtime_error("broke");
                          return Outcome::done();
                        }});
  const Worker worker(workers);
  auto keeper = std::make_unique<Keeper>(scene.server, zones_view());
  wait_release(scene, 1);
  View broken = zones_view();
  broken.pipeline[1]["@project"]["volume"] = json::parse(R"({"@add": ["$.player.volume", 100]})");
  scene.bucket.views().apply(broken, {.per_minute = 1'200, .failures_max = 3});
  wait_for("the rollout to stop", [&] { return !state(scene).stopped.empty(); });
  const std::uint64_t told = state(scene).rollout_told;
  CHECK(told < 40);
  CHECK(state(scene).rollout_failing >= 4);

  SECTION("the next owner stays stopped") {
    keeper->worker.stop();
    keeper.reset();
    Bucket next = open_bucket(scene.server);
    ViewStream& view = next.view(zones_view());  // an older program: it keeps the release
    const Worker at_work(next);
    wait_for("the next owner", [&] { return view.stats().loaded; });
    wait_for("its state", [&] { return state(scene).epoch > 1; });
    CHECK_FALSE(state(scene).stopped.empty());
    CHECK(view.stats().notified == 0);
  }
  SECTION("rolled back all is well again") {
    scene.bucket.views().roll_back(kView, {});
    wait_release(scene, 3);
    wait_for("the players to settle", [&] {
      for (const auto& [id, matter] : matters(scene.bucket)) {
        if (matter.phase != Phase::settled) return false;
      }
      return true;
    });
    CHECK(effective(scene.bucket, "p3")["volume"] == 4);
    CHECK(state(scene).stopped.empty());
  }
  SECTION("applied again without a limit it goes on") {
    scene.bucket.views().apply(broken, {});
    wait_release(scene, 3);
    CHECK(effective(scene.bucket, "p39")["volume"] == 140);
  }
}

TEST_CASE("view change: an older program beside a newer one keeps what the newer one declared",
          "[view_change][integration]") {
  Scene scene;
  settle(scene, 3);
  auto old_one = std::make_unique<Keeper>(scene.server, zones_view());
  old_one->worker.stop();
  old_one.reset();
  auto new_one = std::make_unique<Keeper>(scene.server, louder_view());
  wait_release(scene, 2);
  CHECK(effective(scene.bucket, "p0")["volume"] == 2);
  new_one->worker.stop();
  new_one.reset();
  const Keeper old_again(scene.server, zones_view());
  CHECK(old_again.view.stats().notified == 0);
  CHECK(effective(scene.bucket, "p0")["volume"] == 2);
}

TEST_CASE("view change: what cannot be kept leaves the present release at work",
          "[view_change][bad_input][integration]") {
  Scene scene;
  settle(scene, 3);
  Keeper keeper(scene.server, zones_view());
  CHECK(code_of([&] {
          View bad = zones_view();
          bad.pipeline = json::parse(R"([{"@nonsense": 1}])");
          scene.bucket.views().apply(bad, {});
        }) == "DMM-0502");
  CHECK(code_of([&] {
          View other = zones_view();
          other.type = "lamp";
          scene.bucket.views().apply(other, {});
        }) == "DMM-0601");
  CHECK(code_of([&] { scene.bucket.views().roll_back(kView, {}); }) == "DMM-0606");
  CHECK(code_of([&] { scene.bucket.views().find("nothing"); }) == "DMM-0405");
  // Written by another tool: it reads what only its own program knows.
  json foreign = view_to_json(zones_view());
  foreign["inputs"][0] = {{"source", "a list"}, {"name", "player"}};
  scene.raw.store("$KV." + names().status(1).name.substr(3) + ".view.release." + kView,
                  json{{"number", 9}, {"hash", "x"}, {"view", foreign}}.dump());
  wait_refused(scene.bucket, "things.release", "DMM-0607");
  scene.report("p1", {{"zone", "z"}, {"volume", 77}});
  wait_for("the change", [&] { return effective(scene.bucket, "p1")["volume"] == 77; });
}

TEST_CASE("view change: what was held stays held when the view is computed anew",
          "[view_change][fault][integration]") {
  Scene scene;
  settle(scene, 150);
  View view = zones_view();
  view.removals_free = 0;
  Keeper keeper(scene.server, view);
  wait_release(scene, 1);
  for (int i = 0; i < 9; ++i) {  // more than 5 %
    scene.report("p" + std::to_string(i), {{"zone", "nowhere"}, {"volume", 1}});
  }
  wait_for("removals to be held", [&] { return keeper.view.stats().held > 0; });
  const std::size_t rebuilds = keeper.view.stats().rebuilds;
  scene.bucket.views().rebuild(kView);
  wait_for("the rebuild", [&] {
    const ViewStats stats = keeper.view.stats();
    return stats.rebuilds > rebuilds && stats.loaded;
  });
  keeper.wait_told();
  CHECK(keeper.view.stats().held > 0);
  const std::uint64_t removed = keeper.view.stats().removed;
  // Nor does another release let them go, nor is it rolled out before they went.
  View next = louder_view();
  next.removals_free = 0;
  scene.bucket.views().apply(next, {});
  wait_for("the release", [&] {
    const ViewInfo info = state(scene);
    return info.release == 2 && info.loaded && info.sending == 0 && info.held > 0;
  });
  CHECK(state(scene).rolled_out == 1);
  CHECK(keeper.view.stats().removed == removed);
  scene.bucket.views().approve(kView, state(scene).held);
  wait_release(scene, 2);
  CHECK(keeper.view.stats().removed == 9);
}

TEST_CASE("view change: a broken last report tears nothing down when the view is computed anew",
          "[view_change][bad_input][integration]") {
  Scene scene;
  settle(scene, 3);
  Keeper keeper(scene.server, zones_view());
  wait_release(scene, 1);
  scene.raw.store(names().report_subject("player", "p1"), "{broken");
  wait_refused(scene.bucket, "player.p1", "DMM-0503");
  scene.bucket.views().rebuild(kView);
  wait_for("the removal to be held", [&] { return keeper.view.stats().held == 1; });
  keeper.wait_told();
  CHECK(keeper.view.stats().removed == 0);
  CHECK(effective(scene.bucket, "p1")["volume"] == 2);
  scene.report("p1", {{"zone", "z"}, {"volume", 5}});
  wait_for("the row to be back", [&] { return effective(scene.bucket, "p1")["volume"] == 5; });
  wait_for("nothing to be held", [&] { return keeper.view.stats().held == 0; });
}

TEST_CASE("view change: an approval given while nobody keeps the view waits for its owner",
          "[view_change][integration]") {
  Scene scene;
  settle(scene, 150);
  {
    Keeper keeper(scene.server, zones_view());
    wait_release(scene, 1);
    scene.drop_zone("z");
    wait_for("removals to be held", [&] { return state(scene).held == 150; });
    keeper.worker.stop();
  }
  scene.bucket.views().approve(kView, 150);
  Keeper next(scene.server, zones_view());
  wait_for("the removals", [&] { return next.view.stats().removed == 150; });
}

TEST_CASE("view change: rubbish in the status bucket ends no worker",
          "[view_change][bad_input][integration]") {
  Scene scene;
  settle(scene, 3);
  const std::string bucket = "$KV." + names().status(1).name.substr(3) + ".";
  const json view = view_to_json(zones_view());
  json unnamed = view;
  unnamed["inputs"][0] = {{"table", "t"}, {"name", 5}};
  const auto put_rubbish = [&] {
    for (const json& release :
         {json{{"number", 9}, {"view", unnamed}}, json{{"number", -1}, {"view", view}},
          json{{"number", 1e30}, {"view", view}}, json{{"number", 8}, {"view", json::object()}},
          json{{"number", 7}, {"view", view}, {"rollout", {{"per_minute", -5}}}}}) {
      scene.raw.store(bucket + "view.release." + kView, release.dump());
    }
    scene.raw.store(bucket + "view.order." + kView, R"({"what":"approve","removals":-1})");
    scene.raw.store(bucket + "view.order." + kView, R"({"what":"explode"})");
    scene.raw.store(bucket + "view.order." + kView, "[");
  };
  const json state = {
      {"epoch", 1},
      {"inputs",
       {{{"description", "reports of player"}, {"baseline", {{"created", 1}, {"last", "x"}}}}}}};
  scene.raw.store(bucket + "view.state." + kView, state.dump());
  put_rubbish();
  scene.raw.store(bucket + "view.release." + kView, "{}");
  Keeper keeper(scene.server, zones_view());
  put_rubbish();
  scene.report("p1", {{"zone", "z"}, {"volume", 77}});
  wait_for("the change", [&] { return effective(scene.bucket, "p1")["volume"] == 77; });
  CHECK(keeper.view.stats().removed == 0);
  CHECK(keeper.worker.error().empty());
}

TEST_CASE("view verify: what someone wrote over is found and repaired",
          "[view_change][integration]") {
  Scene scene;
  settle(scene, 4);
  Bucket workers = open_bucket(scene.server);
  workers.register_type(kType, AnyMaterializer{[](Context&, json&) { return Outcome::done(); }});
  const Worker worker(workers);
  Keeper keeper(scene.server, zones_view());
  const auto all_settled = [&] {
    const auto all = matters(scene.bucket);
    return all.size() == 4 && std::ranges::all_of(all, [](const auto& one) {
             return one.second.phase == Phase::settled;
           });
  };
  wait_for("all to settle", all_settled);
  wait_for("the owner to be compared", [&] {
    const ViewComparison sound = scene.bucket.views().compare(zones_view(), at_once());
    CHECK(sound.differences() == 0);
    return sound.same_as_owner == true;
  });

  wait_tokens_deleted(scene.bucket);
  const std::string subject = names().entry_subject(std::string(kType) + ".p2");
  scene.raw.store(subject, R"({"id":"p2","list":"noise","volume":3})", {{"Dmm-View", "things;x"}});
  scene.raw.store(names().entry_subject(std::string(kType) + ".ghost"), R"({"id":"ghost"})",
                  {{"Dmm-View", "things;x"}});
  const ViewComparison found = scene.bucket.views().compare(zones_view(), at_once());
  CHECK(found.changed == 1);
  CHECK(found.removed == 1);
  CHECK(found.same_as_owner == true);  // only the caches are wrong
  scene.bucket.views().rebuild(kView);
  wait_for("the repair", [&] {
    return effective(scene.bucket, "p2").value("list", "") == "jazz" &&
           effective(scene.bucket, "ghost").is_null() && all_settled();
  });
  CHECK(scene.bucket.views().compare(zones_view(), at_once()).differences() == 0);
}

TEST_CASE("view explain: a row names the input rows it rests on and what came on the way",
          "[view_change][integration]") {
  Scene scene;
  settle(scene, 3);
  scene.zone("other", "rock");
  scene.report("lost", {{"zone", "nowhere"}, {"volume", 1}});
  const RowExplanation why = scene.bucket.views().explain(zones_view(), "p1", at_once());
  REQUIRE(why.rows.size() == 1);
  CHECK(why.rows[0].at("volume") == 2);
  REQUIRE(why.inputs.size() == 2);
  std::set<std::string> inputs;
  for (const InputRow& input : why.inputs) inputs.insert(input.input + " " + input.key);
  CHECK(inputs == std::set<std::string>{"player p1", "zones z"});
  CHECK(why.inputs[0].key == "p1");  // reported after the zone was set
  CHECK(why.inputs[0].changed_at >= why.inputs[1].changed_at);
  CHECK_FALSE(why.inputs[0].position.empty());
  CHECK(why.input_rows == 6);
  // The zone is behind all its players, but only p1 is on the way to p1.
  const auto join = std::ranges::find_if(
      why.operators, [](const OperatorRows& one) { return one.what.starts_with("equi_join"); });
  REQUIRE(join != why.operators.end());
  REQUIRE(join->rows.size() == 1);
  CHECK(join->rows[0].at("player").at("device") == "p1");
  CHECK(why.operators.back().rows == why.rows);

  const RowExplanation absent = scene.bucket.views().explain(zones_view(), "lost", at_once());
  CHECK(absent.absent);
  REQUIRE(absent.inputs.size() == 1);
  CHECK(absent.operators.back().what.starts_with("equi_join"));
  CHECK(absent.operators.back().rows.empty());
  CHECK(scene.bucket.views().explain(zones_view(), "unheard", at_once()).inputs.empty());
}

TEST_CASE("view explain: a group rests on its members and no others",
          "[view_change][integration]") {
  Scene scene;
  for (const char* device : {"a1", "a2", "b1"}) {
    scene.report(device, {{"zone", std::string(1, device[0])}, {"volume", 5}});
  }
  View view = zones_view();
  view.inputs = {ViewInput::reports("player")};
  view.pipeline = json::parse(R"([
    {"@groupBy": ["$.zone", "$.volume"]},
    {"@project": {"id": "$.key", "volume": {"@sum": "$.values"}}}])");
  const RowExplanation why = scene.bucket.views().explain(view, "a", at_once());
  REQUIRE(why.rows.size() == 1);
  CHECK(why.rows[0].at("volume") == 10);
  std::set<std::string> members;
  for (const InputRow& input : why.inputs) members.insert(input.key);
  CHECK(members == std::set<std::string>{"a1", "a2"});
}

TEST_CASE("view lag: what an owner has not taken is counted", "[view_change][integration]") {
  Scene scene;
  settle(scene, 3);
  {
    Keeper keeper(scene.server, zones_view());
    wait_release(scene, 1);
    wait_for("the state", [&] { return state(scene).rows == 3; });
    keeper.worker.stop();
  }
  std::vector<InputLag> lags = scene.bucket.views().lag(zones_view());
  REQUIRE(lags.size() == 2);
  CHECK(lags[0].behind == 0u);
  scene.report("p7", {{"zone", "z"}, {"volume", 1}});
  scene.report("p8", {{"zone", "z"}, {"volume", 1}});
  lags = scene.bucket.views().lag(zones_view());
  CHECK(lags[0].behind == 2u);
  CHECK(lags[0].oldest_at > lags[0].changed_at);
  CHECK(lags[1].behind == 0u);
}
