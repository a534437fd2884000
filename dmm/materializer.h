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

/// The type-erased form of a C++ materializer. Where there was no cache and the run left the object
/// as it was constructed, there still is none.
template <Materializer M>
AnyMaterializer erase_type() {
  return AnyMaterializer{[](Context& context, nlohmann::json& cache) {
    M object = decode_object<M>(cache, context.identity());
    const nlohmann::json before = cache.is_null() ? nlohmann::json(object) : nlohmann::json();
    Outcome outcome = Outcome::done();
    if constexpr (std::is_void_v<decltype(object.materialize(context))>) {
      object.materialize(context);
    } else {
      outcome = object.materialize(context);
    }
    nlohmann::json after(object);
    if (after != before) cache = std::move(after);
    return outcome;
  }};
}

}  // namespace dmm
