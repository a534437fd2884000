#include "dmm/service/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "dmm/error.h"
#include "dmm/json.h"
#include "dmm/text/nearest.h"

namespace dmm::service {

namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw Error(code::bad_option, message);
}

/// The text of a value in the file.
std::string text_of(const nlohmann::json& value, const std::string& place) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
  if (value.is_number()) return value.dump();
  if (value.is_array()) {
    std::string all;
    for (const nlohmann::json& one : value) {
      if (one.is_string()) all += (all.empty() ? "" : ",") + one.get<std::string>();
      if (!one.is_string()) refuse(fmt::format("{}: a list of texts is meant", place));
    }
    return all;
  }
  refuse(fmt::format("{}: a text, a number or true or false is meant", place));
}

}  // namespace

std::string_view to_string(Origin origin) noexcept {
  switch (origin) {
    case Origin::standard:
      return "default";
    case Origin::file:
      return "file";
    case Origin::environment:
      return "environment";
    case Origin::flag:
      return "flag";
  }
  return "default";
}

std::string Option::key() const {
  std::string key = name;
  std::ranges::replace(key, '-', '_');
  return key;
}

void Options::add(Option option) {
  for (const Option& other : options_) {
    if (other.name == option.name || (option.letter != 0 && other.letter == option.letter)) {
      refuse(fmt::format("the option --{} is there twice", option.name));
    }
  }
  options_.push_back(std::move(option));
}

Option* Options::find(std::string_view name) {
  const auto found = std::ranges::find(options_, name, &Option::name);
  return found == options_.end() ? nullptr : &*found;
}

Option& Options::at(std::string_view name) {
  Option* option = find(name);
  if (option == nullptr) throw Error(code::bug, fmt::format("there is no option \"{}\"", name));
  return *option;
}

const Option& Options::at(std::string_view name) const {
  return const_cast<Options*>(this)->at(name);
}

void Options::set(Option& option, std::string value, Origin origin, const std::string& place) {
  if (option.is_flag() && value != "true" && value != "false") {
    refuse(fmt::format("{} is true or false, not \"{}\"", place, printable(value, 100)));
  }
  if (!option.choices.empty() && std::ranges::find(option.choices, value) == option.choices.end()) {
    refuse(fmt::format("{}: \"{}\" is none of {}{}", place, printable(value, 100),
                       fmt::join(option.choices, ", "), text::suggestion(value, option.choices)));
  }
  if (option.check) {
    try {
      option.check(value);
    } catch (const Error& error) {
      refuse(fmt::format("{}: {}", place, error.message()));
    }
  }
  option.value = std::move(value);
  option.origin = origin;
}

void Options::refuse_flag(std::string_view flag) const {
  std::vector<std::string> flags;
  for (const Option& option : options_) flags.push_back("--" + option.name);
  refuse(
      fmt::format("there is no option {}{}", printable(flag, 100), text::suggestion(flag, flags)));
}

void Options::take_flags(std::span<const std::string> arguments) {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument.size() < 2 || argument[0] != '-') {
      refuse(
          fmt::format("\"{}\" is no option; all of them begin with --", printable(argument, 100)));
    }
    const bool is_long = argument[1] == '-';
    const std::size_t equals = is_long ? argument.find('=') : std::string::npos;
    const std::string_view name = std::string_view(argument).substr(
        is_long ? 2 : 1, equals == std::string::npos ? std::string::npos : equals - 2);
    const auto found = std::ranges::find_if(options_, [&](const Option& option) {
      return is_long ? option.name == name
                     : option.letter != 0 && name == std::string_view(&option.letter, 1);
    });
    if (found == options_.end()) refuse_flag(argument.substr(0, equals));
    const std::string place = "--" + found->name;
    if (found->origin == Origin::flag) refuse(fmt::format("{} is given twice", place));
    if (equals != std::string::npos) {
      set(*found, argument.substr(equals + 1), Origin::flag, place);
    } else if (found->is_flag()) {
      set(*found, "true", Origin::flag, place);
    } else if (i + 1 < arguments.size()) {
      set(*found, arguments[++i], Origin::flag, place);
    } else {
      refuse(fmt::format("{} needs a value: {}", place, found->shows));
    }
  }
}

void Options::take_environment(const std::function<const char*(const char*)>& variable) {
  for (Option& option : options_) {
    if (option.origin != Origin::standard || option.environment.empty()) continue;
    const char* value = variable(option.environment.c_str());
    // Set to nothing is as good as not set: that is how a variable is taken back.
    if (value == nullptr || *value == '\0') continue;
    set(option, value, Origin::environment, option.environment);
  }
}

void Options::take_file(const nlohmann::json& document, const std::string& path) {
  if (document.is_null()) return;  // an empty file
  if (!document.is_object()) refuse(fmt::format("{}: keys and values are meant", path));
  std::vector<std::string> keys;
  for (const Option& option : options_) {
    if (!option.only_flag) keys.push_back(option.key());
  }
  for (const auto& [key, value] : document.items()) {
    const auto found = std::ranges::find_if(options_, [&key = key](const Option& option) {
      return !option.only_flag && option.key() == key;
    });
    if (found == options_.end()) {
      refuse(fmt::format("{}: unknown key \"{}\"{}", path, printable(key, 100),
                         text::suggestion(key, keys)));
    }
    const std::string place = fmt::format("{}: {}", path, key);
    std::string text = text_of(value, place);
    // Looked at even where it does not count: an error that waits for its day helps nobody.
    Option looked_at = *found;
    set(looked_at, std::move(text), Origin::file, place);
    if (found->origin == Origin::standard) *found = std::move(looked_at);
  }
}

std::optional<std::chrono::milliseconds> parse_duration(std::string_view text) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || !(number >= 0)) return std::nullopt;
  const std::string_view unit(rest, static_cast<std::size_t>(end - rest));
  constexpr std::pair<std::string_view, double> kUnits[] = {
      {"ms", 1}, {"s", 1'000}, {"min", 60'000}, {"h", 3'600'000}};
  constexpr double kMost = 366.0 * 24 * 3'600'000;  // a year
  for (const auto& [name, milliseconds] : kUnits) {
    if (unit != name || number * milliseconds > kMost) continue;
    return std::chrono::milliseconds(static_cast<std::int64_t>(number * milliseconds));
  }
  return std::nullopt;
}

}  // namespace dmm::service
