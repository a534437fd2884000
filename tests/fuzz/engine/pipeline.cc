// Whatever the text: refused with a reason, or a program that takes a few documents.
#include <cstdlib>

#include "engine/error.h"
#include "engine/program.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dmm::engine;
  try {
    Program program = Program::parse({reinterpret_cast<const char*>(data), size});
    StepInput input;
    for (const auto& [name, node] : program.circuit().inputs())
      input.batches[name] = {
          {program.value(R"({"a":1,"b":{"c":"x"},"l":[1,2,{"c":3}],"k":null})"), 1},
          {program.value(R"({"a":2.5,"b":5})"), 2}};
    StepResult result;
    if (!program.step(input, result) && result.failure.empty()) std::abort();
  } catch (const Error& error) {
    if (*error.what() == '\0') std::abort();
  }
  return 0;
}
