// Goal: the simulator sees what is not done, and what is left behind. Method: a server in memory,
// and what lies on it put there by hand.

#include "tests/simulation/look.h"

#include <catch2/catch.hpp>

#include "dmm/bucket.h"
#include "dmm/limits.h"
#include "dmm/testing/memory_transport.h"
#include "dmm/testing/wait_for.h"
#include "dmm/wire.h"

namespace dmm::simulation {

namespace {

using Catch::Contains;

/// A namespace that somebody opened, and nobody works in.
struct Quiet {
  Quiet() : transport(server.connect(1)), bucket(Bucket::open("sim", {.transport = transport})) {}

  void entry(const std::string& payload) { server.put(names.entry_subject("job.1"), payload); }
  Sequence token() { return server.put(names.token_subject({"job", "1"}), "{}"); }
  void status(const std::string& phase, Sequence token) {
    server.put(names.status_subject("job.1"),
               "{\"phase\":\"" + phase + "\",\"token\":" + std::to_string(token.value) + "}");
  }
  std::string look(const Known& known, bool doomed = false) const {
    return differs(server, "job.1", known, doomed);
  }
  std::vector<Violation> left() {
    std::vector<Violation> found;
    check_left(server, {.workers = 0, .types = 1, .lives = 0}, found);
    return found;
  }

  testing::MemoryServer server;
  std::shared_ptr<testing::MemoryTransport> transport;
  Bucket bucket;
  const wire::Names names{"sim"};
};

}  // namespace

TEST_CASE("look: news that were acknowledged and did not arrive are seen", "[simulation][unit]") {
  Quiet quiet;
  const Known known{.news = 7, .acknowledged = 7};
  CHECK_THAT(quiet.look(known), Contains("has no entry"));
  quiet.entry(R"({"news":6,"done":6})");
  CHECK_THAT(quiet.look(known), Contains("7 was acknowledged"));
  quiet.entry(R"({"news":7,"done":6})");
  CHECK_THAT(quiet.look(known), Contains("7 was acknowledged"));
  quiet.entry(R"({"news":7,"done":7})");
  CHECK(quiet.look(known).empty());
  quiet.entry(R"({"news":8,"done":8})");  // stored, and nobody said so
  CHECK(quiet.look(known).empty());
  CHECK(quiet.look({.news = 9, .acknowledged = 0}).empty());
}

TEST_CASE("look: an entry of what was removed is seen", "[simulation][unit]") {
  Quiet quiet;
  const Known known{.news = 7, .acknowledged = 7, .gone = true};
  CHECK(quiet.look(known).empty());
  quiet.entry(R"({"news":6,"done":6})");
  CHECK_THAT(quiet.look(known), Contains("was removed by 7"));
}

TEST_CASE("look: what cannot succeed has to be parked", "[simulation][unit]") {
  Quiet quiet;
  const Known known{.news = 7, .acknowledged = 7};
  const Sequence first = quiet.token();
  CHECK_THAT(quiet.look(known, true), Contains("is not parked"));
  quiet.status("failing", first);
  CHECK_THAT(quiet.look(known, true), Contains("is not parked"));
  quiet.status("parked", first);
  CHECK(quiet.look(known, true).empty());
  quiet.token();  // news came behind it
  CHECK_THAT(quiet.look(known, true), Contains("is not parked"));
}

TEST_CASE("look: what is left behind is seen", "[simulation][unit]") {
  Quiet quiet;
  CHECK(quiet.left().empty());
  SECTION("a status") {
    quiet.status("failing", Sequence{1});
    REQUIRE(quiet.left().size() == 1);
    CHECK_THAT(quiet.left()[0].text, Contains("a status is left"));
  }
  SECTION("a reader") {
    struct Deaf final : transport::ReaderSink {
      void on_message(transport::Message) noexcept override {}
      void on_caught_up() noexcept override {}
      void on_history_lost(std::string) noexcept override {}
    } deaf;
    const auto cache = quiet.transport->open(quiet.names.cache(1), false);
    const auto reader = cache->read({.filter = ">", .after = {}}, deaf);
    testing::wait_for("the reader to be made", [&] { return !quiet.left().empty(); });
    REQUIRE(quiet.left().size() == 1);
    CHECK_THAT(quiet.left()[0].text, Contains("1 readers of the cache"));
  }
  SECTION("messages of leases") {
    for (std::uint32_t lane = 0; lane < 3 * limits::lanes; ++lane) {
      quiet.server.put(quiet.names.beat_subject("w" + std::to_string(lane)), "{}");
    }
    REQUIRE(quiet.left().size() == 1);
    CHECK_THAT(quiet.left()[0].text, Contains("messages of leases"));
  }
}

TEST_CASE("look: more than the most is seen", "[simulation][unit]") {
  std::vector<Violation> found;
  check_most("things", 3, 3, found);
  CHECK(found.empty());
  check_most("things", 4, 3, found);
  REQUIRE(found.size() == 1);
  CHECK(found[0].promise == "bounded");
}

}  // namespace dmm::simulation
