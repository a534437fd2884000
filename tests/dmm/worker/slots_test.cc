// Goal: whoever looks at a worker sees that handlers hold all slots of a type and do not end.
// Method: a bucket in memory, in simulated time; handlers that do not heed their stop token.

#include "dmm/worker/slots.h"

#include <catch2/catch.hpp>

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "dmm/bucket.h"
#include "dmm/internal/runtime.h"
#include "dmm/testing/internal/scheduler.h"
#include "dmm/testing/memory_transport.h"

namespace dmm::worker {

namespace {

using namespace std::chrono_literals;

// A gate that handlers wait at, whatever they are told.
class Gate {
 public:
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  internal::Condition changed_;
  bool open_ = false;
};

std::map<std::string, double> gauges(const Bucket& bucket) {
  struct Sink : MetricSink {
    std::map<std::string, double> values;
    void add(std::string_view metric, const MetricLabels& labels, double value) override {
      CHECK(labels == MetricLabels{{"type", "player"}});
      values.emplace(metric, value);
    }
    void add(std::string_view, const MetricLabels&, const Durations&) override {}
  } sink;
  for (const auto& source : bucket.metric_sources()) source->collect(sink);
  return sink.values;
}

}  // namespace

TEST_CASE("slots: a worker whose handlers hold all slots and do not end is not ready",
          "[slots][unit]") {
  testing::Scheduler scheduler({.seed = 3});
  Gate gate;
  BucketOptions options;
  options.transport = testing::MemoryTransport::create();
  options.logger = Logger();
  Bucket bucket = Bucket::open("music", std::move(options));
  WorkOptions work;
  work.concurrency = 2;
  work.timeout = 1s;
  bucket.register_type("player", AnyMaterializer{[&gate](Context&, nlohmann::json&) {
                         gate.wait();
                         return Outcome::done();
                       }},
                       work);
  internal::Thread worker([&](const std::stop_token& stop) { bucket.work(stop); });
  const auto past = [&](std::chrono::milliseconds time) { scheduler.pass(time); };
  past(10s);
  REQUIRE(bucket.not_ready() == std::vector<std::string>{});

  bucket.notify({"player", "first"}, {{"song", "A"}});
  past(20s);
  CHECK(bucket.not_ready() == std::vector<std::string>{});  // the other slot works on
  CHECK(gauges(bucket) == std::map<std::string, double>{{"dmm_slots", 2},
                                                        {"dmm_slots_lost", 1},
                                                        {"dmm_threads_refused_total", 0}});

  bucket.notify({"player", "second"}, {{"song", "A"}});
  past(3s);  // it is overdue, but may just be on its way to heed that
  CHECK(bucket.not_ready() == std::vector<std::string>{});
  past(10s);
  CHECK(bucket.not_ready() ==
        std::vector<std::string>{"type player: slots lost: 2 of 2, its handlers do not stop"});
  CHECK(gauges(bucket).at("dmm_slots_lost") == 2);

  gate.open();
  past(10s);
  CHECK(bucket.not_ready() == std::vector<std::string>{});
  CHECK(gauges(bucket).at("dmm_slots_lost") == 0);
}

}  // namespace dmm::worker
