// The area "service" of scripts/bench: what metrics and traces cost the runs of a worker. The same
// tokens are worked through by a worker that tells nothing, one that is scraped, and workers whose
// tokens belong to a trace: without a collector, with one, and with one that is dead. They take
// turns on one server.

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "dmm/bucket.h"
#include "dmm/internal/active_span.h"
#include "dmm/service/http.h"
#include "dmm/service/metrics.h"
#include "dmm/service/otlp.h"
#include "dmm/testing/child_process.h"
#include "dmm/testing/free_port.h"
#include "dmm/testing/nats_server.h"
#include "dmm/testing/wait_for.h"
#include "tests/bench/support/cpu.h"
#include "tests/bench/support/report.h"
#include "tests/bench/support/statistics.h"

namespace dmm::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
constexpr auto kScrapes = std::chrono::milliseconds(100);  ///< a Prometheus asks every 15 s
constexpr auto kPatience = std::chrono::seconds(120);

struct Arguments {
  std::size_t count = 50'000;
  std::size_t rounds = 3;
  bool check = false;
  std::string json;
};

struct Player {
  std::string id;
  std::string current_song;
  int plays = 0;

  std::string identity() const { return id; }
  void materialize(Context&) { ++plays; }
  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(Player, id, current_song, plays)
};

enum class Mode { plain, scraped, passed, collected, dead };
constexpr Mode kModes[] = {Mode::plain, Mode::scraped, Mode::passed, Mode::collected, Mode::dead};

const char* name_of(Mode mode) {
  switch (mode) {
    case Mode::plain:
      return "plain";
    case Mode::scraped:
      return "metrics scraped 10/s";
    case Mode::passed:
      return "traces passed on";
    case Mode::collected:
      return "traces collected";
    case Mode::dead:
      return "traces to a dead collector";
  }
  return "";
}

struct Side {
  std::vector<double> rate;    ///< runs in a second
  std::vector<double> cpu_us;  ///< of this process, for each run
};

/// A collector that takes everything, as a process of its own. Tells its port.
[[noreturn]] void collect() {
  const service::HttpServer server(
      "127.0.0.1", 0,
      [](const service::HttpRequest&) {
        return service::HttpAnswer{200, "{}", "application/json"};
      },
      10'000'000);
  fmt::print("{}\n", server.port());
  std::fflush(stdout);
  while (true) ::pause();  // its parent ends it
}

class Collector {
 public:
  Collector() {
    testing::ChildOptions options;
    options.arguments = {"--collect"};
    process_ = std::make_unique<testing::ChildProcess>(
        std::filesystem::read_symlink("/proc/self/exe").string(), options);
    testing::wait_for("the collector", [this] { return !process_->output().empty(); });
    url_ = "http://127.0.0.1:" + process_->output();
    url_.pop_back();
  }
  const std::string& url() const { return url_; }

 private:
  std::unique_ptr<testing::ChildProcess> process_;
  std::string url_;
};

/// Asks for the metrics again and again, as long as it lives.
class Scraper {
 public:
  explicit Scraper(const Bucket& bucket)
      : thread_([this, &bucket](const std::stop_token& stop) {
          std::unique_lock lock(mutex_);
          while (!stop.stop_requested()) {
            if (service::scrape(&bucket, {}).empty()) throw std::runtime_error("an empty scrape");
            never_.wait_for(lock, stop, kScrapes, [] { return false; });
          }
        }) {}

 private:
  std::mutex mutex_;
  std::condition_variable_any never_;
  std::jthread thread_;
};

class Bench {
 public:
  explicit Bench(const Arguments& arguments) : arguments_(arguments) {}

  void run() {
    for (std::size_t round = 0; round < arguments_.rounds; ++round) {
      for (const Mode mode : kModes) {
        fmt::print(stderr, "round {} of {}: {}\n", round + 1, arguments_.rounds, name_of(mode));
        measure(mode, fmt::format("r{}m{}", round, static_cast<int>(mode)));
      }
    }
  }
  Report report() const;

 private:
  void measure(Mode mode, const std::string& ns);
  std::shared_ptr<service::OtlpExporter> exporter(Mode mode) const;

  const Arguments arguments_;
  testing::NatsServer server_;
  Collector collector_;
  std::map<Mode, Side> sides_;
};

std::shared_ptr<service::OtlpExporter> Bench::exporter(Mode mode) const {
  if (mode != Mode::collected && mode != Mode::dead) return nullptr;
  const std::string url = mode == Mode::collected
                              ? collector_.url()
                              : fmt::format("http://127.0.0.1:{}", testing::free_port());
  auto exporter = std::make_shared<service::OtlpExporter>(url, 1, "bench", "bench", Logger());
  if (mode == Mode::collected) return exporter;
  // It is known to be dead, as after the first second of a real one.
  exporter->record({.context = TraceContext::begin(true),
                    .parent = {},
                    .name = "first",
                    .begun = {},
                    .attributes = {},
                    .links = {},
                    .error = {}});
  testing::wait_for("the collector to be found dead", [&] { return exporter->dropped() > 0; });
  return exporter;
}

void Bench::measure(Mode mode, const std::string& ns) {
  BucketOptions options;
  options.connection.servers = {server_.url()};
  options.logger = Logger();
  options.spans = exporter(mode);
  Bucket bucket = Bucket::open(ns, std::move(options));
  WorkStream& players = bucket.register_type<Player>("player");
  std::vector<Player> all(arguments_.count);
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i] = {fmt::format("p{}", i), std::string(100, '*'), 0};
  }
  {
    const bool traced = mode != Mode::plain && mode != Mode::scraped;
    const std::string trace = traced ? TraceContext::begin(true).text() : "";
    const internal::ActiveSpan span(nullptr, trace, Span::Role::producer, "bench", "player");
    if (!bucket.notify_all<Player>(all).empty()) throw std::runtime_error("a notify failed");
  }
  const auto scraper = mode == Mode::scraped ? std::make_unique<Scraper>(bucket) : nullptr;
  const auto cpu = cpu_time(::getpid());
  const auto begun = Clock::now();
  std::jthread worker([&](std::stop_token stop) { players.work(std::move(stop)); });
  testing::wait_for(
      "the runs", [&] { return players.stats().succeeded >= arguments_.count; }, kPatience);
  const Seconds took = Clock::now() - begun;
  const auto used = cpu_time(::getpid()) - cpu;
  const double count = static_cast<double>(arguments_.count);
  sides_[mode].rate.push_back(count / took.count());
  sides_[mode].cpu_us.push_back(used.count() * 1e6 / count);
}

Report Bench::report() const {
  Report report;
  const Side& plain = sides_.at(Mode::plain);
  const double rate = median(plain.rate);
  const double cpu = median(plain.cpu_us);
  const auto at_least = [](double value, double baseline, double share) {
    return Goal{fmt::format(">= {:.2f}", share), [=] { return value >= share * baseline; }};
  };
  const auto at_most = [](double value, double baseline, double share) {
    return Goal{fmt::format("<= {:.2f}", share), [=] { return value <= share * baseline; }};
  };
  for (const Mode mode : kModes) {
    if (mode == Mode::plain) continue;
    const Side& side = sides_.at(mode);
    const double here = median(side.rate);
    const double here_cpu = median(side.cpu_us);
    // Collecting every run is for finding a fault, not for every day.
    const bool collected = mode == Mode::collected;
    report.add({fmt::format("service runs, {}", name_of(mode)), here, "1/s", "nothing told", rate,
                at_least(here, rate, collected ? 0.6 : 0.9), at_least(here, rate, 0.97)});
    report.add({fmt::format("service CPU, {}", name_of(mode)), here_cpu, "us", "nothing told", cpu,
                at_most(here_cpu, cpu, collected ? 2.0 : 1.15), at_most(here_cpu, cpu, 1.05)});
  }
  return report;
}

Arguments read_arguments(int argc, char** argv) {
  Arguments arguments;
  const auto number = [](const char* text) {
    std::size_t value = 0;
    const char* end = text + std::strlen(text);
    const auto read = std::from_chars(text, end, value);
    if (read.ec != std::errc() || read.ptr != end || value == 0) {
      throw std::invalid_argument(fmt::format("\"{}\" is no number from 1", text));
    }
    return value;
  };
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--check") {
      arguments.check = true;
      continue;
    }
    if (i + 1 >= argc) throw std::invalid_argument(fmt::format("{} needs a value", name));
    const char* value = argv[++i];
    if (name == "--count") {
      arguments.count = number(value);
    } else if (name == "--rounds") {
      arguments.rounds = number(value);
    } else if (name == "--json") {
      arguments.json = value;
    } else {
      throw std::invalid_argument(fmt::format("there is no option {}", name));
    }
  }
  return arguments;
}

int run(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--collect") collect();
  Arguments arguments;
  try {
    arguments = read_arguments(argc, argv);
  } catch (const std::invalid_argument& e) {
    fmt::print(stderr, "bench_service: {}\n", e.what());
    return 2;
  }
  Bench bench(arguments);
  bench.run();
  const Report report = bench.report();
  report.print();
  if (!arguments.json.empty()) report.append_json(arguments.json);
  return arguments.check && !report.below_floor().empty() ? 3 : 0;
}

}  // namespace
}  // namespace dmm::bench

int main(int argc, char** argv) {
  try {
    return dmm::bench::run(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_service: {}\n", e.what());
    return 1;
  }
}
