// dmm's engine, through the interface that its users have.

#include <absl/container/flat_hash_map.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>

#include "engine/program.h"
#include "tests/bench/engine/form.h"
#include "tests/bench/engine/subject.h"

namespace dmm::bench {
namespace {

using engine::Program;
using engine::Row;
using engine::ValueRef;

ValueRef member(ValueRef row, std::string_view name) {
  ValueRef value;
  if (!row.find(name, value)) throw std::runtime_error(fmt::format("no {} in the result", name));
  return value;
}

std::uint32_t word(ValueRef row, const char* name) {
  return static_cast<std::uint32_t>(member(row, name).as_integer());
}

// Rows of the result as words: one function for each make of result.
void add_filtered(const Row& row, Changes& out) {
  out.add(row.weight, {word(row.value, "id"), word(row.value, "v")});
}

void add_addresses(const Row& row, Changes& out) {
  const ValueRef list = member(row.value, "ips");
  std::vector<std::uint32_t> words;
  for (std::size_t i = 0; i < list.size(); ++i) {
    words.push_back(static_cast<std::uint32_t>(list.at(i).as_integer()));
  }
  const std::uint32_t head[] = {word(row.value, "id"), static_cast<std::uint32_t>(words.size())};
  out.add(row.weight, head, words);
}

void add_group(const Row& row, Changes& out) {
  const auto sum = static_cast<std::uint64_t>(member(row.value, "s").as_integer());
  out.add(row.weight,
          {word(row.value, "g"), word(row.value, "c"), static_cast<std::uint32_t>(sum),
           static_cast<std::uint32_t>(sum >> 32), word(row.value, "lo"), word(row.value, "hi")});
}

void add_difference(const Row& row, Changes& out) {
  if (word(row.value, "t") == 0) {
    out.add(row.weight, {0, word(row.value, "d"), word(row.value, "k"), word(row.value, "v")});
  } else {
    out.add(row.weight, {1, word(row.value, "d"), word(row.value, "k")});
  }
}

void add_seller(const Row& row, Changes& out) {
  out.add(row.weight, {word(row.value, "a"), word(row.value, "p"), word(row.value, "st")});
}

void add_average(const Row& row, Changes& out) {
  out.add(row.weight, {word(row.value, "cat"), word(row.value, "avg")});
}

void add_endpoints(const Row& row, Changes& out) {
  const ValueRef list = member(row.value, "addresses");
  std::vector<std::uint32_t> words;
  for (std::size_t i = 0; i < list.size(); ++i) {
    words.push_back(address_number(list.at(i).as_string()));
  }
  // Texts have another order than the numbers that they stand for.
  std::sort(words.begin(), words.end());
  const ValueRef name = member(member(row.value, "metadata"), "name");
  const std::uint32_t head[] = {service_number(name.as_string()),
                                static_cast<std::uint32_t>(words.size())};
  out.add(row.weight, head, words);
}

void add_cells(const Row& row, Changes& out) {
  const ValueRef list = member(row.value, "write");
  const std::uint32_t device = device_number(member(row.value, "device").as_string());
  for (std::size_t i = 0; i < list.size(); ++i) {
    const ValueRef cell = list.at(i);
    out.add(row.weight,
            {device, report_key_number(member(cell, "key").as_string()), word(cell, "want")});
  }
}

using AddRow = void (*)(const Row& row, Changes& out);

AddRow reader_of(const std::string& workload) {
  if (workload == "W1") return add_filtered;
  if (workload == "W2") return add_addresses;
  if (workload == "W4") return add_difference;
  if (workload == "Q3") return add_seller;
  if (workload == "Q4") return add_average;
  if (workload == "endpoints") return add_endpoints;
  if (is_reports(workload)) return add_cells;
  return add_group;
}

class DmmSubject final : public Subject {
 public:
  DmmSubject(std::string workload, bool text)
      : workload_(std::move(workload)),
        form_(form_of(workload_)),
        text_(text),
        program_(Program::parse(form_.program)),
        add_row_(reader_of(workload_)) {}

  void prepare(const Events& events) override {
    for (auto& [name, batch] : input_.batches) batch.clear();
    write_documents(workload_, events, documents_);
    if (text_) return;
    for (std::size_t i = 0; i < documents_.list.size(); ++i) {
      const auto& document = documents_.list[i];
      push(document.input, program_.value(documents_[i]), document.weight);
    }
  }

  void step() override {
    if (text_) decode();
    if (!program_.step(input_, result_)) throw std::runtime_error(result_.failure);
  }

  void changes(Changes& out) override {
    if (!result_.errors.empty()) {
      throw std::runtime_error(engine::to_text(result_.errors.front().value));
    }
    for (const Row& row : result_.outputs["output"]) add_row_(row, out);
  }

  void forget() override {
    input_.batches.clear();
    result_ = {};
    documents_ = {};
  }

 private:
  void decode() {
    std::string error;
    for (std::size_t i = 0; i < documents_.list.size(); ++i) {
      const auto& document = documents_.list[i];
      engine::Value value;
      if (!program_.decode(form_.inputs[document.input], documents_[i], value, error)) {
        throw std::runtime_error(error);
      }
      push(document.input, std::move(value), document.weight);
    }
  }

  void push(std::uint32_t input, engine::Value value, std::int32_t weight) {
    engine::Batch& batch = input_.batches[form_.inputs[input]];
    if (!form_.key.empty()) {
      // As whoever feeds the engine from a key-value store does: the old document goes.
      const std::string_view key = member(value, form_.key).as_string();
      engine::Value& stored =
          stored_[input].try_emplace(absl::string_view(key.data(), key.size())).first->second;
      if (!stored->is_null()) batch.push_back({stored, -1});
      stored = value;
    }
    batch.push_back({std::move(value), weight});
  }

  std::string workload_;
  const Form& form_;
  bool text_;
  Program program_;
  AddRow add_row_;
  Documents documents_;
  engine::StepInput input_;
  engine::StepResult result_;
  std::array<absl::flat_hash_map<std::string, engine::Value>, 2> stored_;
};

}  // namespace

std::unique_ptr<Subject> make_dmm(const std::string& workload, bool text) {
  return std::make_unique<DmmSubject>(workload, text);
}

}  // namespace dmm::bench
