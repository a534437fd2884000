#include "tests/bench/notify/dmm_client.h"

#include "dmm/bucket.h"
#include "dmm/testing/wait_for.h"
#include "dmm/wire.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <optional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string_view>
#include <thread>
#include <utility>

#include "tests/bench/support/nats_link.h"
#include "tests/bench/support/pace.h"

namespace dmm::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPatience = std::chrono::seconds(120);
/// Two threads notify a batch each, so that 64 are in flight and one batch is on its way while the
/// other is answered.
constexpr std::size_t kSteadyBatch = 32;
constexpr std::size_t kNotifyChunk = 10'000;

/// What the runs tell: a materializer has no other way to reach its surroundings.
std::atomic<bool> runs_write{false};
std::atomic<std::int64_t> last_start{0};

struct Player {
  std::string id;
  std::string current_song;
  int plays = 0;

  std::string identity() const { return id; }
  void materialize(Context&) {
    last_start.store(Clock::now().time_since_epoch().count(), std::memory_order_release);
    if (runs_write.load(std::memory_order_relaxed)) ++plays;
  }
  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(Player, id, current_song, plays)
};

std::string id_of(std::size_t identity) {
  return fmt::format("p{}", identity);
}

void require_all(const std::vector<BatchFailure>& failures) {
  if (!failures.empty()) throw failures.front().error;
}

/// A bucket that works until it is destroyed.
class Working {
 public:
  Working(Bucket bucket, bool write) : bucket_(std::move(bucket)) {
    runs_write = write;
    work_ = &bucket_.register_type<Player>("player");
  }
  ~Working() {
    thread_.request_stop();
    if (thread_.joinable()) thread_.join();
  }
  Working(const Working&) = delete;
  Working& operator=(const Working&) = delete;

  void start() {
    thread_ = std::jthread([this](std::stop_token stop) {
      try {
        work_->work(std::move(stop));
      } catch (const std::exception& e) {
        // The figure is lost: the wait for the runs ends with its own message.
        std::fprintf(stderr, "dmm: work() threw: %s\n", e.what());
      }
    });
  }
  Bucket& bucket() { return bucket_; }
  WorkStats stats() const { return work_->stats(); }

 private:
  Bucket bucket_;
  WorkStream* work_ = nullptr;
  std::jthread thread_;
};

/// Sees the entries of a bucket as they are stored.
class Follower {
 public:
  Follower(natsConnection* connection, const std::string& bucket)
      : seen_(1), inbox_(new_inbox()), subscription_(connection, inbox_, [this](natsMsg*) {
          last_.store(Clock::now().time_since_epoch().count(), std::memory_order_release);
          seen_.leave();
        }) {
    api(connection, "CONSUMER.CREATE.KV_" + bucket,
        {{"stream_name", "KV_" + bucket},
         {"config",
          {{"deliver_policy", "new"}, {"ack_policy", "none"}, {"deliver_subject", inbox_}}}});
  }
  void expect() { seen_.enter(); }
  /// When the entry number `count` (from 1) was seen.
  Clock::time_point wait_for(std::size_t count) {
    seen_.wait_for(count);
    return Clock::time_point(Clock::duration(last_.load(std::memory_order_acquire)));
  }

 private:
  Window seen_;
  std::atomic<std::int64_t> last_{0};
  std::string inbox_;
  Subscription subscription_;
};

}  // namespace

struct DmmClient::Impl {
  std::string url;
  std::string ns;
  std::string song;
  Connection probe = connect(url, true);
  wire::Names names{ns};
  std::optional<Bucket> publisher = open();

  Bucket open() const {
    BucketOptions options;
    options.connection.servers = {url};
    return Bucket::open(ns, std::move(options));
  }

  Player player(std::size_t identity) const { return Player{id_of(identity), song, 0}; }

  std::uint64_t tokens() const {
    return api(probe.get(), "STREAM.INFO." + names.work(1).name, nullptr)["state"]["messages"];
  }

  void wait_until_done(const Working& working, std::size_t count) const {
    testing::wait_for(
        std::to_string(count) + " runs and an empty work stream",
        [&] { return working.stats().succeeded >= count && tokens() == 0; }, kPatience);
  }
};

DmmClient::DmmClient(std::string url, std::string ns, std::string song)
    : impl_(new Impl{std::move(url), std::move(ns), std::move(song)}) {
  // The publisher knows the type's name without working it.
  impl_->publisher->register_type<Player>("player");
}

DmmClient::~DmmClient() {
  impl_->publisher.reset();
  try {
    for (const auto& stream : {impl_->names.work(1), impl_->names.cache(1), impl_->names.reports(1),
                               impl_->names.status(1), impl_->names.leases(1)}) {
      api(impl_->probe.get(), "STREAM.DELETE." + stream.name, nullptr);
    }
  } catch (const std::exception&) {  // The server goes away with all it holds in any case.
  }
}

DmmClient::Seconds DmmClient::notify(std::size_t count) {
  std::vector<Player> players;
  for (std::size_t i = 0; i < count; ++i) players.push_back(impl_->player(i));
  const auto begin = Clock::now();
  for (std::size_t i = 0; i < count; i += kNotifyChunk) {
    require_all(impl_->publisher->notify_all(
        std::span<const Player>(players).subspan(i, std::min(kNotifyChunk, count - i))));
  }
  return Clock::now() - begin;
}

DmmClient::Seconds DmmClient::drain(std::size_t count, bool write) {
  Working working(impl_->open(), write);
  const auto begin = Clock::now();
  working.start();
  impl_->wait_until_done(working, count);
  return Clock::now() - begin;
}

DmmClient::Seconds DmmClient::steady(std::size_t count, std::size_t identities) {
  std::vector<Player> players;
  for (std::size_t i = 0; i < identities + kSteadyBatch; ++i) {
    players.push_back(impl_->player(i % identities));
  }
  Working working(impl_->open(), false);
  working.start();
  testing::wait_for("the lease of the type", [&] { return working.stats().holds_lease; });
  const auto begin = Clock::now();
  std::atomic<std::size_t> next{0};
  const auto notify_in_batches = [&] {
    for (std::size_t first = 0; (first = next.fetch_add(kSteadyBatch)) < count;) {
      require_all(impl_->publisher->notify_all(std::span<const Player>(players).subspan(
          first % identities, std::min(kSteadyBatch, count - first))));
    }
  };
  auto other = std::async(std::launch::async, notify_in_batches);
  notify_in_batches();
  other.get();
  impl_->wait_until_done(working, count);
  return Clock::now() - begin;
}

DmmClient::ColdAndWarm DmmClient::latencies(std::size_t count,
                                            std::chrono::milliseconds interval) {
  const Connection reader = connect(impl_->url, true);
  Follower follower(reader.get(), "dmm_" + impl_->ns);
  Working working(impl_->open(), true);
  working.start();
  testing::wait_for("the lease of the type", [&] { return working.stats().holds_lease; });
  ColdAndWarm result;
  auto next_at = Clock::now();
  for (std::size_t i = 0; i < 2 * count; ++i) {
    // A song that was not stored yet, so that each run has something to store.
    const Player player{id_of(i % count), "song " + std::to_string(i), 0};
    wait_until(next_at += interval);
    follower.expect();
    const auto begin = Clock::now();
    impl_->publisher->notify(player);
    Latencies& latencies = i < count ? result.cold : result.warm;
    latencies.stored.emplace_back(follower.wait_for(i + 1) - begin);
    const Clock::time_point started(Clock::duration(last_start.load(std::memory_order_acquire)));
    latencies.started.emplace_back(started - begin);
  }
  impl_->wait_until_done(working, 2 * count);
  return result;
}

std::uint64_t DmmClient::tokens_left() {
  return impl_->tokens();
}

}  // namespace dmm::bench
