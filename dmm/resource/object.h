#pragma once

// An Object is what a program knows of something that lives elsewhere: a customer in a billing
// service, a mail, a machine. Any type with
//   std::string id() const;              names it within its kind
//   kind()                               static or not, the same for every object of the type
// a default constructor and nlohmann conversions. It may have
//   int compare(const T& stored) const;  above zero: newer than what is stored, below: older, zero:
//                                        the same. Without it, different content is newer.
//   created_at() const                   when it was made on the other side (system_clock), or
//                                        std::optional of that
//   InformOptions inform_options() const what holds for the kind unless a call says otherwise

#include <chrono>
#include <concepts>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/context.h"

namespace dmm::resource {

using Time = std::chrono::system_clock::time_point;

inline constexpr const char* kDefaultNamespace = "default";

/// What may be said with an object. A field that is not set is as the kind's, and where that is not
/// set either: for a new resource namespace "default", no tags, no metadata, 10 attempts; for a
/// known one as it is stored. Tags and metadata are replaced, not merged.
struct InformOptions {
  std::optional<std::string> ns = {};
  std::optional<std::vector<std::string>> tags = {};
  std::optional<nlohmann::json> metadata = {};  ///< a JSON object
  std::optional<int> max_attempts = {};         ///< failures of one content until it is degraded
  bool force = false;                           ///< work it even if it is as it was

  /// Takes every field that is unset here from `other`.
  void fill_from(const InformOptions& other);
};

template <class T>
concept Object = std::default_initializable<T> &&
    requires(T& object, const T& constant, nlohmann::json& value) {
  { constant.id() } -> std::convertible_to<std::string>;
  { constant.kind() } -> std::convertible_to<std::string_view>;
  value = nlohmann::json(constant);
  value.get_to(object);
};

template <class T>
concept Comparable = requires(const T& object) {
  { object.compare(object) } -> std::integral;
};

/// An object whose type is learned at run time. A regular value.
struct AnyObject {
  std::string kind;
  std::string id;
  nlohmann::json content;  ///< a JSON object
  std::optional<Time> created_at = {};
  InformOptions options = {};
  /// The sign of compare() with what is stored; empty: there is no such function.
  std::function<int(const nlohmann::json& stored)> compare = {};
};

/// The kind of a C++ type.
template <Object T>
std::string kind_of() {
  return std::string(T{}.kind());
}

/// The type-erased form of an object.
template <Object T>
AnyObject erase(const T& object, InformOptions options = {}) {
  AnyObject any{std::string(object.kind()), std::string(object.id()), nlohmann::json(object)};
  if constexpr (requires { object.inform_options(); }) options.fill_from(object.inform_options());
  any.options = std::move(options);
  if constexpr (requires { object.created_at(); }) {
    any.created_at = std::optional<Time>(object.created_at());
  }
  if constexpr (Comparable<T>) {
    any.compare = [object, kind = any.kind](const nlohmann::json& stored) {
      const auto order = object.compare(decode_object<T>(stored, Identity{kind, ""}));
      return (order > 0) - (order < 0);
    };
  }
  return any;
}

/// Throws Error{invalid} DMM-0803 unless `kind` is 1 to 64 of a-z 0-9 with single _ or - between.
void check_kind(std::string_view kind);

}  // namespace dmm::resource
