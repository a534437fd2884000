#include "fixture.h"

#include <cstdlib>

namespace dmm::resource {

namespace {

/// One cluster for all tests of this program: what differs is the tables.
testing::PostgresServer& shared_server() {
  static testing::PostgresServer server;
  return server;
}

Logger test_logger() {
  return std::getenv("DMM_TEST_LOG") != nullptr ? Logger::standard(Level::debug) : Logger();
}

}  // namespace

Database::Database(const testing::PostgresServer& server)
    : connection_(server.connection_string()) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  connection_.inhibit_reactivation(true);
#pragma GCC diagnostic pop
  // The role is called like the schema, which would be the first on its path.
  exec("SET search_path = public; SET client_min_messages = warning");
}

pqxx::result Database::exec(const std::string& sql) {
  pqxx::nontransaction transaction(connection_);
  return transaction.exec(sql);
}

std::int64_t Database::number(const std::string& sql) {
  return exec(sql)[0][0].as<std::int64_t>();
}

std::string Database::text(const std::string& sql) {
  return exec(sql)[0][0].as<std::string>();
}

Store::Store() : server(shared_server()), db(server), client(server.connection_string()) {
  db.exec("DROP SCHEMA IF EXISTS dmm CASCADE; DROP TABLE IF EXISTS public.ledger");
  migrate(server.connection_string());
}

std::string Store::connection() const {
  return server.connection_string();
}

std::string code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    UNSCOPED_INFO(error.what());
    return std::string(error.code().id);
  }
  return "none";
}

int Tally::add(const std::string& name) {
  const std::lock_guard lock(mutex_);
  return ++counts_[name];
}

int Tally::count(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = counts_.find(name);
  return found == counts_.end() ? 0 : found->second;
}

int Tally::total() const {
  const std::lock_guard lock(mutex_);
  int total = 0;
  for (const auto& [name, count] : counts_) total += count;
  return total;
}

void Gate::open() {
  const std::lock_guard lock(mutex_);
  open_ = true;
  changed_.notify_all();
}

bool Gate::pass(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, stop, 60s, [this] { return open_; });
}

Scene::Scene() = default;

Bucket open_bucket(const testing::NatsServer& server) {
  BucketOptions options;
  options.connection.servers = {server.url()};
  options.logger = test_logger();
  return Bucket::open("test", std::move(options));
}

HostOptions Running::quick() {
  HostOptions options;
  options.upkeep = 200ms;
  options.lost_after = 1s;
  options.logger = test_logger();
  return options;
}

Running::Running(Scene& scene, const Add& add, HostOptions options)
    : bucket_(open_bucket(scene.nats)),
      host_(std::make_unique<Host>(bucket_, scene.connection(), std::move(options))) {
  add(*host_);
  host_->start();
}

Running::~Running() {
  try {
    host_->stop(30s);
  } catch (const std::exception& e) {
    WARN("the host ended badly: " << e.what());
  }
  host_.reset();
}

std::optional<State> state_of(Client& client, const Key& key) {
  const auto resource = client.get(key);
  return resource ? std::optional(resource->state) : std::nullopt;
}

void wait_state(Client& client, const Key& key, State state, std::chrono::milliseconds deadline) {
  const bool reached = becomes_true([&] { return state_of(client, key) == state; }, deadline);
  if (!reached) {
    const auto found = client.get(key);
    if (found && !found->errors.empty())
      UNSCOPED_INFO("last error: " << found->errors.back().error);
    CHECK(state_of(client, key) == state);
  }
  REQUIRE(reached);
}

KindOptions quick_retries() {
  KindOptions options;
  options.retry = [](int) { return 20ms; };
  return options;
}

KindOptions on_demand() {
  KindOptions options = quick_retries();
  options.inform = Schedule::never();
  return options;
}

}  // namespace dmm::resource
