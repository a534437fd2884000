#pragma once

// The options of a service: what there is, and what was given by flags, the environment and the
// file. Whatever is given wrong is an error that names the place and, for a mistyped word, the one
// that was meant.

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace dmm::service {

enum class Origin : std::uint8_t { standard, file, environment, flag };
std::string_view to_string(Origin origin) noexcept;

struct Option {
  std::string name;  ///< without dashes in front
  std::string help;
  std::string value;  ///< the default, and then what was given
  std::string shows;  ///< empty: a flag without a value
  std::string environment;
  std::vector<std::string> choices;
  char letter = 0;
  std::string group;
  /// Throws Error{invalid} for a value that cannot be.
  std::function<void(const std::string& value)> check = {};
  bool only_flag = false;  ///< has no place in the file
  Origin origin = Origin::standard;

  /// As the file has it.
  std::string key() const;
  bool is_flag() const noexcept { return shows.empty(); }
};

/// One thread.
class Options final {
 public:
  /// Throws Error{invalid} DMM-0404 for a name or letter that is taken.
  void add(Option option);
  /// Throws Error{bug} DMM-0406 if there is none.
  Option& at(std::string_view name);
  const Option& at(std::string_view name) const;
  const std::vector<Option>& all() const noexcept { return options_; }

  /// Each throws Error{invalid} DMM-0404. In this order: what was given by an earlier one stays.
  void take_flags(std::span<const std::string> arguments);
  void take_environment(const std::function<const char*(const char*)>& variable);
  /// path   for messages.
  void take_file(const nlohmann::json& document, const std::string& path);

 private:
  Option* find(std::string_view name);
  void set(Option& option, std::string value, Origin origin, const std::string& place);
  [[noreturn]] void refuse_flag(std::string_view flag) const;

  std::vector<Option> options_;
};

/// "500ms", "30s", "5min", "2h"; nothing for other text.
std::optional<std::chrono::milliseconds> parse_duration(std::string_view text);

}  // namespace dmm::service
