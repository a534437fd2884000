// Goal: a scrape is what Prometheus reads, every metric is documented, and the dashboard and the
// alert rules speak of metrics that there are.
// Method: expositions with hard values; a bucket over a transport in memory; promtool where it is
// installed; the pages and files of the tree.

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdlib>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <thread>

#include "dmm/bucket.h"
#include "dmm/service/exposition.h"
#include "dmm/service/metrics.h"
#include "dmm/testing/child_process.h"
#include "dmm/testing/memory_transport.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/testing/wait_for.h"

namespace {

using dmm::Durations;
using dmm::Metric;
using dmm::MetricType;
using dmm::service::Exposition;
using namespace std::chrono_literals;

constexpr Metric kTwo[] = {
    {"b_total", MetricType::counter, "what", "Back\\slash and\nnewline"},
    {"a_seconds", MetricType::histogram, "", "How long"},
};

struct Player {
  std::string id;
  std::string song;
  std::string identity() const { return id; }
  void set_identity(std::string name) { id = std::move(name); }
  void materialize(dmm::Context&) {
    if (song == "Noise") throw std::runtime_error("no");
  }
  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(Player, id, song)
};

/// A scrape of a bucket whose worker ran one identity well and one badly.
std::string scrape_of_work() {
  dmm::BucketOptions options;
  options.transport = dmm::testing::MemoryTransport::create();
  options.logger = dmm::Logger();
  dmm::Bucket bucket = dmm::Bucket::open("music", std::move(options));
  dmm::WorkOptions work;
  work.attempts_max = 1;
  const dmm::WorkStream& players = bucket.register_type<Player>("player", work);
  bucket.observe<Player>("player", [](dmm::ObserveContext&, const Player&) {});
  dmm::View view;
  view.name = "zones";
  view.type = "zone";
  view.inputs = {dmm::ViewInput::reports("player")};
  view.pipeline = nlohmann::json::parse(R"([{"@project": {"id": "$.device"}}])");
  bucket.view(view);
  std::jthread worker([&](const std::stop_token& stop) { bucket.work(stop); });
  bucket.notify(Player{"kitchen", "Naima"});
  bucket.notify(Player{"cellar", "Noise"});
  bucket.report("player", "kitchen", {{"song", "Naima"}});
  dmm::testing::wait_for("the runs and the report", [&] {
    const auto views = bucket.view_streams();
    return players.stats().succeeded == 1 && players.stats().parked == 1 &&
           bucket.observers().at(0)->stats().handled == 1 && views.at(0)->stats().rows == 1 &&
           views.at(0)->stats().documents_bytes > 100;
  });
  dmm::testing::wait_for("the count of what is parked",
                         [&] { return players.stats().parked_now == 1; });
  dmm::service::ServiceFacts facts;
  facts.name = "players";
  facts.ns = "music";
  facts.ready = true;
  facts.traces = true;
  return dmm::service::scrape(&bucket, facts);
}

bool has_line(const std::string& text, const std::string& line) {
  std::istringstream lines(text);
  for (std::string one; std::getline(lines, one);) {
    if (one == line) return true;
  }
  UNSCOPED_INFO(text);
  return false;
}

std::string file_of(const std::string& name) {
  const std::string text = dmm::testing::read_file(std::string(DMM_SHARE_DIR) + "/" + name);
  INFO(name);
  REQUIRE_FALSE(text.empty());
  return text;
}

// ---- parts whose every number is another one

class CountedWork final : public dmm::WorkStream {
 public:
  const std::string& type() const noexcept override { return type_; }
  void work(std::stop_token) override {}
  dmm::WorkStats stats() const override {
    dmm::WorkStats s;
    std::uint64_t next = 1'000;
    for (std::uint64_t* count :
         {&s.tokens, &s.runs, &s.succeeded, &s.failed, &s.parked, &s.coalesced, &s.stored,
          &s.conflicts, &s.corrupt, &s.refused, &s.lease_losses, &s.history_losses, &s.resynced,
          &s.timed_out, &s.retried, &s.postponed, &s.unreached, &s.gave_up, &s.cancelled}) {
      *count = ++next;
    }
    s.timed_out = 1;
    for (std::size_t* count : {&s.ready, &s.running, &s.retrying, &s.offline, &s.held, &s.lanes,
                               &s.lanes_wanted, &s.parked_now}) {
      *count = static_cast<std::size_t>(++next);
    }
    s.outstanding = 5'000;
    s.paused = true;
    s.run_times.add(3ms);
    s.turnarounds.add(2s);
    s.turnarounds.add(70s);
    return s;
  }

 private:
  std::string type_ = "player";
};

class CountedObserver final : public dmm::Observer {
 public:
  const std::string& kind() const noexcept override { return kind_; }
  void work(std::stop_token) override {}
  dmm::ObserveStats stats() const override {
    dmm::ObserveStats s{2'001, 2'002, 2'003, 2'004, 2'005, 2'006, 2'007, true, false, {}};
    s.lags.add(20ms);
    return s;
  }

 private:
  std::string kind_ = "sensor";
};

class CountedView final : public dmm::ViewStream {
 public:
  const std::string& name() const noexcept override { return name_; }
  void work(std::stop_token) override {}
  dmm::ViewStats stats() const override {
    dmm::ViewStats s;
    std::uint64_t next = 3'000;
    for (std::uint64_t* count :
         {&s.changes, &s.unchanged, &s.stale, &s.refused, &s.expired, &s.steps, &s.notified,
          &s.removed, &s.rebuilds, &s.restored, &s.snapshots, &s.snapshots_failed}) {
      *count = ++next;
    }
    for (std::size_t* count : {&s.input_rows, &s.rows, &s.held, &s.sending}) {
      *count = static_cast<std::size_t>(++next);
    }
    s.snapshot_stall = 1'500us;
    s.loaded = true;
    s.settled = true;
    s.step_times.add(40us);
    s.lags.add(400ms);
    s.operators = {{"join", 10, 4'096}, {"group", 20, 8'192}};
    s.documents_bytes = 100'000;
    return s;
  }

 private:
  std::string name_ = "zones";
};

/// What is counted by a part that is no part of a bucket.
class Kettles final : public dmm::MetricSource {
 public:
  explicit Kettles(std::string place) : place_(std::move(place)) {}
  std::span<const Metric> families() const noexcept override { return kFamilies; }
  void collect(dmm::MetricSink& to) const override {
    to.add("kettle_litres_total", {{"place", place_}}, 1.5);
  }

 private:
  static constexpr Metric kFamilies[] = {
      {"kettle_litres_total", MetricType::counter, "place", "Water that was boiled"}};
  std::string place_;
};

/// A scrape of them, without what the process itself takes: that is never twice the same.
std::string scrape_of_counted() {
  const CountedWork work;
  const CountedObserver observer;
  const CountedView view;
  dmm::service::Parts parts;
  parts.bucket = {true, 7, {{"player", 8}, {"zone", 9}}, 10};
  parts.work_streams = {&work};
  parts.observers = {&observer};
  parts.view_streams = {&view};
  parts.sources = {std::make_shared<Kettles>("attic"), std::make_shared<Kettles>("cellar")};
  dmm::service::ServiceFacts facts{"players", "music", true, 1, 2, 3, 4, true, dmm::Level::warn};
  std::istringstream lines(dmm::service::scrape(parts, facts));
  std::string text;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("process_") != std::string::npos) continue;
    const std::size_t version = line.find("version=\"");
    if (version != std::string::npos) {
      line.replace(version + 9, line.find('"', version + 9) - version - 9, "VERSION");
    }
    text += line + "\n";
  }
  return text;
}

/// The names in a text that look like metrics of dmm, without the suffixes of histograms.
std::set<std::string> metrics_in(const std::string& text) {
  static const std::regex kName("\\b(dmm|process)_[a-z_]+\\b");
  std::set<std::string> names;
  for (std::sregex_iterator at(text.begin(), text.end(), kName), end; at != end; ++at) {
    std::string name = at->str();
    for (const char* suffix : {"_bucket", "_sum", "_count"}) {
      if (name.ends_with(suffix)) name.resize(name.size() - std::string(suffix).size());
    }
    names.insert(name);
  }
  return names;
}

bool is_metric(const std::string& name) {
  return std::ranges::any_of(dmm::service::all_metrics(),
                             [&](const Metric& metric) { return metric.name == name; });
}

}  // namespace

TEST_CASE("metrics: a counter and a histogram are written as Prometheus reads them",
          "[service][metrics][unit]") {
  Exposition all(kTwo);
  Durations durations;
  durations.add(2ms);
  durations.add(100us);
  durations.add(-1s);  // clocks that disagree
  durations.add(1h);
  all.add("a_seconds", {}, durations);
  all.add("b_total", {{"what", "a \"b\"\\\n"}}, 3);
  const std::string text = all.text();
  CHECK(
      text.starts_with("# HELP b_total Back\\\\slash and\\nnewline\n# TYPE b_total counter\n"
                       "b_total{what=\"a \\\"b\\\"\\\\\\n\"} 3\n# HELP a_seconds How long\n"
                       "# TYPE a_seconds histogram\n"));
  CHECK(has_line(text, "a_seconds_bucket{le=\"0.0001\"} 2"));
  CHECK(has_line(text, "a_seconds_bucket{le=\"0.001\"} 2"));
  CHECK(has_line(text, "a_seconds_bucket{le=\"0.0025\"} 3"));
  CHECK(has_line(text, "a_seconds_bucket{le=\"300\"} 3"));
  CHECK(has_line(text, "a_seconds_bucket{le=\"+Inf\"} 4"));
  CHECK(has_line(text, "a_seconds_sum 3600.0021"));
  CHECK(has_line(text, "a_seconds_count 4"));
}

TEST_CASE("metrics: one that is not documented cannot be written", "[service][metrics][unit]") {
  Exposition all(kTwo);
  CHECK_THROWS_AS(all.add("c_total", {}, 1), dmm::Error);
}

TEST_CASE("metrics: a scrape tells what was done", "[service][metrics][unit]") {
  const std::string text = scrape_of_work();
  CHECK(has_line(text, "dmm_notifies_total{type=\"player\"} 2"));
  CHECK(has_line(text, "dmm_runs_total{type=\"player\",outcome=\"succeeded\"} 1"));
  CHECK(has_line(text, "dmm_runs_total{type=\"player\",outcome=\"failed\"} 1"));
  CHECK(has_line(text, "dmm_run_duration_seconds_count{type=\"player\"} 2"));
  CHECK(has_line(text, "dmm_turnaround_seconds_count{type=\"player\"} 1"));
  CHECK(has_line(text, "dmm_identities_parked{type=\"player\"} 1"));
  CHECK(has_line(text, "dmm_tokens_outstanding{type=\"player\"} 1"));
  CHECK(has_line(text, "dmm_oldest_token_age_seconds{type=\"player\"} 0"));
  CHECK(has_line(text, "dmm_lanes_owned{type=\"player\"} 64"));
  CHECK(has_line(text, "dmm_lanes_wanted{type=\"player\"} 64"));
  CHECK(has_line(text, "dmm_reports_handled_total{kind=\"player\"} 1"));
  CHECK(has_line(text, "dmm_report_lag_seconds_count{kind=\"player\"} 1"));
  CHECK(has_line(text, "dmm_view_rows{view=\"zones\"} 1"));
  CHECK(has_line(text, "dmm_view_notifies_total{view=\"zones\"} 1"));
  CHECK(text.find("dmm_view_state_bytes{view=\"zones\"} ") != std::string::npos);
  CHECK_FALSE(has_line(text, "dmm_view_state_bytes{view=\"zones\"} 0"));
  CHECK(has_line(text, "dmm_connected 1"));
  CHECK(has_line(text, "dmm_ready 1"));
  CHECK(text.find("process_resident_memory_bytes ") != std::string::npos);
  // Every family that was written is told with its help, and only once.
  for (const Metric& metric : dmm::service::all_metrics()) {
    const std::string help = "# HELP " + std::string(metric.name) + " ";
    const std::size_t first = text.find(help);
    if (first != std::string::npos) CHECK(text.find(help, first + 1) == std::string::npos);
  }
}

TEST_CASE("metrics: every number stands where it belongs", "[service][metrics][pages][unit]") {
  const std::string path = std::string(DMM_GOLDEN_DIR) + "/scrape.golden";
  if (std::getenv("DMM_UPDATE_PAGES") != nullptr) {
    dmm::testing::write_file(path, scrape_of_counted());
  }
  const std::string golden = dmm::testing::read_file(path);
  REQUIRE_FALSE(golden.empty());
  std::istringstream expected(golden);
  std::istringstream written(scrape_of_counted());
  std::string line;
  for (std::string one; std::getline(expected, one);) {
    std::getline(written, line);
    CHECK(line == one);
  }
  CHECK_FALSE(std::getline(written, line));
}

TEST_CASE("metrics: a bucket tells of the sources that are kept", "[service][metrics][unit]") {
  dmm::BucketOptions options;
  options.transport = dmm::testing::MemoryTransport::create();
  options.logger = dmm::Logger();
  dmm::Bucket bucket = dmm::Bucket::open("music", std::move(options));
  auto kettles = std::make_shared<Kettles>("attic");
  bucket.add_metrics(kettles);
  const std::string line = "kettle_litres_total{place=\"attic\"} 1.5";
  CHECK(has_line(dmm::service::scrape(&bucket, {}), line));
  kettles.reset();
  CHECK(dmm::service::scrape(&bucket, {}).find("kettle") == std::string::npos);
}

TEST_CASE("metrics: promtool finds nothing to complain about", "[service][metrics][unit]") {
  const auto promtool = dmm::testing::find_program("promtool");
  if (!promtool) {
    WARN("promtool is not installed (Debian: prometheus), so it was not asked");
    return;
  }
  dmm::testing::ChildOptions check;
  check.arguments = {"check", "metrics"};
  check.input = scrape_of_work();
  const auto checked = dmm::testing::run(*promtool, check);
  INFO(checked.output << checked.error_output);
  CHECK(checked.status.success());
  CHECK(checked.error_output.empty());

  dmm::testing::ChildOptions rules;
  rules.arguments = {"check", "rules", std::string(DMM_SHARE_DIR) + "/alerts.yaml"};
  const auto ruled = dmm::testing::run(*promtool, rules);
  INFO(ruled.output << ruled.error_output);
  CHECK(ruled.status.success());

  dmm::testing::ChildOptions test;
  test.arguments = {"test", "rules", std::string(DMM_SHARE_DIR) + "/alerts_test.yaml"};
  const auto tested = dmm::testing::run(*promtool, test);
  INFO(tested.output << tested.error_output);
  CHECK(tested.status.success());
}

TEST_CASE("metrics: the reference page is what the program says",
          "[service][metrics][pages][unit]") {
  const std::string path = std::string(DMM_DOCS_DIR) + "/reference/metrics.md";
  if (std::getenv("DMM_UPDATE_PAGES") != nullptr) {
    dmm::testing::write_file(path, dmm::service::metrics_page());
  }
  const bool same = dmm::testing::read_file(path) == dmm::service::metrics_page();
  CHECK(same);
}

TEST_CASE("metrics: the dashboard and the alerts speak of metrics that there are",
          "[service][metrics][unit]") {
  const std::string dashboard = file_of("dashboard.json");
  const auto parsed = nlohmann::json::parse(dashboard);
  CHECK(parsed.at("panels").size() >= 10);
  std::set<std::string> named = metrics_in(dashboard);
  CHECK(named.size() >= 20);
  named.merge(metrics_in(file_of("alerts.yaml")));
  for (const std::string& name : named) {
    INFO(name);
    CHECK(is_metric(name));
  }
}

TEST_CASE("metrics: every alert has its part of the page", "[service][metrics][unit]") {
  const std::string rules = file_of("alerts.yaml");
  const std::string page =
      dmm::testing::read_file(std::string(DMM_DOCS_DIR) + "/reference/alerts.md");
  static const std::regex kAlert("- alert: (\\w+)");
  std::size_t count = 0;
  for (std::sregex_iterator at(rules.begin(), rules.end(), kAlert), end; at != end; ++at, ++count) {
    INFO((*at)[1].str());
    CHECK(page.find("\n## " + (*at)[1].str() + "\n") != std::string::npos);
  }
  CHECK(count >= 10);
}
