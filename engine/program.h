/// Programs: from the text of a pipeline to something that runs.
///
///     auto program = Program::parse(R"([{"@select": {"@gt": ["$.v", 5]}}])");
///     StepInput in;
///     in.batches["input"] = {{program.value(R"({"v": 7})"), 1}};
///     StepResult out;
///     if (!program.step(in, out)) …            // out.failure says why, nothing has happened
///     for (const Row& row : out.outputs["output"]) …
///
/// A program owns its circuit, its decoders and their values. One thread at a time.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/circuit.h"
#include "engine/decode.h"
#include "engine/language/language.h"
#include "engine/transform.h"

namespace dmm::engine {

struct ProgramOptions : CompileOptions {
  /// Applied as a chain; empty: the program runs on whole collections.
  std::vector<Transform> transforms = {Transform{}};
  /// Applies the transforms one by one in the given order, not in the canonical one.
  bool in_listed_order = false;
};

class Program {
 public:
  /// Compiles a pipeline. throws Error that names stage, argument and reason.
  static Program compile(const nlohmann::json& pipeline, const ProgramOptions& options = {});
  /// Compiles a program text: a pipeline, or an object {"pipeline" or "circuit", "inputs",
  /// "outputs", "transforms", "name"} whose members replace those of `options`. throws Error.
  static Program parse(std::string_view text, const ProgramOptions& options = {});

  Circuit& circuit() noexcept { return circuit_; }
  const Circuit& circuit() const noexcept { return circuit_; }
  /// The plan; nothing for a circuit by hand.
  const std::optional<Plan>& plan() const noexcept { return plan_; }

  /// See Circuit::step.
  [[nodiscard]] bool step(const StepInput& input, StepResult& result) {
    return circuit_.step(input, result);
  }

  /// Decodes a document of an input, keeping only the fields that the program reads.
  /// returns false with the reason in `error`. throws Error for an unknown input.
  [[nodiscard]] bool decode(std::string_view input, std::string_view text, Value& out,
                            std::string& error);
  /// Decodes a document whole. throws Error when it cannot be accepted.
  Value value(std::string_view text);

  /// Plan and circuit, for people and for tools.
  std::string explain() const;
  nlohmann::json explain_json() const;

 private:
  explicit Program(Circuit circuit) : circuit_(std::move(circuit)) {}
  Circuit circuit_;
  std::optional<Plan> plan_;
  std::map<std::string, Decoder, std::less<>> decoders_;
  Decoder whole_;
};

/// Reads options from the members of a program file (see Program::parse). throws Error.
ProgramOptions options_from_json(const nlohmann::json& source, ProgramOptions base = {});

}  // namespace dmm::engine
