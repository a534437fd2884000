#include "dmm/bucket.h"

#include <fmt/format.h>

#include <unordered_set>

#include "tests/nemesis/history.h"
#include "tests/nemesis/journal.h"
#include "tests/nemesis/roles.h"
#include "tests/nemesis/world.h"

namespace dmm::nemesis {

namespace {

/// More than a worker has threads, so that runs stand in line.
constexpr std::size_t kBatch = 256;
/// Behind its rate by more than this, a notifier does not try to make up for it.
constexpr Nanoseconds kBehindMax = kSecond;

/// Notifies with the news of one notifier: each identity is notified by one of them only, so that
/// the order of its news is known.
class Source final {
 public:
  Source(const Role& role, Bucket& bucket)
      : bucket_(bucket),
        journal_(notified_file(role.directory, role.number)),
        world_(world_file(role.directory)) {
    for (std::uint32_t i = role.number; i < static_cast<std::uint32_t>(role.identities);
         i += role.of) {
      identities_.push_back({i, 0});
    }
  }

  void notify_some() {
    std::vector<std::pair<Identity, nlohmann::json>> batch;
    std::vector<Notified> told;
    for (std::size_t i = 0; i < std::min(kBatch, identities_.size()); ++i) {
      auto& [identity, news] = identities_[next_];
      next_ = (next_ + 1) % identities_.size();
      batch.emplace_back(Identity{kType, id_of(identity)}, nlohmann::json{{"news", ++news}});
      told.push_back({0, identity, news});
    }
    std::unordered_set<std::size_t> failed;
    for (const BatchFailure& failure : bucket_.notify_all(batch)) failed.insert(failure.index);
    const Nanoseconds at = now_ns();
    std::vector<Notified> acknowledged;
    for (std::size_t i = 0; i < told.size(); ++i) {
      if (failed.contains(i)) continue;
      told[i].at = at;
      acknowledged.push_back(told[i]);
    }
    if (acknowledged.empty()) return;
    journal_.append(lines_of(acknowledged));
    world_.counters().notified += acknowledged.size();
  }

 private:
  struct Numbered {
    std::uint32_t identity;
    std::uint64_t news;
  };
  Bucket& bucket_;
  Journal journal_;
  World world_;
  std::vector<Numbered> identities_;
  std::size_t next_ = 0;
};

}  // namespace

int play_notifier(const Role& role, const Ending& ending) {
  BucketOptions options;
  options.connection.servers = role.servers;
  options.create = false;
  Bucket bucket = Bucket::open(kNamespace, std::move(options));
  Source source(role, bucket);
  const Nanoseconds interval = static_cast<Nanoseconds>(kBatch) * kSecond * role.of / role.rate;
  Nanoseconds next = now_ns();
  while (!ending.wait(std::chrono::nanoseconds(std::max<Nanoseconds>(0, next - now_ns())))) {
    source.notify_some();
    next = std::max(next + interval, now_ns() - kBehindMax);
  }
  bucket.close();
  return 0;
}

}  // namespace dmm::nemesis
