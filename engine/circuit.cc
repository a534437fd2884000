#include "engine/circuit.h"

#include <algorithm>
#include <bit>

#include "engine/error.h"
#include "engine/limits.h"
#include "engine/operators/operators.h"

namespace dmm::engine {

// What is fixed when the circuit is prepared, and the buffers that steps use again.
struct Circuit::Runtime {
  struct Slot {
    std::vector<std::vector<std::size_t>> sources;  // for each port
    std::vector<std::size_t> readers;               // to be woken; delays are not
    std::vector<const Batch*> ports;
    std::vector<Batch> joined;  // for ports with several sources
    Batch out;
    const Batch* result = nullptr;  // what readers see in this step
    std::size_t rank = 0;
    bool delay = false;
  };
  std::vector<Slot> slots;
  std::vector<std::size_t> order;          // rank -> node
  std::vector<std::uint64_t> awake;        // one bit for each rank
  std::vector<std::size_t> self_starting;  // nodes that may want a step
  std::vector<std::size_t> delays;
  std::vector<std::size_t> ran;
  StepContext* context = nullptr;

  void wake(std::size_t rank) { awake[rank / 64] |= std::uint64_t{1} << (rank % 64); }
};

namespace {

const Batch kNothing;

std::string cleaned(const std::string& name) {
  std::string result;
  for (const char c : name) {
    const bool keep =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    if (keep)
      result += c;
    else if (!result.empty() && result.back() != '_')
      result += '_';
  }
  while (!result.empty() && result.back() == '_') result.pop_back();
  result.erase(0, result.find_first_not_of('_') == std::string::npos
                      ? result.size()
                      : result.find_first_not_of('_'));
  return result.empty() ? "unnamed" : result;
}

bool self_starting(const Operator& op) {
  const std::string_view type = op.type();
  return type == "integrate" || type == "differentiate" || type == "delta0";
}

}  // namespace

Circuit::Circuit(std::string name) : name_(std::move(name)) {}
Circuit::Circuit(Circuit&&) noexcept = default;
Circuit& Circuit::operator=(Circuit&&) noexcept = default;
Circuit::~Circuit() = default;

std::size_t Circuit::add(std::string id, OperatorPtr op) {
  if (id.empty()) throw Error("a node needs an id");
  if (nodes_.size() >= limits::kNodesMax)
    throw Error("more nodes than the limit of " + std::to_string(limits::kNodesMax));
  if (!ids_.emplace(id, nodes_.size()).second) throw Error("node " + id + " already exists");
  op->set_incremental(incremental_);
  nodes_.push_back(Node{std::move(id), std::move(op)});
  runtime_.reset();
  return nodes_.size() - 1;
}

std::size_t Circuit::add_input(const std::string& name) {
  if (inputs_.contains(name)) throw Error("input " + name + " already exists");
  std::string id = "input_" + cleaned(name);
  for (int i = 2; has(id); ++i) id = "input_" + cleaned(name) + "_" + std::to_string(i);
  return inputs_[name] = add(id, make_input(name));
}

std::size_t Circuit::add_output(const std::string& name) {
  if (outputs_.contains(name)) throw Error("output " + name + " already exists");
  std::string id = "output_" + cleaned(name);
  for (int i = 2; has(id); ++i) id = "output_" + cleaned(name) + "_" + std::to_string(i);
  return outputs_[name] = add(id, make_output(name));
}

void Circuit::connect(std::size_t from, std::size_t to, std::size_t port) {
  if (from >= nodes_.size() || to >= nodes_.size())
    throw Error("an edge leads to a node that does not exist");
  const Operator& op = *nodes_[to].op;
  if (port >= op.arity() && op.type() != "output")
    throw Error("node " + nodes_[to].id + " (" + std::string(op.type()) + ") has no port " +
                std::to_string(port));
  edges_.push_back(Edge{from, to, op.type() == "output" ? 0 : port});
  runtime_.reset();
}

void Circuit::set_edges(std::vector<Edge> edges) {
  edges_.clear();
  for (const Edge& edge : edges) connect(edge.from, edge.to, edge.port);
}

std::size_t Circuit::find(std::string_view id) const {
  const auto it = ids_.find(id);
  if (it == ids_.end()) throw Error("there is no node " + std::string(id));
  return it->second;
}

bool Circuit::has(std::string_view id) const noexcept {
  return ids_.contains(id);
}

void Circuit::set_incremental(bool incremental) {
  incremental_ = incremental;
  for (Node& node : nodes_) node.op->set_incremental(incremental);
}

Circuit Circuit::clone() const {
  Circuit copy(name_);
  copy.incremental_ = incremental_;
  for (const Node& node : nodes_) copy.add(node.id, node.op->clone());
  copy.edges_ = edges_;
  copy.inputs_ = inputs_;
  copy.outputs_ = outputs_;
  return copy;
}

// Kahn's order; of the nodes that are ready the one that was added first goes first.
std::vector<std::size_t> Circuit::order() const {
  std::vector<std::size_t> waiting(nodes_.size(), 0);
  for (const Edge& edge : edges_)
    if (!is_delay(*nodes_[edge.to].op)) ++waiting[edge.to];
  std::vector<std::size_t> ready;
  for (std::size_t i = nodes_.size(); i-- > 0;)
    if (waiting[i] == 0) ready.push_back(i);
  std::vector<std::vector<std::size_t>> readers(nodes_.size());
  for (const Edge& edge : edges_)
    if (!is_delay(*nodes_[edge.to].op)) readers[edge.from].push_back(edge.to);
  std::vector<std::size_t> result;
  while (!ready.empty()) {
    const std::size_t node = ready.back();
    ready.pop_back();
    result.push_back(node);
    for (const std::size_t reader : readers[node])
      if (--waiting[reader] == 0) ready.push_back(reader);
  }
  if (result.size() == nodes_.size()) return result;
  // Follow unfinished sources until a node comes again: that is a cycle.
  std::size_t at = 0;
  while (waiting[at] == 0) ++at;
  std::vector<std::size_t> trail;
  while (std::find(trail.begin(), trail.end(), at) == trail.end()) {
    trail.push_back(at);
    for (const Edge& edge : edges_)
      if (edge.to == at && waiting[edge.from] != 0 && !is_delay(*nodes_[at].op)) {
        at = edge.from;
        break;
      }
  }
  std::string names = nodes_[at].id;
  for (auto node = trail.rbegin(); node != trail.rend() && *node != at; ++node)
    names += " -> " + nodes_[*node].id;
  throw Error("cycle without a delay: " + names + " -> " + nodes_[at].id +
              "; use delay nodes to break cycles");
}

void Circuit::prepare() {
  auto runtime = std::make_unique<Runtime>();
  runtime->order = order();
  runtime->slots.resize(nodes_.size());
  runtime->awake.resize(nodes_.size() / 64 + 1);
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    Runtime::Slot& slot = runtime->slots[i];
    slot.sources.resize(std::max<std::size_t>(nodes_[i].op->arity(), 1));
    slot.ports.resize(slot.sources.size(), &kNothing);
    slot.joined.resize(slot.sources.size());
    slot.delay = is_delay(*nodes_[i].op);
    if (slot.delay) runtime->delays.push_back(i);
    if (slot.delay || self_starting(*nodes_[i].op)) runtime->self_starting.push_back(i);
  }
  for (std::size_t rank = 0; rank < runtime->order.size(); ++rank)
    runtime->slots[runtime->order[rank]].rank = rank;
  for (const Edge& edge : edges_) {
    runtime->slots[edge.to].sources[edge.port].push_back(edge.from);
    if (!runtime->slots[edge.to].delay)
      runtime->slots[edge.from].readers.push_back(runtime->slots[edge.to].rank);
  }
  runtime_ = std::move(runtime);
}

namespace {

// What comes to a port: the one source as it is, several ones put together.
template <class Slots>
const Batch* gather(const std::vector<std::size_t>& sources, const Slots& slots, Batch& joined) {
  if (sources.size() == 1) {
    const Batch* only = slots[sources.front()].result;
    return only == nullptr ? &kNothing : only;
  }
  joined.clear();
  for (const std::size_t source : sources)
    if (const Batch* part = slots[source].result)
      joined.insert(joined.end(), part->begin(), part->end());
  return &joined;
}

bool cancel(const Row& a, const Row& b) noexcept {
  Weight sum;
  return add_weights(a.weight, b.weight, sum) && sum == 0 && equal(a.value, b.value);
}

// The batch without neighbours that cancel each other: what a caller says of a document that was
// written again as it was. No operator then looks at them. O(rows), and as much of two documents as
// they have in common.
const Batch& without_unchanged(const Batch& batch, Batch& buffer) {
  std::size_t i = 1;
  while (i < batch.size() && !cancel(batch[i - 1], batch[i])) ++i;
  if (i >= batch.size()) return batch;
  buffer.assign(batch.begin(), batch.begin() + static_cast<std::ptrdiff_t>(i));
  for (; i < batch.size(); ++i) {
    if (!buffer.empty() && cancel(buffer.back(), batch[i]))
      buffer.pop_back();
    else
      buffer.push_back(batch[i]);
  }
  return buffer;
}

}  // namespace

void Circuit::run_node(std::size_t index, StepContext& context, bool& ok) {
  Runtime::Slot& slot = runtime_->slots[index];
  Operator& op = *nodes_[index].op;
  runtime_->ran.push_back(index);
  if (slot.result == nullptr) {  // inputs show the caller's batch
    if (!slot.delay)
      for (std::size_t port = 0; port < slot.ports.size(); ++port)
        slot.ports[port] = gather(slot.sources[port], runtime_->slots, slot.joined[port]);
    if (!incremental_ && op.linearity() == Linearity::stateful) op.reset();
    context.node = nodes_[index].id;
    slot.out.clear();
    ok = op.step(context, slot.ports, slot.out);
    slot.result = &slot.out;
  }
  if (ok && !slot.result->empty())
    for (const std::size_t reader : slot.readers) runtime_->wake(reader);
  if (ok && observer_) observer_(nodes_[index].id, op, *slot.result);
}

bool Circuit::step(const StepInput& input, StepResult& result) {
  if (!runtime_) prepare();
  result.failure.clear();
  result.errors.clear();
  StepContext context(input.time);
  for (const auto& [name, batch] : input.batches) {
    const auto it = inputs_.find(name);
    if (it == inputs_.end()) {
      result.failure = "unknown input " + name;
      return false;
    }
  }
  for (const auto& [name, batch] : input.batches) {
    Runtime::Slot& slot = runtime_->slots[inputs_.find(name)->second];
    const Batch& changed = without_unchanged(batch, slot.out);
    if (changed.empty()) continue;
    slot.result = &changed;
    runtime_->wake(slot.rank);
  }
  for (const std::size_t node : runtime_->self_starting)
    if (nodes_[node].op->wants_step()) runtime_->wake(runtime_->slots[node].rank);
  try {
    finish(run_awake(context), context, result);
  } catch (...) {
    finish(false, context, result);
    throw;
  }
  return result.failure.empty();
}

bool Circuit::run_awake(StepContext& context) {
  bool ok = true;
  for (std::size_t word = 0; ok && word < runtime_->awake.size(); ++word) {
    while (ok && runtime_->awake[word] != 0) {
      const auto bit = static_cast<std::size_t>(std::countr_zero(runtime_->awake[word]));
      runtime_->awake[word] &= runtime_->awake[word] - 1;
      run_node(runtime_->order[word * 64 + bit], context, ok);
    }
  }
  if (!ok) return false;
  // Values that go round through a delay would else grow, step by step, beyond what recursion
  // takes.
  for (const std::size_t delay : runtime_->delays)
    for (const Row& row : absorbed_by(delay))
      if (!nests_within(row.value, limits::kStateDepthMax))
        return context.fail("node " + nodes_[delay].id + " would hold a value nested deeper than " +
                            std::to_string(limits::kStateDepthMax) + " levels");
  return consolidate(context.errors) || context.overflow();
}

// What comes to a delay in this step.
const Batch& Circuit::absorbed_by(std::size_t delay) {
  Runtime::Slot& slot = runtime_->slots[delay];
  return *gather(slot.sources[0], runtime_->slots, slot.joined[0]);
}

void Circuit::finish(bool ok, StepContext& context, StepResult& result) {
  if (ok) {
    for (const std::size_t delay : runtime_->delays) absorb(*nodes_[delay].op, absorbed_by(delay));
    for (const std::size_t node : runtime_->ran) nodes_[node].op->commit();
    result.errors.swap(context.errors);
  } else {
    for (auto node = runtime_->ran.rbegin(); node != runtime_->ran.rend(); ++node)
      nodes_[*node].op->rollback();
    std::fill(runtime_->awake.begin(), runtime_->awake.end(), 0);
    result.failure = context.failure.empty() ? "step failed" : context.failure;
  }
  for (const auto& [name, node] : outputs_) {
    Batch& out = result.outputs[name];
    out.clear();
    if (ok && runtime_->slots[node].result != nullptr) out.swap(runtime_->slots[node].out);
  }
  for (const std::size_t node : runtime_->ran) {
    runtime_->slots[node].result = nullptr;
    clear_buffer(runtime_->slots[node].out);
    for (Batch& joined : runtime_->slots[node].joined) clear_buffer(joined);
  }
  for (const auto& [name, node] : inputs_) {
    runtime_->slots[node].result = nullptr;
    clear_buffer(runtime_->slots[node].out);
  }
  runtime_->ran.clear();
}

void Circuit::reset() {
  for (Node& node : nodes_) node.op->reset();
  runtime_.reset();
}

std::string Circuit::fingerprint() const {
  nlohmann::json shape = {{"incremental", incremental_},
                          {"edges", nlohmann::json::array()},
                          {"nodes", nlohmann::json::array()}};
  for (const Node& node : nodes_)
    shape["nodes"].push_back({node.id, node.op->type(), node.op->describe()});
  for (const Edge& edge : edges_) shape["edges"].push_back({edge.from, edge.to, edge.port});
  return shape.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string Circuit::save() const {
  StateWriter writer;
  writer.text("dmmstate");
  writer.number(kStateVersion);
  writer.text(fingerprint());
  for (const Node& node : nodes_) {
    StateWriter state;
    node.op->save(state);
    writer.text(state.bytes());
  }
  return writer.finish();
}

void Circuit::load(std::string_view image) {
  StateReader reader(image);
  if (!reader.verify()) throw Error("state image is damaged: the checksum does not fit");
  if (reader.text() != "dmmstate") throw Error("this is no state image");
  if (const std::uint64_t version = reader.number(); version != kStateVersion)
    throw Error("state image of format " + std::to_string(version) + ", expected " +
                std::to_string(kStateVersion));
  if (reader.text() != fingerprint()) throw Error("state image of another circuit");
  std::vector<OperatorPtr> fresh;
  for (const Node& node : nodes_) {
    fresh.push_back(node.op->clone());
    StateReader state(reader.text());
    if (!reader.ok() || !fresh.back()->load(state) || !state.at_end())
      throw Error("state image does not fit node " + node.id);
  }
  if (!reader.at_end()) throw Error("state image has more nodes than the circuit");
  for (std::size_t i = 0; i < nodes_.size(); ++i) nodes_[i].op = std::move(fresh[i]);
}

nlohmann::json Circuit::explain_json() const {
  nlohmann::json result = {{"name", name_},
                           {"mode", incremental_ ? "incremental" : "snapshot"},
                           {"nodes", nlohmann::json::array()}};
  for (const std::size_t index : order()) {
    const Node& node = nodes_[index];
    nlohmann::json sources = nlohmann::json::array();
    for (const Edge& edge : edges_)
      if (edge.to == index)
        sources.push_back({{"node", nodes_[edge.from].id}, {"port", edge.port}});
    result["nodes"].push_back({{"id", node.id},
                               {"type", node.op->type()},
                               {"detail", node.op->describe()},
                               {"from", std::move(sources)},
                               {"rows", node.op->state_rows()}});
  }
  return result;
}

std::string Circuit::explain() const {
  const nlohmann::json all = explain_json();
  std::string text = "circuit " + name_ + " (" + all["mode"].get<std::string>() + ")\n";
  for (const auto& node : all["nodes"]) {
    text += "  " + node["id"].get<std::string>() + ": " + node["type"].get<std::string>();
    if (!node["detail"].empty())
      text += " " + node["detail"].dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    for (std::size_t i = 0; i < node["from"].size(); ++i)
      text += (i == 0 ? " <- " : ", ") + node["from"][i]["node"].get<std::string>();
    if (node["rows"] != 0)
      text += " [" + std::to_string(node["rows"].get<std::size_t>()) + " rows]";
    text += '\n';
  }
  return text;
}

}  // namespace dmm::engine
