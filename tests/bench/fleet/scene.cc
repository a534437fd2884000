#include "tests/bench/fleet/scene.h"

#include <fmt/format.h>

#include <fstream>
#include <stdexcept>

#include "tests/bench/support/pace.h"

namespace dmm::bench {

using std::chrono::steady_clock;

std::uint64_t status_of_process(pid_t pid, const std::string& name) {
  std::ifstream in(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(name + ":")) return std::stoull(line.substr(name.size() + 1));
  }
  return 0;
}

Scene::Scene() : directory_("dmm-bench-fleet") {
  BucketOptions options;
  options.connection.servers = {server_.url()};
  options.logger = Logger();
  bucket_ = std::make_unique<Bucket>(Bucket::open(kNamespace, std::move(options)));
  board_ = std::make_unique<SharedBoard>(directory_ / "board");
}

Scene::~Scene() = default;

std::unique_ptr<testing::ChildProcess> Scene::start() const {
  testing::ChildOptions child;
  child.arguments = {"--role",          "worker",
                     "--server",        server_.url(),
                     "--board",         (directory_ / "board").string(),
                     "--run-directory", (directory_ / "run").string()};
  child.error = testing::Output::inherit;
  return std::make_unique<testing::ChildProcess>("/proc/self/exe", std::move(child));
}

void Scene::start_workers(std::size_t count) {
  ended_ = 0;
  for (std::size_t i = 0; i < count; ++i) workers_.push_back(start());
}

std::size_t Scene::look_around() {
  for (auto& worker : workers_) {
    if (worker->running()) continue;
    ++ended_;
    worker = start();
  }
  return ended_;
}

std::vector<pid_t> Scene::workers() const {
  std::vector<pid_t> pids;
  for (const auto& worker : workers_) pids.push_back(worker->pid());
  return pids;
}

std::uint64_t Scene::peak_bytes() {
  for (const pid_t pid : workers()) {
    peak_bytes_ = std::max(peak_bytes_, status_of_process(pid, "VmHWM") * 1'024);
  }
  return peak_bytes_;
}

void Scene::bring(const std::string& prefix, std::size_t of, double rate,
                  const std::function<bool()>& goes_on, const std::function<void()>& beside) {
  const auto begun = steady_clock::now();
  for (std::uint64_t i = 0; goes_on(); ++i) {
    const std::chrono::duration<double> due(static_cast<double>(i) / rate);
    wait_until(begun + std::chrono::duration_cast<steady_clock::duration>(due));
    if (i % 8 == 0) look_around();
    beside();
    bucket_->notify({kType, fmt::format("{}{}", prefix, brought_++ % of)},
                    {{"at", monotonic_ns()}});
  }
}

void Scene::bring_for(const std::string& prefix, std::size_t of, double rate,
                      std::chrono::milliseconds time, const std::function<void()>& beside) {
  const auto until = steady_clock::now() + time;
  bring(
      prefix, of, rate, [until] { return steady_clock::now() < until; }, beside);
}

std::uint64_t Scene::tokens() {
  return bucket_->inspect().streams().front().messages;
}

void Scene::wait_for_tokens(std::uint64_t left, std::chrono::seconds deadline) {
  const auto until = steady_clock::now() + deadline;
  while (tokens() > left) {
    if (steady_clock::now() > until) {
      throw std::runtime_error(
          fmt::format("{} tokens are left after {} s, not {}", tokens(), deadline.count(), left));
    }
    look_around();
    wait_until(steady_clock::now() + std::chrono::milliseconds(20));
  }
}

}  // namespace dmm::bench
