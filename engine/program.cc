#include "engine/program.h"

#include "engine/error.h"
#include "engine/limits.h"

namespace dmm::engine {
namespace {

using nlohmann::json;

std::vector<Binding> bindings(const json& source, const char* what) {
  std::vector<Binding> result;
  for (const json& item : source.is_array() ? source : json::array({source})) {
    if (item.is_string())
      result.push_back(Binding{item.get<std::string>(), ""});
    else if (item.is_object() && item.contains("name"))
      result.push_back(
          Binding{item.at("name").get<std::string>(), item.value("logical", std::string())});
    else
      throw Error(std::string(what) + ": a name or {\"name\", \"logical\"} is expected");
  }
  return result;
}

Circuit transformed(Circuit circuit, const ProgramOptions& options) {
  if (options.transforms.empty()) return circuit;
  if (!options.in_listed_order) return apply_chain(circuit, options.transforms);
  for (const Transform& transform : options.transforms) circuit = apply(circuit, transform);
  return circuit;
}

// nlohmann's parser keeps its own stack, but values of any depth; refuse before anything recurses.
json parse_text(std::string_view text) {
  if (text.size() > limits::kProgramBytesMax)
    throw Error("program text longer than the limit of " +
                std::to_string(limits::kProgramBytesMax) + " bytes");
  const auto guard = [](int depth, json::parse_event_t, json&) {
    if (depth > static_cast<int>(limits::kDepthMax))
      throw Error("program nested deeper than " + std::to_string(limits::kDepthMax) + " levels");
    return true;
  };
  try {
    return json::parse(text, guard);
  } catch (const json::exception& error) {
    throw Error(std::string("program text is no JSON: ") + error.what());
  }
}

}  // namespace

ProgramOptions options_from_json(const json& source, ProgramOptions base) {
  try {
    if (const auto it = source.find("inputs"); it != source.end())
      base.inputs = bindings(*it, "inputs");
    if (const auto it = source.find("outputs"); it != source.end())
      base.outputs = bindings(*it, "outputs");
    base.name = source.value("name", base.name);
    base.in_listed_order = source.value("sequence", base.in_listed_order);
    if (const auto it = source.find("transforms"); it != source.end()) {
      base.transforms.clear();
      for (const json& transform : *it) base.transforms.push_back(transform_from_json(transform));
    }
    return base;
  } catch (const json::exception& error) {
    throw Error(std::string("program: ") + error.what());
  }
}

Program Program::compile(const json& pipeline, const ProgramOptions& options) {
  try {
    Plan plan = make_plan(pipeline, options);
    Program program(transformed(make_circuit(plan, options), options));
    program.plan_ = std::move(plan);
    return program;
  } catch (const json::exception& error) {
    throw Error(std::string("pipeline: ") + error.what());
  }
}

Program Program::parse(std::string_view text, const ProgramOptions& options) {
  const json source = parse_text(text);
  if (!source.is_object() || (!source.contains("pipeline") && !source.contains("circuit")))
    return compile(source, options);
  const ProgramOptions all = options_from_json(source, options);
  if (source.contains("pipeline")) return compile(source["pipeline"], all);
  return Program(transformed(circuit_from_json(source["circuit"], &all.functions), all));
}

bool Program::decode(std::string_view input, std::string_view text, Value& out,
                     std::string& error) {
  auto it = decoders_.find(input);
  if (it == decoders_.end()) {
    if (!circuit_.inputs().contains(input)) throw Error("unknown input " + std::string(input));
    Fields fields = Fields::all();
    if (plan_)
      if (const auto known = plan_->fields.find(input); known != plan_->fields.end())
        fields = known->second;
    it = decoders_.emplace(std::string(input), Decoder({}, std::move(fields))).first;
  }
  return it->second.decode(text, out, error);
}

Value Program::value(std::string_view text) {
  Value out;
  std::string error;
  if (!whole_.decode(text, out, error)) throw Error(error);
  return out;
}

std::string Program::explain() const {
  return (plan_ ? plan_->text() : std::string()) + circuit_.explain();
}

json Program::explain_json() const {
  json result = {{"circuit", circuit_.explain_json()}};
  if (plan_) result["plan"] = plan_->json();
  return result;
}

}  // namespace dmm::engine
