// Goal: what a service is told comes from flags, then the environment, then the file, and whatever
// is wrong is refused with the place and the word that was meant.
// Method: the options alone, with an environment and files of the test's own.

#include <catch2/catch.hpp>

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "dmm/error.h"
#include "dmm/service/configure.h"
#include "dmm/testing/temporary_directory.h"

namespace {

using dmm::service::Option;
using dmm::service::Options;
using dmm::service::Origin;
using namespace std::chrono_literals;

struct Told {
  std::vector<std::string> flags = {};
  std::map<std::string, std::string> environment = {};
  std::string file = {};
  dmm::testing::TemporaryDirectory directory = dmm::testing::TemporaryDirectory();

  Options take() const {
    Options options = dmm::service::standard_options();
    options.add(
        dmm::service::own_option({.name = "players-url", .help = "Where", .value = "here"}));
    options.add(
        dmm::service::own_option({.name = "loud", .help = "Loud", .shows = "", .letter = 'l'}));
    std::vector<std::string> all = flags;
    if (!file.empty()) {
      const std::string path = directory / "players.yaml";
      dmm::testing::write_file(path, file);
      all.insert(all.end(), {"--config", path});
    }
    dmm::service::take_all(options, all, [this](const char* name) -> const char* {
      const auto found = environment.find(name);
      return found == environment.end() ? nullptr : found->second.c_str();
    });
    return options;
  }
  std::string refusal() const {
    try {
      dmm::service::config_of(take());
    } catch (const dmm::Error& error) {
      CHECK(error.kind() == dmm::Kind::invalid);
      return error.message();
    }
    FAIL("nothing was refused");
    return {};
  }
};

bool contains(const std::string& text, const std::string& part) {
  INFO(text);
  INFO(part);
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

}  // namespace

TEST_CASE("options: a flag comes before the environment and that before the file",
          "[service][options][unit]") {
  Told told;
  told.file =
      "namespace: from_file\nlog_level: error\ngrace: 5min\nplayers_url: there\nloud: true\n";
  told.environment = {
      {"DMM_NAMESPACE", "from_environment"}, {"DMM_LOG_LEVEL", "warn"}, {"DMM_GRACE", ""}};
  told.flags = {"-n", "from_flag"};
  const Options options = told.take();
  CHECK(options.at("namespace").value == "from_flag");
  CHECK(options.at("namespace").origin == Origin::flag);
  CHECK(options.at("log-level").origin == Origin::environment);
  CHECK(options.at("grace").origin == Origin::file);
  CHECK(options.at("http").origin == Origin::standard);
  const dmm::ServiceConfig config = dmm::service::config_of(options);
  CHECK(config.ns == "from_flag");
  CHECK(config.log_level == dmm::Level::warn);
  CHECK(config.grace == 5min);
  CHECK(config.text("players-url") == "there");
  CHECK(config.is_on("loud"));
}

TEST_CASE("options: every form of a flag is read", "[service][options][unit]") {
  for (const std::vector<std::string>& flags :
       std::vector<std::vector<std::string>>{{"--loud", "--players-url=a=b"},
                                             {"-l", "--players-url", "a=b"},
                                             {"--loud=true", "--players-url", "a=b"}}) {
    const dmm::ServiceConfig config = dmm::service::config_of(Told{flags}.take());
    CHECK(config.is_on("loud"));
    CHECK(config.text("players-url") == "a=b");
  }
}

TEST_CASE("options: what cannot be is refused with its place and what was meant",
          "[service][options][unit]") {
  const std::vector<std::pair<std::vector<std::string>, std::string>> refused = {
      {{"--naemspace", "x"}, "there is no option --naemspace; did you mean --namespace?"},
      {{"--log-level", "debgu"}, "did you mean debug?"},
      {{"--namespace"}, "--namespace needs a value"},
      {{"--namespace", "a", "-n", "b"}, "--namespace is given twice"},
      {{"music"}, "\"music\" is no option"},
      {{"-x"}, "there is no option -x"},
      {{"--namespace", "a.b"}, "--namespace"},
      {{"--grace", "30"}, "\"30\" is no duration"},
      {{"--grace", "-1s"}, "is no duration"},
      {{"--grace", "1e300h"}, "is no duration"},
      {{"--http", "9464"}, "is no address:port"},
      {{"--http", "127.0.0.1:65536"}, "is no address:port"},
      {{"--traces", "collector:4318"}, "is no http URL"},
      {{"--traces-sampled", "1.5"}, "is no share"},
      {{"--generation", "0"}, "is no number from 1"},
      {{"--loud=yes"}, "--loud is true or false"},
      {{"--create", "maybe"}, "is none of true, false"},
      {{"--server", "nats://me:secret@127.0.0.1"}, "--server holds a password"},
      {{"--password-file", "/nowhere/at/all", "--user", "me"}, "cannot be read"},
      {{"--config", "/nowhere/at/all"}, "cannot be read"},
  };
  for (const auto& [flags, why] : refused) {
    const std::string message = Told{flags}.refusal();
    contains(message, why);
    CHECK(message.find("secret") == std::string::npos);
  }
}

TEST_CASE("options: a file that is wrong is refused as a whole", "[service][options][unit]") {
  const std::vector<std::pair<std::string, std::string>> refused = {
      {"namepsace: music", "unknown key \"namepsace\"; did you mean namespace?"},
      {"- a\n- b", "keys and values are meant"},
      {"namespace: {a: 1}", "namespace: a text, a number or true or false is meant"},
      {"grace: 30", "grace: \"30\" is no duration"},
      {"help: true", "unknown key \"help\""},
      {"config: other.yaml", "unknown key \"config\""},
      {"server: [1, 2]", "a list of texts is meant"},
      {"log_level: [", "line"},
      {"log_level: info\nlog_level: warn", "log_level"},
  };
  for (const auto& [file, why] : refused) {
    Told told;
    told.file = file;
    const std::string message = told.refusal();
    contains(message, why);
    contains(message, "players.yaml");
  }
}

TEST_CASE("options: what is wrong in the file is said even where a flag comes before it",
          "[service][options][unit]") {
  Told told{{"--log-level", "info"}};
  told.file = "log_level: loud";
  contains(told.refusal(), "\"loud\" is none of");
}

TEST_CASE("options: an empty file and JSON are files", "[service][options][unit]") {
  Told empty;
  empty.file = "\n";
  CHECK(dmm::service::config_of(empty.take()).ns == "default");
  Told json;
  json.file = R"({"namespace": "music", "server": ["nats://a:1", "nats://b:2"]})";
  const dmm::ServiceConfig config = dmm::service::config_of(json.take());
  CHECK(config.ns == "music");
  CHECK(config.connection.servers == std::vector<std::string>{"nats://a:1", "nats://b:2"});
}

TEST_CASE("options: secrets come from files and are shown nowhere", "[service][options][unit]") {
  Told told;
  dmm::testing::write_file(told.directory / "password", "geheim\n");
  told.flags = {"--user", "me", "--password-file", (told.directory / "password").string()};
  told.environment = {{"DMM_SERVER", "nats://you:geheim@127.0.0.1:4222"}};
  const Options options = told.take();
  // The file is read whenever the connection is made: what it holds may change.
  const dmm::ConnectionOptions connection = dmm::service::config_of(options).connection;
  CHECK(connection.password_file == (told.directory / "password").string());
  CHECK(connection.password.empty());
  const std::string shown = dmm::service::show(options);
  contains(shown, "user: \"me\"  # flag");
  contains(shown, "server: \"nats://127.0.0.1:4222\"  # DMM_SERVER");
  CHECK(shown.find("geheim") == std::string::npos);
}

TEST_CASE("options: the help names every option once and shows what an example does",
          "[service][options][unit]") {
  const Options options = Told().take();
  const std::string help = dmm::service::help(
      {"players", "keeps players playing", {{"players -n music", "in another namespace"}}},
      options);
  for (const Option& option : options.all()) {
    const std::string name = "--" + option.name;
    const std::size_t first = help.find(name);
    INFO(name);
    CHECK(first != std::string::npos);
  }
  contains(help, "players -n music\n      in another namespace");
  contains(help, "[DMM_NAMESPACE] (default: default)");
  contains(help, "Exit codes: 0 ended as told; 1 failed; 2 wrong options");
}

TEST_CASE("options: a name that is taken is refused", "[service][options][unit]") {
  Options options = dmm::service::standard_options();
  CHECK_THROWS_AS(options.add({"namespace", "", "", "X", "", {}, 0, ""}), dmm::Error);
  CHECK_THROWS_AS(options.add({"other", "", "", "X", "", {}, 'n', ""}), dmm::Error);
}

TEST_CASE("options: the reference page has the help as the program shows it",
          "[service][options][pages][unit]") {
  const std::string path = std::string(DMM_DOCS_DIR) + "/reference/service.md";
  const std::string fence = "```\n";
  const std::string shown =
      fence + dmm::service::help({"SERVICE", "", {}}, dmm::service::standard_options()) + fence;
  std::string page = dmm::testing::read_file(path);
  const std::size_t begin = page.find(fence);
  REQUIRE(begin != std::string::npos);
  const std::size_t end = page.find(fence, begin + fence.size());
  REQUIRE(end != std::string::npos);
  if (std::getenv("DMM_UPDATE_PAGES") != nullptr) {
    page.replace(begin, end + fence.size() - begin, shown);
    dmm::testing::write_file(path, page);
  }
  const bool same = page.find(shown) != std::string::npos;
  CHECK(same);
}
