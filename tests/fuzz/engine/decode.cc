// Whatever the bytes: refused with a reason, or a value whose text decodes to the same value.
#include <cstdlib>

#include "engine/decode.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dmm::engine;
  static Decoder decoder;
  Value value;
  std::string error;
  if (!decoder.decode({reinterpret_cast<const char*>(data), size}, value, error)) {
    if (error.empty()) std::abort();
    return 0;
  }
  Value again;
  if (!decoder.decode(to_text(value), again, error) || !(value == again) ||
      hash(value) != hash(again))
    std::abort();
  return 0;
}
