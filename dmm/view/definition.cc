// Views from files.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "dmm/error.h"
#include "dmm/identity.h"
#include "dmm/json.h"
#include "dmm/view.h"

namespace dmm {

namespace {

using nlohmann::json;

[[noreturn]] void wrong(const std::string& where, const std::string& what) {
  throw Error(code::bad_view, fmt::format("{}: {}", where, what));
}

void check_members(const json& object, const std::string& where,
                   std::initializer_list<std::string_view> known) {
  if (!object.is_object()) wrong(where, "an object is expected");
  for (const auto& [name, value] : object.items()) {
    if (std::ranges::find(known, name) != known.end()) continue;
    wrong(where, fmt::format("there is no member \"{}\"; known: {}", printable(name, 100),
                             fmt::join(known, ", ")));
  }
}

std::string text_of(const json& object, const std::string& where, const char* member,
                    std::string otherwise) {
  const auto found = object.find(member);
  if (found == object.end()) return otherwise;
  if (!found->is_string()) wrong(where, fmt::format("\"{}\" is not a text", member));
  return found->get<std::string>();
}

std::string name_of(const json& object, const std::string& where, const char* member) {
  const std::string name = text_of(object, where, member, "");
  if (name.empty()) wrong(where, fmt::format("\"{}\" is missing", member));
  try {
    check_name(name, member);
  } catch (const Error& error) {
    wrong(where, error.message());
  }
  return name;
}

ViewInput input_from_json(const json& source, const std::string& where,
                          const std::function<ViewInput(const json&)>& other) {
  if (!source.is_object()) wrong(where, "an object is expected");
  ViewInput input;
  if (source.contains("table") || source.contains("source")) {
    if (!other) wrong(where, "this program does not know tables or other sources");
    input = other(source);
  } else {
    check_members(source, where, {"reports", "bucket", "cache", "name", "key_field", "age_s"});
    const int kinds = int(source.contains("reports")) + int(source.contains("bucket")) +
                      int(source.contains("cache"));
    if (kinds != 1) wrong(where, "exactly one of reports, bucket, cache or table is expected");
    if (source.contains("reports")) input = ViewInput::reports(name_of(source, where, "reports"));
    if (source.contains("bucket")) input = ViewInput::bucket(name_of(source, where, "bucket"));
    if (source.contains("cache")) input = ViewInput::cache(name_of(source, where, "cache"));
    input.name = text_of(source, where, "name", input.of);
    input.key_field = text_of(source, where, "key_field", input.key_field);
  }
  if (const auto age = source.find("age_s"); age != source.end()) {
    if (!age->is_number() || *age < 0.001 || *age > 1'000'000'000) {
      wrong(where, "\"age_s\" is not a number of seconds above 0");
    }
    input.age = std::chrono::round<std::chrono::milliseconds>(
        std::chrono::duration<double>(age->get<double>()));
  }
  return input;
}

}  // namespace

View view_from_json(const json& file, const std::function<ViewInput(const json&)>& source) {
  check_members(file, "the view", {"view", "type", "key", "inputs", "pipeline", "removals_free"});
  View view;
  view.name = name_of(file, "the view", "view");
  view.type = name_of(file, "the view", "type");
  view.key = text_of(file, "the view", "key", view.key);
  if (view.key.empty()) wrong("the view", "\"key\" is empty");
  if (const auto free = file.find("removals_free"); free != file.end()) {
    if (!free->is_number_integer() || *free < 0)
      wrong("the view", "\"removals_free\" is not a number from 0");
    view.removals_free = free->get<std::size_t>();
  }
  const auto inputs = file.find("inputs");
  if (inputs == file.end() || !inputs->is_array() || inputs->empty()) {
    wrong("the view", "\"inputs\" is not a list with an input at least");
  }
  std::set<std::string> names;
  for (std::size_t i = 0; i < inputs->size(); ++i) {
    const std::string where = fmt::format("inputs[{}]", i);
    view.inputs.push_back(input_from_json((*inputs)[i], where, source));
    if (!names.insert(view.inputs.back().name).second) {
      wrong(where, fmt::format("another input is called \"{}\" too; give it a \"name\"",
                               view.inputs.back().name));
    }
  }
  const auto pipeline = file.find("pipeline");
  if (pipeline == file.end()) wrong("the view", "\"pipeline\" is missing");
  view.pipeline = *pipeline;
  return view;
}

json view_to_json(const View& view) {
  auto inputs = json::array();
  for (const ViewInput& input : view.inputs) {
    json source = json::object();
    if (input.source) source = input.source->definition();
    if (input.from == ViewInput::From::reports) source["reports"] = input.of;
    if (input.from == ViewInput::From::bucket) source["bucket"] = input.of;
    if (input.from == ViewInput::From::cache) source["cache"] = input.of;
    source["name"] = input.called();
    if (!input.source) source["key_field"] = input.key_field;
    if (input.age.count() % 1'000 != 0) {
      source["age_s"] = static_cast<double>(input.age.count()) / 1'000;
    } else if (input.age.count() > 0) {
      source["age_s"] = input.age.count() / 1'000;
    }
    inputs.push_back(std::move(source));
  }
  return {{"view", view.name},         {"type", view.type},
          {"key", view.key},           {"inputs", std::move(inputs)},
          {"pipeline", view.pipeline}, {"removals_free", view.removals_free}};
}

}  // namespace dmm
