// Goal: whatever becomes of the process that keeps a view, the next one leaves the effective caches
// as the view, misses nothing, tears nothing down unasked, and notifies nobody again without cause.
// Method: keepers in processes of their own, killed or paused in the midst of a storm of reports;
// an oracle that knows what the rows have to be; and a client that hears every token.

#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include "dmm/view.h"
#include "fixture.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

constexpr const char* kView = "things";
constexpr int kZones = 10;

// Players with the playlist of their zone.
json zones_view() {
  return json::parse(R"({
    "view": "things", "type": "thing",
    "inputs": [{"reports": "player"}, {"bucket": "zones"}],
    "pipeline": [
      {"@join": {"@eq": ["$.player.zone", "$.zones.key"]}},
      {"@project": {"id": "$.player.device", "list": "$.zones.list", "volume": "$.player.volume"}}
    ]})");
}

// The same view as somebody broke it.
json empty_view() {
  json view = zones_view();
  view["pipeline"][0]["@join"] = json::parse(R"({"@and": [{"@eq": ["$.player.zone", "$.zones.key"]},
                               {"@gt": ["$.player.volume", 1000000]}]})");
  return view;
}

/// A process that keeps the view.
class Keeper final {
 public:
  /// snapshots   directory; empty: none are kept.
  Keeper(const testing::NatsServer& server, const json& view, const std::string& snapshots = {})
      : process_(DMM_TEST_KEEPER, options(server, view, snapshots)) {}

  bool loaded() const { return process_.output().find("loaded") != std::string::npos; }
  void wait_loaded() {
    wait_for(
        "a keeper to load: " + process_.error_output(), [this] { return loaded(); }, 60s);
  }
  void kill() {
    process_.kill(SIGKILL);
    REQUIRE(process_.wait(10s).has_value());
  }
  void pause() { process_.kill(SIGSTOP); }
  void resume() { process_.kill(SIGCONT); }

 private:
  static testing::ChildOptions options(const testing::NatsServer& server, const json& view,
                                       const std::string& snapshots) {
    testing::ChildOptions child;
    child.arguments = {"--server", server.url(), "--view", view.dump()};
    if (!snapshots.empty()) {
      child.arguments.insert(child.arguments.end(), {"--snapshots", snapshots});
    }
    if (std::getenv("DMM_TEST_LOG") != nullptr) child.error = testing::Output::inherit;
    return child;
  }

  testing::ChildProcess process_;
};

/// Hears every token that anybody publishes, on a thread of its own.
class TokenTap final {
 public:
  struct Token {
    std::string id;
    std::string message_id;
    std::string news;  ///< with a mark if it is a tombstone
  };

  explicit TokenTap(const testing::NatsServer& server) : client_(server.port()) {
    client_.listen("dmm.test.work.>");
    thread_ = std::jthread([this](std::stop_token stop) { run(stop); });
  }

  std::size_t count() const {
    const std::lock_guard lock(mutex_);
    return tokens_.size();
  }
  std::vector<Token> tokens() const {
    const std::lock_guard lock(mutex_);
    return tokens_;
  }

 private:
  void run(std::stop_token stop) {
    while (!stop.stop_requested()) {
      const auto heard = client_.hear(50ms);
      if (!heard || heard->payload.empty()) continue;
      Token token{heard->subject.substr(heard->subject.rfind('.') + 1),
                  header(heard->headers, "Nats-Msg-Id: "), heard->payload};
      if (!header(heard->headers, "Dmm-Deleted: ").empty()) token.news += " deleted";
      const std::lock_guard lock(mutex_);
      tokens_.push_back(std::move(token));
    }
  }
  static std::string header(const std::string& block, const std::string& name) {
    const auto at = block.find(name);
    if (at == std::string::npos) return {};
    const auto begin = at + name.size();
    return block.substr(begin, block.find('\r', begin) - begin);
  }

  RawClient client_;
  mutable std::mutex mutex_;
  std::vector<Token> tokens_;
  std::jthread thread_;
};

/// Tokens that told an identity again what the token before had told it, without those that were
/// only sent again because their confirmation was late (the stream takes them once).
std::vector<TokenTap::Token> repeated(const std::vector<TokenTap::Token>& tokens) {
  std::vector<TokenTap::Token> again;
  std::map<std::string, TokenTap::Token> last;
  for (const TokenTap::Token& token : tokens) {
    const auto before = last.find(token.id);
    if (before != last.end() && before->second.news == token.news &&
        before->second.message_id != token.message_id) {
      again.push_back(token);
    }
    last.insert_or_assign(token.id, token);
  }
  return again;
}

/// Devices and people that change their mind, and what the view has to be.
class World final {
 public:
  World(const testing::NatsServer& server, int devices, unsigned seed)
      : raw_(server.port()), bucket_(open_bucket(server)), devices_(devices), random_(seed) {
    raw_.request(
        "$JS.API.STREAM.CREATE.KV_zones",
        R"({"name":"KV_zones","subjects":["$KV.zones.>"],"max_msgs_per_subject":1,)"
        R"("deny_delete":false,"allow_rollup_hdrs":true,"discard":"new","num_replicas":1})");
    for (int zone = 0; zone < kZones; ++zone) change_zone(zone);
    std::vector<std::pair<std::string, json>> reports;
    for (int device = 0; device < devices_; ++device) reports.push_back(report_of(device));
    publish(reports);
  }

  /// A few reports, or now and then another playlist of a zone.
  void storm_on() {
    if (pick(30) == 0) return change_zone(pick(kZones));
    std::set<int> chosen;
    while (chosen.size() < 50) chosen.insert(pick(devices_));
    std::vector<std::pair<std::string, json>> reports;
    for (const int device : chosen) reports.push_back(report_of(device));
    publish(reports);
  }

  Bucket& bucket() { return bucket_; }
  RawClient& raw() { return raw_; }

  std::map<std::string, json> rows() const {
    std::map<std::string, json> rows;
    for (const auto& [device, state] : players_) {
      rows[device] = {
          {"id", device}, {"list", lists_.at(state["zone"])}, {"volume", state["volume"]}};
    }
    return rows;
  }

  /// What is wrong with the effective caches, at most a few lines; empty: they are the view.
  std::string difference() {
    std::string text;
    int wrong = 0;
    std::map<std::string, json> rows = this->rows();
    for (const Matter& matter : bucket_.inspect().list(kType, true)) {
      const auto row = rows.find(matter.identity.id);
      json effective = json::parse(matter.effective.value_or("null"), nullptr, false);
      if (row != rows.end() && !matter.deleted && effective == row->second) {
        rows.erase(row);
      } else if (++wrong <= 5) {
        text += matter.identity.id + " is " + matter.effective.value_or("nothing") +
                (matter.deleted ? " and deleted" : "") + ", not " +
                (row == rows.end() ? "there" : row->second.dump()) + "\n";
        if (row != rows.end()) rows.erase(row);
      }
    }
    wrong += static_cast<int>(rows.size());
    return wrong == 0 ? text : text + std::to_string(wrong) + " wrong";
  }
  void wait_equal() {
    std::string last;
    if (becomes_true([&] { return (last = difference()).empty(); }, 60s)) return;
    FAIL("the effective caches are not the view: " << last);
  }

 private:
  int pick(int below) { return std::uniform_int_distribution(0, below - 1)(random_); }

  void change_zone(int zone) {
    const std::string name = "z" + std::to_string(zone);
    lists_[name] = "list " + std::to_string(++playlists_);
    raw_.store("$KV.zones." + name, json{{"list", lists_[name]}}.dump());
  }
  std::pair<std::string, json> report_of(int device) {
    const std::string name = "d" + std::to_string(device);
    players_[name] = {{"zone", "z" + std::to_string(pick(kZones))}, {"volume", pick(5)}};
    return {name, players_[name]};
  }
  void publish(const std::vector<std::pair<std::string, json>>& reports) {
    const auto failures = bucket_.report_all("player", reports);
    if (!failures.empty()) throw failures.front().error;
  }

  RawClient raw_;
  Bucket bucket_;
  const int devices_;
  std::mt19937 random_;
  std::map<std::string, json> players_;
  std::map<std::string, std::string> lists_;
  int playlists_ = 0;
};

struct Storm {
  unsigned seed = std::random_device()();
  testing::NatsServer server;
  World world{server, 2'000, seed};
  TokenTap tap{server};
  std::chrono::steady_clock::duration slowest{};  ///< of the turns so far

  // Storms until so many tokens have come, so that there is always something on its way.
  void until_tokens(std::size_t more) {
    const std::size_t target = tap.count() + more;
    const auto end = std::chrono::steady_clock::now() + 60s;
    while (tap.count() < target) {
      const auto begun = std::chrono::steady_clock::now();
      REQUIRE(begun < end);
      world.storm_on();
      slowest = std::max(slowest, std::chrono::steady_clock::now() - begun);
    }
  }
};

void wait_state(Bucket& bucket, const char* what, const std::function<bool(const ViewInfo&)>& is) {
  wait_for(
      what,
      [&] {
        const auto views = bucket.views().list();
        return views.size() == 1 && is(views[0]);
      },
      60s);
}

// Nothing was lost, so nothing is in doubt nor held.
void wait_sound(Bucket& bucket) {
  std::vector<ViewInfo> views;
  const bool sound = becomes_true(
      [&] {
        views = bucket.views().list();
        return views.size() == 1 && views[0].loaded && !views[0].doubt && views[0].held == 0 &&
               views[0].refused == 0;
      },
      60s);
  if (sound) return;
  if (views.size() != 1) FAIL(views.size() << " views");
  FAIL("the view is not sound: loaded " << views[0].loaded << ", doubt " << views[0].doubt
                                        << ", held " << views[0].held << ", refused "
                                        << views[0].refused << ", " << views[0].held_reason);
}

}  // namespace

TEST_CASE("view process: a keeper that is killed in a storm is followed by one that misses nothing",
          "[view_process][fault][integration]") {
  Storm storm;
  INFO("seed " << storm.seed);
  const testing::TemporaryDirectory directory;
  const bool kept = GENERATE(false, true);
  const std::string snapshots = kept ? directory.path().string() : "";
  CAPTURE(kept);
  auto keeper = std::make_unique<Keeper>(storm.server, zones_view(), snapshots);
  keeper->wait_loaded();
  for (int round = 0; round < 4; ++round) {
    storm.until_tokens(3'000);
    keeper->kill();
    // What happens while nobody keeps the view.
    for (int i = 0; i < 10; ++i) storm.world.storm_on();
    keeper = std::make_unique<Keeper>(storm.server, zones_view(), snapshots);
    storm.until_tokens(1'000);
  }
  storm.world.wait_equal();
  wait_sound(storm.world.bucket());
  CHECK((storm.world.bucket().views().find(kView).snapshot_at > 0) == kept);
  const auto again = repeated(storm.tap.tokens());
  INFO("first: " << (again.empty() ? "" : again[0].id + " " + again[0].news));
  CHECK(again.size() == 0);
}

TEST_CASE("view process: a warm standby takes over from a keeper that is killed in a storm",
          "[view_process][fault][integration]") {
  Storm storm;
  INFO("seed " << storm.seed);
  std::deque<std::unique_ptr<Keeper>> keepers;
  keepers.push_back(std::make_unique<Keeper>(storm.server, zones_view()));
  keepers.front()->wait_loaded();
  int stood_by = 0;
  for (int round = 0; round < 4; ++round) {
    keepers.push_back(std::make_unique<Keeper>(storm.server, zones_view()));
    storm.slowest = {};
    storm.until_tokens(3'000);
    const bool loaded = keepers.back()->loaded();
    // Where the machine stood still the one before may have lost its lease, rightly.
    if (storm.slowest < 1s) {
      CHECK_FALSE(loaded);
      ++stood_by;
    }
    keepers.front()->kill();
    keepers.pop_front();
    const auto killed = std::chrono::steady_clock::now();
    while (!keepers.front()->loaded()) {
      REQUIRE(std::chrono::steady_clock::now() - killed < 30s);
      storm.world.storm_on();
    }
  }
  CHECK(stood_by > 0);
  storm.world.wait_equal();
  wait_sound(storm.world.bucket());
  CHECK(repeated(storm.tap.tokens()).size() == 0);
}

// A token has no fence: what a paused keeper had still to send replaces the news of the next one,
// until that sees it.
TEST_CASE("view process: a keeper that was paused past its lease leaves the caches to the next one",
          "[view_process][fault][integration]") {
  Storm storm;
  INFO("seed " << storm.seed);
  for (int round = 0; round < 3; ++round) {
    Keeper first(storm.server, zones_view());
    first.wait_loaded();
    storm.until_tokens(2'000);
    first.pause();
    Keeper second(storm.server, zones_view());
    while (!second.loaded()) storm.world.storm_on();
    storm.until_tokens(2'000);
    storm.world.wait_equal();
    first.resume();
    storm.until_tokens(1'000);
    storm.world.wait_equal();
    // What the first one still had to send has gone out by now, and has changed nothing.
    second.kill();
    first.kill();
  }
}

TEST_CASE("view process: a pipeline that drops every row tears nothing down",
          "[view_process][fault][integration]") {
  testing::NatsServer server;
  World world(server, 300, 1);
  {
    Keeper keeper(server, zones_view());
    keeper.wait_loaded();
    world.wait_equal();
    if (GENERATE(true, false)) keeper.kill();
  }
  auto broken = std::make_unique<Keeper>(server, empty_view());
  wait_state(world.bucket(), "all rows to be held",
             [](const ViewInfo& view) { return view.loaded && view.held == 300; });
  CHECK(world.difference().empty());
  // Neither when its keeper is killed, nor by the next one, nor by those that come after.
  broken->kill();
  broken = std::make_unique<Keeper>(server, empty_view());
  broken->wait_loaded();
  for (int i = 0; i < 5; ++i) world.storm_on();
  wait_state(world.bucket(), "all rows to be held again",
             [](const ViewInfo& view) { return view.loaded && view.held == 300; });
  for (const Matter& matter : world.bucket().inspect().list(kType, true)) {
    if (matter.deleted) CHECK_FALSE(matter.deleted);
  }
  broken->kill();
  // Rolled back, it goes on as if nothing had been.
  world.bucket().views().roll_back(kView, {});
  Keeper mended(server, zones_view());
  mended.wait_loaded();
  world.wait_equal();
  wait_state(world.bucket(), "nothing to be held", [](const ViewInfo& view) {
    return view.loaded && view.held == 0 && view.rows == 300;
  });
}

TEST_CASE("view process: reports lost while the keeper is dead tear nothing down",
          "[view_process][fault][integration]") {
  testing::NatsServer server;
  World world(server, 300, 1);
  auto keeper = std::make_unique<Keeper>(server, zones_view());
  keeper->wait_loaded();
  world.wait_equal();
  wait_state(world.bucket(), "the state to be stored",
             [](const ViewInfo& view) { return view.loaded && view.rows == 300; });
  keeper->kill();
  const std::string stream = names().reports(1).name;
  std::uint64_t least_held = 150;
  SECTION("half of them purged") {
    const json answer =
        json::parse(world.raw().request("$JS.API.STREAM.PURGE." + stream, R"({"keep":150})"));
    REQUIRE(answer.value("purged", 0) == 150);
  }
  SECTION("all of them purged") {
    world.raw().request("$JS.API.STREAM.PURGE." + stream, "{}");
    least_held = 300;
  }
  SECTION("the stream deleted") {
    world.raw().request("$JS.API.STREAM.DELETE." + stream, "");
    least_held = 300;
  }
  // Few enough to go unasked, if loss could not be told from deletion.
  SECTION("some of them purged") {
    world.raw().request("$JS.API.STREAM.PURGE." + stream, R"({"keep":280})");
    least_held = 20;
  }
  keeper = std::make_unique<Keeper>(server, zones_view());
  keeper->wait_loaded();
  wait_state(world.bucket(), "the lost rows to be held", [&](const ViewInfo& view) {
    return view.loaded && view.held == least_held && view.doubt;
  });
  CHECK(world.difference().empty());
  // A keeper after it does not forget the doubt.
  keeper->kill();
  keeper = std::make_unique<Keeper>(server, zones_view());
  keeper->wait_loaded();
  wait_state(world.bucket(), "the lost rows to be held again", [&](const ViewInfo& view) {
    return view.loaded && view.held == least_held && view.doubt;
  });
  CHECK(world.difference().empty());
  world.bucket().views().approve(kView, least_held);
  wait_state(world.bucket(), "the approved removals",
             [&](const ViewInfo& view) { return view.held == 0 && view.removed == least_held; });
  std::size_t deleted = 0;
  for (const Matter& matter : world.bucket().inspect().list(kType)) deleted += matter.deleted;
  CHECK(deleted == least_held);
}
