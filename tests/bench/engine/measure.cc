#include "tests/bench/engine/measure.h"

#include <malloc.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <tuple>

#include "tests/bench/support/statistics.h"

// The one place of what is timed, with a name that callgrind finds (--toggle-collect).
extern "C" __attribute__((noinline)) void dmm_bench_step(dmm::bench::Subject* subject) {
  subject->step();
}

namespace dmm::bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double cpu_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

double resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::stod(line.substr(6)) * 1024;
  }
  throw std::runtime_error("no VmRSS in /proc/self/status");
}

/// Single updates between two looks at the CPU time.
constexpr std::size_t kBlock = 10;

class Run {
 public:
  explicit Run(const Task& task)
      : task_(task),
        subject_(make_subject(task.subject, task.workload)),
        generator_(make_generator(task.workload, task.size)) {}

  Measurement run() {
    load();
    single_updates();
    batches();
    return result_;
  }

 private:
  /// Makes a step of what is in events_ and counts its changes. Returns its time and, if `cpu` is
  /// not null, adds its CPU time to it: a system call, which very short steps would feel.
  double step(double* cpu) {
    subject_->prepare(events_);
    const double cpu_before = cpu != nullptr ? cpu_seconds() : 0;
    const auto start = Clock::now();
    dmm_bench_step(subject_.get());
    const double time = seconds_since(start);
    if (cpu != nullptr) *cpu += cpu_seconds() - cpu_before;
    changes_.clear();
    subject_->changes(changes_);
    sum_.add(changes_);
    return time;
  }

  void load() {
    const double before = resident_bytes();
    bool more = true;
    while (more) {
      events_.clear();
      while (events_.size() < kLoadRows && (more = generator_->load(events_))) continue;
      if (events_.empty()) break;
      result_.rows += events_.size();
      result_.load_s += step(&result_.load_cpu_s);
    }
    events_ = Events();
    changes_ = {};
    subject_->forget();
    ::malloc_trim(0);
    result_.row_bytes = (resident_bytes() - before) / static_cast<double>(result_.rows);
    end_phase();
  }

  void single_updates() {
    std::vector<double> times;
    times.reserve(task_.updates);
    double* const cpu = is_reports(task_.workload) ? &result_.report_cpu_s : nullptr;
    while (times.size() < task_.updates) {
      const double cpu_before = cpu_seconds();
      double longest = 0;
      for (std::size_t i = 0; i < kBlock && times.size() < task_.updates; ++i) {
        events_.clear();
        generator_->update(events_);
        times.push_back(step(cpu));
        longest = std::max(longest, times.back());
      }
      const double used = cpu_seconds() - cpu_before;
      result_.updates_cpu_s += used;
      result_.max_us = std::max(result_.max_us, std::min(longest, used) * 1e6);
    }
    result_.updates = times.size();
    if (!times.empty()) {
      result_.p50_us = quantile(times, 0.5) * 1e6;
      result_.p99_us = quantile(std::move(times), 0.99) * 1e6;
    }
    end_phase();
  }

  void batches() {
    const std::size_t updates = is_reports(task_.workload) ? kBatchReports : kBatchUpdates;
    for (std::size_t i = 0; i < task_.batches; ++i) {
      events_.clear();
      for (std::size_t j = 0; j < updates; ++j) generator_->update(events_);
      result_.batch_s += step(&result_.batch_cpu_s);
    }
    result_.batch_updates = task_.batches * updates;
    end_phase();
  }

  void end_phase() {
    result_.sums.push_back(sum_);
    Changes rows;
    if (!subject_->recompute(rows)) return;
    Checksum all;
    all.add(rows);
    result_.recomputed.push_back(all);
  }

  const Task& task_;
  std::unique_ptr<Subject> subject_;
  std::unique_ptr<Generator> generator_;
  Events events_;
  Changes changes_;
  Checksum sum_;
  Measurement result_;
};

nlohmann::json sums_to_json(const std::vector<Checksum>& sums) {
  nlohmann::json list = nlohmann::json::array();
  for (const Checksum& sum : sums) list.push_back({sum.rows, sum.sum});
  return list;
}

std::vector<Checksum> sums_from_json(const nlohmann::json& list) {
  std::vector<Checksum> sums;
  for (const auto& sum : list) sums.push_back({sum.at(0), sum.at(1)});
  return sums;
}

}  // namespace

bool Task::operator<(const Task& other) const {
  return std::tie(subject, workload, size, updates, batches) <
         std::tie(other.subject, other.workload, other.size, other.updates, other.batches);
}

std::unique_ptr<Subject> make_subject(const std::string& subject, const std::string& workload) {
  if (subject == "dmm") return make_dmm(workload, false);
  if (subject == "dmm-json") return make_dmm(workload, true);
  if (subject == "ceiling") return make_ceiling(workload, false);
  if (subject == "ceiling-json") return make_ceiling(workload, true);
  if (subject == "sqlite") return make_sqlite(workload);
  throw std::invalid_argument("there is no subject " + subject);
}

Measurement measure(const Task& task) {
  return Run(task).run();
}

nlohmann::json to_json(const Measurement& m) {
  return {{"rows", m.rows},
          {"updates", m.updates},
          {"load_s", m.load_s},
          {"load_cpu_s", m.load_cpu_s},
          {"p50_us", m.p50_us},
          {"p99_us", m.p99_us},
          {"max_us", m.max_us},
          {"updates_cpu_s", m.updates_cpu_s},
          {"report_cpu_s", m.report_cpu_s},
          {"batch_s", m.batch_s},
          {"batch_cpu_s", m.batch_cpu_s},
          {"batch_updates", m.batch_updates},
          {"row_bytes", m.row_bytes},
          {"sums", sums_to_json(m.sums)},
          {"recomputed", sums_to_json(m.recomputed)}};
}

Measurement measurement_from_json(const nlohmann::json& json) {
  Measurement m;
  m.rows = json.at("rows");
  m.updates = json.at("updates");
  m.load_s = json.at("load_s");
  m.load_cpu_s = json.at("load_cpu_s");
  m.p50_us = json.at("p50_us");
  m.p99_us = json.at("p99_us");
  m.max_us = json.at("max_us");
  m.updates_cpu_s = json.at("updates_cpu_s");
  m.report_cpu_s = json.at("report_cpu_s");
  m.batch_s = json.at("batch_s");
  m.batch_cpu_s = json.at("batch_cpu_s");
  m.batch_updates = json.at("batch_updates");
  m.row_bytes = json.at("row_bytes");
  m.sums = sums_from_json(json.at("sums"));
  m.recomputed = sums_from_json(json.at("recomputed"));
  return m;
}

}  // namespace dmm::bench
