#include "example/stage.h"

#include <fmt/format.h>
#include <signal.h>

#include <stdexcept>

#include "dmm/testing/free_port.h"
#include "dmm/testing/wait_for.h"
#include "example/overview.h"
#include "example/player.h"

namespace example {
namespace {

using dmm::testing::ChildOptions;
using dmm::testing::ChildProcess;

nlohmann::json sum(const nlohmann::json& a, const nlohmann::json& b) {
  nlohmann::json result = a;
  for (const auto& [name, count] : b.items()) {
    result[name] = result.value(name, std::uint64_t{0}) + count.get<std::uint64_t>();
  }
  return result;
}

}  // namespace

Stage::Stage(Options options, const DemoOptions& demo_options)
    : options_(std::move(options)),
      demo_options_(demo_options),
      requests_of_past_fleets_(nlohmann::json::object()) {
  nats_ = std::make_unique<dmm::testing::NatsServer>();
  options_.nats = {};
  options_.nats.servers = {nats_->url()};
  if (options_.desired == "postgres") {
    postgres_ = std::make_unique<dmm::testing::PostgresServer>();
    options_.postgres = postgres_->connection_string();
  }
  bucket_ = std::make_unique<dmm::Bucket>(open_bucket(options_));
  desired_ = open_desired(options_, *bucket_);

  fleet_port_ = dmm::testing::free_port();
  options_.players_url = fmt::format("http://127.0.0.1:{}", fleet_port_);
  start_fleet();

  worker_ = start_worker();
  other_worker_ = start_worker();
  dmm::testing::wait_for("the workers to share the lanes", [this] {
    check();
    return lanes() == std::pair<std::size_t, std::size_t>(32, 32);
  });
}

Stage::Process Stage::start(const std::string& command, std::vector<std::string> arguments) {
  ChildOptions child;
  child.arguments = {command,          "--server",          options_.nats.servers.front(),
                     "--namespace",    options_.ns,         "--desired",
                     options_.desired, "--postgres",        options_.postgres,
                     "--players-url",  options_.players_url};
  child.arguments.insert(child.arguments.end(), arguments.begin(), arguments.end());
  child.own_process_group = true;  // on Ctrl-C the demo ends them itself
  return std::make_unique<ChildProcess>(demo_options_.program, child);
}

void Stage::start_fleet() {
  fleet_ = start("device", {"--players", fmt::to_string(demo_options_.players), "--port",
                            fmt::to_string(fleet_port_), "--report-every", "1000"});
  dmm::testing::wait_for("the players to answer", [this] {
    check();
    return songs_playing(options_.players_url).has_value();
  });
}

Stage::Process Stage::start_worker() {
  return start("worker",
               {"--style", demo_options_.style, "--reach", demo_options_.reach, "-o", "json"});
}

void Stage::crash_worker() {
  worker_->kill(SIGKILL);
  worker_.reset();
}

std::pair<std::size_t, std::size_t> Stage::lanes() {
  std::pair<std::size_t, std::size_t> lanes{64, 0};
  for (const dmm::LeaseInfo& lease : bucket_->inspect().leases()) {
    if (lease.name != "work.player" || lease.released) continue;
    lanes.first = std::min(lanes.first, lease.lanes.value_or(0));
    lanes.second = std::max(lanes.second, lease.lanes.value_or(0));
  }
  return lanes;
}

void Stage::cut_power() {
  requests_of_past_fleets_ = requests();
  fleet_->kill(SIGKILL);
  fleet_.reset();
  start_fleet();
}

nlohmann::json Stage::requests() {
  const auto picture = nlohmann::json::parse(http_get(options_.players_url, "/"));
  return sum(requests_of_past_fleets_, picture.at("requests"));
}

void Stage::check() {
  const auto check_one = [](const Process& process, const char* what) {
    if (!process || process->running()) return;
    const auto status = process->wait(std::chrono::milliseconds(0)).value();
    throw std::runtime_error(fmt::format("{} ended with {}:\n{}", what,
                                         dmm::testing::to_string(status), process->error_output()));
  };
  check_one(fleet_, "the device");
  check_one(worker_, "the first worker");
  check_one(other_worker_, "the second worker");
}

nlohmann::json Stage::finish_worker() {
  other_worker_->stop(SIGTERM);
  const auto stats = nlohmann::json::parse(other_worker_->output(), nullptr, false);
  other_worker_.reset();
  return stats.is_object() ? stats : nlohmann::json::object();
}

std::vector<std::string> Stage::environment() const {
  std::vector<std::string> lines = {
      fmt::format("export DMM_SERVER='{}'", options_.nats.servers.front()),
      fmt::format("export DMM_NAMESPACE='{}'", options_.ns),
      fmt::format("export MUSIC_PLAYERS_URL='{}'", options_.players_url),
      fmt::format("export MUSIC_DESIRED='{}'", options_.desired)};
  if (postgres_) lines.push_back(fmt::format("export MUSIC_POSTGRES='{}'", options_.postgres));
  return lines;
}

}  // namespace example
