#pragma once

#include <concepts>
#include <functional>
#include <string>
#include <type_traits>

#include <nlohmann/json.hpp>

#include "dmm/context.h"
#include "dmm/outcome.h"

namespace dmm {

/// A materializer: an idempotent function on a cache object. Any type with
///   std::string identity() const;
///   void materialize(dmm::Context&);      or dmm::Outcome materialize(dmm::Context&);
/// a default constructor and nlohmann conversions. Read missing fields leniently
/// (NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT): a zeroed or missing cache is a normal input.
/// Optional: void set_identity(std::string), called for an object that was not stored yet.
template <class M>
concept Materializer =
    std::default_initializable<M> && requires(M& object, const M& constant, Context& context,
                                              nlohmann::json& value) {
      { constant.identity() } -> std::convertible_to<std::string>;
      object.materialize(context);
      value = nlohmann::json(constant);
      value.get_to(object);
    };

/// A materializer whose type is learned at run time: a function on the JSON of the cache object.
struct AnyMaterializer {
  /// Changes `cache` (null if there is none) and says how it went. Called from many threads, never
  /// twice at a time for one identity. Throws whatever it likes.
  std::function<Outcome(Context& context, nlohmann::json& cache)> materialize;
};

/// The type-erased form of a C++ materializer.
template <Materializer M>
AnyMaterializer erase_type() {
  return AnyMaterializer{[](Context& context, nlohmann::json& cache) {
    M object = decode_object<M>(cache, context.identity());
    if constexpr (std::is_void_v<decltype(object.materialize(context))>) {
      object.materialize(context);
      cache = nlohmann::json(object);
      return Outcome::done();
    } else {
      Outcome outcome = object.materialize(context);
      cache = nlohmann::json(object);
      return outcome;
    }
  }};
}

}  // namespace dmm
