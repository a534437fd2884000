// Goal: a pipeline can be developed with the tool alone, and no file, line or option brings it
// down. Method: call it as a user does, where no server is, on the example pipelines and on
// rubbish.

#include <unistd.h>

#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "dmm/cli/pipeline_file.h"
#include "dmm/cli/pipeline_line.h"
#include "dmm/error.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/text/yaml.h"
#include "engine/error.h"
#include "engine/expression/expression.h"
#include "runner.h"

namespace dmm::cli_test {
namespace {

const std::filesystem::path kExamples = DMM_PIPELINES_DIR;

// A folder of files for one test.
class Desk final {
 public:
  std::string file(const std::string& name, std::string_view text) const {
    const std::filesystem::path path = folder_.path() / name;
    std::ofstream(path, std::ios::binary) << text;
    return path.string();
  }
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }

 private:
  testing::TemporaryDirectory folder_;
};

std::vector<json> lines_of(const std::string& text) {
  std::vector<json> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(json::parse(line));
  return lines;
}

constexpr const char* kSum = R"([{"@groupBy":["$.k","$.v"]},)"
                             R"({"@project":{"k":"$.key","s":{"@sum":"$.values"}}}])";

TEST_CASE("pipeline: the examples compile and both modes agree on their changes",
          "[cli][pipeline][unit]") {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kExamples)) {
    if (entry.path().extension() == ".jsonl") continue;
    const std::string file = entry.path().string();
    INFO(file);
    ++count;
    const json checked = without_server({"pipeline", "check", file, "-o", "json"}).document();
    CHECK(checked.at("ok") == true);
    CHECK(checked.at("mode") == "incremental");
    CHECK_FALSE(checked.at("inputs").empty());
    CHECK_FALSE(checked.at("outputs").empty());
    const Result explained = without_server({"pipeline", "explain", file});
    CHECK(explained.code == 0);
    CHECK(explained.out.find("circuit ") != std::string::npos);
    const json plan = without_server({"pipeline", "explain", file, "-o", "json"}).document();
    CHECK(plan.at("circuit").at("nodes").size() == checked.at("nodes"));
    std::filesystem::path changes = entry.path();
    changes.replace_extension(".jsonl");
    const Result ran = without_server({"pipeline", "run", file, changes.string(), "--snapshot"});
    INFO(ran.err);
    CHECK(ran.code == 0);
    CHECK(ran.err.empty());
    CHECK_FALSE(ran.out.empty());
  }
  CHECK(count >= 3);
}

TEST_CASE("pipeline: check names inputs with the fields that are used", "[cli][pipeline][unit]") {
  const Desk desk;
  const std::string file =
      desk.file("p.yaml",
                "inputs: [a, b]\npipeline:\n  - '@join': {'@eq': [$.a.k, $.b.x.k]}\n"
                "  - '@project': {n: $.a.n, r: $.b.x.r}\n");
  const json inputs =
      without_server({"pipeline", "check", file, "-o", "json"}).document()["inputs"];
  CHECK(inputs == json::parse(R"([{"name":"a","fields":["$.k","$.n"]},
                                  {"name":"b","fields":["$.x.k","$.x.r"]}])"));
  const Result table = without_server({"pipeline", "check", file});
  CHECK(table.out.find("ok") != std::string::npos);
  CHECK(table.out.find("$.x.k, $.x.r") != std::string::npos);
}

TEST_CASE("pipeline: bad files are refused with code and reason and exit code 2",
          "[cli][pipeline][unit]") {
  const Desk desk;
  const std::string deep(200'000, '[');
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before;
    for (int j = 0; j < 8; ++j) bomb += ", " + before;
    bomb += "]\n";
  }
  std::string long_bomb = "- &a \"" + std::string(500'000, 'x') + "\"\n- [*a";
  for (int i = 0; i < 50'000; ++i) long_bomb += ",*a";
  long_bomb += "]";
  struct Case {
    const char* name;
    std::string text;
    const char* expected;  // a part of the message
  };
  const std::vector<Case> cases = {
      {"empty.yaml", "", "it is empty"},
      {"empty.json", " \r\n\t", "it is empty"},
      {"binary.yaml",
       std::string("\x7f"
                   "ELF\x02\x00\x01",
                   7),
       "DMM-0205"},
      {"binary.json",
       std::string("\x7f"
                   "ELF\x02\x00\x01",
                   7),
       "DMM-0205"},
      {"utf8.yaml", "- a\n- \"\xff\"", "line 2, column 4: byte 0xFF"},
      {"utf8.json", "[\"\xc3\"]", "line 1, column 3: byte 0xC3"},
      {"deep.json", deep, "DMM-0204"},
      {"deep.yaml", deep, "DMM-0"},
      {"closed.yaml", deep + std::string(200'000, ']'), "DMM-0"},
      {"dashes.yaml", "- - - - - - - -" + std::string(100'000, ' ') + deep, "DMM-0"},
      {"maps.yaml", "{a: " + deep, "DMM-0"},
      {"bomb.yaml", bomb, "DMM-0202"},
      {"long.yaml", long_bomb, "DMM-0202"},
      {"self.yaml", "&a [*a]", "the alias stands within what it names"},
      {"unknown.yaml", "[*a]", "DMM-0501"},
      {"large.yaml", "#" + std::string(1 << 20, 'x'), "DMM-0202"},
      {"at.yaml", "- @select: 1", "line 1, column 3: a text that begins with @"},
      {"tab.yaml", "a:\n\t- 1", "line 2, column 2: a tab cannot indent"},
      {"no.yaml", "- {a: no}", "line 1, column 7: no is a boolean to some"},
      {"octal.yaml", "- 007", "line 1, column 3: 007 is a number to some"},
      {"integer.yaml", "- 9223372036854775808", "does not fit 64 bits"},
      {"float.yaml", "- 1e999", "not finite"},
      {"twice.yaml", "a: 1\na: 2", "line 2, column 1: the key \"a\" stands twice"},
      {"twice.json", "{\"a\":1,\n\"a\":2}", "DMM-0213"},
      {"merge.yaml", "a: &x {b: 1}\nc: {<<: *x}", "merge keys are not supported"},
      {"tag.yaml", "- !!int \"3\"", "is not supported"},
      {"two.yaml", "[]\n---\n[]", "line 2, column 1: a second document"},
      {"key.yaml", "{[a]: 1}", "a key is a text"},
      {"null.yaml", "~: 1", "the key null is not a text"},
      {"syntax.json", "[\n {\"@select\": 1},\n {]\n]", "line 3, column 3"},
      {"text.yaml", "hello", "DMM-0502"},
      {"number.json", "7", "DMM-0502"},
      {"operator.yaml", "- '@select': {'@gtt': [$.v, 5]}",
       "unknown operator @gtt; did you mean @gt?"},
      {"stage.yaml", "- '@selct': true", "stage[0] @selct, argument selct (raw=true)"},
      {"stage2.yaml", "- '@selct': true", "did you mean @select?"},
      {"transform.yaml", "{pipeline: [], transforms: [Incrementaliser]}",
       "did you mean Incrementalizer?"},
      {"inputs.yaml", "{pipeline: [], inputs: 7}", "DMM-0502"},
      {"cycle.json",
       R"({"circuit":{"name":"c","nodes":{"x":{"type":"noop"}},)"
       R"("edges":[{"from":"x","to":"x"}]}})",
       "DMM-0502"},
  };
  for (const Case& bad : cases) {
    const std::string file = desk.file(bad.name, bad.text);
    for (const std::string verb : {"check", "explain", "run"}) {
      const Result result = without_server({"pipeline", verb, file}, "{\"row\":{}}\n");
      INFO(verb << " " << bad.name << "\n" << result.err);
      CHECK(result.code == 2);
      CHECK(result.out.empty());
      CHECK(result.err.find("dmm: DMM-0") == 0);
      CHECK(result.err.find(bad.expected) != std::string::npos);
      CHECK(result.err.find("\n     ") != std::string::npos);
      CHECK(result.err.size() < 3'000);
    }
  }
  for (const char* path : {"/nonexistent", "/", "/dev/null", "/dev/zero"}) {
    const Result result = without_server({"pipeline", "check", path});
    INFO(path << "\n" << result.err);
    CHECK(result.code == 2);
    CHECK(result.err.find("dmm: DMM-0") == 0);
  }
}

TEST_CASE("pipeline: what users of other systems write is understood", "[cli][pipeline][unit]") {
  const Desk desk;
  const std::string program = R"([{"@select":{"@gt":["$.v",5]}}])";
  const std::vector<std::string> files = {
      desk.file("crlf.json", "[\r\n{\"@select\":{\"@gt\":[\"$.v\",5]}}\r\n]\r\n"),
      desk.file("crlf.yaml", "- \"@select\":\r\n    \"@gt\": [$.v, 5]\r\n"),
      desk.file("bom.json", "\xEF\xBB\xBF" + program),
      desk.file("bom.yml", "\xEF\xBB\xBF- '@select': {'@gt': [$.v, 5]}"),
      desk.file("without-extension", program),
      desk.file("comment", "# a comment\n---\n- '@select':\n    '@gt':\n    - $.v\n    - 5\n...\n"),
      desk.file("alias.yaml",
                "pipeline: [{'@select': {'@gt': [&v $.v, &five 5]}},\n"
                " {'@select': {'@gt': [*v, *five]}}]"),
  };
  for (const std::string& file : files) {
    const Result result =
        without_server({"pipeline", "run", file}, "{\"row\":{\"v\":6}}\n{\"row\":{\"v\":5}}\n");
    INFO(file << "\n" << result.err);
    CHECK(result.code == 0);
    CHECK(result.out == "{\"step\":1,\"output\":\"output\",\"row\":{\"v\":6},\"weight\":1}\n");
  }
  CHECK(without_server({"pipeline", "check", "-"}, program).code == 0);
}

TEST_CASE("pipeline: run writes the changes of each step in canonical order",
          "[cli][pipeline][unit]") {
  const Desk desk;
  const std::string file = desk.file("p.json", kSum);
  const std::string changes =
      "{\"row\":{\"k\":1,\"v\":2}}\n\n{\"input\":\"input\",\"row\":{\"k\":1,\"v\":3},\"weight\":2}"
      "\r\n"
      "{\"in\":{\"input\":[[{\"k\":1,\"v\":2},-1],[{\"k\":0,\"v\":7},1]]}}\n";
  const Result result = without_server({"pipeline", "run", file, "--snapshot"}, changes);
  INFO(result.err);
  CHECK(result.code == 0);
  CHECK(result.err.empty());
  CHECK(result.out ==
        "{\"step\":1,\"output\":\"output\",\"row\":{\"k\":1,\"s\":2},\"weight\":1}\n"
        "{\"step\":2,\"output\":\"output\",\"row\":{\"k\":1,\"s\":2},\"weight\":-1}\n"
        "{\"step\":2,\"output\":\"output\",\"row\":{\"k\":1,\"s\":8},\"weight\":1}\n"
        "{\"step\":3,\"output\":\"output\",\"row\":{\"k\":0,\"s\":7},\"weight\":1}\n"
        "{\"step\":3,\"output\":\"output\",\"row\":{\"k\":1,\"s\":6},\"weight\":1}\n"
        "{\"step\":3,\"output\":\"output\",\"row\":{\"k\":1,\"s\":8},\"weight\":-1}\n");
  CHECK(without_server({"pipeline", "run", file, "-o", "json"}, changes).out == result.out);
  // One step: only what changed in the end.
  CHECK(without_server({"pipeline", "run", file, "--batch", "9"},
                       "{\"row\":{\"k\":1,\"v\":2}}\n{\"row\":{\"k\":1,\"v\":3}}\n")
            .out == "{\"step\":1,\"output\":\"output\",\"row\":{\"k\":1,\"s\":5},\"weight\":1}\n");
  // As the lines say.
  const Result steps = without_server({"pipeline", "run", file, "--batch", "0"},
                                      "{\"row\":{\"k\":1,\"v\":2}}\n{\"row\":{\"k\":1,\"v\":3}}\n{"
                                      "\"step\":{}}\n{\"row\":{\"k\":2,\"v\":0}}");
  CHECK(lines_of(steps.out).size() == 2);
  CHECK(lines_of(steps.out).at(1).at("step") == 2);
  CHECK(without_server({"pipeline", "run", file}, "").code == 0);
}

TEST_CASE("pipeline: bad lines and documents are told with their number and the rest goes on",
          "[cli][pipeline][unit]") {
  const Desk desk;
  const std::string file = desk.file("p.json", R"({"inputs":["a","b"],"pipeline":[
      [{"@inputs":["a"]},{"@project":{"w":{"@add":["$.v",1]}}},{"@output":"output"}],
      [{"@inputs":["b"]},{"@output":"output"}]]})");
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"{", "DMM-0203"},
      {"\xff", "DMM-0203"},
      {"[]", "DMM-0209: a line is"},
      {"7", "DMM-0209"},
      {"{}", "the row is missing"},
      {"{\"row\":{}}", "the input is missing; there are a, b"},
      {"{\"input\":\"c\",\"row\":{}}", "there is no input \"c\"; did you mean a?"},
      {"{\"input\":7,\"row\":{}}", "the input is named by a text"},
      {"{\"input\":\"a\",\"row\":{},\"wieght\":1}",
       "unknown member \"wieght\"; did you mean weight?"},
      {"{\"input\":\"a\",\"row\":{},\"weight\":0.5}", "the weight 0.5 is no integer"},
      {"{\"input\":\"a\",\"row\":{},\"weight\":99999999999999999999}", "DMM-0203"},
      {"{\"step\":1}", "DMM-0209"},
      {"{\"step\":{\"now\":\"today\"}}", "now is \"today\""},
      {"{\"step\":{\"seed\":-1}}", "the seed"},
      {"{\"in\":[]}", "DMM-0209"},
      {"{\"in\":{\"a\":[7]}}", "element 0 of \"a\" is no [row,weight]"},
      {"{\"in\":{\"c\":[]}}", "there is no input"},
      {std::string(200'000, '['), "DMM-0203"},
      {"{\"input\":\"a\",\"row\":\"" + std::string((16 << 20) + 1, 'x') + "\"}", "DMM-0202"},
      {"{\"input\":\"a\",\"row\":{\"n\":1}}", "DMM-0503: at b0_op_1: "},
      {"{\"input\":\"b\",\"row\":1,\"weight\":9223372036854775807}", ""},
      {"{\"input\":\"b\",\"row\":1,\"weight\":9223372036854775807}", ""},
  };
  std::string input;
  for (const auto& [line, expected] : bad) input += line + "\n";
  const Result result =
      without_server({"pipeline", "run", file}, input + "{\"input\":\"a\",\"row\":{\"v\":1}}");
  INFO(result.err.substr(0, 6'000));
  CHECK(result.code == 1);
  for (std::size_t i = 0; i < bad.size(); ++i) {
    if (bad[i].second.empty()) continue;
    INFO("line " << i + 1 << ": " << bad[i].first.substr(0, 100));
    const std::size_t at = result.err.find("dmm: line " + std::to_string(i + 1) + ": ");
    REQUIRE(at != std::string::npos);
    CHECK(result.err.substr(at, result.err.find('\n', at) - at).find(bad[i].second) !=
          std::string::npos);
  }
  CHECK(lines_of(result.out).back().at("row") == json{{"w", 2}});
  CHECK(result.err.find("19 lines refused, 1 document not evaluated") != std::string::npos);
}

TEST_CASE("pipeline: a step whose weights overflow is undone and the rest goes on",
          "[cli][pipeline][unit]") {
  const Desk desk;
  const std::string file = desk.file("p.json", "\"@distinct\"");
  const std::string huge = "{\"row\":1,\"weight\":9223372036854775807}\n";
  const Result result = without_server({"pipeline", "run", file}, huge + huge + "{\"row\":2}\n");
  INFO(result.err);
  CHECK(result.code == 1);
  CHECK(result.err.find("dmm: line 2: DMM-0504: step 2: weight overflow") == 0);
  CHECK(result.err.find("1 step failed") != std::string::npos);
  CHECK(lines_of(result.out).size() == 2);
}

TEST_CASE("pipeline: time and seed can be given", "[cli][pipeline][unit]") {
  const Desk desk;
  const std::string file =
      desk.file("p.json", R"([{"@project":{"t":{"@now":null},"r":{"@rnd":[0,1000000]}}}])");
  const Arguments call = {"pipeline", "run", file, "--now", "2026-01-31T12:00:00Z", "--seed", "7"};
  const Result result = without_server(call, "{\"row\":{}}\n");
  INFO(result.err);
  REQUIRE(result.code == 0);
  CHECK(lines_of(result.out).at(0).at("row").at("t") == "2026-01-31T12:00:00Z");
  CHECK(without_server(call, "{\"row\":{}}\n").out == result.out);
  const std::string step = "{\"row\":{}}\n{\"step\":{\"now\":1,\"seed\":7}}\n";
  const Result stepped = without_server({"pipeline", "run", file, "--batch", "0"}, step);
  CHECK(lines_of(stepped.out).at(0).at("row").at("t") == "1970-01-01T00:00:01Z");
  CHECK(lines_of(stepped.out).at(0).at("row").at("r") ==
        lines_of(result.out).at(0).at("row").at("r"));
  for (const char* bad : {"today", "", "2026-02-30T00:00:00Z", "2026-01-31T24:00:00Z", "-1",
                          "99999999999999999999", "2026-01-31 12:00:00Z", "253402300800"}) {
    INFO(bad);
    CHECK_FALSE(cli::parse_time(bad));
  }
  CHECK(cli::parse_time("2000-02-29T23:59:59Z") == 951'868'799);
  CHECK(cli::parse_time("0") == 0);
  CHECK(without_server({"pipeline", "run", file, "--now", "today"}).code == 2);
}

TEST_CASE("pipeline: a state is saved and loaded", "[cli][pipeline][unit]") {
  const Desk desk;
  const std::string file = desk.file("p.json", kSum);
  const std::string state = desk.path("state");
  CHECK(without_server({"pipeline", "run", file, "--save-state", state},
                       "{\"row\":{\"k\":1,\"v\":2}}\n")
            .code == 0);
  const Result further =
      without_server({"pipeline", "run", file, "--load-state", state, "--save-state", state},
                     "{\"row\":{\"k\":1,\"v\":3}}\n");
  INFO(further.err);
  CHECK(further.code == 0);
  CHECK(lines_of(further.out).size() == 2);
  CHECK(lines_of(further.out).at(1).at("row").at("s") == 5);
  CHECK_FALSE(std::filesystem::exists(state + ".new"));
  const std::string other = desk.file("other.json", "\"@distinct\"");
  const auto refused = [&](const std::string& pipeline, const std::string& path) {
    const Result result = without_server({"pipeline", "run", pipeline, "--load-state", path});
    INFO(path << "\n" << result.err);
    CHECK(result.out.empty());
    CHECK(result.err.find("dmm: DMM-0") == 0);
    return result.code;
  };
  CHECK(refused(other, state) == 1);
  CHECK(refused(file, desk.file("damaged", "dmmstate")) == 1);
  CHECK(refused(file, desk.file("nothing", "")) == 1);
  CHECK(refused(file, "/nonexistent") == 2);
  CHECK(refused(file, "/") == 2);
  CHECK(without_server({"pipeline", "run", file, "--save-state", "/nonexistent/x"}).code == 2);
  CHECK(without_server({"pipeline", "run", file, "--save-state", "/dev/null"}).code == 0);
  CHECK(std::filesystem::is_character_file("/dev/null"));
}

TEST_CASE("pipeline: a difference between the modes is found", "[cli][pipeline][unit]") {
  // A pipeline that asks for the time keeps the result of a document; over the whole input it is
  // evaluated again.
  const Desk desk;
  const std::string file = desk.file("p.json", R"([{"@project":{"t":{"@now":null}}}])");
  const Result result = without_server({"pipeline", "run", file, "--snapshot", "--batch", "0"},
                                       "{\"row\":1}\n{\"step\":{\"now\":1}}\n{\"row\":2}\n{"
                                       "\"step\":{\"now\":2}}\n{\"step\":{\"now\":3}}\n");
  INFO(result.err);
  CHECK(result.code == 1);
  CHECK(result.err.find("DMM-0506: step 2 is the first to differ") != std::string::npos);
  CHECK(result.err.find("1970-01-01T00:00:01Z\"} has weight 1 by changes, 0 over whole") !=
        std::string::npos);
  CHECK(result.err.find("modes differ in 2 steps") != std::string::npos);
}

TEST_CASE("pipeline: options that contradict each other are refused", "[cli][pipeline][unit]") {
  const Desk desk;
  const std::string file = desk.file("p.json", "[]");
  const std::string whole = desk.file("w.json", R"({"pipeline":[],"transforms":[]})");
  for (const Arguments& call : std::vector<Arguments>{
           {"pipeline"},
           {"pipeline", "chek"},
           {"pipeline", "check"},
           {"pipeline", "check", file, file},
           {"pipeline", "run", "-"},
           {"pipeline", "run", file, "-", "-"},
           {"pipeline", "run", file, "/nonexistent"},
           {"pipeline", "run", file, "/"},
           {"pipeline", "run", file, "--batch", "-1"},
           {"pipeline", "run", file, "--seed", "x"},
           {"pipeline", "run", whole, "--snapshot"},
           {"pipeline", "run", file, "--snapshot", "--load-state", file},
       }) {
    const Result result = without_server(call);
    INFO(json(call).dump() << "\n" << result.err);
    CHECK(result.code == 2);
    CHECK(result.out.empty());
    CHECK(result.err.find("dmm: DMM-0404: ") == 0);
    CHECK(result.err.find("\n     ") != std::string::npos);
  }
  CHECK(without_server({"pipeline", "chek"}).err.find("did you mean check?") != std::string::npos);
  for (const std::string verb : {"check", "explain", "run"}) {
    const Result help = without_server({"pipeline", verb, "--help"});
    CHECK(help.code == 0);
    CHECK(help.out.find("Examples:\n  dmm pipeline " + verb) != std::string::npos);
  }
}

TEST_CASE("pipeline: the operators that a suggestion knows are those of the language",
          "[cli][pipeline][unit]") {
  for (const std::string& name : cli::operator_names()) {
    INFO(name);
    try {
      engine::compile_expression({{name, json::array({1, 2})}});
    } catch (const engine::Error& error) {
      CHECK(std::string(error.what()).find("unknown operator") == std::string::npos);
    }
  }
  // Every operator in the table of the reference page is in the list.
  std::ifstream page(std::filesystem::path(DMM_DOCS_DIR) / "reference" / "pipeline-language.md");
  bool within = false;
  std::size_t count = 0;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("| operator |")) within = true;
    if (line.empty()) within = false;
    if (!within || !line.starts_with("| `@")) continue;
    const std::string cell = line.substr(0, line.find('|', 1));
    for (std::size_t at = cell.find("`@"); at != std::string::npos; at = cell.find("`@", at + 2)) {
      const std::string name = cell.substr(at + 1, cell.find('`', at + 1) - at - 1);
      INFO(name);
      CHECK(std::find(cli::operator_names().begin(), cli::operator_names().end(), name) !=
            cli::operator_names().end());
      ++count;
    }
  }
  CHECK(count == cli::operator_names().size());
}

TEST_CASE("yaml: a document becomes the JSON that it looks like", "[cli][pipeline][unit]") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"a: 1", R"({"a":1})"},
      {"[1, -2, 0, 1.5, -2e3, 0.0]", "[1,-2,0,1.5,-2000.0,0.0]"},
      {"[true, false, null, ~, ]", "[true,false,null,null]"},
      {"- 'true'\n- \"1\"\n- ''", R"(["true","1",""])"},
      {"- y\n- n\n- 12:30\n- 1.2.3\n- 2026-01-31\n- 1-2\n- _1\n- e5\n- '-'\n- 0xyz",
       R"(["y","n","12:30","1.2.3","2026-01-31","1-2","_1","e5","-","0xyz"])"},
      {"$.a: $$.b", R"({"$.a":"$$.b"})"},
      {"a: |\n  x\n  y\nb: >-\n  x\n  y", R"({"a":"x\ny\n","b":"x y"})"},
      {"a: &x [1]\nb: [*x, *x]", R"({"a":[1],"b":[[1],[1]]})"},
      {"'<<': 1", R"({"<<":1})"},
      {"!!str 7", "\"7\""},
      {"9223372036854775807", "9223372036854775807"},
      {"{}", "{}"},
      {"{\"a\":[1,2]}", R"({"a":[1,2]})"},
  };
  for (const auto& [text, expected] : cases) {
    INFO(text);
    CHECK(text::parse_yaml(text) == json::parse(expected));
  }
  for (const char* text : {"yes", "No", "ON", "off", "True", "FALSE", "+1", "-007", "1_000", ".5",
                           "1.", "0x1F", "0o17", "0b1", ".inf", "-.INF", ".NaN", "00"}) {
    INFO(text);
    CHECK_THROWS_WITH(text::parse_yaml(text), Catch::Contains("DMM-0501: line 1, column 1: "));
  }
}

TEST_CASE("yaml: the limits hold at their edge", "[cli][pipeline][unit]") {
  const text::YamlLimits limits{.bytes_max = 20, .depth_max = 3, .nodes_max = 5};
  CHECK(text::parse_yaml("[[[]]]", limits).is_array());
  CHECK_THROWS_WITH(text::parse_yaml("[[[[]]]]", limits), Catch::Contains("DMM-0204"));
  CHECK_THROWS_WITH(text::parse_yaml("[&a [[1]], [*a]]", limits), Catch::Contains("DMM-0204"));
  CHECK(text::parse_yaml("[1,1,1,1]", limits).size() == 4);
  CHECK_THROWS_WITH(text::parse_yaml("[1,1,1,1,1]", limits), Catch::Contains("DMM-0202"));
  CHECK(text::parse_yaml(std::string(20, 'x'), limits).is_string());
  CHECK_THROWS_WITH(text::parse_yaml(std::string(21, 'x'), limits), Catch::Contains("DMM-0202"));
  CHECK_THROWS_WITH(text::parse_yaml("[&a xxxxxxxxxx,*a,*a]", {.bytes_max = 25}),
                    Catch::Contains("aliases written out"));
}

TEST_CASE("pipeline: random rubbish never ends the tool by a signal", "[cli][pipeline][fuzz]") {
  const char* given = std::getenv("DMM_SEED");
  const unsigned seed = given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10))
                                         : std::random_device{}();
  INFO("DMM_SEED=" << seed);
  std::mt19937 random(seed);
  const Desk desk;
  std::vector<std::string> seeds;
  for (const auto& entry : std::filesystem::directory_iterator(kExamples)) {
    std::ifstream file(entry.path());
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  for (int call = 0; call < 60; ++call) {
    std::string program = seeds[random() % seeds.size()];
    std::string changes = seeds[random() % seeds.size()];
    for (std::string* text : {&program, &changes}) {
      for (std::size_t i = random() % 4; i > 0 && !text->empty(); --i) {
        (*text)[random() % text->size()] = static_cast<char>(random() % 256);
        text->erase(random() % text->size(), random() % 8);
      }
    }
    const std::string file = desk.file(call % 2 == 0 ? "p.yaml" : "p", program);
    const Result result = without_server({"pipeline", "run", file, "--snapshot"}, changes);
    INFO(program << "\n---\n" << changes << "\n---\n" << result.err);
    REQUIRE(result.signal == 0);
    CHECK(result.code <= 2);
  }
}

}  // namespace
}  // namespace dmm::cli_test
