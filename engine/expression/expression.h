/// Expressions: compiled once, evaluated for each document, without exceptions.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "engine/value.h"

namespace dmm::engine {

/// What the caller gives with a step: the only time and the only randomness that there is.
struct StepTime {
  std::int64_t unix_seconds = 0;  ///< what `@now` says, for the whole step
  std::uint64_t seed = 0;         ///< what `@rnd` draws from, together with the document
};

/// Why an evaluation failed.
struct Failure {
  enum class Type : std::uint8_t { none, missing_field, other };
  Type type = Type::none;
  std::string message;
};

/// What an evaluation sees: `$`, `$$` and the step. One document each; reset() for the next.
class Scope {
 public:
  explicit Scope(const StepTime& time) noexcept : time_(&time) {}

  /// Starts with a new document and no subject. The document must outlive the evaluation.
  void reset(ValueRef document) noexcept {
    document_ = document;
    subject_ = {};
    has_subject_ = false;
    draws_ = 0;
    failure_.type = Failure::Type::none;
    if (!replaced_.empty()) replaced_.clear();
  }
  ValueRef document() const noexcept { return document_; }
  ValueRef subject() const noexcept { return subject_; }
  bool has_subject() const noexcept { return has_subject_; }
  void set_subject(ValueRef subject, bool has = true) noexcept {
    subject_ = subject;
    has_subject_ = has;
  }
  /// Replaces the document (`@setField`): the scope keeps the new one alive, and those before it,
  /// parts of which may have been peeked at, until reset().
  void replace_document(Value document) { document_ = replaced_.emplace_back(std::move(document)); }
  void replace_subject(Value subject) { subject_ = replaced_.emplace_back(std::move(subject)); }
  /// What a condition on parts of an object that is not made yet reads.
  std::span<const ValueRef> parts() const noexcept { return parts_; }
  void set_parts(std::span<const ValueRef> parts) noexcept { parts_ = parts; }
  const StepTime& time() const noexcept { return *time_; }
  std::uint64_t next_draw() noexcept { return ++draws_; }

  const Failure& failure() const noexcept { return failure_; }
  void clear_failure() noexcept { failure_.type = Failure::Type::none; }
  bool fail(std::string message) {
    failure_ = {Failure::Type::other, std::move(message)};
    return false;
  }
  bool fail_missing(const std::string& path) {
    failure_.type = Failure::Type::missing_field;
    failure_.message = "field not found: ";
    failure_.message += path;
    return false;
  }

 private:
  const StepTime* time_;
  ValueRef document_;
  ValueRef subject_;
  bool has_subject_ = false;
  std::span<const ValueRef> parts_;
  std::vector<Value> replaced_;
  std::uint64_t draws_ = 0;
  Failure failure_;
};

/// A compiled expression. Immutable but for remembered shapes; one thread at a time.
class Expression {
 public:
  virtual ~Expression() = default;
  /// returns false when it cannot be evaluated; the scope's failure says why. Does not throw.
  virtual bool eval(Scope& scope, Value& out) const = 0;
  /// As eval(), but a value that stands somewhere else is only borrowed: `out` is valid as long as
  /// `kept` and what the scope shows live. Saves counting references and making values.
  virtual bool peek(Scope& scope, ValueRef& out, Value& kept) const {
    if (!eval(scope, kept)) return false;
    out = kept;
    return true;
  }
  /// The path and nothing else, when the expression is one.
  virtual const class Path* as_path() const noexcept { return nullptr; }
  /// The value, when it is the same for every document.
  virtual const Value* as_constant() const noexcept { return nullptr; }
  /// The shape, and the expression of each member in its order, when it makes an object of such.
  virtual const Shape* as_object(
      std::span<const std::shared_ptr<const Expression>>& /*members*/) const noexcept {
    return nullptr;
  }
  /// The expression of each item, when it makes a list of such; else nothing.
  virtual std::span<const std::shared_ptr<const Expression>> as_list() const noexcept { return {}; }
};
using ExpressionPtr = std::shared_ptr<const Expression>;

/// A function of the host, called as `@name`. Arguments are evaluated before. Must be a function of
/// its arguments: what it says about a document at its insertion it must say at its deletion.
/// returns false with the reason in `error`; must not throw.
using HostFunction =
    std::function<bool(std::span<const Value> arguments, Value& out, std::string& error)>;

/// Host functions by name, with the leading `@`. Built-in names cannot be taken.
using HostFunctions = std::map<std::string, HostFunction, std::less<>>;

/// Compiles the JSON form of an expression (docs/reference/pipeline-language.md).
/// throws Error with the operator and the reason. O(size of the text).
ExpressionPtr compile_expression(const nlohmann::json& source,
                                 const HostFunctions* functions = nullptr);

/// True when the result depends on the step and not only on the document (`@now`, `@rnd`).
bool is_volatile(const nlohmann::json& source);

/// Evaluates a predicate: true only for the boolean true. A missing field makes it false; every
/// other failure is left in the scope, and `failed` is set.
bool eval_predicate(const Expression& predicate, Scope& scope, bool& failed);

}  // namespace dmm::engine
