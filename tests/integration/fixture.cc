#include "fixture.h"

#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <sstream>
#include <stdexcept>

namespace dmm::integration {

WorkOptions quick() {
  WorkOptions options;
  options.timeout = 20s;
  options.backoff_first = 20ms;
  options.backoff_max = 100ms;
  options.grace = 2s;
  return options;
}

Bucket open_bucket(const testing::NatsServer& server, ViewSnapshots snapshots) {
  BucketOptions options;
  options.connection.servers = {server.url()};
  const char* wanted = std::getenv("DMM_TEST_LOG");
  options.logger = wanted != nullptr ? Logger::standard(Level::debug) : Logger();
  options.snapshots = std::move(snapshots);
  return Bucket::open(kNamespace, std::move(options));
}

void Gate::open() {
  {
    const std::lock_guard lock(mutex_);
    open_ = true;
  }
  changed_.notify_all();
}

void Gate::close() {
  const std::lock_guard lock(mutex_);
  open_ = false;
}

void Gate::pass() {
  pass(std::stop_token());
}

bool Gate::pass(std::stop_token stop) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, stop, 60s, [this] { return open_; });
  return open_;
}

std::int64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

std::size_t most_at_once(const std::vector<Run>& runs) {
  std::vector<std::pair<std::int64_t, int>> events;
  const std::int64_t now = monotonic_ns();
  for (const Run& run : runs) {
    events.emplace_back(run.start_ns, 1);
    events.emplace_back(run.end_ns == 0 ? now : run.end_ns, -1);
  }
  std::ranges::sort(events);
  int current = 0;
  int most = 0;
  for (const auto& [at, step] : events) most = std::max(most, current += step);
  return static_cast<std::size_t>(most);
}

AnyMaterializer Journal::noting(Materialize inner) {
  return AnyMaterializer{[this, inner = std::move(inner)](Context& context, json& cache) {
    struct Ending {
      Journal& journal;
      std::size_t index;
      ~Ending() { journal.end(index); }
    } ending{*this, begin(context, cache)};
    return inner(context, cache);
  }};
}

AnyMaterializer Journal::noting() {
  return noting([](Context&, json&) { return Outcome::done(); });
}

std::size_t Journal::begin(Context& context, const json& cache) {
  Run run{context.identity().id, cache,      context.attempt(), context.deleted(),
          context.epoch().value, ::getpid(), monotonic_ns(),    0};
  const std::lock_guard lock(mutex_);
  runs_.push_back(std::move(run));
  return runs_.size() - 1;
}

void Journal::end(std::size_t index) {
  const std::lock_guard lock(mutex_);
  runs_[index].end_ns = monotonic_ns();
}

std::vector<Run> Journal::runs() const {
  const std::lock_guard lock(mutex_);
  return runs_;
}

std::vector<Run> Journal::runs(std::string_view id) const {
  std::vector<Run> result = runs();
  std::erase_if(result, [&](const Run& run) { return run.id != id; });
  return result;
}

Worker::Worker(Bucket& bucket)
    : thread_([this, &bucket](std::stop_token stop) {
        try {
          bucket.work(stop);
        } catch (const std::exception& error) {
          error_ = error.what();
        }
      }) {}

void Worker::stop() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

namespace {

testing::ChildOptions worker_options(const testing::NatsServer& server,
                                     const std::filesystem::path& journal,
                                     std::vector<std::string> options) {
  testing::ChildOptions child;
  child.arguments = {"--server", server.url(), "--journal", journal.string()};
  child.arguments.insert(child.arguments.end(), options.begin(), options.end());
  child.error =
      std::getenv("DMM_TEST_LOG") != nullptr ? testing::Output::inherit : testing::Output::capture;
  return child;
}

}  // namespace

WorkerProcess::WorkerProcess(const testing::NatsServer& server, std::filesystem::path journal,
                             std::vector<std::string> options)
    : process_(DMM_TEST_WORKER, worker_options(server, journal, std::move(options))) {}

std::vector<Run> read_runs(const std::filesystem::path& journal, std::string_view event) {
  std::vector<Run> runs;
  std::map<std::string, std::size_t> open;  // by what the worker calls the run
  std::istringstream lines(testing::read_file(journal));
  for (std::string line; std::getline(lines, line);) {
    const json entry = json::parse(line, nullptr, false);
    if (!entry.is_object() || entry["event"] != event) continue;  // the last line may be half
    const std::string name =
        fmt::format("{}/{}", entry["pid"].get<pid_t>(), entry["run"].get<int>());
    if (entry.contains("ended")) {
      runs.at(open.at(name)).end_ns = entry["at"];
      continue;
    }
    open[name] = runs.size();
    runs.push_back(Run{entry["id"], entry["cache"], entry["attempt"], entry["deleted"],
                       entry["epoch"], entry["pid"], entry["at"], 0});
  }
  return runs;
}

std::vector<Run> read_runs_of(const std::filesystem::path& journal, std::string_view id) {
  std::vector<Run> runs = read_runs(journal);
  std::erase_if(runs, [&](const Run& run) { return run.id != id; });
  return runs;
}

Matter look(Bucket& bucket, const Identity& identity) {
  std::optional<Matter> matter = bucket.inspect().get(identity);
  if (!matter) throw std::runtime_error("nothing is known of " + key_of(identity));
  return *std::move(matter);
}

Phase phase(Bucket& bucket, const Identity& identity) {
  const std::optional<Matter> matter = bucket.inspect().get(identity);
  return matter ? matter->phase : Phase::settled;
}

json stored(Bucket& bucket, const Identity& identity) {
  const std::optional<Matter> matter = bucket.inspect().get(identity);
  if (!matter || !matter->stored) return nullptr;
  const json value = json::parse(*matter->stored, nullptr, false);
  return value.is_discarded() ? json(nullptr) : value;
}

bool settled_with(Bucket& bucket, const Identity& identity, const json& value) {
  const json entry = stored(bucket, identity);
  return phase(bucket, identity) == Phase::settled && entry.is_object() &&
         entry.value("value", json()) == value;
}

bool settled_on(Bucket& bucket, const Identity& identity, const json& value) {
  const std::optional<Matter> matter = bucket.inspect().get(identity);
  return matter && matter->phase == Phase::settled && matter->stored &&
         json::parse(*matter->stored, nullptr, false) == value;
}

void wait_settled_on(Bucket& bucket, const Identity& identity, const json& value,
                     std::chrono::milliseconds deadline) {
  const auto settled = [&] {
    try {
      return settled_on(bucket, identity, value);
    } catch (const Error& error) {
      if (error.kind() != Kind::retry) throw;
      return false;  // the server is away: a fault that the test made
    }
  };
  if (becomes_true(settled, deadline)) return;
  const std::optional<Matter> matter = bucket.inspect().get(identity);
  throw std::runtime_error(fmt::format(
      "{} is not settled on {} after {} ms: phase {}, stored {}, token {}, error {} {}",
      key_of(identity), value.dump(), deadline.count(),
      matter ? to_string(matter->phase) : "unknown",
      matter && matter->stored ? *matter->stored : "nothing", matter ? matter->token.value : 0,
      matter ? matter->error_code : "", matter ? matter->error : ""));
}

void wait_tokens_deleted(Bucket& bucket) {
  wait_for("the tokens to be deleted", [&] {
    return std::ranges::all_of(bucket.inspect().streams(), [](const auto& stream) {
      return stream.name != names().work(1).name || stream.messages == 0;
    });
  });
}

void pass_barrier(Bucket& bucket, const Journal& journal) {
  const std::size_t before = journal.count("barrier");
  bucket.notify(thing("barrier"), json{{"turn", before}});
  wait_for("the run of the barrier", [&] { return journal.count("barrier") > before; });
}

std::string code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return std::string(error.code().id);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "none";
}

wire::Names names() {
  return wire::Names(kNamespace);
}

}  // namespace dmm::integration
