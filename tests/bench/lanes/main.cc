// The area "lanes" of scripts/bench: what a reader for each lane of a type would cost, beside the
// one reader that a worker has. See docs/decisions/0013.

#include <fmt/format.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "dmm/connection_options.h"
#include "dmm/identity.h"
#include "dmm/limits.h"
#include "dmm/nats/nats_transport.h"
#include "dmm/testing/nats_server.h"
#include "dmm/transport/stream.h"
#include "dmm/wire.h"
#include "tests/bench/support/report.h"
#include "tests/bench/support/statistics.h"

namespace dmm::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kType = "player";
constexpr std::size_t kPublished = 20'000;  ///< beside readers that are idle otherwise

struct Arguments {
  std::size_t tokens = 160'000;
  std::size_t rounds = 3;
  bool check = false;
  std::string json;
};

double seconds_since(Clock::time_point then) {
  return std::chrono::duration<double>(Clock::now() - then).count();
}

/// Counts to a number that someone waits for.
class Count final {
 public:
  void add() {
    const std::lock_guard lock(mutex_);
    ++count_;
    changed_.notify_all();
  }
  void wait_for(std::size_t count) {
    std::unique_lock lock(mutex_);
    const bool came =
        changed_.wait_for(lock, std::chrono::minutes(5), [&] { return count_ >= count; });
    if (!came) throw std::runtime_error("what was asked for did not come in five minutes");
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t count_ = 0;
};

class Sink final : public transport::ReaderSink {
 public:
  Sink(std::atomic<std::size_t>& messages, Count& caught_up)
      : messages_(messages), caught_up_(caught_up) {}
  void on_message(transport::Message) noexcept override { ++messages_; }
  void on_caught_up() noexcept override { caught_up_.add(); }
  void on_history_lost(std::string) noexcept override {}

 private:
  std::atomic<std::size_t>& messages_;
  Count& caught_up_;
};

class Scene final {
 public:
  explicit Scene(std::size_t tokens) : tokens_(tokens), names_("lanes") {
    ConnectionOptions options;
    options.servers = {server_.url()};
    transport_ = nats::connect(options, Logger());
    work_ = transport_->open(names_.work(1), true);
    publish(tokens);
  }
  ~Scene() { transport_->close(); }
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;

  struct Reading {
    double read_s = 0;
    double published_per_s = 0;
  };
  /// Reads all tokens by a reader for each of the filters, then publishes beside them.
  Reading read(const std::vector<std::string>& filters) {
    std::atomic<std::size_t> messages = 0;
    Count caught_up;
    std::vector<std::unique_ptr<Sink>> sinks;
    std::vector<std::unique_ptr<transport::Reader>> readers;
    const auto begun = Clock::now();
    for (const std::string& filter : filters) {
      sinks.push_back(std::make_unique<Sink>(messages, caught_up));
      readers.push_back(work_->read({.filter = filter, .after = {}}, *sinks.back()));
      readers.back()->grant(std::size_t{1} << 40);
    }
    caught_up.wait_for(filters.size());
    Reading reading;
    reading.read_s = seconds_since(begun);
    if (messages < tokens_) {
      throw std::runtime_error(fmt::format("{} of {} tokens were read", messages.load(), tokens_));
    }
    const auto published = Clock::now();
    publish(std::min(kPublished, tokens_));  // the same ones again: the stream does not grow
    reading.published_per_s =
        static_cast<double>(std::min(kPublished, tokens_)) / seconds_since(published);
    return reading;
  }

  std::vector<std::string> one() const { return {names_.token_filter(kType)}; }
  std::vector<std::string> each_lane() const {
    std::vector<std::string> filters;
    for (std::uint32_t lane = 0; lane < limits::lanes; ++lane) {
      filters.push_back(fmt::format("dmm.{}.work.{}.{}.*", names_.ns(), kType, lane));
    }
    return filters;
  }

 private:
  void publish(std::size_t count) {
    Count answered;
    std::atomic<std::size_t> failed = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (i >= limits::publishes_in_flight_max)
        answered.wait_for(i - limits::publishes_in_flight_max);
      work_->publish({.subject = names_.token_subject({kType, std::to_string(i)}),
                      .payload = R"({"current_song":"Naima"})"},
                     limits::publish_deadline, [&](const Result<Sequence>& result) {
                       if (!result.ok()) ++failed;
                       answered.add();
                     });
    }
    answered.wait_for(count);
    if (failed > 0) throw std::runtime_error("a publish failed");
  }

  const std::size_t tokens_;
  const wire::Names names_;
  testing::NatsServer server_;
  std::shared_ptr<transport::Transport> transport_;
  std::shared_ptr<transport::Stream> work_;
};

int run(const Arguments& arguments) {
  fmt::print("lanes: {} tokens of one type, {} rounds\n", arguments.tokens, arguments.rounds);
  fmt::print("A: a reader for each of the {} lanes; B, what a worker does: one reader\n\n",
             limits::lanes);
  Scene scene(arguments.tokens);
  std::vector<double> read_one, read_each, publish_one, publish_each;
  for (std::size_t round = 0; round < arguments.rounds; ++round) {
    const Scene::Reading each = scene.read(scene.each_lane());
    const Scene::Reading one = scene.read(scene.one());
    read_each.push_back(each.read_s);
    read_one.push_back(one.read_s);
    publish_each.push_back(each.published_per_s);
    publish_one.push_back(one.published_per_s);
  }
  const char* const kAgainst = "a reader for each lane";
  Report report;
  report.add({"lanes read", median(read_one), "s", kAgainst, median(read_each), {}, {}});
  report.add({"lanes publish", median(publish_one), "1/s", kAgainst, median(publish_each), {}, {}});
  report.print();
  if (!arguments.json.empty()) report.append_json(arguments.json);
  return arguments.check && !report.below_floor().empty() ? 3 : 0;
}

std::size_t number_from(const std::string& option, std::string_view text) {
  std::size_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || rest != end || value < 1 || value > 10'000'000) {
    throw std::invalid_argument(
        fmt::format("{} takes a number from 1 to 10000000, not \"{}\"", option, text));
  }
  return value;
}

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--check") {
      arguments.check = true;
      continue;
    }
    if (i + 1 >= argc) throw std::invalid_argument(option + ": unknown, or its value is missing");
    const std::string value = argv[++i];
    if (option == "--json") {
      arguments.json = value;
    } else if (option == "--rounds") {
      arguments.rounds = number_from(option, value);
    } else if (option == "--count") {
      arguments.tokens = number_from(option, value);
    } else {
      throw std::invalid_argument(option + ": unknown");
    }
  }
  return arguments;
}

}  // namespace
}  // namespace dmm::bench

int main(int argc, char** argv) {
  try {
    return dmm::bench::run(dmm::bench::parse(argc, argv));
  } catch (const std::invalid_argument& e) {
    fmt::print(stderr,
               "bench_lanes: {}\n"
               "usage: bench_lanes [--json FILE] [--count TOKENS] [--rounds N] [--check]\n",
               e.what());
    return 2;
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_lanes: {}\n", e.what());
    return 1;
  }
}
