// engine_bench WORKLOAD SIZE [--updates N] [--batches N] [--json-input]
//
// Loads SIZE rows in chunks of 100,000, then times single updates and batches of 1,000 updates.
// After each phase the sum of the outputs is compared, row by row, with a recomputation from all
// rows; a difference fails the run. Prints one JSON object.
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <unordered_map>

#include "engine/program.h"
#include "tests/bench/engine/workload.h"

namespace {

using namespace dmm::engine;
using dmm::bench::Event;
using dmm::bench::Events;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}
double cpu_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

long resident_kb(const char* key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.rfind(key, 0) == 0) return std::stol(line.substr(std::string(key).size() + 1));
  return 0;
}

// Turns rows of words into decoded documents, or into JSON text that is decoded within the step.
class Feeder {
 public:
  Feeder(Program& program, const dmm::bench::Shape& shape, bool text)
      : program_(program), shape_(shape), text_(text) {
    for (const auto& columns : shape.columns) {
      std::vector<std::string> sorted = columns;
      std::sort(sorted.begin(), sorted.end());
      std::vector<Value> keys;
      for (const std::string& name : sorted) keys.push_back(Value::string(name));
      shapes_.emplace_back(Shape::make(std::move(keys)));
      auto& places = places_.emplace_back();
      for (const std::string& name : sorted)
        places.push_back(static_cast<std::size_t>(std::find(columns.begin(), columns.end(), name) -
                                                  columns.begin()));
    }
  }

  void prepare(const Events& events) {
    texts_.clear();
    for (auto& [name, batch] : input_.batches) batch.clear();
    for (const Event& event : events) {
      if (text_)
        texts_.push_back(json_of(event));
      else
        input_.batches[shape_.inputs[event.input]].push_back(Row{document(event), event.weight});
    }
  }
  // The part that counts as work when the input is text.
  void decode(const Events& events) {
    if (!text_) return;
    std::string error;
    for (std::size_t i = 0; i < events.size(); ++i) {
      Value value;
      const std::string& input = shape_.inputs[events[i].input];
      if (!program_.decode(input, texts_[i], value, error)) std::abort();
      input_.batches[input].push_back(Row{std::move(value), events[i].weight});
    }
  }
  const StepInput& input() const { return input_; }
  void forget() {
    input_.batches.clear();
    texts_ = {};
  }

 private:
  Value document(const Event& event) const {
    Value values[6];
    const auto& places = places_[event.input];
    for (std::size_t i = 0; i < places.size(); ++i)
      values[i] = Value::integer(event.row[places[i]]);
    return Value::object(*shapes_[event.input], {values, places.size()});
  }
  std::string json_of(const Event& event) const {
    std::string out = "{";
    const auto& columns = shape_.columns[event.input];
    for (std::size_t i = 0; i < columns.size(); ++i)
      out += (i == 0 ? "\"" : ",\"") + columns[i] + "\":" + std::to_string(event.row[i]);
    return out + "}";
  }
  Program& program_;
  const dmm::bench::Shape& shape_;
  bool text_;
  std::vector<ShapePtr> shapes_;
  std::vector<std::vector<std::size_t>> places_;
  std::vector<std::string> texts_;
  StepInput input_;
};

std::uint32_t word(ValueRef row, const char* name) {
  ValueRef value;
  if (!row.find(name, value)) std::abort();
  return static_cast<std::uint32_t>(value.as_integer());
}

std::vector<std::uint32_t> words_of(const std::string& workload, ValueRef row) {
  if (workload == "w1") return {word(row, "id"), word(row, "v")};
  if (workload == "w2") {
    ValueRef list;
    if (!row.find("ips", list)) std::abort();
    std::vector<std::uint32_t> words = {word(row, "id"), static_cast<std::uint32_t>(list.size())};
    for (std::size_t i = 0; i < list.size(); ++i)
      words.push_back(static_cast<std::uint32_t>(list.at(i).as_integer()));
    return words;
  }
  if (workload == "w3" || workload == "w3h") {
    ValueRef sum;
    if (!row.find("s", sum)) std::abort();
    const auto total = static_cast<std::uint64_t>(sum.as_integer());
    return {word(row, "g"),
            word(row, "c"),
            static_cast<std::uint32_t>(total),
            static_cast<std::uint32_t>(total >> 32),
            word(row, "lo"),
            word(row, "hi")};
  }
  if (workload == "w4") {
    if (word(row, "t") == 1) return {1, word(row, "d"), word(row, "k")};
    return {0, word(row, "d"), word(row, "k"), word(row, "v")};
  }
  if (workload == "q3") return {word(row, "a"), word(row, "p"), word(row, "st")};
  return {word(row, "cat"), word(row, "avg")};
}

class Run {
 public:
  Run(std::string workload, std::uint32_t size, bool text)
      : workload_(std::move(workload)),
        shape_(dmm::bench::shape_of(workload_)),
        program_(Program::parse(shape_.pipeline)),
        generator_(workload_, size),
        feeder_(program_, shape_, text) {}

  double step(const Events& events) {
    feeder_.prepare(events);
    const auto start = Clock::now();
    feeder_.decode(events);
    if (!program_.step(feeder_.input(), result_)) std::abort();
    const double time = seconds_since(start);
    if (!result_.errors.empty()) {
      std::cerr << to_text(result_.errors.front().value) << "\n";
      std::exit(1);
    }
    for (const Row& row : result_.outputs["output"])
      checksum_.add(words_of(workload_, row.value), row.weight);
    return time;
  }
  void check(const Events& all, const char* phase) const {
    dmm::bench::Checksum expected;
    for (const auto& [words, weight] : dmm::bench::recompute(workload_, all))
      expected.add(words, weight);
    if (expected == checksum_) return;
    std::cerr << workload_ << " " << phase << ": checksum " << checksum_.rows << "/"
              << checksum_.sum << ", recomputed " << expected.rows << "/" << expected.sum << "\n";
    std::exit(1);
  }
  // So that what is measured is the engine's state and not the last chunk.
  void forget_rows() {
    feeder_.forget();
    result_ = {};
  }
  dmm::bench::Generator& generator() { return generator_; }
  const dmm::bench::Checksum& checksum() const { return checksum_; }

 private:
  std::string workload_;
  dmm::bench::Shape shape_;
  Program program_;
  dmm::bench::Generator generator_;
  Feeder feeder_;
  StepResult result_;
  dmm::bench::Checksum checksum_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: engine_bench w1|w2|w3|w3h|w4|q3|q4 SIZE [--updates N] [--batches N] "
                 "[--json-input] [--no-check]\n";
    return 2;
  }
  const std::string workload = argv[1];
  const auto size = static_cast<std::uint32_t>(std::stoul(argv[2]));
  std::size_t updates = 10000;
  std::size_t batches = 20;
  bool text = false;
  bool check = true;
  for (int i = 3; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--updates" && i + 1 < argc) updates = std::stoul(argv[++i]);
    if (option == "--batches" && i + 1 < argc) batches = std::stoul(argv[++i]);
    if (option == "--json-input") text = true;
    if (option == "--no-check") check = false;
  }
  Run run(workload, size, text);
  Events all;
  run.generator().load(all);
  const std::size_t rows = all.size();
  const long rss_before = resident_kb("VmRSS");
  double load = 0;
  {
    Events chunk;
    for (std::size_t at = 0; at < all.size(); at += 100000) {
      chunk.assign(all.begin() + static_cast<std::ptrdiff_t>(at),
                   all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), at + 100000)));
      load += run.step(chunk);
    }
  }
  run.forget_rows();
  malloc_trim(0);
  const long rss_after = resident_kb("VmRSS");
  if (check) run.check(all, "load");
  std::vector<double> times;
  Events events;
  const double cpu_before = cpu_seconds();
  for (std::size_t i = 0; i < updates; ++i) {
    events.clear();
    run.generator().update(events);
    times.push_back(run.step(events) * 1e6);
    if (check) all.insert(all.end(), events.begin(), events.end());
  }
  const double cpu =
      (cpu_seconds() - cpu_before) * 1e6 / static_cast<double>(std::max<std::size_t>(updates, 1));
  if (check) run.check(all, "single updates");
  double batch_time = 0;
  for (std::size_t i = 0; i < batches; ++i) {
    events.clear();
    for (int j = 0; j < 1000; ++j) run.generator().update(events);
    batch_time += run.step(events);
    if (check) all.insert(all.end(), events.begin(), events.end());
  }
  if (check) run.check(all, "batches");
  std::sort(times.begin(), times.end());
  const auto at = [&times](double p) {
    return times.empty()
               ? 0.0
               : times[std::min(times.size() - 1,
                                static_cast<std::size_t>(p * static_cast<double>(times.size())))];
  };
  std::printf(
      "{\"workload\":\"%s\",\"input\":\"%s\",\"size\":%u,\"rows\":%zu,\"load_rows_s\":%.0f,\"p50_"
      "us\":%.2f,\"p99_us\":%.2f,"
      "\"max_us\":%.1f,\"cpu_us\":%.2f,\"batch_updates_s\":%.0f,\"bytes_row\":%.0f,\"checked\":%s,"
      "\"sum\":[%lld,%u]}\n",
      workload.c_str(), text ? "json" : "rows", size, rows, static_cast<double>(rows) / load,
      at(0.5), at(0.99), times.empty() ? 0 : times.back(), cpu,
      static_cast<double>(batches) * 1000 / batch_time,
      static_cast<double>(rss_after - rss_before) * 1024 / static_cast<double>(rows),
      check ? "true" : "false", static_cast<long long>(run.checksum().rows), run.checksum().sum);
}
