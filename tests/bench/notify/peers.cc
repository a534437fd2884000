#include "tests/bench/notify/peers.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <utility>

#include <nlohmann/json.hpp>

#include "dmm/testing/child_process.h"
#include "dmm/testing/free_port.h"
#include "dmm/testing/postgres_server.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/testing/wait_for.h"

namespace dmm::bench {
namespace {

constexpr auto kStartDeadline = std::chrono::seconds(15);
constexpr auto kRunDeadline = std::chrono::minutes(10);

/// A redis-server with an append-only file, synced every second.
class RedisServer final {
 public:
  RedisServer() : process_("redis-server", options()) {
    testing::wait_for(
        "redis-server to accept connections",
        [this] {
          const std::string log = testing::read_file(log_file());
          if (!process_.running()) throw std::runtime_error("redis-server ended:\n" + log);
          return log.find("Ready to accept connections") != std::string::npos;
        },
        kStartDeadline);
  }

  std::string url() const { return fmt::format("redis://127.0.0.1:{}", port_); }
  pid_t pid() const noexcept { return process_.pid(); }

 private:
  std::filesystem::path log_file() const { return directory_ / "redis.log"; }

  testing::ChildOptions options() const {
    testing::ChildOptions options;
    options.arguments = {"--bind",        "127.0.0.1",
                         "--port",        std::to_string(port_),
                         "--dir",         directory_.path().string(),  //
                         "--appendonly",  "yes",
                         "--appendfsync", "everysec",
                         "--save",        ""};
    options.log_file = log_file();
    options.own_process_group = true;
    return options;
  }

  testing::TemporaryDirectory directory_{"dmm-redis"};
  std::uint16_t port_ = testing::free_port();
  testing::ChildProcess process_;
};

testing::PostgresServerOptions postgres_options() {
  testing::PostgresServerOptions options;
  // As durable as the others, which also acknowledge before the disk has it: a crash of the machine
  // may cost the last moments, never more. With its defaults PostgreSQL is slower here.
  options.settings = {"fsync=on", "synchronous_commit=off", "wal_level=replica"};
  return options;
}

std::filesystem::path installed(std::filesystem::path directory) {
  if (std::filesystem::exists(directory / "node_modules")) return directory;
  throw std::invalid_argument(fmt::format(
      "there are no installed peers in \"{}\"; scripts/bench notify --peers installs them",
      directory.string()));
}

}  // namespace

struct Peers::Impl {
  struct Server {
    std::string url;
    pid_t pid;
  };

  std::filesystem::path directory;
  RedisServer redis{};
  testing::PostgresServer postgres{postgres_options()};
  std::map<std::string, Server> servers{};
};

Peers::Peers(std::filesystem::path directory, const testing::NatsServer& nats)
    : impl_(new Impl{installed(std::move(directory))}) {
  const std::string postgres =
      fmt::format("postgresql://dmm@127.0.0.1:{}/postgres", impl_->postgres.port());
  impl_->servers = {{"bullmq", {impl_->redis.url(), impl_->redis.pid()}},
                    {"graphile-worker", {postgres, impl_->postgres.pid()}},
                    {"pg-boss", {postgres, impl_->postgres.pid()}},
                    {"nats-jobs", {nats.url(), nats.pid()}}};
}

Peers::~Peers() = default;

const std::vector<std::string>& Peers::names() const noexcept {
  static const std::vector<std::string> names{"bullmq", "graphile-worker", "pg-boss", "nats-jobs"};
  return names;
}

PeerRun Peers::steady(const std::string& name, std::size_t count) {
  const Impl::Server& server = impl_->servers.at(name);
  testing::ChildOptions options;
  options.arguments = {"run.js", name, server.url, std::to_string(server.pid),
                       std::to_string(count)};
  options.working_directory = impl_->directory;
  const testing::Finished finished = testing::run("node", std::move(options), kRunDeadline);
  if (!finished.status.success()) {
    throw std::runtime_error(fmt::format("{} ended with {}:\n{}{}", name,
                                         testing::to_string(finished.status), finished.output,
                                         finished.error_output));
  }
  const auto result = nlohmann::json::parse(finished.output);
  return {result.at("system"), result.at("jobs_per_s"), result.at("client_us"),
          result.at("server_us")};
}

}  // namespace dmm::bench
