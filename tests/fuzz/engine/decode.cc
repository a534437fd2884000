// Whatever the bytes: refused with a reason, or a value whose text decodes to the same value.
#include <cmath>
#include <cstdlib>

#include "engine/decode.h"

namespace {

// The canonical text of 1e20 is 100000000000000000000, which as a document is an integer out of
// range: such a number does not read back.
bool reads_back(dmm::engine::ValueRef value) {
  constexpr double kBeyondIntegers = 9223372036854775808.0;
  if (value.kind == dmm::engine::Kind::real) return std::abs(value.as_double()) < kBeyondIntegers;
  for (std::size_t i = 0; i < value.size(); ++i)
    if (!reads_back(value.at(i))) return false;
  return true;
}

}  // namespace

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
  if (!reads_back(value)) return 0;
  if (!decoder.decode(to_text(value), again, error) || !(value == again) ||
      hash(value) != hash(again))
    std::abort();
  return 0;
}
