/// What every node of a circuit is.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "engine/expression/expression.h"
#include "engine/snapshot.h"
#include "engine/zset.h"

namespace dmm::engine {

/// What a step gives to the operators that it runs.
class StepContext {
 public:
  explicit StepContext(const StepTime& time) : scope(time) {}

  /// Reports a document that could not be evaluated. Part of the step's error output, a Z-set of
  /// {document, error, node}: a deletion of the document takes its error away again.
  void report(ValueRef document, std::string_view reason, Weight weight);
  /// The step as a whole fails and is rolled back. returns false, to be returned.
  bool fail(std::string why) {
    failure = std::move(why);
    return false;
  }
  bool overflow() { return fail("weight overflow"); }

  Scope scope;
  std::string_view node;  ///< id of the node that runs
  Batch errors;
  std::string failure;

 private:
  ShapePtr shape_;
};

/// How an operator behaves under incrementalisation.
enum class Linearity : std::uint8_t {
  linear,    ///< the same on changes as on whole collections
  stateful,  ///< has an incremental form of its own (join, distinct, group …)
  integral,  ///< integrate and differentiate: vanish between changes
  boundary   ///< input, output, delay, delta0
};

/// An operator over Z-sets. Owns its state; one thread at a time.
///
/// In a circuit over whole collections ("snapshot") a stateful operator starts each step from
/// nothing; in an incremental one it keeps its state and takes and gives changes. Both are the same
/// code: the result on a collection is the change from the empty one.
class Operator {
 public:
  virtual ~Operator() = default;

  virtual std::string_view type() const noexcept = 0;
  virtual std::size_t arity() const noexcept { return 1; }
  virtual Linearity linearity() const noexcept { return Linearity::linear; }
  /// What `explain` prints beside the type.
  virtual nlohmann::json describe() const { return nlohmann::json::object(); }
  /// The same operator without its state.
  virtual std::unique_ptr<Operator> clone() const = 0;

  /// Runs on the batches of its ports (never null, unchanged until commit() or rollback()) and
  /// appends to `out`.
  ///
  /// returns false when the step cannot be done (overflow); the circuit then calls rollback() on
  /// this and every operator that ran before. Evaluation errors of single documents are reported to
  /// the context and are no failure. Does not throw but for memory.
  virtual bool step(StepContext& context, std::span<const Batch* const> in, Batch& out) = 0;
  /// Undoes all that step() did to the state since the last commit().
  virtual void rollback() noexcept {}
  virtual void commit() noexcept {}
  /// Back to the empty state.
  virtual void reset() {}
  /// True when the operator has something to say without input.
  virtual bool wants_step() const noexcept { return false; }
  /// Rows held, for explain and metrics.
  virtual std::size_t state_rows() const noexcept { return 0; }
  /// Memory taken from the system for packed rows. Not in it: indexes and sums beside them, and
  /// texts and lists that a row refers to, which other rows may share.
  virtual std::size_t state_bytes() const noexcept { return 0; }

  virtual void save(StateWriter&) const {}
  /// Replaces the state. returns false when the image does not fit; the state is then unspecified.
  virtual bool load(StateReader&) { return true; }

  bool incremental() const noexcept { return incremental_; }
  void set_incremental(bool incremental) noexcept { incremental_ = incremental; }

 protected:
  template <class Derived>
  std::unique_ptr<Operator> copy_of(std::unique_ptr<Derived> made) const {
    made->set_incremental(incremental_);
    return made;
  }

 private:
  bool incremental_ = false;
};

using OperatorPtr = std::unique_ptr<Operator>;

}  // namespace dmm::engine
