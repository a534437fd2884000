#include "tests/nemesis/scene.h"

#include "dmm/bucket.h"
#include "dmm/testing/free_port.h"
#include "dmm/testing/wait_for.h"

#include <fmt/format.h>
#include <signal.h>

#include <stdexcept>

namespace dmm::nemesis {

namespace {

using namespace std::chrono_literals;

constexpr auto kOpenDeadline = 60s;  // a cluster elects leaders first
constexpr auto kEndDeadline = 30s;   // a notifier may be in a publish that lasts 20 s

std::vector<std::string> urls_of(const std::vector<std::uint16_t>& ports) {
  std::vector<std::string> urls;
  for (const std::uint16_t port : ports) urls.push_back(fmt::format("nats://127.0.0.1:{}", port));
  return urls;
}

/// Clients must not learn of paths around the proxies: no_advertise.
std::string cluster_block(const std::vector<std::uint16_t>& ports, std::size_t own) {
  std::string routes;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    if (i != own)
      routes += fmt::format("{}\"nats://127.0.0.1:{}\"", routes.empty() ? "" : ", ", ports[i]);
  }
  return fmt::format(
      "cluster {{ name: nemesis, listen: \"127.0.0.1:{}\", no_advertise: true, routes: [{}] }}\n",
      ports[own], routes);
}

}  // namespace

Scene::Scene(const Options& options, std::string program, std::filesystem::path directory)
    : options_(options),
      program_(std::move(program)),
      directory_(std::move(directory)),
      workers_(kWorkers) {
  start_servers();
  make_namespace();
  notifier_proxy_ = std::make_unique<Proxy>(server_ports(), options_.seed);
  for (std::size_t i = 0; i < kWorkers; ++i) {
    if (i < kWorkersBehindProxy) {
      workers_[i].proxy = std::make_unique<Proxy>(server_ports(), options_.seed + i + 1);
    }
    start_worker(i);
  }
  for (std::uint32_t i = 0; i < kNotifiers; ++i) {
    // The first one is never cut off, so that there are news at any time.
    Role notifier = role("notifier", i == 0 ? nullptr : notifier_proxy_.get());
    notifier.number = i;
    notifiers_.push_back(play(notifier, fmt::format("notifier-{}.log", i)));
  }
}

Scene::~Scene() = default;

void Scene::start_servers() {
  const std::size_t count = options_.cluster ? 3 : 1;
  std::vector<std::uint16_t> routes;
  for (std::size_t i = 0; i < count; ++i) routes.push_back(testing::free_port());
  for (std::size_t i = 0; i < count; ++i) {
    testing::NatsServerOptions server;
    server.store_directory = directory_ / fmt::format("store-{}", i);
    server.log_file = directory_ / fmt::format("server-{}.log", i);
    if (options_.cluster) server.extra = cluster_block(routes, i);
    servers_.push_back(std::make_unique<testing::NatsServer>(std::move(server)));
  }
}

void Scene::make_namespace() {
  std::string why;
  const bool made = testing::becomes_true(
      [&] {
        try {
          BucketOptions options;
          options.connection.servers = urls();
          options.replicas = replicas();
          options.logger = Logger();
          Bucket::open(kNamespace, std::move(options)).close();
          return true;
        } catch (const Error& error) {
          why = error.what();
          return false;
        }
      },
      kOpenDeadline);
  if (!made) throw std::runtime_error("the namespace cannot be made: " + why);
}

std::vector<std::uint16_t> Scene::server_ports() const {
  std::vector<std::uint16_t> ports;
  for (const auto& server : servers_) ports.push_back(server->port());
  return ports;
}

std::vector<std::string> Scene::urls() const {
  return urls_of(server_ports());
}

Role Scene::role(std::string name, const Proxy* proxy) const {
  Role role;
  role.name = std::move(name);
  role.servers = proxy != nullptr ? urls_of(proxy->ports()) : urls();
  role.directory = directory_.string();
  role.of = kNotifiers;
  role.identities = options_.identities;
  role.rate = options_.rate;
  role.bug = options_.bug;
  return role;
}

std::unique_ptr<testing::ChildProcess> Scene::play(const Role& role,
                                                   const std::string& log_name) const {
  testing::ChildOptions child;
  child.arguments = arguments_of(role);
  child.log_file = directory_ / log_name;
  child.own_process_group = true;
  return std::make_unique<testing::ChildProcess>(program_, std::move(child));
}

bool Scene::worker_well(std::size_t index) const {
  const Worker& worker = workers_[index];
  return worker.state == State::well && worker.trouble == Trouble::none;
}

void Scene::start_worker(std::size_t index) {
  Worker& worker = workers_[index];
  if (worker.state != State::dead) return;
  worker.life = static_cast<std::uint32_t>(lives_.size());
  Role part = role("worker", worker.proxy.get());
  part.number = worker.life;
  lives_.push_back({fmt::format("worker {}, life {}", index, worker.life), now_ns(), 0});
  worker.process = play(part, fmt::format("worker-{}.log", index));
  worker.state = State::well;
}

/// The worker is known to be dead.
void Scene::bury(Worker& worker) {
  worker.process.reset();
  lives_[worker.life].end = now_ns();
  worker.state = State::dead;
}

void Scene::kill_worker(std::size_t index) {
  Worker& worker = workers_[index];
  if (worker.state != State::dead) bury(worker);  // the object ends its process by SIGKILL
}

void Scene::stop_worker(std::size_t index) {
  Worker& worker = workers_[index];
  if (worker.state != State::well) return;
  lives_[worker.life].pauses.push_back({now_ns(), 0});
  worker.process->kill(SIGSTOP);
  worker.state = State::stopped;
}

void Scene::continue_worker(std::size_t index) {
  Worker& worker = workers_[index];
  if (worker.state != State::stopped) return;
  lives_[worker.life].pauses.back().end = now_ns();
  worker.process->kill(SIGCONT);
  worker.state = State::well;
}

void Scene::end_worker(std::size_t index) {
  Worker& worker = workers_[index];
  if (worker.state != State::well) return;
  worker.process->kill(SIGTERM);
  worker.state = State::ending;
}

void Scene::trouble_worker(std::size_t index, Trouble trouble) {
  Worker& worker = workers_[index];
  if (!worker.proxy) return;
  worker.proxy->set(trouble);
  // What happens once and is over is not a state.
  const bool over = trouble == Trouble::reset || trouble == Trouble::cut;
  worker.trouble = over ? Trouble::none : trouble;
}

void Scene::trouble_notifiers(Trouble trouble) {
  notifier_proxy_->set(trouble);
}

void Scene::look_around() {
  for (std::size_t i = 0; i < kWorkers; ++i) {
    Worker& worker = workers_[i];
    if (worker.state == State::dead || worker.process->running()) continue;
    const testing::ExitStatus status = *worker.process->wait(0ms);
    if (worker.state != State::ending || !status.success()) {
      surprises_.push_back(
          fmt::format("{} ended with {}", lives_[worker.life].worker, to_string(status)));
    }
    bury(worker);
    if (!closing_) start_worker(i);
  }
  for (std::size_t i = 0; i < notifiers_.size(); ++i) {
    if (!notifiers_[i] || notifiers_[i]->running()) continue;
    surprises_.push_back(
        fmt::format("notifier {} ended with {}", i, to_string(*notifiers_[i]->wait(0ms))));
    notifiers_[i].reset();
  }
}

void Scene::heal() {
  for (const auto& server : servers_) {
    server->resume();
    server->start();
  }
  trouble_notifiers(Trouble::none);
  for (std::size_t i = 0; i < kWorkers; ++i) {
    trouble_worker(i, Trouble::none);
    continue_worker(i);
    start_worker(i);
  }
}

void Scene::end_notifiers() {
  for (std::size_t i = 0; i < notifiers_.size(); ++i) {
    if (!notifiers_[i]) continue;
    const testing::ExitStatus status = notifiers_[i]->stop(SIGTERM, kEndDeadline);
    if (!status.success()) {
      surprises_.push_back(fmt::format("notifier {} ended with {}", i, to_string(status)));
    }
    notifiers_[i].reset();
  }
}

void Scene::end_workers() {
  closing_ = true;
  for (std::size_t i = 0; i < kWorkers; ++i) end_worker(i);
  const bool ended = testing::becomes_true(
      [this] {
        look_around();
        for (const Worker& worker : workers_) {
          if (worker.state != State::dead) return false;
        }
        return true;
      },
      kEndDeadline);
  if (!ended) surprises_.emplace_back("a worker did not end within 30 s of SIGTERM");
  for (std::size_t i = 0; i < kWorkers; ++i) kill_worker(i);
}

}  // namespace dmm::nemesis
