#include <algorithm>
#include <optional>

#include "engine/error.h"
#include "engine/expression/path.h"
#include "engine/language/language.h"

namespace dmm::engine {
namespace {

using nlohmann::json;

// One thing that a fragment does to the new document.
struct Setter {
  std::vector<std::string> path;  // empty: merge
  ExpressionPtr value;
  json source;
};

// Builds the document by one setter after the other; all read the input document.
class FragmentsNode final : public Expression {
 public:
  explicit FragmentsNode(std::vector<Setter> setters) : setters_(std::move(setters)) {}

  bool eval(Scope& scope, Value& out) const override {
    ObjectBuilder nothing;
    Value document = nothing.build();
    for (const Setter& setter : setters_) {
      Value value;
      if (!setter.value->eval(scope, value)) return false;
      if (!setter.path.empty()) {
        document = set(document, setter.path, 0, value);
        continue;
      }
      if (value.kind() != Kind::object)
        return scope.fail("\"$.\" merges an object, not a " + std::string(kind_name(value.kind())));
      if (document->size() == 0) {
        document = value;
        continue;
      }
      for (std::size_t i = 0, n = value->size(); i < n; ++i)
        document = with_member(document, value->key(i), Value(value->at(i)));
    }
    out = std::move(document);
    return true;
  }

 private:
  // What is in the way and is no object is replaced by one.
  static Value set(ValueRef at, const std::vector<std::string>& path, std::size_t depth,
                   const Value& value) {
    if (depth == path.size()) return value;
    ValueRef below;
    if (!at.find(path[depth], below)) below = {};
    const Value inner = set(below, path, depth + 1, value);
    return with_member(at.kind == Kind::object ? at : ValueRef{}, path[depth], inner);
  }

  std::vector<Setter> setters_;
};

std::vector<std::string> key_path(const std::string& key) {
  if (key == "$.") return {};
  if (key.starts_with("$[") || (key.starts_with("$.") && key.find('[') != std::string::npos)) {
    const auto members = Path::parse(key).members();
    if (!members) throw Error("a key must name plain members");
    return *members;
  }
  std::string_view rest = key;
  if (rest.starts_with("$.")) rest.remove_prefix(2);
  std::vector<std::string> path;
  for (std::size_t at = 0;;) {
    const std::size_t dot = rest.find('.', at);
    path.emplace_back(rest.substr(at, dot - at));
    if (path.back().empty()) throw Error("a key has an empty part");
    if (dot == std::string_view::npos) return path;
    at = dot + 1;
  }
}

// Within one fragment: merges first, then shorter paths before longer ones, so that a setter works
// on the object that another key of the same fragment sets.
void add_fragment(const json& fragment, const HostFunctions* functions,
                  std::vector<Setter>& setters) {
  if (!fragment.is_object())
    throw Error("argument projection: an object or a list of objects is expected");
  std::vector<Setter> own;
  for (const auto& [key, value] : fragment.items()) {
    try {
      own.push_back(Setter{key_path(key), compile_expression(value, functions), value});
    } catch (const Error& error) {
      throw Error("argument projection[\"" + key + "\"] (raw=" +
                  value.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 220) +
                  "): " + error.what());
    }
  }
  std::stable_sort(own.begin(), own.end(),
                   [](const Setter& a, const Setter& b) { return a.path.size() < b.path.size(); });
  std::move(own.begin(), own.end(), std::back_inserter(setters));
}

// The same as a literal object, when the paths do not overlap: it is then built in one go.
std::optional<json> as_object(const std::vector<Setter>& setters) {
  json object = json::object();
  std::vector<std::vector<std::string>> seen;
  for (const Setter& setter : setters) {
    if (setter.path.empty()) return std::nullopt;
    for (const auto& other : seen) {
      const std::size_t common = std::min(other.size(), setter.path.size());
      if (std::equal(other.begin(), other.begin() + static_cast<std::ptrdiff_t>(common),
                     setter.path.begin()))
        return std::nullopt;
    }
    seen.push_back(setter.path);
    json* at = &object;
    for (std::size_t i = 0; i < setter.path.size(); ++i) {
      // Built as @dict, so that member names that start with @ stay names.
      json& dict = (*at)["@dict"];
      at = &dict[setter.path[i]];
    }
    *at = setter.source;
  }
  if (object.empty()) object["@dict"] = json::object();
  return object;
}

}  // namespace

ExpressionPtr compile_projection(const json& source, const HostFunctions* functions) {
  std::vector<Setter> setters;
  if (source.is_array()) {
    if (source.empty()) throw Error("argument projection: the list is empty");
    for (const json& fragment : source) add_fragment(fragment, functions, setters);
  } else {
    add_fragment(source, functions, setters);
  }
  if (const auto object = as_object(setters)) return compile_expression(*object, functions);
  return std::make_shared<FragmentsNode>(std::move(setters));
}

}  // namespace dmm::engine
