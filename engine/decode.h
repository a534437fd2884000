/// Decoding JSON bytes into values: the one place where documents enter the engine.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "engine/fields.h"
#include "engine/limits.h"
#include "engine/value.h"

namespace dmm::engine {

/// Of what decode() makes of a text. Raised when a document would become another value than before,
/// because values that were decoded are kept in files.
inline constexpr std::uint32_t kDecoderVersion = 1;

struct DecodeLimits {
  std::size_t depth_max = limits::kDepthMax;
  std::size_t bytes_max = limits::kDocumentBytesMax;
};

/// Decodes documents. Keeps its buffers and the shapes that it has met, so that the next document
/// of the same make costs no more than its content.
///
/// Refused, with a reason: text longer than bytes_max, nesting deeper than depth_max, anything that
/// is not UTF-8, a key that occurs twice in one object, U+0000 in a key or a string, an integer
/// outside of int64, a number outside of double, anything after the document.
///
/// Threads: one at a time. Values that it made belong to the same thread as the decoder.
class Decoder {
 public:
  /// fields   what to keep of each document; the rest is checked and left out.
  explicit Decoder(DecodeLimits limits = {}, Fields fields = Fields::all());
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;
  ~Decoder();

  /// Decodes one document.
  ///
  /// returns false with the reason in `error`; `out` is unchanged then. Does not throw but for
  /// memory. O(bytes).
  [[nodiscard]] bool decode(std::string_view text, Value& out, std::string& error);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace dmm::engine
