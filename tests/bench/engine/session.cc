#include "tests/bench/engine/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>

#include "tests/bench/engine/children.h"

namespace dmm::bench {
namespace {

// In turns. Those who are compared follow each other closely.
constexpr const char* kOwn[] = {"ceiling", "dmm", "ceiling-json", "dmm-json"};

void progress(const std::string& text) {
  fmt::print(stderr, "    {}\n", text);
}

std::string text_of(const std::vector<Checksum>& sums) {
  std::string text;
  for (const Checksum& sum : sums) {
    text += fmt::format("{}{} rows, {:08x}", text.empty() ? "" : "; ", sum.rows, sum.sum);
  }
  return text;
}

/// What other work on the machine disturbed least.
void keep_best(Measurement& best, const Measurement& next) {
  for (double Measurement::*time :
       {&Measurement::load_s, &Measurement::load_cpu_s, &Measurement::p50_us, &Measurement::p99_us,
        &Measurement::max_us, &Measurement::updates_cpu_s, &Measurement::report_cpu_s,
        &Measurement::batch_s, &Measurement::batch_cpu_s, &Measurement::row_bytes}) {
    best.*time = std::min(best.*time, next.*time);
  }
}

}  // namespace

Session::Session(const Options& options) : options_(options) {
  if (options_.peers.empty()) notes_.push_back("without db-ivm: its npm package is not installed");
  const bool counts = options_.instructions && has_program("valgrind");
  if (options_.instructions && !counts) {
    notes_.push_back("without instructions: there is no valgrind");
  }
  for (const std::uint32_t size : options_.sizes) {
    for (const std::string& workload : options_.workloads) {
      run(workload, size);
      if (counts && size <= 100'000) count_instructions(workload, size);
    }
  }
}

const Measurement* Session::find(const std::string& subject, const std::string& workload,
                                 std::uint32_t size) const {
  const auto found = best_.find({subject, workload, size});
  return found == best_.end() || wrong_.contains(found->first) ? nullptr : &found->second;
}

std::optional<double> Session::instructions(const std::string& subject, const std::string& workload,
                                            std::uint32_t size) const {
  const auto found = instructions_.find({subject, workload, size});
  if (found == instructions_.end()) return std::nullopt;
  return found->second;
}

void Session::run(const std::string& workload, std::uint32_t size) {
  for (int round = 0; round < options_.rounds; ++round) {
    progress(fmt::format("{} {}, round {} of {}", workload, size_name(size), round + 1,
                         options_.rounds));
    for (const char* subject : kOwn) {
      const Task task = own_task(subject, workload, size);
      take(task, measure_in_child(task));
    }
    if (round == 0) check(workload, size);
    if (round == 0 || options_.full) run_peers(workload, size);
  }
}

void Session::run_peers(const std::string& workload, std::uint32_t size) {
  const Task sqlite = peer_task("sqlite", workload, size);
  const Measurement measurement = measure_in_child(sqlite);
  take(sqlite, measurement);
  check_peer(sqlite, measurement);
  if (!db_ivm_takes(workload, size)) return;
  const Task db_ivm = peer_task(kDbIvm, workload, size);
  const Measurement other = measure_db_ivm(options_.peers, db_ivm);
  take(db_ivm, other);
  check_peer(db_ivm, other);
}

void Session::take(const Task& task, const Measurement& measurement) {
  const auto [at, first] = best_.try_emplace({task.subject, task.workload, task.size}, measurement);
  if (first) return;
  if (at->second.sums != measurement.sums) {
    throw std::runtime_error(fmt::format("{} {}: {} has another result in another round: {}; {}",
                                         task.workload, size_name(task.size), task.subject,
                                         text_of(at->second.sums), text_of(measurement.sums)));
  }
  keep_best(at->second, measurement);
}

// dmm against the ceiling: after load, single updates and batches, both inputs.
void Session::check(const std::string& workload, std::uint32_t size) {
  const auto& ceiling = best_.at({"ceiling", workload, size}).sums;
  for (const char* subject : kOwn) {
    const auto& sums = best_.at({subject, workload, size}).sums;
    // At 1M rows fewer updates come as text.
    const bool same_updates =
        own_task(subject, workload, size).updates == own_task("ceiling", workload, size).updates;
    const std::size_t points = same_updates ? sums.size() : 1;
    if (std::equal(sums.begin(), sums.begin() + static_cast<std::ptrdiff_t>(points),
                   ceiling.begin())) {
      continue;
    }
    throw std::runtime_error(fmt::format("{} {}: {} has another result than the ceiling: {}; {}",
                                         workload, size_name(size), subject, text_of(sums),
                                         text_of(ceiling)));
  }
}

// SQLite is the judge: if its answer from all rows is not the ceiling's, the run is void. Peers do
// fewer updates than dmm where they are slow, so dmm and the ceiling run once with as many.
void Session::check_peer(const Task& task, const Measurement& measurement) {
  const auto expect = [this](Task own, const char* subject) {
    own.subject = subject;
    const auto [at, first] = expected_.try_emplace(own);
    if (first) at->second = measure_in_child(own).sums;
    return at->second;
  };
  const auto ceiling = expect(task, "ceiling");
  const bool judge = !measurement.recomputed.empty();
  const auto& truth = judge ? measurement.recomputed : ceiling;
  const std::string where = fmt::format("{} {}", task.workload, size_name(task.size));
  const auto fail = [&](const std::string& who, const std::vector<Checksum>& sums) {
    throw std::runtime_error(fmt::format("{}: {} has another result than SQLite: {}; {}", where,
                                         who, text_of(sums), text_of(truth)));
  };
  if (judge) {
    if (ceiling != truth) fail("the ceiling", ceiling);
    if (const auto sums = expect(task, "dmm"); sums != truth) fail("dmm", sums);
  }
  if (measurement.sums == truth) return;
  wrong_.insert({task.subject, task.workload, task.size});
  notes_.push_back(fmt::format("{}: {} is WRONG, so its figures are left out: {}; right: {}", where,
                               task.subject, text_of(measurement.sums), text_of(truth)));
}

void Session::count_instructions(const std::string& workload, std::uint32_t size) {
  for (const char* subject : kOwn) {
    progress(fmt::format("{} {}, instructions of {}", workload, size_name(size), subject));
    Task task = own_task(subject, workload, size);
    instructions_[{subject, workload, size}] = static_cast<double>(bench::instructions(task));
  }
}

Task Session::own_task(const std::string& subject, const std::string& workload,
                       std::uint32_t size) const {
  const bool text = subject.ends_with("-json");
  std::size_t updates = size >= 1'000'000 && !text && !is_reports(workload) ? 100'000 : 10'000;
  if (options_.quick) updates = 2'000;
  return {subject, workload, size, options_.updates.value_or(updates), options_.quick ? 5U : 20U};
}

Task Session::peer_task(const std::string& subject, const std::string& workload,
                        std::uint32_t size) const {
  std::size_t updates = options_.quick ? 200 : 1'000;
  std::size_t batches = 2;
  // They look at the whole group.
  if (workload == "W3h" && size >= 10'000) updates = 200;
  if (workload == "W3h" && size >= 100'000) updates = 20;
  if (workload == "W3h" && size >= 1'000'000) updates = 5;
  if (workload == "W3h" && size >= 100'000) batches = 1;
  return {subject, workload, size, std::min(updates, options_.updates.value_or(updates)), batches};
}

bool Session::db_ivm_takes(const std::string& workload, std::uint32_t size) const {
  if (options_.peers.empty() || workload == "endpoints" || is_reports(workload)) return false;
  return size < 1'000'000 || options_.full;
}

}  // namespace dmm::bench
