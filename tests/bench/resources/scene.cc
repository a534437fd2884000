#include "tests/bench/resources/scene.h"

#include <fmt/format.h>

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>

#include <pqxx/pqxx>

#include "dmm/resource/events.h"
#include "dmm/resource/host.h"
#include "dmm/resource/migrations.h"
#include "dmm/testing/wait_for.h"
#include "tests/bench/support/pace.h"
#include "tests/bench/support/statistics.h"

namespace dmm::bench {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kBatch = 500;
constexpr std::size_t kCallers = 16;         ///< that inform while latencies are measured
constexpr std::size_t kConnectionsMax = 64;  ///< the server has a hundred

/// About 117 bytes of JSON, as in the other areas.
struct Item {
  std::string name;
  std::string text = std::string(80, '*');
  int plays = 0;

  std::string id() const { return name; }
  static std::string kind() { return "item"; }
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Item, name, text, plays)

struct Nothing {
  resource::Verdict work(resource::WorkContext&, const resource::Resource<Item>&) {
    return resource::Verdict::synced();
  }
};

testing::PostgresServerOptions postgres_options() {
  testing::PostgresServerOptions options;
  // Every commit is waited for until the disk has it, for all who are measured here.
  options.settings = {"fsync=on", "synchronous_commit=on", "wal_level=replica", "max_wal_size=4GB",
                      "shared_buffers=256MB"};
  return options;
}

double seconds_since(Clock::time_point then) {
  return std::chrono::duration<double>(Clock::now() - then).count();
}

std::vector<Item> items(std::size_t from, std::size_t to) {
  std::vector<Item> all;
  for (std::size_t i = from; i < to; ++i) all.push_back({fmt::format("i{}", i)});
  return all;
}

void inform_all(resource::Client& client, std::size_t count) {
  for (std::size_t from = 0; from < count; from += kBatch) {
    const auto batch = items(from, std::min(count, from + kBatch));
    client.inform_many(std::span<const Item>(batch));
  }
}

/// Runs `call(i)` on a thread for each i below `count`.
template <class Call>
void at_once(std::size_t count, const Call& call) {
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < count; ++i) threads.emplace_back([&call, i] { call(i); });
}

/// A host at work on a namespace of NATS of its own.
class Worker final {
 public:
  Worker(const testing::NatsServer& nats, const std::string& connection, const std::string& ns,
         std::size_t parallelism, resource::HostOptions options = {})
      : bucket_(open(nats, ns)), host_(bucket_, connection, quiet(std::move(options))) {
    resource::KindOptions kind;
    kind.work.concurrency = parallelism;
    host_.add<Item>(Nothing(), kind);
  }
  ~Worker() {
    if (started_) host_.stop();
  }
  void start() {
    host_.start();
    started_ = true;
  }
  resource::HostStats stats() const { return host_.stats(); }
  Bucket& bucket() noexcept { return bucket_; }

 private:
  static Bucket open(const testing::NatsServer& nats, const std::string& ns) {
    BucketOptions options;
    options.connection.servers = {nats.url()};
    options.logger = Logger();
    return Bucket::open(ns, std::move(options));
  }
  static resource::HostOptions quiet(resource::HostOptions options) {
    options.logger = Logger();
    return options;
  }

  Bucket bucket_;
  resource::Host host_;
  bool started_ = false;
};

void wait_worked(const Worker& worker, std::size_t count) {
  testing::wait_for(
      fmt::format("{} works", count), [&] { return worker.stats().worked >= count; }, 10min);
}

}  // namespace

ResourceScene::ResourceScene() : postgres_(postgres_options()) {}
ResourceScene::~ResourceScene() = default;

/// Empty tables, a namespace that nobody used.
void ResourceScene::reset() {
  ++namespaces_;
  resource::migrate(postgres_.connection_string(), 0);
  resource::migrate(postgres_.connection_string());
  pqxx::connection connection(postgres_.connection_string());
  pqxx::nontransaction transaction(connection);
  transaction.exec(
      "DROP TABLE IF EXISTS public.item; CREATE TABLE public.item (id text PRIMARY KEY,"
      " object jsonb NOT NULL, state text NOT NULL DEFAULT 'scheduled',"
      " created_at timestamptz NOT NULL DEFAULT now()); CHECKPOINT");
}

double ResourceScene::inform_single(std::size_t count, std::size_t callers) {
  reset();
  resource::Client client(postgres_.connection_string());
  at_once(callers, [&](std::size_t caller) { client.inform(Item{fmt::format("warm{}", caller)}); });
  const auto all = items(0, count);
  const auto begun = Clock::now();
  at_once(callers, [&](std::size_t caller) {
    for (std::size_t i = caller; i < count; i += callers) client.inform(all[i]);
  });
  return static_cast<double>(count) / seconds_since(begun);
}

double ResourceScene::insert_single(std::size_t count, std::size_t callers) {
  reset();
  callers = std::min(callers, kConnectionsMax);
  std::vector<std::unique_ptr<pqxx::connection>> connections;
  for (std::size_t i = 0; i < callers; ++i) {
    connections.push_back(std::make_unique<pqxx::connection>(postgres_.connection_string()));
    connections.back()->prepare("insert",
                                "INSERT INTO public.item (id, object) VALUES ($1, $2::jsonb)");
  }
  const auto all = items(0, count);
  const auto begun = Clock::now();
  at_once(callers, [&](std::size_t caller) {
    for (std::size_t i = caller; i < count; i += callers) {
      pqxx::nontransaction statement(*connections[caller]);
      statement.exec_prepared("insert", all[i].name, nlohmann::json(all[i]).dump());
    }
  });
  return static_cast<double>(count) / seconds_since(begun);
}

double ResourceScene::inform_batch(std::size_t count) {
  reset();
  resource::Client client(postgres_.connection_string());
  client.inform(Item{"warm"});
  const auto begun = Clock::now();
  inform_all(client, count);
  return static_cast<double>(count) / seconds_since(begun);
}

double ResourceScene::insert_batch(std::size_t count) {
  reset();
  pqxx::connection connection(postgres_.connection_string());
  connection.prepare(
      "insert",
      "INSERT INTO public.item (id, object) SELECT i.name, to_jsonb(i)"
      " FROM json_to_recordset($1::json) AS i (name text, text text, plays integer)");
  const auto begun = Clock::now();
  for (std::size_t from = 0; from < count; from += kBatch) {
    const nlohmann::json batch = items(from, std::min(count, from + kBatch));
    pqxx::work transaction(connection);
    transaction.exec_prepared("insert", batch.dump());
    transaction.commit();
  }
  return static_cast<double>(count) / seconds_since(begun);
}

double ResourceScene::work(std::size_t count, std::size_t parallelism) {
  reset();
  const std::string ns = fmt::format("work{}", namespaces_);
  resource::Client client(postgres_.connection_string());
  inform_all(client, count);
  Worker worker(nats_, postgres_.connection_string(), ns, parallelism);
  worker.start();
  wait_worked(worker,
              std::max<std::size_t>(count / 10, 1));  // its lanes are taken, and all is warm
  const auto before = worker.stats().worked;
  const auto begun = Clock::now();
  wait_worked(worker, count);
  return static_cast<double>(count - before) / seconds_since(begun);
}

Latencies ResourceScene::latency(std::size_t count, double rate) {
  reset();
  const std::string ns = fmt::format("latency{}", namespaces_);
  Worker worker(nats_, postgres_.connection_string(), ns, 16);
  worker.start();
  resource::Client client(postgres_.connection_string());
  client.inform(Item{"warm"});
  wait_worked(worker, 1);

  std::mutex mutex;
  std::map<std::string, Clock::time_point> sent;
  std::vector<double> milliseconds;
  std::condition_variable all_seen;
  resource::Events events(worker.bucket());
  std::jthread follower([&](const std::stop_token& stop) {
    events.follow({.kind = "item", .name = "synced"}, events.newest(), stop,
                  [&](const resource::Event& event) {
                    const auto now = Clock::now();
                    const std::lock_guard lock(mutex);
                    const auto found = sent.find(event.key.id);
                    if (found == sent.end()) return;
                    milliseconds.push_back(
                        std::chrono::duration<double, std::milli>(now - found->second).count());
                    all_seen.notify_one();
                  });
  });
  const auto step =
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(1 / rate));
  const auto begun = Clock::now();
  // Several callers, each at its times whatever the one before took: a queue must show.
  at_once(kCallers, [&](std::size_t caller) {
    for (std::size_t i = caller; i < count; i += kCallers) {
      const auto due = begun + step * static_cast<std::int64_t>(i);
      wait_until(due);
      const std::string name = fmt::format("i{}", i);
      {
        const std::lock_guard lock(mutex);
        sent[name] = due;
      }
      client.inform(Item{name});
    }
  });
  {
    std::unique_lock lock(mutex);
    if (!all_seen.wait_for(lock, 60s, [&] { return milliseconds.size() == count; })) {
      throw std::runtime_error(
          fmt::format("{} of {} resources were seen as synced", milliseconds.size(), count));
    }
  }
  follower.request_stop();
  follower.join();
  return {quantile(milliseconds, 0.5), quantile(milliseconds, 0.99)};
}

Expired ResourceScene::expire(std::size_t count) {
  reset();
  pqxx::connection connection(postgres_.connection_string());
  pqxx::nontransaction database(connection);
  database.exec(fmt::format(
      "INSERT INTO dmm.resource (namespace, kind, id, object, state, state_at, synced_at)"
      " SELECT 'default', 'other', 'i' || g, '{{}}', 'synced', now() - interval '2 hours', now()"
      " FROM generate_series(1, {}) AS g",
      count));
  database.exec("ANALYZE dmm.resource");
  database.exec("CHECKPOINT");
  resource::HostOptions options;
  options.namespaces["default"].expiry = 1h;
  // Its kind is another one: only the upkeep and the relay are measured.
  Worker worker(nats_, postgres_.connection_string(), fmt::format("expire{}", namespaces_), 1,
                options);
  Expired expired;
  const auto begun = Clock::now();
  worker.start();
  testing::wait_for(
      "all to be expired and told",
      [&] {
        const auto row = database.exec1(
            "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - query_start)), 0)"
            " FROM pg_stat_activity WHERE state = 'active' AND application_name LIKE 'dmm%'");
        expired.longest_statement_s = std::max(expired.longest_statement_s, row[0].as<double>());
        return worker.stats().expired >= count && worker.stats().relayed >= 2 * count;
      },
      20min);
  expired.rows_per_s = static_cast<double>(count) / seconds_since(begun);
  return expired;
}

}  // namespace dmm::bench
