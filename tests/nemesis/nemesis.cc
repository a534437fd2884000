#include "tests/nemesis/nemesis.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <set>

namespace dmm::nemesis {

namespace {

constexpr Nanoseconds kBegin = 3 * kSecond;          // of peace, in which work begins
constexpr Nanoseconds kNodeInterval = 20 * kSecond;  // between kills of nodes of a cluster
constexpr Nanoseconds kNodeQuiet = 9 * kSecond / 2;  // before one there is no other volley
constexpr Nanoseconds kNodeComes = 2 * kSecond;      // that a node which comes back may disturb
constexpr Nanoseconds kPatience = 20 * kSecond;      // for work to go on
/// Who is cut off or stopped is missed this much later at the latest.
constexpr Nanoseconds kMissed = 4 * kSecond;
constexpr std::size_t kLanesPercent = 90;  // the rest may have got no news
/// So that a run of ten minutes has its 200 kills.
constexpr double kKillsPerSecond = 200.0 / 600 * 1.2;
constexpr double kKillsShareOfCluster = 0.4;  // where nodes take their time, too
constexpr double kKillsBehindMax = 3;         // with more, nothing else is done

std::size_t lanes_of(int identities) {
  std::set<std::uint32_t> lanes;
  for (int i = 0; i < identities; ++i) lanes.insert(lane_of(static_cast<std::uint32_t>(i)));
  return lanes.size();
}

}  // namespace

template <class... Arguments>
void Nemesis::say(const char* text, Arguments&&... arguments) {
  log_.append(fmt::format("{:10.3f}  {}\n", static_cast<double>(now_ns()) / kSecond,
                          fmt::format(fmt::runtime(text), std::forward<Arguments>(arguments)...)));
}

Nemesis::Nemesis(const Options& options, Scene& scene, const Watcher& watcher, Journal& log)
    : options_(options),
      scene_(scene),
      watcher_(watcher),
      log_(log),
      random_(options.seed),
      began_(now_ns()),
      lanes_(lanes_of(options.identities)),
      deeds_to_do_(options.cluster
                       ? std::vector<Deed>{Deed::kill, Deed::stop, Deed::cut, Deed::cut, Deed::end,
                                           Deed::cut_notifiers}
                       : std::vector<Deed>{Deed::kill, Deed::stop, Deed::cut, Deed::cut, Deed::end,
                                           Deed::cut_notifiers, Deed::strike_server}),
      troubles_({Trouble::reset, Trouble::cut, Trouble::refuse, Trouble::stall, Trouble::half_open,
                 Trouble::drop_up, Trouble::drop_down, Trouble::delay, Trouble::trickle,
                 Trouble::slice}),
      next_volley_(began_ + kBegin),
      next_node_(began_ + kBegin) {
  say("seed {}", options_.seed);
}

Nanoseconds Nemesis::between(Nanoseconds low, Nanoseconds high) {
  return std::uniform_int_distribution<Nanoseconds>(low, high)(random_);
}

bool Nemesis::chance(int percent) {
  return between(0, 99) < percent;
}

void Nemesis::later(Nanoseconds delay, std::function<void()> task) {
  tasks_.emplace(now_ns() + delay, std::move(task));
}

void Nemesis::turn() {
  scene_.look_around();
  while (!tasks_.empty() && tasks_.begin()->first <= now_ns()) {
    const auto task = std::move(tasks_.begin()->second);
    tasks_.erase(tasks_.begin());
    task();
  }
  const Nanoseconds now = now_ns();
  if (phase_ == Phase::recovering && recovered()) {
    phase_ = Phase::calm;
    next_volley_ = now + between(0, kSecond / 2);
  }
  if (phase_ != Phase::calm || now < next_volley_) return;
  if (!options_.cluster) return begin_volley();
  if (now >= next_node_) {
    next_node_ = std::max(next_node_ + kNodeInterval, now + kNodeInterval / 2);
    return kill_node();
  }
  if (next_node_ - now > kNodeQuiet) begin_volley();
}

void Nemesis::stood_still() {
  say("the machine stood still");
  if (!volleys_.empty()) volleys_.back().slow = true;
}

bool Nemesis::recovered() const {
  const Nanoseconds now = now_ns();
  if (now - recovering_since_ > kPatience) return true;
  return now > work_after_ && watcher_.lanes_since(work_after_) * 100 >= lanes_ * kLanesPercent;
}

void Nemesis::begin_volley() {
  phase_ = Phase::striking;
  volleys_.push_back({now_ns(), now_ns()});
  work_after_ = now_ns();
  const double pace = kKillsPerSecond * (options_.cluster ? kKillsShareOfCluster : 1);
  const double kills_behind = pace * static_cast<double>(now_ns() - began_) / kSecond -
                              static_cast<double>(deeds_.worker_kills);
  // Where recovery takes long, kills alone would fill the time: every third volley begins
  // otherwise.
  const bool any_first = volleys_.size() % 3 == 0;
  strikes_left_ = 1 + static_cast<int>(kills_behind > 0 || chance(50)) +
                  static_cast<int>(any_first || chance(20));
  const Nanoseconds apart = chance(50) ? kSecond / 5 : 4 * kSecond;
  for (int i = 0; i < strikes_left_; ++i) {
    const bool must_kill = (i > 0 || !any_first) && kills_behind > (i == 0 ? 0 : kKillsBehindMax);
    const Deed deed = must_kill ? Deed::kill : deeds_to_do_.deal(random_);
    later(i == 0 ? 0 : between(0, apart), [this, deed] {
      strike(deed);
      --strikes_left_;
      struck();
    });
  }
}

/// A fault was done now.
void Nemesis::mark_fault() {
  volleys_.back().last = now_ns();
  work_after_ = std::max(work_after_, now_ns());
}

/// If the volley is through: the time until work goes on begins.
void Nemesis::struck() {
  if (strikes_left_ > 0 || servers_away_ > 0) return;
  phase_ = Phase::recovering;
  recovering_since_ = now_ns();
}

std::optional<std::size_t> Nemesis::victim(std::size_t among) {
  std::vector<std::size_t> candidates;
  std::size_t well = 0;
  for (std::size_t i = 0; i < kWorkers; ++i) {
    if (!scene_.worker_well(i)) continue;
    ++well;
    if (i < among) candidates.push_back(i);
  }
  if (well < 2 || candidates.empty()) return std::nullopt;
  const auto last = static_cast<Nanoseconds>(candidates.size()) - 1;
  return candidates[static_cast<std::size_t>(between(0, last))];
}

void Nemesis::strike(Deed deed) {
  switch (deed) {
    case Deed::cut_notifiers:
      return cut_notifiers();
    case Deed::strike_server:
      return strike_server();
    default:
      return strike_worker(deed);
  }
}

void Nemesis::strike_worker(Deed deed) {
  const std::optional<std::size_t> index =
      victim(deed == Deed::cut ? kWorkersBehindProxy : kWorkers);
  if (!index) return;
  switch (deed) {
    case Deed::stop:
      return stop_worker(*index);
    case Deed::end:
      return end_worker(*index);
    case Deed::cut:
      return cut_worker(*index);
    default:
      return kill_worker(*index);
  }
}

void Nemesis::kill_worker(std::size_t index) {
  say("worker {}: killed", index);
  scene_.kill_worker(index);
  ++deeds_.worker_kills;
  mark_fault();
  later(between(kSecond / 10, kSecond), [this, index] {
    say("worker {}: started", index);
    scene_.start_worker(index);
  });
}

void Nemesis::stop_worker(std::size_t index) {
  const Nanoseconds time =
      chance(30) ? between(kSecond / 5, 3 * kSecond) : between(3 * kSecond, 8 * kSecond);
  say("worker {}: stopped for {} ms", index, time / kMillisecond);
  scene_.stop_worker(index);
  ++deeds_.worker_stops;
  mark_fault();
  work_after_ += std::min(time, kMissed);
  later(time, [this, index] {
    say("worker {}: continued", index);
    scene_.continue_worker(index);
  });
}

void Nemesis::end_worker(std::size_t index) {
  say("worker {}: told to end", index);
  scene_.end_worker(index);
  ++deeds_.worker_ends;
  mark_fault();
}

void Nemesis::cut_worker(std::size_t index) {
  const Trouble trouble = troubles_.deal(random_);
  const Nanoseconds time = between(kSecond / 2, 6 * kSecond);
  say("worker {}: path in trouble: {} for {} ms", index, to_string(trouble), time / kMillisecond);
  scene_.trouble_worker(index, trouble);
  ++deeds_.worker_cuts;
  mark_fault();
  if (severs(trouble)) work_after_ += std::min(time, kMissed);
  if (scene_.trouble_of(index) == Trouble::none) return;
  if (!severs(trouble)) volleys_.back().slow = true;
  later(time, [this, index] {
    say("worker {}: path well", index);
    scene_.trouble_worker(index, Trouble::none);
  });
}

void Nemesis::cut_notifiers() {
  const Trouble trouble = troubles_.deal(random_);
  const Nanoseconds time = between(kSecond / 2, 6 * kSecond);
  say("notifier: path in trouble: {} for {} ms", to_string(trouble), time / kMillisecond);
  scene_.trouble_notifiers(trouble);
  ++deeds_.notifier_cuts;
  mark_fault();
  later(time, [this] {
    say("notifier: path well");
    scene_.trouble_notifiers(Trouble::none);
  });
}

void Nemesis::strike_server() {
  if (servers_away_ > 0) return;
  ++deeds_.server_faults;
  volleys_.back().server = true;
  if (chance(30)) return freeze_server();
  const bool crash = chance(70);
  const Nanoseconds time = between(0, 3 * kSecond / 2);
  say("server: {} for {} ms", crash ? "killed" : "ended", time / kMillisecond);
  crash ? scene_.server(0).kill() : scene_.server(0).stop();
  ++servers_away_;
  later(time, [this] {
    scene_.server(0).start();
    say("server: started");
    --servers_away_;
    mark_fault();
    struck();
  });
}

void Nemesis::freeze_server() {
  const Nanoseconds time = between(kSecond / 2, 6 * kSecond);
  say("server: frozen for {} ms", time / kMillisecond);
  scene_.server(0).pause();
  ++servers_away_;
  later(time, [this] {
    say("server: continued");
    scene_.server(0).resume();
    --servers_away_;
    mark_fault();
    struck();
  });
}

/// The volley ends when the node is back and the others have seen it come: a node that comes back
/// disturbs them, too.
void Nemesis::kill_node() {
  const auto index = static_cast<std::size_t>(between(0, 2));
  phase_ = Phase::striking;
  volleys_.push_back({now_ns(), now_ns(), true});
  say("node {}: killed", index);
  scene_.server(index).kill();
  ++deeds_.server_faults;
  ++servers_away_;
  strikes_left_ = 0;
  later(between(kSecond, 4 * kSecond), [this, index] {
    scene_.server(index).start();
    say("node {}: started", index);
    --servers_away_;
    work_after_ = now_ns() + kNodeComes;
    struck();
  });
}

std::string Nemesis::mood() const {
  std::string text;
  const auto add = [&](const std::string& more) { text += (text.empty() ? "" : ", ") + more; };
  if (servers_away_ > 0) add("server away");
  for (std::size_t i = 0; i < kWorkers; ++i) {
    const Scene::State state = scene_.worker(i);
    if (state == Scene::State::stopped) add(fmt::format("worker {} stopped", i));
    if (state == Scene::State::dead || state == Scene::State::ending) {
      add(fmt::format("worker {} dead", i));
    }
    if (scene_.trouble_of(i) != Trouble::none) {
      add(fmt::format("worker {} {}", i, to_string(scene_.trouble_of(i))));
    }
  }
  return text;
}

}  // namespace dmm::nemesis
