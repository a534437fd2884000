#include "dmm/worker/lane_leases.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include <atomic>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "dmm/internal/history.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/testing/wait_for.h"
#include "tests/dmm/memory_namespace.h"

namespace dmm::worker {

using namespace std::chrono_literals;
using testing::wait_for;

namespace {

// Quick, so that tests need not wait long; still long against the pauses of a loaded machine.
constexpr LeaseTiming kQuick{1200ms, 200ms, 200ms, 30ms};

// Which epochs of which lanes were ever taken. Thread-safe.
class Winners final {
 public:
  void add(std::uint32_t lane, Epoch epoch) {
    const std::lock_guard lock(mutex_);
    if (++takes_[{lane, epoch.value}] > 1) ++twice_;
  }
  int twice() const {
    const std::lock_guard lock(mutex_);
    return twice_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::uint32_t, std::uint64_t>, int> takes_;
  int twice_ = 0;
};

// One worker that owns lanes and has nothing to do.
struct Member {
  std::mutex mutex;
  std::map<std::uint32_t, Epoch> owned;
  std::map<std::uint32_t, std::string> words;  // in which run the one before ended, by lane
  std::atomic<std::size_t> count = 0;
  std::atomic<int> takes = 0;
  std::atomic<int> doubts = 0;
  Winners* winners;
  LaneLeases leases;

  explicit Member(const internal::Streams& streams, Winners* winners_of_all = nullptr,
                  LeaseTiming timing = kQuick)
      : winners(winners_of_all),
        leases(
            streams, "player", [this] { look(); }, [this] { ++doubts; }, timing) {
    leases.start();
  }
  void look() {
    const std::lock_guard lock(mutex);
    for (const LaneChange& change : leases.changes()) {
      if (change.taken) {
        owned[change.lane] = change.taken->epoch;
        words[change.lane] = change.taken->last_words.run;
        if (winners != nullptr) winners->add(change.lane, change.taken->epoch);
        ++takes;
      } else {
        owned.erase(change.lane);
      }
    }
    // As a worker with nothing to do, it gives at once what is too much.
    while (leases.held() && owned.size() > leases.share()) {
      leases.release(owned.begin()->first, owned.begin()->second);
      owned.erase(owned.begin());
    }
    count = owned.size();
  }
};

using Members = std::vector<std::unique_ptr<Member>>;

std::size_t owned(const Members& members) {
  std::size_t sum = 0;
  for (const auto& member : members) sum += member->count;
  return sum;
}

bool shared_fairly(const Members& members) {
  std::set<std::uint32_t> lanes;
  for (const auto& member : members) {
    const std::lock_guard lock(member->mutex);
    for (const auto& [lane, epoch] : member->owned) {
      if (member->leases.held(lane, epoch)) lanes.insert(lane);
    }
  }
  return lanes.size() == limits::lanes && owned(members) == limits::lanes &&
         std::ranges::all_of(members, [&](const auto& member) {
           const std::size_t least = limits::lanes / members.size();
           return member->count == least || member->count == least + 1;
         });
}

// Who stands still for too long loses its lease, and rightly: a test of those who keep it begins
// anew.
constexpr int kTries = 5;

// How many lanes of three workers stay where they are when a fourth one comes. None if one of them
// lost its lease meanwhile.
std::optional<std::size_t> stay_when_a_fourth_comes() {
  testing::MemoryNamespace space;
  Members members;
  for (int i = 0; i < 3; ++i) members.push_back(std::make_unique<Member>(space.streams));
  wait_for("three to share", [&] { return shared_fairly(members); });
  std::map<const Member*, std::map<std::uint32_t, Epoch>> before;
  for (const auto& member : members) before[member.get()] = member->owned;
  members.push_back(std::make_unique<Member>(space.streams));
  wait_for("four to share", [&] { return shared_fairly(members); });
  std::size_t stayed = 0;
  for (const auto& [member, lanes] : before) {
    for (const auto& [lane, epoch] : member->owned) {
      stayed += lanes.contains(lane) && lanes.at(lane) == epoch;
    }
  }
  if (std::ranges::any_of(members, [](const auto& member) { return member->doubts > 0; })) {
    return std::nullopt;
  }
  return stayed;
}

// A worker of the form with one lease for all lanes and one with lanes wait for each other, each
// for longer than a TTL. False if the one that was waited for lost its lease meanwhile.
bool forms_wait_for_each_other() {
  testing::MemoryNamespace space;
  Lease old_form(
      space.streams, "work.player.all", [] {}, kQuick);
  std::stop_source stop;
  REQUIRE(old_form.acquire(stop.get_token()));
  Member member(space.streams);
  const auto until = std::chrono::steady_clock::now() + 2s;
  wait_for("longer than a TTL", [&] {
    // Looked at in this order: once lost, it stays so.
    REQUIRE((member.count == 0 || !old_form.held()));
    return !old_form.held() || std::chrono::steady_clock::now() > until;
  });
  if (!old_form.held()) return false;

  old_form.release();
  wait_for("all lanes", [&] { return member.count == limits::lanes; });
  {
    // Their epochs come after those that the old form used.
    const std::lock_guard lock(member.mutex);
    const bool second =
        std::ranges::all_of(member.owned, [](const auto& pair) { return pair.second.value == 2; });
    CHECK((second || member.doubts > 0));
  }

  // And those of the old form wait for the lanes.
  Lease again(
      space.streams, "work.player.all", [] {}, kQuick);
  std::atomic<bool> got = false;
  std::jthread contender([&](const std::stop_token& end) { got = again.acquire(end).has_value(); });
  const auto later = std::chrono::steady_clock::now() + 2s;
  wait_for("longer than a TTL", [&] {
    REQUIRE((!got || !member.leases.held()));
    return got || std::chrono::steady_clock::now() > later;
  });
  if (got || member.doubts > 0) return false;
  member.leases.stop();
  wait_for("the old form to take over", [&] { return got.load(); });
  return true;
}

}  // namespace

TEST_CASE("lane leases: workers that come and go share all lanes fairly", "[lanes][unit]") {
  testing::MemoryNamespace space;
  Members members;
  for (int i = 0; i < 5; ++i) {
    members.push_back(std::make_unique<Member>(space.streams));
    wait_for(fmt::format("{} workers to share", i + 1), [&] { return shared_fairly(members); });
  }
  while (members.size() > 1) {
    members.erase(members.begin());
    wait_for(fmt::format("{} workers to share", members.size()),
             [&] { return shared_fairly(members); });
  }
}

TEST_CASE("lane leases: only what is too many moves when a worker comes", "[lanes][unit]") {
  std::optional<std::size_t> stayed = stay_when_a_fourth_comes();
  for (int i = 1; i < kTries && !stayed; ++i) stayed = stay_when_a_fourth_comes();
  REQUIRE(stayed);
  CHECK(*stayed >= 46);  // 48 are those of three; one may change places where shares are uneven
}

TEST_CASE("lane leases: of 64 that contend each gets one and no epoch has two winners",
          "[lanes][unit]") {
  testing::MemoryNamespace space;
  Winners winners;
  Members members;
  // What each hears of all others is too much for the thread sanitizer, which takes fewer.
#ifdef __SANITIZE_THREAD__
  constexpr std::size_t kContenders = 24;
#else
  constexpr std::size_t kContenders = limits::lanes;
#endif
  for (std::size_t i = 0; i < kContenders; ++i) {
    // At their usual pace: so many beats as quick ones have are too much under a sanitizer.
    members.push_back(std::make_unique<Member>(space.streams, &winners, LeaseTiming()));
  }
  wait_for(
      "each to have one", [&] { return shared_fairly(members); }, 240s);
  while (members.size() > 1) members.pop_back();
  wait_for(
      "the last one to have all", [&] { return shared_fairly(members); }, 60s);
  CHECK(winners.twice() == 0);
}

TEST_CASE("lane leases: workers of the form with one lease for all lanes are waited for",
          "[lanes][unit]") {
  bool waited = forms_wait_for_each_other();
  for (int i = 1; i < kTries && !waited; ++i) waited = forms_wait_for_each_other();
  CHECK(waited);
}

TEST_CASE("lane leases: those of a process of this machine that has ended are taken at once",
          "[lanes][unit]") {
  const testing::TemporaryDirectory directory;
  testing::MemoryNamespace space;
  space.streams.life_locks = std::make_shared<LifeLocks>(directory.path().string());
  // Two workers had half of the lanes each.
  for (std::uint32_t lane = 0; lane < limits::lanes; ++lane) {
    const std::string holder = lane % 2 == 0 ? "ended" : "alive";
    const std::string text = to_text({.holder = holder});
    space.leases->put(space.streams.names.lane_subject("player", lane, Epoch{1}), text);
    space.leases->put(space.streams.names.seat_subject("player", holder), text);
  }
  const LifeLocks::Lock alive = space.streams.life_locks->lock("alive");
  {
    // As a process leaves its file that was killed.
    const LifeLocks::Lock ended = space.streams.life_locks->lock("ended");
    std::filesystem::copy(directory / "ended", directory / "copy");
  }
  std::filesystem::rename(directory / "copy", directory / "ended");

  // By the clock no lane would be free for an hour.
  Member member(space.streams, nullptr, LeaseTiming{1h, 200ms, 200ms, 30ms});
  wait_for("the lanes of the dead", [&] { return member.count == limits::lanes / 2; });
  for (std::uint32_t lane = 0; lane < limits::lanes; ++lane) {
    CHECK(member.leases.held(lane, Epoch{2}) == (lane % 2 == 0));
  }
}

TEST_CASE("lane leases: the end of a process is seen however seldom it is looked for",
          "[lanes][unit]") {
  const testing::TemporaryDirectory directory;
  testing::MemoryNamespace space;
  std::string boot = testing::read_file("/proc/sys/kernel/random/boot_id");
  testing::write_file(directory / "ends", boot.substr(0, boot.find('\n')) + '\n');
  const int file = ::open((directory / "ends").c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(::flock(file, LOCK_EX | LOCK_NB) == 0);
  space.streams.life_locks = std::make_shared<LifeLocks>(directory.path().string());
  for (std::uint32_t lane = 0; lane < limits::lanes; ++lane) {
    space.leases->put(space.streams.names.lane_subject("player", lane, Epoch{1}),
                      to_text({"ends"}));
  }
  Member member(space.streams, nullptr, LeaseTiming{1h, 200ms, 200ms, 1h});
  wait_for("it to have looked", [&] { return member.leases.joined(); });
  CHECK(member.count == 0);
  ::close(file);  // as the kernel does
  wait_for("the lanes", [&] { return member.count == limits::lanes; });
}

TEST_CASE("lane leases: last words that nobody heard yet are passed on with their lane",
          "[lanes][unit]") {
  testing::MemoryNamespace space;
  const testing::TemporaryDirectory directory;
  std::string boot = testing::read_file("/proc/sys/kernel/random/boot_id");
  boot.resize(boot.find('\n'));
  testing::write_file(directory / "gone", boot + "\nSIGSEGV music player.kitchen\n");
  for (std::uint32_t lane = 0; lane < limits::lanes; ++lane) {
    space.leases->put(space.streams.names.lane_subject("player", lane, Epoch{1}),
                      to_text({"gone"}));
  }
  space.streams.life_locks = std::make_shared<LifeLocks>(directory.path().string());
  Members members;
  members.push_back(std::make_unique<Member>(space.streams));
  wait_for("all lanes", [&] { return members[0]->count == limits::lanes; });
  for (const auto& [lane, run] : members[0]->words) CHECK(run == "music player.kitchen");
  for (std::uint32_t lane = 0; lane < limits::lanes; lane += 2) {
    members[0]->leases.note_heard(lane);
  }
  members.push_back(std::make_unique<Member>(space.streams));
  wait_for("fair shares", [&] { return shared_fairly(members); });
  const std::lock_guard lock(members[1]->mutex);
  REQUIRE(members[1]->words.size() == limits::lanes / 2);
  for (const auto& [lane, run] : members[1]->words) {
    CHECK(run == (lane % 2 == 0 ? "" : "music player.kitchen"));
  }
}

TEST_CASE("lane leases: who comes while a dead worker is silent need not count its silence anew",
          "[lanes][unit]") {
  testing::MemoryNamespace space;
  const std::string text = to_text({.holder = "ended"});
  for (std::uint32_t lane = 0; lane < limits::lanes; ++lane) {
    space.leases->put(space.streams.names.lane_subject("player", lane, Epoch{1}), text);
  }
  const std::string seat = space.streams.names.seat_subject("player", "ended");
  space.leases->put(seat, text);
  Member first(space.streams);
  wait_for("it to have come", [&] { return first.leases.joined(); });
  // By its own clock it would wait for an hour.
  Member second(space.streams, nullptr, LeaseTiming{1h, 200ms, 200ms, 30ms});
  wait_for("fair shares",
           [&] { return first.count == limits::lanes / 2 && second.count == limits::lanes / 2; });
  const auto left = transport::last(*space.leases, seat);
  REQUIRE(left);
  CHECK(read_lease_record(left->payload).released);
}

TEST_CASE("lane leases: a worker that the others held to be dead comes back", "[lanes][unit]") {
  testing::MemoryNamespace space;
  Member member(space.streams);
  wait_for("all lanes", [&] { return member.count == limits::lanes; });
  std::string seat;
  for (const std::string& subject :
       space.leases->subjects(space.streams.names.lease_filter("seat.player"))) {
    seat = subject;
  }
  REQUIRE_FALSE(seat.empty());
  const auto beat = transport::last(*space.leases, seat);
  REQUIRE(beat);
  space.leases->put(seat, to_text({read_lease_record(beat->payload).holder, true}));
  wait_for("another beat", [&] {
    const auto newest = transport::last(*space.leases, seat);
    return newest && newest->sequence > beat->sequence &&
           !read_lease_record(newest->payload).released;
  });
  Member other(space.streams);
  wait_for("fair shares",
           [&] { return member.count == limits::lanes / 2 && other.count == limits::lanes / 2; });
}

TEST_CASE("lane leases: what someone else wrote on a lane is noticed at once", "[lanes][unit]") {
  testing::MemoryNamespace space;
  Member member(space.streams);
  wait_for("all lanes", [&] { return member.count == limits::lanes; });
  space.leases->put(space.streams.names.lane_subject("player", 7, Epoch{2}),
                    R"({"holder":"someone-else"})");
  wait_for("the loss", [&] { return member.count == limits::lanes - 1; });
  CHECK_FALSE(member.leases.held(7, Epoch{1}));
  // It never beats, so it does not keep the lane for long.
  wait_for("the lane again", [&] { return member.count == limits::lanes; });
  // Later only if it lost them all meanwhile, as who stands still does, and took them anew.
  const Epoch epoch = member.owned.at(7);
  CHECK((epoch == Epoch{3} || (epoch > Epoch{3} && member.takes >= 2 * int(limits::lanes))));
}

TEST_CASE("lane leases: when the lease stream loses its history all lanes are taken anew",
          "[lanes][unit]") {
  testing::MemoryNamespace space;
  Member member(space.streams);
  wait_for("all lanes", [&] { return member.count == limits::lanes; });
  const auto lost_at = std::chrono::steady_clock::now();
  space.leases->lose_history("2025-01-01T00:00:00Z");
  wait_for("them to be taken again", [&] { return member.takes >= 2 * int(limits::lanes); });
  CHECK(member.count == limits::lanes);
  // Another owner, whom nobody can see any more, may not have heard of it yet.
  CHECK(std::chrono::steady_clock::now() - lost_at >= kQuick.ttl);
  // Devices remember epochs longer than a disk does: none is used twice.
  const std::lock_guard lock(member.mutex);
  for (const auto& [lane, epoch] : member.owned) CHECK(epoch > Epoch{1});
}

TEST_CASE("lane leases: who comes just as the lease stream is lost waits for those who do not know",
          "[lanes][unit]") {
  testing::MemoryNamespace space;
  const auto history = space.streams.history = std::make_shared<internal::History>();
  history->look(space.streams);
  space.leases->lose_history("2025-01-01T00:00:00Z");
  const auto began = std::chrono::steady_clock::now();
  Member member(space.streams);
  wait_for("all lanes", [&] { return member.count == limits::lanes; });
  CHECK(std::chrono::steady_clock::now() - began >= kQuick.ttl);
  CHECK(history->epoch_floor() > Epoch());
  const std::lock_guard lock(member.mutex);
  for (const auto& [lane, epoch] : member.owned) CHECK(epoch > history->epoch_floor());
}

TEST_CASE("lane leases: a loss that another process found out puts all lanes in doubt",
          "[lanes][unit]") {
  testing::MemoryNamespace space;
  const auto history = space.streams.history = std::make_shared<internal::History>();
  history->look(space.streams);
  Member member(space.streams);
  wait_for("all lanes", [&] { return member.count == limits::lanes; });
  CHECK(member.owned.at(7) == Epoch{1});
  internal::History other;
  other.leases_were_lost(Epoch{50}, "it ends at 3, but went to 900");
  other.look(space.streams);
  history->look(space.streams);
  wait_for("them to be taken again", [&] { return member.takes >= 2 * int(limits::lanes); });
  const std::lock_guard lock(member.mutex);
  for (const auto& [lane, epoch] : member.owned) CHECK(epoch > Epoch{50});
}

TEST_CASE("lane leases: after silence of the server nothing counts without a new epoch",
          "[lanes][unit]") {
  testing::MemoryNamespace space;
  Member member(space.streams);
  wait_for("all lanes", [&] { return member.count == limits::lanes; });
  space.leases->hold(testing::Call::publish);
  wait_for("the lapse", [&] { return !member.leases.held(); });
  CHECK_FALSE(member.leases.held(3, Epoch{1}));
  space.leases->let_go(testing::Call::publish);
  wait_for("all lanes anew", [&] {
    const std::lock_guard lock(member.mutex);
    return member.count == limits::lanes && member.owned[3].value > 1;
  });
  CHECK(member.leases.held(3, member.owned[3]));
}

}  // namespace dmm::worker
