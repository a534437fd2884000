// Goal: the tool reaches servers as flags, environment and file say, in this order, and its output
// may be closed at any time. Method: servers with users and tokens; shells with closed streams.

#include <catch2/catch.hpp>

#include <filesystem>

#include "dmm/testing/temporary_directory.h"
#include "runner.h"

namespace dmm::cli_test {
namespace {

TEST_CASE("connection: a missing namespace names init and nothing is created",
          "[cli][connection][integration]") {
  const Site site("absent", false);
  for (const Arguments& call : std::vector<Arguments>{{"ls"},
                                                      {"get", "player", "a"},
                                                      {"put", "player", "a", "{}"},
                                                      {"rm", "player", "a", "--yes"},
                                                      {"notify", "player", "a"},
                                                      {"report", "player", "a", "{}"},
                                                      {"reports"},
                                                      {"parked"},
                                                      {"watch"},
                                                      {"history", "player", "a"},
                                                      {"diff", "player", "a"},
                                                      {"edit", "player", "a"},
                                                      {"bundle", "/nowhere/bundle.tar.gz"},
                                                      {"view", "ls"},
                                                      {"pause"},
                                                      {"leases"}}) {
    const Result result = site.dmm(call);
    INFO(json(call).dump() << "\n" << result.err);
    CHECK(result.code == 4);
    CHECK(result.err.find("dmm: DMM-0107: ") == 0);
    CHECK(result.err.find("dmm init") != std::string::npos);
  }
}

TEST_CASE("connection: passwords come from files and never from arguments",
          "[cli][connection][integration]") {
  testing::NatsServerOptions options;
  testing::NatsUser ann;
  ann.user = "ann";
  ann.password = "s3cret";
  options.users = {ann};
  const testing::NatsServer server(options);
  const testing::TemporaryDirectory directory("dmm-cli-test");
  testing::write_file(directory / "good", "s3cret\n");
  testing::write_file(directory / "bad", "wrong\n");
  const Site site("secret", false);
  const auto call = [&](const std::string& file, const std::string& user) {
    return site.dmm({"init", "--server", server.url(), "--user", user, "--password-file",
                     (directory / file).string()});
  };
  CHECK(call("good", "ann").code == 0);
  const Result refused = call("bad", "ann");
  CHECK(refused.code == 3);
  CHECK(refused.err.find("dmm: DMM-0102: ") == 0);
  CHECK(refused.err.find("wrong") == std::string::npos);
  CHECK(site.dmm({"ls", "--server", server.url()}).code == 3);
}

TEST_CASE("connection: flags beat the environment and the environment beats the file",
          "[cli][connection][integration]") {
  const Site site("order");
  const std::string url = Site::server().url();
  const std::string dead = "nats://127.0.0.1:1";
  const testing::TemporaryDirectory directory("dmm-cli-test");
  const std::string good_file = (directory / "good.toml").string();
  const std::string dead_file = (directory / "dead.toml").string();
  testing::write_file(good_file, "server = \"" + url + "\"\n");
  testing::write_file(dead_file, "server = \"" + dead + "\"\n");
  const auto code = [&](Arguments arguments, const std::string& environment) {
    return site.dmm(std::move(arguments), {}, {{"DMM_SERVER", environment}}).code;
  };
  CHECK(code({"ls", "--config", good_file}, "") == 0);
  CHECK(code({"ls", "--config", dead_file}, "") == 3);
  CHECK(code({"ls", "--config", dead_file}, url) == 0);
  CHECK(code({"ls", "--config", good_file}, dead) == 3);
  CHECK(code({"ls", "--config", dead_file, "--server", url}, dead) == 0);
  CHECK(code({"ls", "--server", dead + "," + url}, dead) == 0);
  testing::write_file(dead_file, "sevrer = \"x\"\n");
  const Result wrong = site.dmm({"ls", "--config", dead_file});
  CHECK(wrong.code == 2);
  CHECK(wrong.err.find("dmm: DMM-0404: ") == 0);
}

TEST_CASE("connection: the doctor names a password that others can read",
          "[cli][connection][integration]") {
  const Site site("exposed");
  const testing::TemporaryDirectory directory("dmm-cli-test");
  const std::string file = (directory / "dmm.toml").string();
  testing::write_file(file, "user = \"me\"\npassword = \"pw\"\n");
  const auto doctor = [&] { return site.dmm({"doctor"}, {}, {{"DMM_CONFIG", file}}).out; };
  std::filesystem::permissions(file, std::filesystem::perms(0644));
  CHECK(doctor().find("others than its owner can read " + file) != std::string::npos);
  std::filesystem::permissions(file, std::filesystem::perms(0600));
  CHECK(doctor().find(file) == std::string::npos);
}

TEST_CASE("output: a reader that goes away is no error", "[cli][connection][integration]") {
  const Site site("pipes");
  std::string input;
  for (int i = 0; i < 3'000; ++i) {
    input += json{{"device", "device-" + std::to_string(i)}, {"state", {{"n", i}}}}.dump() + "\n";
  }
  REQUIRE(site.dmm({"report", "player", "-"}, input).code == 0);
  const Result head = shell(site, "set -o pipefail; \"$DMM\" reports | head -n 2");
  CHECK(head.code == 0);
  CHECK(head.err.empty());
  CHECK(head.out.find("KIND") == 0);
  // Closed from the start: nothing is written, above all not to the server.
  const Result closed = shell(site, "\"$DMM\" reports >&-; echo $?");
  CHECK(closed.out == "0\n");
  CHECK(closed.err.empty());
  const Result silent = shell(site, "\"$DMM\" get player nobody 2>&- >&-; echo $?");
  CHECK(silent.out == "4\n");
  CHECK(shell(site, "\"$DMM\" put player a <&-; echo $?").out == "2\n");
}

TEST_CASE("output: a full disk is an error", "[cli][connection][integration]") {
  const Site site("full");
  const Result full = shell(site, "\"$DMM\" version > /dev/full");
  CHECK(full.code == 1);
  CHECK(full.err.find("No space left") != std::string::npos);
}

}  // namespace
}  // namespace dmm::cli_test
