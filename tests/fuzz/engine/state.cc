// Images with a checksum that fits, whatever is in them: refused, or a state that goes on. The
// bytes are the content behind the header; header and checksum are put on here.
#include "engine/error.h"
#include "engine/program.h"
#include "engine/snapshot.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dmm::engine;
  static Program program = Program::parse(R"({"inputs":["a","b"],"pipeline":[
    {"@join":[{"@and":[{"@eq":["$.a.k","$.b.k"]},{"@lt":["$.a.n","$.b.n"]}]},{"soft":["b"]}]},
    {"@project":{"k":"$.a.k","n":"$.a.n"}},"@distinct",
    {"@groupBy":["$.k","$.n"]},{"@project":{"k":"$.key","s":{"@sum":"$.values"},"lo":{"@min":"$.values"}}}]})");
  StateReader content({reinterpret_cast<const char*>(data), size});
  StateWriter image;
  image.text("dmmstate");
  image.number(kStateVersion);
  image.text(program.circuit().fingerprint());
  for (std::size_t i = 0; i < program.circuit().nodes().size(); ++i) image.text(content.text());
  try {
    program.circuit().reset();
    program.circuit().load(image.finish());
    StepInput input;
    input.batches["a"] = {{program.value(R"({"k":1,"n":2})"), 1}};
    input.batches["b"] = {{program.value(R"({"k":1,"n":3})"), -1}};
    StepResult result;
    static_cast<void>(program.step(input, result));
  } catch (const Error&) {
    return 0;
  }
  return 0;
}
