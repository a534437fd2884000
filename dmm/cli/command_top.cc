// top: what the workers of a namespace do, live.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <map>

#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/program.h"
#include "dmm/cli/repeat.h"
#include "dmm/cli/table.h"
#include "dmm/limits.h"

namespace dmm::cli {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// What all workers of a type say together.
struct TypeTotal {
  std::size_t workers = 0;
  std::size_t lanes = 0;
  std::size_t waiting = 0;
  std::size_t running = 0;
  std::size_t parked = 0;
  milliseconds oldest{0};
  bool paused = false;
  double runs_per_s = 0;
  double failed_per_s = 0;
};

/// Counters of a worker for one type, to see how they grow.
struct Counters {
  std::uint64_t runs = 0;
  std::uint64_t failed = 0;
};

class Top final {
 public:
  explicit Top(Bucket bucket) : bucket_(std::move(bucket)) {}

  void look() {
    workers_ = bucket_.workers(milliseconds(limits::roll_call));
    const auto now = steady_clock::now();
    const std::chrono::duration<double> since =
        looked_at_ ? now - *looked_at_ : steady_clock::duration{};
    std::map<std::pair<std::string, std::string>, Counters> counters;
    types_.clear();
    for (const WorkerInfo& worker : workers_) {
      for (const WorkerType& type : worker.types) {
        const Counters present{type.runs, type.failed};
        counters[{worker.id, type.type}] = present;
        add(types_[type.type], type);
        const auto before = counters_.find({worker.id, type.type});
        if (before == counters_.end() || since.count() <= 0) continue;
        add_rates(types_[type.type], before->second, present, since.count());
      }
    }
    counters_ = std::move(counters);
    looked_at_ = now;
    outstanding_ = 0;
    for (const transport::StreamState& stream : bucket_.inspect().streams()) {
      if (stream.name.ends_with("_WORK")) outstanding_ = stream.messages;
    }
    views_ = bucket_.views().list();
  }

  void show(Session& session) const {
    if (session.json()) return session.show(document());
    const auto ready = std::ranges::count_if(
        workers_, [](const WorkerInfo& worker) { return worker.not_ready.empty(); });
    session.say(fmt::format("{}: {}, {} ready; {} outstanding", bucket_.ns(),
                            counted(workers_.size(), "worker", "workers"), ready,
                            human_count(outstanding_)));
    Table types({{.title = "TYPE"},
                 {.title = "RUNS/S", .number = true},
                 {.title = "FAILED/S", .number = true},
                 {.title = "WAITING", .number = true},
                 {.title = "RUNNING", .number = true},
                 {.title = "PARKED", .number = true},
                 {.title = "OLDEST", .number = true},
                 {.title = "LANES", .number = true},
                 {.title = "WORKERS", .number = true},
                 {.title = "STATE"}});
    for (const auto& [name, total] : types_) types.add(row_of(name, total));
    if (!types.empty()) session.out().write(types.render(session.terminal()));
    if (views_.empty()) return;
    const Time now = std::chrono::system_clock::now();
    Table views({{.title = "VIEW"},
                 {.title = "ROWS", .number = true},
                 {.title = "SENDING", .number = true},
                 {.title = "HELD", .number = true},
                 {.title = "NEWEST CHANGE", .flexible = true}});
    for (const ViewInfo& view : views_) {
      std::int64_t newest = 0;
      for (const ViewInputInfo& input : view.inputs) newest = std::max(newest, input.changed_at);
      views.add({{view.name},
                 {human_count(view.rows)},
                 {human_count(view.sending)},
                 {human_count(view.held), view.held > 0 ? Color::red : Color::none},
                 {newest > 0 ? human_age(Time(milliseconds(newest)), now) : ""}});
    }
    session.out().write("\n" + views.render(session.terminal()));
  }

 private:
  static void add(TypeTotal& total, const WorkerType& type) {
    ++total.workers;
    total.lanes += type.lanes.size();
    total.waiting += type.waiting;
    total.running += type.running;
    total.parked += type.parked;
    total.oldest = std::max(total.oldest, type.oldest);
    total.paused = total.paused || type.paused;
  }
  static void add_rates(TypeTotal& total, const Counters& before, const Counters& now,
                        double seconds) {
    total.runs_per_s += static_cast<double>(now.runs - std::min(now.runs, before.runs)) / seconds;
    total.failed_per_s +=
        static_cast<double>(now.failed - std::min(now.failed, before.failed)) / seconds;
  }
  static std::vector<Table::Cell> row_of(const std::string& name, const TypeTotal& total) {
    const bool short_of = total.lanes < limits::lanes;
    std::string state = short_of ? "lanes without a worker" : "";
    if (total.paused) state = "paused";
    return {{name},
            {fmt::format("{:.1f}", total.runs_per_s)},
            {fmt::format("{:.1f}", total.failed_per_s),
             total.failed_per_s > 0 ? Color::yellow : Color::none},
            {human_count(total.waiting)},
            {human_count(total.running)},
            {human_count(total.parked), total.parked > 0 ? Color::red : Color::none},
            {total.oldest.count() > 0 ? human_duration(total.oldest) : ""},
            {std::to_string(total.lanes), short_of ? Color::yellow : Color::none},
            {std::to_string(total.workers)},
            {state, Color::yellow}};
  }
  nlohmann::json document() const {
    auto types = nlohmann::json::array();
    for (const auto& [name, total] : types_) {
      types.push_back({{"type", name},
                       {"runs_per_s", total.runs_per_s},
                       {"failed_per_s", total.failed_per_s},
                       {"waiting", total.waiting},
                       {"running", total.running},
                       {"parked", total.parked},
                       {"oldest_ms", total.oldest.count()},
                       {"lanes", total.lanes},
                       {"workers", total.workers},
                       {"paused", total.paused}});
    }
    return {
        {"workers", workers_.size()}, {"outstanding", outstanding_}, {"types", std::move(types)}};
  }

  Bucket bucket_;
  std::vector<WorkerInfo> workers_;
  std::map<std::string, TypeTotal> types_;
  std::map<std::pair<std::string, std::string>, Counters> counters_;  ///< by worker and type
  std::optional<steady_clock::time_point> looked_at_;
  std::uint64_t outstanding_ = 0;
  std::vector<ViewInfo> views_;
};

struct TopOptions {
  double every_s = 2;
  std::uint64_t times = 0;
};

int top(Session& session, const TopOptions& options) {
  Top state(session.open());
  return repeat(session, "dmm top", options.every_s, options.times, [&] {
    state.look();
    state.show(session);
  });
}

}  // namespace

void add_top_commands(Program& program) {
  auto options = std::make_shared<TopOptions>();
  CLI::App* verb =
      program.add_verb("top", "Show live what workers do: rates, backlog, age, parked", "Look",
                       {"dmm top                        every 2 s, until Ctrl-C",
                        "dmm top --count 2 -o json | tail -1 | jq '.types[].runs_per_s'"},
                       [options](Session& session) { return top(session, *options); });
  verb->add_option("--every", options->every_s, "Seconds between two looks")
      ->check(CLI::Range(0.1, 86'400.0))
      ->capture_default_str()
      ->type_name("SECONDS");
  verb->add_option("--count", options->times, "End after so many looks")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000'000}))
      ->type_name("N");
}

}  // namespace dmm::cli
