// The part of the scene that tries, when nothing else fails, what becomes of the others beside
// identities that fail and hang, of attempts whose worker ends, and of rows whose input is lost.

#include <fmt/format.h>

#include "dmm/identity.h"
#include "dmm/testing/internal/backstage.h"
#include "tests/simulation/scene.h"

namespace dmm::simulation {

using namespace std::chrono_literals;

namespace {

constexpr const char* kFailing = "job.0";
constexpr const char* kHanging = "job.1";
/// Long enough to see who waits for it, and who does not.
constexpr auto kBackoff = 2s;

}  // namespace

Nature Scene::nature_of(const Identity& identity) const {
  if (identity.type == "valve") return valves_.at(std::stoul(identity.id)).nature;
  const auto found = spoilt_.find(key_of(identity));
  return found == spoilt_.end() ? Nature::good : found->second;
}

/// Jobs fail and hang; others run beside them, attempts go on elsewhere, and all ends well by
/// itself when they are mended.
bool Scene::keep_trying() {
  if (!plan_.trials) return true;
  limit("job", Setting::backoff, kBackoff.count());
  pass_until(now() + 300ms);
  spoilt_ = {{kFailing, Nature::fails}, {kHanging, Nature::hangs}};
  note(fmt::format("{} fails and {} hangs from here on", kFailing, kHanging));
  notify("job", 0);
  notify("job", 1);
  pass_until(now() + 200ms);
  tell_beside_poison();
  spoilt_.erase(kHanging);
  pass_until(now() + 3s);
  end_owner_of(kFailing);
  pass_until(now() + 9s);
  spoilt_.clear();
  note(fmt::format("{} is mended", kFailing));
  if (!settle(20s, "when what failed was mended")) return false;
  limit("job", Setting::backoff, 0);
  return true;
}

void Scene::tell_beside_poison() {
  Trial trial{.poisoned = {kFailing, kHanging}, .from = now()};
  for (int i = 0; i < 12; ++i) {
    const std::uint64_t drawn = scheduler_.random();
    const bool again = drawn % 4 == 0;
    notify("job", again ? 0 : 2 + static_cast<std::uint32_t>(drawn / 4 % (plan_.jobs - 2)));
    pass_until(now() + milliseconds(150 + drawn / 64 % 200));
  }
  pass_until(now() + 1500ms);
  trial.to = now();
  journal_.trials.push_back(std::move(trial));
}

/// Of the worker that ran it last.
void Scene::end_owner_of(const std::string& key) {
  for (auto run = journal_.runs.rbegin(); run != journal_.runs.rend(); ++run) {
    if (run->key != key) continue;
    const std::uint32_t place = journal_.lives.at(run->life).place;
    if (places_[place].life == nullptr) return;
    scheduler_.random() % 2 == 0 ? kill(place, 300ms) : stop(place, 300ms);
    return;
  }
}

/// The bucket of wishes is lost, and another one takes its place. That is no reason to remove what
/// was wanted; somebody has to say so, or say again that it is wanted.
bool Scene::lose_wishes() {
  std::vector<std::uint32_t> wanted;
  for (std::uint32_t lamp = 0; lamp < plan_.lamps; ++lamp) {
    const auto known = known_.find(fmt::format("lamp.{}", lamp));
    if (known != known_.end() && !known->second.gone) wanted.push_back(lamp);
  }
  if (!plan_.trials || wanted.empty()) return true;
  note("what is wanted is lost");
  journal_.losses.push_back({Stored::Where::desired, now(), true});
  testing::Backstage::of(server_).recreate("KV_desired", {});
  const Time end = now() + 20s;
  std::uint64_t held = 0;
  while (held < wanted.size() && now() < end) {
    pass_until(now() + 500ms);
    held = hand_->views().find("lamps").held;
  }
  if (held < wanted.size()) {
    violate("history",
            fmt::format("{} of {} rows are held though their input was lost", held, wanted.size()));
  }
  pass_until(now() + 1s);
  for (const std::uint32_t lamp : wanted) want(lamp, true, false);
  return settle(20s, "when what was lost was wanted again");
}

}  // namespace dmm::simulation
