// Goal: steps are atomic, errors are per document, only what is touched runs, images are safe.
#include "engine/error.h"
#include "laws.h"

using namespace dmm::engine;
using namespace dmm::engine::testing;
using nlohmann::json;

namespace {

Program program(const char* text) {
  return Program::parse(text);
}

StepInput input(Program& of, const char* name, const char* document, Weight weight) {
  StepInput in;
  in.batches[name].push_back(Row{of.value(document), weight});
  return in;
}

}  // namespace

TEST_CASE("step: a document that cannot be evaluated goes to the errors and the rest goes on",
          "[circuit][unit]") {
  Program p = program(R"([{"@project": {"q": {"@div": [6, "$.n"]}}}])");
  StepInput in;
  in.batches["input"] = {
      {p.value(R"({"n":0})"), 1}, {p.value(R"({"n":2})"), 1}, {p.value(R"({})"), 2}};
  StepResult out;
  REQUIRE(p.step(in, out));
  REQUIRE(out.outputs["output"].size() == 1);
  CHECK(to_text(out.outputs["output"][0].value) == R"({"q":3})");
  REQUIRE(out.errors.size() == 2);
  CHECK(to_text(out.errors[0].value) ==
        R"({"document":{"n":0},"error":"division by zero","node":"b0_op_0"})");
  CHECK(out.errors[1].weight == 2);
  REQUIRE(p.step(input(p, "input", R"({"n":0})", -1), out));
  REQUIRE(out.errors.size() == 1);
  CHECK(out.errors[0].weight == -1);
}

TEST_CASE("step: an overflow leaves no trace in any operator", "[circuit][unit]") {
  const char* text = GENERATE(
      R"({"inputs":["a","b"],"pipeline":[{"@join":{"@eq":["$.a.k","$.b.k"]}}]})",
      R"({"inputs":["a","b"],"pipeline":[{"@join":[{"@eq":["$.a.k","$.b.k"]},{"soft":["b"]}]}]})",
      R"({"inputs":["a","b"],"pipeline":[{"@join":[{"@and":[{"@eq":["$.a.k","$.b.k"]},{"@lte":["$.a.n","$.b.n"]}]},{"soft":["b"]}]}]})",
      R"({"inputs":["a","b"],"pipeline":[[{"@inputs":["a"]},{"@groupBy":["$.k","$.n"]},{"@project":{"s":{"@len":"$.values"}}},{"@output":"output"}],[{"@inputs":["b"]},"@distinct",{"@output":"output"}]]})");
  Program p = program(text);
  StepResult out;
  StepInput in;
  in.batches["a"] = {{p.value(R"({"k":1,"n":1})"), INT64_MAX / 2},
                     {p.value(R"({"k":2,"n":1})"), 1}};
  in.batches["b"] = {{p.value(R"({"k":2,"n":3})"), 1}};
  REQUIRE(p.step(in, out));
  const std::string before = p.circuit().save();
  in.batches["a"] = {{p.value(R"({"k":2,"n":2})"), 3}, {p.value(R"({"k":7,"n":2})"), 3}};
  in.batches["b"] = {{p.value(R"({"k":2,"n":3})"), -1},
                     {p.value(R"({"k":9,"n":9})"), INT64_MAX},
                     {p.value(R"({"k":1,"n":5})"), 3},
                     {p.value(R"({"k":9,"n":9})"), 1}};
  CHECK_FALSE(p.step(in, out));
  CHECK(out.failure.find("overflow") != std::string::npos);
  CHECK(out.outputs["output"].empty());
  Program fresh = program(text);
  fresh.circuit().load(before);
  in.batches["a"] = {{p.value(R"({"k":2,"n":2})"), 1}};
  in.batches["b"] = {{p.value(R"({"k":2,"n":3})"), -1}};
  StepResult expected;
  REQUIRE(p.step(in, out));
  REQUIRE(fresh.step(in, expected));
  CHECK(text_of(sum_of(out.outputs["output"])) == text_of(sum_of(expected.outputs["output"])));
}

TEST_CASE("step: only operators with input run", "[circuit][unit]") {
  Program p = program(R"({"inputs":["a","b"],"pipeline":[
    [{"@inputs":["a"]},{"@project":{"x":"$.x"}},"@distinct",{"@output":"output"}],
    [{"@inputs":["b"]},{"@select":{"@eq":["$.x",1]}},{"@project":{"y":1}},{"@output":"output"}]]})");
  std::vector<std::string> ran;
  p.circuit().observe(
      [&ran](std::string_view node, const Operator&, const Batch&) { ran.emplace_back(node); });
  StepResult out;
  REQUIRE(p.step(input(p, "b", R"({"x":2})", 1), out));
  CHECK(ran == std::vector<std::string>{"input_b", "b1_op_1"});
  ran.clear();
  REQUIRE(p.step(StepInput{}, out));
  CHECK(ran.empty());
}

TEST_CASE("step: a document that is written again as it was reaches no operator",
          "[circuit][unit]") {
  Program p = program(R"([{"@project": {"v": "$.v"}}])");
  std::vector<std::string> ran;
  p.circuit().observe([&](std::string_view node, const Operator&, const Batch& emitted) {
    ran.push_back(std::string(node) + " " + std::to_string(emitted.size()));
  });
  const auto row = [&p](const char* text, Weight weight) { return Row{p.value(text), weight}; };
  StepResult out;
  StepInput in;
  in.batches["input"] = {row(R"({"v":1,"w":[2]})", -1), row(R"({"w":[2.0],"v":1})", 1)};
  REQUIRE(p.step(in, out));
  CHECK(ran.empty());
  CHECK(out.outputs["output"].empty());

  // Between others, and inside of each other.
  in.batches["input"] = {row(R"({"v":1})", 1), row(R"({"v":2})", -3), row(R"({"v":3})", -1),
                         row(R"({"v":3})", 1), row(R"({"v":2})", 3),  row(R"({"v":4})", 1),
                         row(R"({"v":4})", -2)};
  REQUIRE(p.step(in, out));
  REQUIRE_FALSE(ran.empty());
  CHECK(ran.front() == "input_input 3");
  REQUIRE(out.outputs["output"].size() == 2);
  CHECK(to_text(out.outputs["output"][0].value) == R"({"v":1})");
  CHECK(out.outputs["output"][1].weight == -1);
}

TEST_CASE("expression: a filter of a written list says what it says of the same list computed",
          "[language][unit]") {
  const char* condition = GENERATE(
      R"({"@neq": ["$$.want", "$$.have"]})", R"({"@and": ["$$.have", {"@eq": ["$$.want", 1]}]})",
      R"({"@not": {"@isnil": "$$.want"}})", R"({"@lt": ["$$.want", "$.limit"]})",
      R"({"@eq": ["$$.want", {"@len": "$$.have"}]})", R"({"@eq": ["$$.key", "$$"]})", "true");
  const std::string items =
      R"([{"key": "a", "want": "$.d.a", "have": "$.r.a"}, {"have": "$.r.b", "key": "b", "want": {"@float": "$.d.b"}}])";
  const std::string written = std::string(R"({"@filter": [)") + condition + ", " + items + "]}";
  // @cond hides from the compiler that the list is written out.
  const std::string computed =
      std::string(R"({"@filter": [)") + condition + R"(, {"@cond": [true, )" + items + ", null]}]}";
  const auto run = [](const std::string& filter, const char* document) {
    Program p = Program::parse(R"([{"@project": {"out": )" + filter + "}}]");
    StepResult out;
    REQUIRE(p.step(input(p, "input", document, 1), out));
    return out.errors.empty() ? to_text(out.outputs["output"].at(0).value) : std::string("error");
  };
  for (const char* document :
       {R"({"limit":2,"d":{"a":1,"b":2},"r":{"a":1,"b":3}})",
        R"({"limit":2,"d":{"a":null,"b":3},"r":{"a":true,"b":false}})",
        R"({"limit":9,"d":{"a":1.5,"b":"7"},"r":{"a":[1],"b":{}}})",
        R"({"limit":2,"d":{"a":1},"r":{"a":1,"b":3}})", R"({"d":{"a":1,"b":2},"r":{}})"}) {
    INFO(condition << " " << document);
    CHECK(run(written, document) == run(computed, document));
  }
}

TEST_CASE("step: an unknown input is refused", "[circuit][unit]") {
  Program p = program("[]");
  StepResult out;
  CHECK_FALSE(p.step(input(p, "nope", "{}", 1), out));
  CHECK(out.failure == "unknown input nope");
}

TEST_CASE("step: now and rnd are what the caller gives", "[circuit][unit]") {
  Program p = program(
      R"([{"@project": {"id": "$.id", "t": {"@now": null}, "r": {"@rnd": [1, 1000000]}}}])");
  StepInput in = input(p, "input", R"({"id":1})", 1);
  in.time = {1700000000, 5};
  StepResult first;
  REQUIRE(p.step(in, first));
  REQUIRE(first.outputs["output"].size() == 1);
  ValueRef now;
  REQUIRE(first.outputs["output"][0].value->find("t", now));
  CHECK(now.as_string() == "2023-11-14T22:13:20Z");
  in = input(p, "input", R"({"id":1})", -1);
  in.time = {1800000000, 6};
  StepResult second;
  REQUIRE(p.step(in, second));
  REQUIRE(second.outputs["output"].size() == 1);
  CHECK(second.outputs["output"][0].value == first.outputs["output"][0].value);
}

TEST_CASE("circuit: a cycle without a delay is refused by name", "[circuit][unit]") {
  CHECK_THROWS_WITH(circuit_from_json(json::parse(
                        R"({"name":"t","nodes":{"p":{"type":"plus"},"q":{"type":"negate"}},
    "edges":[{"from":"p","to":"q"},{"from":"q","to":"p","port":1}]})")),
                    Catch::Contains("cycle without a delay: p -> q -> p"));
}

TEST_CASE("state: a circuit that has run takes an image and goes on", "[state][unit]") {
  Program program = Program::parse(R"({"inputs": ["a", "b"], "pipeline": [
    {"@join": {"@eq": ["$.a.k", "$.b.x.k"]}}, {"@project": {"n": "$.a.n", "x": "$.b.x.n"}}]})");
  const std::string empty = program.circuit().save();
  StepInput input;
  input.batches["a"] = {{program.value(R"({"k":1,"n":2,"z":0})"), 1}};
  input.batches["b"] = {{program.value(R"({"x":{"k":1,"n":3,"z":0}})"), 1}};
  for (int round = 0; round < 2; ++round) {
    program.circuit().load(empty);
    StepResult result;
    REQUIRE(program.step(input, result));
    REQUIRE(result.outputs["output"].size() == 1);
    CHECK(to_text(result.outputs["output"][0].value) == R"({"n":2,"x":3})");
  }
}

TEST_CASE("state: every flipped byte of an image is detected", "[state][unit]") {
  const char* text =
      R"({"inputs":["a","b"],"pipeline":[{"@join":{"@eq":["$.a.k","$.b.k"]}},{"@groupBy":["$.a.k","$.b.n"]}]})";
  Program p = program(text);
  StepInput in;
  StepResult out;
  in.batches["a"] = {{p.value(R"({"k":1,"n":1})"), 1}};
  in.batches["b"] = {{p.value(R"({"k":1,"n":0.5})"), 2}};
  REQUIRE(p.step(in, out));
  const std::string image = p.circuit().save();
  for (std::size_t i = 0; i < image.size(); ++i) {
    std::string damaged = image;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << (i % 8)));
    INFO("byte " << i);
    REQUIRE_THROWS_AS(p.circuit().load(damaged), Error);
    REQUIRE_THROWS_AS(p.circuit().load(std::string_view(image).substr(0, i)), Error);
  }
  CHECK(p.circuit().save() == image);
  Program other = program("[]");
  CHECK_THROWS_WITH(other.circuit().load(image), Catch::Contains("another circuit"));
}

TEST_CASE("explain: plan and circuit print", "[explain][unit]") {
  Program p = program(R"({"inputs":["Pod","Service"],"pipeline":[
    {"@join":{"@and":[{"@eq":["$.Pod.labels.app","$.Service.app"]},{"@eq":["$.Pod.phase","Running"]}]}},
    {"@project":{"id":"$.Service.name","ip":"$.Pod.ip"}},{"@groupBy":["$.id","$.ip"]},
    {"@project":{"name":"$.key","addresses":"$.values","n":{"@len":"$.values"}}}]})");
  const std::string text = p.explain();
  CHECK(text.find("input Pod reads ip, labels.app, phase") != std::string::npos);
  CHECK(text.find("equi_join") != std::string::npos);
  CHECK(text.find("b0_join_Pod_select") != std::string::npos);
  CHECK(text.find(R"("fold":"count")") != std::string::npos);
  CHECK(p.explain_json()["circuit"]["mode"] == "incremental");
  Value pod;
  std::string error;
  REQUIRE(p.decode("Pod", R"({"ip":"1","labels":{"app":"x","y":1},"big":[1,2,3]})", pod, error));
  CHECK(to_text(pod) == R"({"ip":"1","labels":{"app":"x"}})");
}

TEST_CASE("compile: errors name stage argument and reason", "[language][unit]") {
  const auto [text, expected] = GENERATE(table<const char*, const char*>({
      {R"([{"@select":true},{"@project":{"a":{"@nope":1}}}])",
       "stage[1] @project, argument projection[\"a\"]"},
      {R"([{"@select":{"@eq":[1]}}])", "@eq takes 2 arguments, not 1"},
      {R"([{"@gather":1}])", "not supported; use @groupBy and @project"},
      {R"([{"@frobnicate":1}])", "unsupported pipeline operation"},
      {R"([{"@unwind":"x"}])", "\"$.path\" string"},
      {R"([{"@groupBy":[null,null]}])", "a key is required"},
      {R"([{"@distinct":3}])", "takes no argument"},
      {R"({"inputs":["a","b"],"pipeline":[{"@select":true}]})", "must start with @join"},
      {R"({"inputs":["a","b"],"pipeline":[[{"@inputs":["a"]},{"@output":"b"}],[{"@inputs":["b"]},{"@output":"output"}]]})",
       "shadows"},
      {R"([{"@inputs":["zz"]}])", "unbound"},
      {R"([[{"@inputs":["input"]}]])", "needs @inputs and @output"},
      {R"({"outputs":["x"],"pipeline":[[{"@inputs":["input"]},{"@output":"y"}]]})", "not produced"},
      {R"([{"@project":{"a":"$.b["}}])", "invalid JSONPath"},
      {"[", "no JSON"},
  }));
  INFO(text);
  CHECK_THROWS_WITH(Program::parse(text), Catch::Contains(expected));
}

TEST_CASE("compile: host functions are called and cannot take built-in names", "[language][unit]") {
  ProgramOptions options;
  options.functions["@twice"] = [](std::span<const Value> arguments, Value& out,
                                   std::string& error) {
    if (arguments.size() != 1 || arguments[0].kind() != Kind::integer) {
      error = "an integer is expected";
      return false;
    }
    out = Value::integer(2 * arguments[0]->as_integer());
    return true;
  };
  Program p = Program::compile(json::parse(R"([{"@project":{"x":{"@twice":"$.x"}}}])"), options);
  StepResult out;
  REQUIRE(p.step(input(p, "input", R"({"x":4})", 1), out));
  CHECK(to_text(out.outputs["output"][0].value) == R"({"x":8})");
  options.functions["@len"] = options.functions["@twice"];
  CHECK_THROWS_WITH(Program::compile(json::array(), options), Catch::Contains("taken"));
}
