// Goal: what the other side has arrives once, completely or not at all for the cursor, and what it
// has no more is found.
// Method: informers of the test on lists in memory, against real servers.

#include "fixture.h"

#include <set>
#include <stdexcept>

namespace dmm::resource {

namespace {

/// The other side: a list of notes that a test changes. Thread-safe.
class World final {
 public:
  void put(const std::string& name, const std::string& text) {
    const std::lock_guard lock(mutex_);
    notes_[name] = text;
  }
  void remove(const std::string& name) {
    const std::lock_guard lock(mutex_);
    notes_.erase(name);
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    notes_.clear();
  }
  std::vector<Note> all() const {
    const std::lock_guard lock(mutex_);
    std::vector<Note> all;
    for (const auto& [name, text] : notes_) all.push_back({name, text});
    return all;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::string> notes_;
};

std::function<Listed(InformContext&, Sink<Note>&)> lister(const World& world) {
  return [&world](InformContext&, Sink<Note>& sink) {
    for (const Note& note : world.all()) sink.put(note);
    return Listed::complete();
  };
}

bool idle(Client& client) {
  return client.informs().empty();
}

void inform_now(Client& client, const InformRequest& request = {}) {
  client.schedule_inform("note", request);
  wait_for(
      "the inform", [&] { return idle(client); }, 15s);
}

json last_run(Client& client) {
  for (const KindInfo& kind : client.kinds()) {
    if (kind.name == "note") return kind.last_run;
  }
  return nullptr;
}

std::optional<Time> cursor(Client& client) {
  return client.kinds().at(0).cursor;
}

/// Waits until a host has noted the kind.
void wait_hosted(Client& client) {
  wait_for("the kind", [&] { return !client.kinds().empty(); });
}

}  // namespace

TEST_CASE("informer: a list on demand arrives and is worked", "[resource][informer][integration]") {
  Scene scene;
  World world;
  for (int i = 0; i < 1'234; ++i) world.put("n" + std::to_string(i), "text");
  Running running(scene, [&](Host& host) {
    host.add<Note>(Informing<Note>{{}, lister(world)}, on_demand());
  });
  CHECK(code_of([&] { scene.client.schedule_inform("nobody"); }) == "DMM-0812");
  wait_hosted(scene.client);
  inform_now(scene.client);
  CHECK(last_run(scene.client).at("created") == 1'234);
  CHECK(last_run(scene.client).at("objects") == 1'234);
  wait_for(
      "all to be synced",
      [&] {
        return scene.db.number("SELECT count(*) FROM dmm.resource WHERE state = 'synced'") == 1'234;
      },
      30s);
}

TEST_CASE("informer: what is unchanged is skipped unless existing ones are to be processed",
          "[resource][informer][integration]") {
  Scene scene;
  World world;
  Tally tally;
  for (int i = 0; i < 10; ++i) world.put("n" + std::to_string(i), "text");
  Running running(scene, [&](Host& host) {
    host.add<Note>(Informing<Note>{[&](WorkContext&, const Resource<Note>& note) {
                                     tally.add(note.key.id);
                                     return Verdict::synced();
                                   },
                                   lister(world)},
                   on_demand());
  });
  wait_hosted(scene.client);
  const auto all_synced = [&] {
    return scene.db.number("SELECT count(*) FROM dmm.resource WHERE state = 'synced'") == 10;
  };
  inform_now(scene.client);
  wait_for("all to be synced", all_synced);
  CHECK(tally.total() == 10);
  world.put("n3", "changed");
  inform_now(scene.client);
  CHECK(last_run(scene.client).at("unchanged") == 9);
  Events events(running.bucket());
  wait_for("what was skipped", [&] { return events.read({.name = "skipped"}).size() == 9; });
  CHECK(events.read({.name = "skipped"}).at(0).reason == "unchanged");
  wait_for("the changed one", [&] { return tally.count("n3") == 2 && all_synced(); });
  CHECK(tally.total() == 11);
  const auto before = cursor(scene.client);
  inform_now(scene.client, {.process_existing = true});
  wait_for("all again", [&] { return tally.total() == 21 && all_synced(); });
  CHECK(cursor(scene.client) == before);
}

TEST_CASE("informer: requests reach it with labels limit order and time",
          "[resource][informer][integration]") {
  Scene scene;
  std::mutex mutex;
  std::vector<InformRequest> requests;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Informing<Note>{{},
                                   [&](InformContext& context, Sink<Note>&) {
                                     const std::lock_guard lock(mutex);
                                     requests.push_back(context.request());
                                     return Listed::complete();
                                   }},
                   on_demand());
  });
  wait_hosted(scene.client);
  const auto before = cursor(scene.client);
  // Two at once: neither may swallow the other.
  scene.client.schedule_inform("note", {.labels = {{"region", "eu"}, {"a", "b"}},
                                        .after = Time(1'700'000'000s),
                                        .limit = 7,
                                        .order_by = "created"});
  scene.client.schedule_inform("note", {.labels = {{"region", "us"}}});
  wait_for("both", [&] {
    const std::lock_guard lock(mutex);
    return requests.size() == 2;
  });
  wait_for("their ends", [&] { return idle(scene.client); });
  CHECK(requests[0].labels == std::map<std::string, std::string>{{"a", "b"}, {"region", "eu"}});
  CHECK(requests[0].after == Time(1'700'000'000s));
  CHECK(requests[0].limit == 7);
  CHECK(requests[0].order_by == "created");
  CHECK(requests[1].labels.at("region") == "us");
  CHECK(cursor(scene.client) == before);  // neither listed all that the schedule would
}

TEST_CASE("informer: a scheduled run begins an overlap before where the last one began",
          "[resource][informer][integration]") {
  Scene scene;
  std::mutex mutex;
  std::vector<std::optional<Time>> afters;
  KindOptions options = on_demand();
  options.overlap = 10s;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Informing<Note>{{},
                                   [&](InformContext& context, Sink<Note>&) {
                                     const std::lock_guard lock(mutex);
                                     afters.push_back(context.after());
                                     return Listed::complete();
                                   }},
                   options);
  });
  wait_hosted(scene.client);
  const Time before = std::chrono::system_clock::now();
  inform_now(scene.client);
  const auto first = cursor(scene.client);
  REQUIRE(first);
  CHECK(*first >= before - 1s);
  CHECK(*first <= std::chrono::system_clock::now());
  inform_now(scene.client);
  REQUIRE(afters.size() == 2);
  CHECK_FALSE(afters[0]);
  // So an object that was made before the first run, and showed up behind it, is listed now.
  CHECK(afters[1] == *first - 10s);
}

TEST_CASE("informer: one that fails is tried again and its cursor stays",
          "[resource][informer][integration]") {
  Scene scene;
  std::atomic<int> runs{0};
  // The next try waits until the error of the one before was read.
  Gate first_read;
  Gate second_read;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Informing<Note>{{},
                                   [&](InformContext& context, Sink<Note>& sink) {
                                     const int run = ++runs;
                                     if (run == 2) first_read.pass(context.stop_token());
                                     if (run == 3) second_read.pass(context.stop_token());
                                     sink.put({"n" + std::to_string(run), "text"});
                                     if (run == 1) throw std::runtime_error("HTTP 500");
                                     if (run == 2) return Listed::partly("page 3 is missing");
                                     return Listed::complete();
                                   }},
                   on_demand());
  });
  wait_hosted(scene.client);
  scene.client.schedule_inform("note");
  wait_for("the first error", [&] {
    const auto informs = scene.client.informs();
    return informs.size() == 1 && informs[0].error.find("HTTP 500") != std::string::npos;
  });
  CHECK_FALSE(cursor(scene.client));
  first_read.open();
  wait_for("the second error", [&] {
    const auto informs = scene.client.informs();
    return informs.size() == 1 && informs[0].error.find("page 3") != std::string::npos;
  });
  CHECK_FALSE(cursor(scene.client));
  second_read.open();
  wait_for(
      "the end", [&] { return idle(scene.client); }, 15s);
  CHECK(cursor(scene.client));
  CHECK(runs == 3);
  CHECK(last_run(scene.client).at("tries") == 3);
}

TEST_CASE("informer: a list that is cut goes on behind its checkpoint",
          "[resource][informer][integration]") {
  Scene scene;
  Tally tally;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Informing<Note>{{},
                                   [&](InformContext& context, Sink<Note>& sink) {
                                     const int from = context.checkpoint().is_null()
                                                          ? 0
                                                          : context.checkpoint().get<int>();
                                     for (int page = from; page < 5; ++page) {
                                       tally.add("page" + std::to_string(page));
                                       sink.put({"n" + std::to_string(page), "text"});
                                       if (tally.count("page3") == 1) {
                                         throw std::runtime_error("cut");
                                       }
                                       sink.checkpoint(page + 1);
                                     }
                                     return Listed::complete();
                                   }},
                   on_demand());
  });
  wait_hosted(scene.client);
  inform_now(scene.client);
  CHECK(tally.count("page0") == 1);
  CHECK(tally.count("page2") == 1);
  CHECK(tally.count("page3") == 2);
  CHECK(scene.db.number("SELECT count(*) FROM dmm.resource") == 5);
}

TEST_CASE("informer: a list that gets ahead waits no longer for its failures so far",
          "[resource][informer][integration]") {
  Scene scene;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Informing<Note>{{},
                                   [&](InformContext& context, Sink<Note>& sink) {
                                     const int page = context.checkpoint().is_null()
                                                          ? 0
                                                          : context.checkpoint().get<int>();
                                     if (page == 3) return Listed::complete();
                                     sink.put({"n" + std::to_string(page), "text"});
                                     sink.checkpoint(page + 1);
                                     throw std::runtime_error("cut behind each page");
                                   }},
                   on_demand());
  });
  wait_hosted(scene.client);
  scene.client.schedule_inform("note");
  wait_for(
      "the end", [&] { return scene.client.informs().empty(); }, 15s);
  // Each page was the first failure anew; the fourth try had none.
  CHECK(last_run(scene.client).at("tries") == 2);
  CHECK(scene.db.number("SELECT count(*) FROM dmm.resource") == 3);
}

TEST_CASE("informer: a failing one does not hold up its schedule nor a request",
          "[resource][informer][integration]") {
  Scene scene;
  Tally tally;
  KindOptions options = quick_retries();
  options.inform = Schedule::every(300ms, 0ms);
  Running running(scene, [&](Host& host) {
    host.add<Note>(Informing<Note>{{},
                                   [&](InformContext& context, Sink<Note>&) {
                                     const auto& labels = context.request().labels;
                                     const std::string name =
                                         labels.empty() ? "scheduled" : labels.at("name");
                                     tally.add(name);
                                     if (name == "broken") throw std::runtime_error("always");
                                     return Listed::complete();
                                   }},
                   options);
  });
  wait_hosted(scene.client);
  scene.client.schedule_inform("note", {.labels = {{"name", "broken"}}});
  wait_for("the broken one", [&] { return tally.count("broken") >= 2; });
  const int before = tally.count("scheduled");
  wait_for("the schedule", [&] { return tally.count("scheduled") >= before + 3; });
  scene.client.schedule_inform("note", {.labels = {{"name", "fine"}}});
  wait_for(
      "the request", [&] { return tally.count("fine") == 1; }, 10s);
}

TEST_CASE("informer: one runner in the fleet informs by schedule and never two at a time",
          "[resource][informer][integration]") {
  Scene scene;
  std::atomic<int> now{0};
  std::atomic<int> most{0};
  std::atomic<int> runs{0};
  KindOptions options = quick_retries();
  options.inform = Schedule::every(500ms, 0ms);
  const auto add = [&](Host& host) {
    host.add<Note>(Informing<Note>{{},
                                   [&](InformContext&, Sink<Note>& sink) {
                                     most = std::max<int>(most, ++now);
                                     ++runs;
                                     for (int i = 0; i < 600; ++i) {
                                       sink.put({"n" + std::to_string(i), "text"});
                                     }
                                     --now;
                                     return Listed::complete();
                                   }},
                   options);
  };
  const auto begin = std::chrono::steady_clock::now();
  {
    Running one(scene, add);
    Running two(scene, add);
    wait_for(
        "some runs", [&] { return runs >= 5; }, 20s);
  }
  const auto took = std::chrono::steady_clock::now() - begin;
  CHECK(most == 1);
  CHECK(runs <= took / 500ms + 2);
}

TEST_CASE("informer: after a downtime there is one run and not one for each that was missed",
          "[resource][informer][integration]") {
  Scene scene;
  std::atomic<int> runs{0};
  KindOptions options = quick_retries();
  options.inform = Schedule::every(1h, 0ms);
  const auto add = [&](Host& host) {
    host.add<Note>(Informing<Note>{{},
                                   [&](InformContext&, Sink<Note>&) {
                                     ++runs;
                                     return Listed::complete();
                                   }},
                   options);
  };
  {
    Running running(scene, add);
    wait_for("the first run", [&] { return runs == 1 && idle(scene.client); });
  }
  {
    Running running(scene, add);  // a restart is no reason to inform
    CHECK_FALSE(becomes_true([&] { return runs > 1; }, 700ms));
  }
  scene.db.exec("UPDATE dmm.resource_kind SET next_inform_at = now() - interval '10 hours'");
  {
    Running running(scene, add);
    wait_for("one run", [&] { return runs == 2; });
    CHECK_FALSE(becomes_true([&] { return runs > 2; }, 700ms));
  }
}

TEST_CASE("informer: an interval below zero never informs and jitter spreads many kinds",
          "[resource][informer][integration]") {
  Scene scene;
  std::atomic<int> runs{0};
  Running running(scene, [&](Host& host) {
    for (int i = 0; i < 10; ++i) {
      AnyController controller;
      controller.kind = "kind" + std::to_string(i);
      controller.inform = [&](InformContext&, AnySink&) {
        ++runs;
        return Listed::complete();
      };
      KindOptions options;
      options.inform = i == 9 ? Schedule::every(-1s) : Schedule::every(1h, 1min);
      host.add(controller, options);
    }
  });
  wait_for("the kinds", [&] { return scene.client.kinds().size() == 10; });
  std::set<std::int64_t> seconds;
  for (const KindInfo& kind : scene.client.kinds()) {
    if (kind.name == "kind9") {
      CHECK_FALSE(kind.next_inform_at);
      continue;
    }
    REQUIRE(kind.next_inform_at);
    seconds.insert(kind.next_inform_at->time_since_epoch() / 1s);
  }
  CHECK(seconds.size() >= 5);
  CHECK(*seconds.rbegin() - *seconds.begin() <= 60 + 3'600);
}

TEST_CASE("informer: what a full list leaves out is missing and its controller decides",
          "[resource][informer][integration]") {
  Scene scene;
  World world;
  for (int i = 0; i < 20; ++i) world.put("n" + std::to_string(i), "text");
  Running running(scene, [&](Host& host) {
    host.add<Note>(Informing<Note>{[](WorkContext&, const Resource<Note>& note) {
                                     if (!note.missing()) return Verdict::synced();
                                     if (note.key.id == "n2") return Verdict::synced();
                                     return Verdict::deleted("not there any more");
                                   },
                                   lister(world)},
                   on_demand());
  });
  wait_hosted(scene.client);
  scene.client.inform(Note{"n1", "of another namespace"}, {.ns = "tenant-a"});
  inform_now(scene.client, {.full = true});
  wait_for("all to be synced", [&] {
    return scene.db.number("SELECT count(*) FROM dmm.resource WHERE state = 'synced'") == 21;
  });
  world.remove("n1");
  world.remove("n2");
  inform_now(scene.client);  // a list that is not full says nothing about absence
  CHECK(state_of(scene.client, {"note", "n1"}) == State::synced);
  inform_now(scene.client, {.full = true});
  CHECK(last_run(scene.client).at("missing") == 2);
  wait_state(scene.client, {"note", "n1"}, State::deleted);
  wait_state(scene.client, {"note", "n2"}, State::synced);
  CHECK(state_of(scene.client, {"note", "n1", "tenant-a"}) == State::synced);
  CHECK(scene.db.number("SELECT count(*) FROM dmm.resource_seen") == 0);
  // A list that still names what is deleted does not bring it back.
  world.put("n1", "changed");
  inform_now(scene.client);
  CHECK(state_of(scene.client, {"note", "n1"}) == State::deleted);
}

TEST_CASE("informer: a full list that leaves out too many marks none of them",
          "[resource][informer][integration]") {
  Scene scene;
  World world;
  for (int i = 0; i < 20; ++i) world.put("n" + std::to_string(i), "text");
  KindOptions options = on_demand();
  options.missing_free = 5;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Informing<Note>{{}, lister(world)}, options);
  });
  wait_hosted(scene.client);
  inform_now(scene.client, {.full = true});
  world.clear();  // the other side answers with an empty list
  scene.client.schedule_inform("note", {.full = true});
  wait_for("the refusal", [&] {
    const auto informs = scene.client.informs();
    return informs.size() == 1 && informs[0].error.find("DMM-0809") != std::string::npos;
  });
  CHECK(scene.client.list({.missing = true}).resources.empty());
  scene.client.schedule_inform("note", {.full = true, .accept_missing = true});
  wait_for("the marks", [&] {
    return scene.client.list({.missing = true}).resources.size() == 20 ||
           scene.db.number("SELECT count(*) FROM dmm.resource WHERE generation > 1") == 20;
  });
}

TEST_CASE("informer: an object of another kind or one that cannot be stored fails the run",
          "[resource][informer][integration]") {
  Scene scene;
  std::atomic<int> runs{0};
  Gate first_read;  // until then the second try waits
  Running running(scene, [&](Host& host) {
    AnyController controller;
    controller.kind = "note";
    controller.inform = [&](InformContext& context, AnySink& sink) {
      if (++runs == 1) sink.put(erase(User{"u1", "Ada", 1}));
      if (runs == 2) first_read.pass(context.stop_token());
      if (runs == 2) sink.put(erase(Note{"", "no id"}));
      return Listed::complete();
    };
    host.add(controller, on_demand());
  });
  wait_hosted(scene.client);
  scene.client.schedule_inform("note");
  wait_for("the first refusal", [&] {
    const auto informs = scene.client.informs();
    return informs.size() == 1 && informs[0].error.find("user") != std::string::npos;
  });
  first_read.open();
  wait_for(
      "the end", [&] { return idle(scene.client); }, 15s);
  CHECK(runs == 3);
  CHECK(scene.db.number("SELECT count(*) FROM dmm.resource") == 0);
}

}  // namespace dmm::resource
