// Goal: each fault does what it says, to the calls that it names and to no others.

#include "dmm/testing/faults.h"

#include <catch2/catch.hpp>

#include <future>
#include <set>

#include "dmm/limits.h"
#include "dmm/testing/internal/scheduler.h"
#include "dmm/testing/memory_transport.h"
#include "dmm/wire.h"
#include "tests/testing/transport_under_test.h"

namespace dmm::testing {

namespace {

// A connection with the work stream and the cache of a namespace.
struct Scene {
  explicit Scene(std::uint64_t seed = 1)
      : memory(MemoryTransport::create(seed)),
        work(memory->open(names.work(1), true)),
        cache(memory->open(names.cache(1), true)) {}

  static std::string token(int number) { return "dmm.test.work.thing.0." + std::to_string(number); }
  static std::string entry(int number) { return "$KV.dmm_test.thing." + std::to_string(number); }
  std::string publish(int number) {
    return code_of([&] { put(*work, token(number), "x"); });
  }
  bool stored(int number) const { return memory->server().look(token(number)).has_value(); }

  const wire::Names names{"test"};
  std::shared_ptr<MemoryTransport> memory;
  std::shared_ptr<transport::Stream> work, cache;
};

using Future = std::future<Result<Sequence>>;

// Publishes without waiting.
Future begin(transport::Stream& stream, std::string subject, std::chrono::milliseconds deadline) {
  auto promise = std::make_shared<std::promise<Result<Sequence>>>();
  stream.publish({.subject = std::move(subject)}, deadline,
                 [promise](Result<Sequence> result) { promise->set_value(std::move(result)); });
  return promise->get_future();
}

bool ready(const Future& future) {
  return future.wait_for(0s) == std::future_status::ready;
}

}  // namespace

TEST_CASE("faults: a stream is told by the part that it plays", "[faults][unit]") {
  for (const std::string ns : {"a", "a_status", "WORK", "x_1"}) {
    for (const int generation : {1, 12}) {
      const wire::Names names(ns, generation);
      const auto memory = MemoryTransport::create(1);
      for (const auto& [part, config] : std::vector<std::pair<Part, transport::StreamConfig>>{
               {Part::work, names.work(1)},
               {Part::cache, names.cache(1)},
               {Part::reports, names.reports(1)},
               {Part::status, names.status(1)},
               {Part::leases, names.leases(1)},
               {Part::shadows, names.shadows(1)}}) {
        INFO(config.name);
        const auto stream = memory->open(config, true);
        if (ns != "a_status" || part != Part::cache) {  // "KV_dmm_a_status" is the status of "a"
          CHECK(dynamic_cast<MemoryStream&>(*stream).part() == part);
        }
      }
    }
  }
}

TEST_CASE("faults: what is refused is not done", "[faults][unit]") {
  Scene scene;
  scene.memory->faults().refuse({.stream = Part::work, .next = 2});
  CHECK(scene.publish(1) == "DMM-0103");
  CHECK_FALSE(scene.stored(1));
  CHECK(code_of([&] { put(*scene.cache, Scene::entry(1), "x"); }) == "none");  // another stream
  CHECK(code_of([&] { transport::last(*scene.work, Scene::token(1)); }) == "DMM-0103");
  CHECK(scene.publish(1) == "none");  // used up
  CHECK(scene.memory->faults().struck() == 2);
  scene.memory->faults().refuse({.call = Call::ask});
  CHECK(code_of([&] { scene.work->state(); }) == "DMM-0103");
  CHECK(code_of([&] { scene.work->subjects(">"); }) == "DMM-0103");
  CHECK(code_of([&] { scene.memory->open(scene.names.reports(1), true); }) == "DMM-0103");
  CHECK(scene.publish(2) == "none");
  scene.memory->faults().clear();
  CHECK(scene.work->state().messages == 2);
}

TEST_CASE("faults: what is duplicated is stored twice unless it has a condition",
          "[faults][unit]") {
  Scene scene;
  scene.memory->faults().duplicate({.next = 2});
  CHECK(put(*scene.work, Scene::token(1), "x") == 1);
  CHECK(scene.work->state().last == Sequence{2});
  CHECK(transport::publish(
            *scene.work, {.subject = Scene::token(2), .payload = "x", .expected_last = Sequence{}},
            1s) == Sequence{3});
  CHECK(scene.work->state().last == Sequence{3});
  put(*scene.work, Scene::token(3), "x");
  CHECK(scene.work->state().last == Sequence{4});
}

TEST_CASE("faults: what is in doubt is done and strikes only what changes something",
          "[faults][unit]") {
  Scene scene;
  scene.memory->faults().in_doubt();
  CHECK(scene.publish(1) == "DMM-0105");
  CHECK(scene.stored(1));
  CHECK(transport::last(*scene.work, Scene::token(1)));
  CHECK(scene.work->state().messages == 1);
  CHECK(code_of([&] { transport::erase(*scene.work, Sequence{1}); }) == "DMM-0103");
  CHECK_FALSE(scene.stored(1));
  scene.memory->faults().clear();
  CHECK_FALSE(transport::erase(*scene.work, Sequence{1}));
}

TEST_CASE("faults: what is dropped is answered when its time is over", "[faults][unit]") {
  Scene scene;
  int done = 0;
  for (int i = 0; i < 20; ++i) {
    scene.memory->faults().drop({.next = 1}, 20ms);
    const auto begun = std::chrono::steady_clock::now();
    CHECK(scene.publish(i) == "DMM-0105");
    CHECK(std::chrono::steady_clock::now() - begun >= 20ms);
    if (scene.stored(i)) ++done;
  }
  CHECK(done > 0);   // on the way back
  CHECK(done < 20);  // on the way there
  scene.memory->faults().drop({.next = 2}, 1ms);
  CHECK(code_of([&] { transport::last(*scene.work, Scene::token(1)); }) == "DMM-0103");
  CHECK(code_of([&] { transport::erase(*scene.work, Sequence{1}); }) == "DMM-0103");
  scene.memory->faults().drop({.next = 1}, 1h);
  auto own = begin(*scene.work, Scene::token(99), 30ms);  // its own deadline comes first
  CHECK(code_of([&] { own.get().value(); }) == "DMM-0105");
}

TEST_CASE("faults: a share is a share and the seed says which", "[faults][unit]") {
  const auto struck = [](std::uint64_t seed) {
    Scene scene(seed);
    scene.memory->faults().refuse({.share = 0.3});
    std::set<int> all;
    for (int i = 0; i < 400; ++i) {
      if (scene.publish(i) != "none") all.insert(i);
    }
    CHECK(all.size() == scene.memory->faults().struck());
    return all;
  };
  const auto once = struck(7);
  CHECK(once.size() > 80);
  CHECK(once.size() < 160);
  CHECK(struck(7) == once);
  CHECK(struck(8) != once);
  Scene scene;
  CHECK(code_of([&] { scene.memory->faults().refuse({.share = 1.5}); }) == "DMM-0404");
  scene.memory->faults().refuse({.share = 0});
  CHECK(scene.publish(1) == "none");
}

TEST_CASE("faults: delayed answers overtake each other", "[faults][unit]") {
  Scene scene;
  scene.memory->faults().delay({.call = Call::publish}, 20ms);
  std::mutex mutex;
  std::vector<int> answered;
  for (int i = 0; i < 30; ++i) {
    scene.work->publish({.subject = Scene::token(i)}, 5s, [&, i](const Result<Sequence>& result) {
      const std::lock_guard lock(mutex);
      if (result.ok()) answered.push_back(i);
    });
  }
  wait_for("all", [&] {
    const std::lock_guard lock(mutex);
    return answered.size() == 30;
  });
  CHECK_FALSE(std::ranges::is_sorted(answered));
}

TEST_CASE("faults: what is held is done and answered when it is let go", "[faults][unit]") {
  Scene scene;
  Faults& faults = scene.memory->faults();
  faults.hold({.stream = Part::work, .call = Call::publish});
  auto first = begin(*scene.work, Scene::token(1), 5s);
  auto second = begin(*scene.work, Scene::token(2), 5s);
  CHECK(scene.stored(1));
  CHECK(faults.held() == 2);
  CHECK(faults.held(Part::work, Call::publish) == 2);
  CHECK(faults.held(Part::cache) == 0);
  CHECK_FALSE(ready(first));
  faults.let_go(Part::cache);
  CHECK(faults.held() == 2);
  faults.let_go(Part::work, Call::publish);
  CHECK(first.get().value() == Sequence{1});
  CHECK(second.get().value() == Sequence{2});
  CHECK(scene.publish(3) == "none");
  faults.hold();
  auto third = begin(*scene.work, Scene::token(4), 5s);
  scene.memory->close();  // nothing is left without an answer
  CHECK(third.get().value() == Sequence{4});
}

TEST_CASE("faults: readers that lag are given all in order and late", "[faults][unit]") {
  Scene scene;
  scene.memory->faults().lag(Part::work, 20ms);
  const auto begun = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) scene.publish(i);
  Told told;
  const auto reader = scene.work->read({.filter = ">", .after = {}}, told);
  reader->grant(100);
  told.wait_for_messages(20);
  CHECK(std::chrono::steady_clock::now() - begun > 50ms);
  Sequence before;
  for (const transport::Message& message : told.messages()) {
    CHECK(before < message.sequence);
    before = message.sequence;
  }
}

TEST_CASE("faults: a partition cuts one connection off and healing brings it up to date",
          "[faults][unit]") {
  Scene scene;
  const auto other = scene.memory->server().connect(2);
  const auto beside = other->open(scene.names.work(1), false);
  Told told;
  const auto reader = scene.work->read({.filter = ">", .after = {}}, told);
  reader->grant(100);
  told.wait_for_words("complete", 1);
  scene.memory->faults().partition();
  CHECK_FALSE(scene.memory->connected());
  auto waits = begin(*scene.work, Scene::token(1), 20s);
  auto gives_up = begin(*scene.work, Scene::token(2), 20ms);
  CHECK(code_of([&] { gives_up.get().value(); }) == "DMM-0101");
  CHECK_FALSE(ready(waits));
  put(*beside, Scene::token(3), "of the other");
  CHECK(told.messages().empty());
  scene.memory->faults().heal();
  CHECK(waits.get().value() == Sequence{2});
  told.wait_for_messages(2);
  CHECK(told.count("lost") == 0);
  CHECK(scene.memory->reconnects() == 1);
  CHECK(other->reconnects() == 0);
  CHECK_FALSE(scene.stored(2));
}

TEST_CASE("faults: a restart that loses the newest messages is told as lost history",
          "[faults][unit]") {
  Scene scene;
  for (int i = 1; i <= 5; ++i) scene.publish(i);
  put(*scene.cache, Scene::entry(1), "x");
  Told told, slow;
  const auto reader = scene.work->read({.filter = ">", .after = {}}, told);
  reader->grant(100);
  const auto granted_less = scene.work->read({.filter = ">", .after = {}}, slow);
  granted_less->grant(2);
  told.wait_for_messages(5);
  slow.wait_for_messages(2);
  scene.memory->server().restart({.stream = Part::work, .messages = 2});
  told.wait_for_words("lost", 1);
  told.wait_for_messages(8);
  CHECK(scene.work->state().last == Sequence{3});
  CHECK_FALSE(scene.stored(4));
  CHECK(scene.cache->state().messages == 1);
  CHECK(scene.publish(6) == "none");
  CHECK(scene.work->state().last == Sequence{4});
  granted_less->grant(100);
  slow.wait_for_messages(4);
  CHECK(slow.count("lost") == 0);  // it had read nothing that went
  scene.memory->server().restart();
  CHECK(scene.memory->reconnects() == 2);
  CHECK(told.count("lost") == 1);
}

TEST_CASE("faults: a restart brings back what the lost messages had replaced or outlived",
          "[faults][unit]") {
  Scene scene;
  scene.publish(1);                             // 1
  scene.publish(2);                             // 2
  put(*scene.work, Scene::token(1), "newer");   // 3
  put(*scene.work, Scene::token(1), "newest");  // 4
  transport::erase(*scene.work, Sequence{2});
  REQUIRE(scene.work->state().messages == 1);
  scene.memory->server().restart({.stream = Part::work, .messages = 1});
  CHECK(scene.work->state().last == Sequence{3});
  CHECK(transport::last(*scene.work, Scene::token(1))->payload == "newer");
  CHECK(scene.stored(2));
  scene.memory->server().restart({.stream = Part::work, .messages = 1});
  CHECK(scene.work->state().last == Sequence{2});
  CHECK(transport::last(*scene.work, Scene::token(1))->sequence == Sequence{1});
  CHECK(scene.stored(2));
}

TEST_CASE("faults: streams that are created anew are others", "[faults][unit]") {
  Scene scene;
  scene.publish(1);
  const std::string before = scene.work->created();
  Told told;
  const auto reader = scene.work->read({.filter = ">", .after = {}}, told);
  reader->grant(100);
  told.wait_for_messages(1);
  scene.memory->server().recreate(Part::work);
  told.wait_for_words("lost", 1);
  CHECK(scene.work->state().created > before);
  CHECK(scene.work->state().last == Sequence{});
  put(*scene.work, Scene::token(2), "2", 0);
  told.wait_for_messages(2);
}

TEST_CASE("faults: what is in force can be told", "[faults][unit]") {
  Scene scene(42);
  CHECK(scene.memory->faults().to_string() == "seed 42");
  scene.memory->faults().in_doubt({.stream = Part::work, .call = Call::publish, .share = 0.1});
  CHECK(scene.memory->faults().to_string() == "in_doubt work publish 10 %; seed 42");
  CHECK(scene.memory->faults().seed() == 42);
}

TEST_CASE("faults: who stood still while the line was mended sends nothing that is too late",
          "[faults][unit]") {
  constexpr Scheduler::Group kProgram = 1;
  Scheduler scheduler({.seed = 1});
  scheduler.set_group(kProgram);
  const Scene scene;
  scheduler.set_group(0);
  scene.memory->faults().partition();
  Future late = begin(*scene.work, Scene::token(1), 1s);
  scheduler.pass(100ms);
  scheduler.freeze(kProgram, 5s);
  scheduler.pass(2s);
  scene.memory->faults().heal();
  scheduler.pass(10s);
  REQUIRE(ready(late));
  CHECK_FALSE(late.get().ok());
  CHECK_FALSE(scene.stored(1));
}

}  // namespace dmm::testing
