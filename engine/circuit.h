/// Circuits: operators wired together, run step by step.
///
/// Invariants:
///  1. A cycle leads through a delay; anything else is refused when the circuit is prepared.
///  2. A step is atomic: it happens as a whole or leaves no trace in any operator.
///  3. In a step only the operators run to which something came, and those that have something to
///  say
///     on their own (a delay, an integrator). The cost of a step does not depend on the others.
///  4. The same steps give the same outputs, byte for byte.
///
/// Life: add nodes and edges, then step; the first step prepares. Nodes can be added at any time
/// before, and transforms (transform.h) work on circuits that have not run.
/// Threads: one at a time.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/operators/operator.h"

namespace dmm::engine {

/// What goes into a step.
struct StepInput {
  /// Rows by name of input; an input that is absent gets nothing. In an incremental circuit these
  /// are changes, else whole collections.
  std::map<std::string, Batch, std::less<>> batches;
  StepTime time;
};

/// What comes out of a step. Keep one and hand it in again: its memory is used again.
struct StepResult {
  /// Rows by name of output, consolidated; every output is there, empty ones too. Their order is
  /// deterministic; sort_canonical() gives one that does not depend on the history.
  std::map<std::string, Batch, std::less<>> outputs;
  /// {document, error, node}: what could not be evaluated, as changes (an error goes away with its
  /// document), consolidated.
  Batch errors;
  /// Why the step failed as a whole; empty when it did not.
  std::string failure;
};

/// Called for each node that ran, in order, with what it emitted.
using Observer =
    std::function<void(std::string_view node, const Operator& op, const Batch& emitted)>;

class Circuit {
 public:
  struct Node {
    std::string id;
    OperatorPtr op;
  };
  struct Edge {
    std::size_t from;
    std::size_t to;
    std::size_t port;
  };

  explicit Circuit(std::string name = "circuit");
  Circuit(Circuit&&) noexcept;
  Circuit& operator=(Circuit&&) noexcept;
  ~Circuit();

  /// Adds a node and returns its index. throws Error when the id is taken or there are too many.
  std::size_t add(std::string id, OperatorPtr op);
  /// Adds an input or output node under its usual id (input_name, output_name, cleaned).
  std::size_t add_input(const std::string& name);
  std::size_t add_output(const std::string& name);
  /// Several edges into one port add up. throws Error for a port that the operator does not have.
  void connect(std::size_t from, std::size_t to, std::size_t port = 0);

  const std::string& name() const noexcept { return name_; }
  void set_name(std::string name) { name_ = std::move(name); }
  const std::vector<Node>& nodes() const noexcept { return nodes_; }
  const std::vector<Edge>& edges() const noexcept { return edges_; }
  void set_edges(std::vector<Edge> edges);
  /// Index of the node with this id. throws Error when there is none.
  std::size_t find(std::string_view id) const;
  bool has(std::string_view id) const noexcept;
  const std::map<std::string, std::size_t, std::less<>>& inputs() const noexcept { return inputs_; }
  const std::map<std::string, std::size_t, std::less<>>& outputs() const noexcept {
    return outputs_;
  }
  bool incremental() const noexcept { return incremental_; }
  void set_incremental(bool incremental);
  /// The same nodes and edges, without state.
  Circuit clone() const;

  /// Checks the graph and fixes the order of evaluation. throws Error that names the nodes of a
  /// cycle without a delay.
  void prepare();
  /// Runs one step. returns false, with the reason in result.failure, when the step failed: a
  /// weight overflowed, an input is unknown, or a delay would hold a value nested too deep. Nothing
  /// has happened then. throws only what prepare() and observers throw, and for memory; nothing has
  /// happened then, either.
  [[nodiscard]] bool step(const StepInput& input, StepResult& result);
  /// Back to the state before the first step.
  void reset();
  void observe(Observer observer) { observer_ = std::move(observer); }

  /// The state of all operators, versioned and checksummed.
  std::string save() const;
  /// Replaces the state by an image. throws Error for an image that is damaged, of another version
  /// or of another circuit; the state is unchanged then.
  void load(std::string_view image);
  /// Names the structure: circuits of equal fingerprint can exchange state.
  std::string fingerprint() const;

  /// Nodes in order of evaluation with what they do, their sources and the rows they hold.
  std::string explain() const;
  nlohmann::json explain_json() const;

 private:
  struct Runtime;
  bool run_awake(StepContext& context);
  void run_node(std::size_t index, StepContext& context, bool& ok);
  const Batch& absorbed_by(std::size_t delay);
  void finish(bool ok, StepContext& context, StepResult& result);
  std::vector<std::size_t> order() const;

  std::string name_;
  bool incremental_ = false;
  std::vector<Node> nodes_;
  std::vector<Edge> edges_;
  std::map<std::string, std::size_t, std::less<>> ids_;
  std::map<std::string, std::size_t, std::less<>> inputs_;
  std::map<std::string, std::size_t, std::less<>> outputs_;
  Observer observer_;
  std::unique_ptr<Runtime> runtime_;
};

/// Reads a circuit in its JSON form: {"name", "nodes": {id: {"type", …}}, "edges": [{from, to,
/// port}]} (docs/reference/pipeline-language.md, "Circuits by hand"). throws Error.
Circuit circuit_from_json(const nlohmann::json& source, const HostFunctions* functions = nullptr);

}  // namespace dmm::engine
