// Why a row of a view is as it is.
//
// An input row belongs to a row of the view if that would be another one without it. So each input
// row is taken away in a step of the engine and put back in the next: two steps that cost what a
// change costs, whatever the operators are.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "dmm/json.h"
#include "dmm/view/beside.h"

namespace dmm::view {

using engine::Value;

namespace {

constexpr std::size_t kRowsShown = 20;  ///< of one operator

std::string words_of(const engine::Operator& op) {
  const nlohmann::json details = op.describe();
  std::string words(op.type());
  if (!details.empty()) words += " " + details.dump();
  return words;
}

class Explainer {
 public:
  Explainer(const internal::Streams& streams, const View& view, std::string_view id,
            const CompareOptions& options)
      : options_(options),
        key_(view.key),
        id_(id),
        beside_(streams, view, options, Inputs::Keep::positions),
        computation_(beside_.computation()) {}

  RowExplanation run() {
    explanation_.id = id_;
    collect_rows();
    find_inputs();
    trace_operators();
    std::ranges::sort(explanation_.inputs, std::ranges::greater{}, &InputRow::changed_at);
    return std::move(explanation_);
  }

 private:
  void collect_rows() {
    if (const Rows::Slot* slot = computation_.rows().find(id_)) {
      if (slot->twice) {
        for (std::size_t i = 0; i < slot->all.size(); ++i) {
          explanation_.rows.push_back(engine::to_json(slot->all.row(i).value));
        }
      } else if (slot->row.kind() != engine::Kind::null) {
        explanation_.rows.push_back(engine::to_json(slot->row));
      }
    }
    explanation_.absent = explanation_.rows.empty();
  }

  /// One step in which a row of an input goes or comes; true if it touches the row in question.
  bool step(const std::string& input, const Value& document, engine::Weight weight) {
    engine::StepInput change;
    change.batches[input].push_back({document, weight});
    const engine::StepResult& result = computation_.step(change);
    const auto& output = result.outputs.find(Computation::kOutput)->second;
    return std::ranges::any_of(
        output, [&](const engine::Row& row) { return id_of(row.value, key_) == id_; });
  }

  void find_inputs() {
    computation_.inputs().each([&](const std::string& input, const std::string& key,
                                   const Value& document, const std::string& position,
                                   std::chrono::system_clock::time_point changed_at) {
      if (options_.stop.stop_requested()) throw Error(code::run_cancelled, "interrupted");
      if (++explanation_.input_rows % 1'000 == 0 && options_.on_progress) {
        options_.on_progress(explanation_.input_rows);
      }
      // Without a row, what would have to lead to it is what has its name.
      bool belongs = explanation_.absent && key == id_;
      if (!explanation_.absent) {
        belongs = step(input, document, -1);
        step(input, document, 1);
      }
      if (!belongs) return;
      explanation_.inputs.push_back(
          {input, key, engine::to_json(document), position,
           std::chrono::duration_cast<std::chrono::milliseconds>(changed_at.time_since_epoch())
               .count()});
      found_.emplace_back(input, document);
    });
  }

  /// Takes what was found away once more, together for the order of the operators, then one by one
  /// for what each of them takes back with it.
  void trace_operators() {
    computation_.circuit().observe(
        [this](std::string_view node, const engine::Operator& op, const engine::Batch& emitted) {
          if (taken_ == nullptr) return;
          NodeRows& rows = (*taken_)[std::string(node)];
          for (const engine::Row& row : emitted) {
            if (row.weight < 0) rows.insert(engine::to_text(row.value));
          }
          if (ordering_) explanation_.operators.push_back({std::string(node), words_of(op), {}});
        });
    Taken all;
    ordering_ = true;
    step_all(all, -1);
    ordering_ = false;
    std::vector<Taken> each(found_.size());
    for (std::size_t i = 0; i < found_.size(); ++i) {
      taken_ = &each[i];
      step(found_[i].first, found_[i].second, -1);
      taken_ = nullptr;
      step(found_[i].first, found_[i].second, 1);
    }
    computation_.circuit().observe({});
    for (OperatorRows& one : explanation_.operators) show(one, each);
  }

  using NodeRows = std::set<std::string>;
  using Taken = std::map<std::string, NodeRows>;

  void step_all(Taken& taken, engine::Weight weight) {
    engine::StepInput change;
    for (const auto& [input, document] : found_)
      change.batches[input].push_back({document, weight});
    taken_ = &taken;
    static_cast<void>(computation_.step(change));
    taken_ = nullptr;
    for (auto& [input, batch] : change.batches) {
      for (engine::Row& row : batch) row.weight = -weight;
    }
    static_cast<void>(computation_.step(change));
  }

  /// A row that many rest on takes those of others back with it, too: what only it takes back,
  /// while another one takes back less, is not on the way to the row in question.
  void show(OperatorRows& one, const std::vector<Taken>& each) const {
    std::vector<const NodeRows*> sets;
    for (const Taken& taken : each) {
      const auto found = taken.find(one.node);
      if (found != taken.end() && !found->second.empty()) sets.push_back(&found->second);
    }
    NodeRows shown;
    for (const NodeRows* set : sets) {
      const bool wide = std::ranges::any_of(sets, [&](const NodeRows* other) {
        return other->size() < set->size() && std::ranges::includes(*set, *other);
      });
      if (!wide) shown.insert(set->begin(), set->end());
    }
    for (const std::string& text : shown) {
      if (one.rows.size() == kRowsShown) break;
      one.rows.push_back(parse_json(text).value());
    }
  }

  const CompareOptions& options_;
  const std::string key_;
  const std::string id_;
  Beside beside_;
  Computation& computation_;
  RowExplanation explanation_;
  std::vector<std::pair<std::string, Value>> found_;
  Taken* taken_ = nullptr;  ///< of the step under way, while its operators are looked at
  bool ordering_ = false;
};

}  // namespace

RowExplanation explain(const internal::Streams& streams, const View& view, std::string_view id,
                       const CompareOptions& options) {
  return Explainer(streams, view, id, options).run();
}

}  // namespace dmm::view
