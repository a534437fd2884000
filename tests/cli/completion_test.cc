// Goal: the completion scripts load and complete. Method: load them into the shells that are there.

#include <catch2/catch.hpp>

#include "dmm/testing/temporary_directory.h"
#include "runner.h"

namespace dmm::cli_test {
namespace {

// What bash would offer for the words of a command line; the last one is being typed.
std::string offered(const Site& site, const std::string& words) {
  return shell(site, "source <(\"$DMM\" completion bash) && COMP_WORDS=(" + words +
                         ") && COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) && _dmm && "
                         "printf '%s\\n' \"${COMPREPLY[@]}\" | sort")
      .out;
}

TEST_CASE("completion: bash loads the script and finds verbs and options",
          "[cli][completion][integration]") {
  const Site site("completion", false);
  CHECK(shell(site, "\"$DMM\" completion bash | bash -n").code == 0);
  const Result loaded = shell(site, "source <(\"$DMM\" completion bash) && complete -p dmm");
  CHECK(loaded.code == 0);
  CHECK(loaded.out == "complete -F _dmm dmm\n");
  CHECK(loaded.err.empty());
  CHECK(offered(site, "dmm do") == "doctor\n");
  CHECK(offered(site, "dmm rep") == "report\nreports\n");
  CHECK(offered(site, "dmm -o ''") == "json\ntable\nyaml\n");
  CHECK(offered(site, "dmm ls --pa") == "--parked\n--password-file\n");
  CHECK(offered(site, "dmm -n music rm --pu") == "--purge\n");
  CHECK(offered(site, "dmm completion f") == "fish\n");
  CHECK(offered(site, "dmm pipe") == "pipeline\n");
  CHECK(offered(site, "dmm pipeline ''") == "check\nexplain\nrun\n");
  CHECK(offered(site, "dmm -n music pipeline run --sna") == "--snapshot\n");
  const testing::TemporaryDirectory directory;
  testing::write_file(directory / "hostname", "");
  testing::write_file(directory / "hosts", "");
  const std::string host = directory / "host";
  CHECK(offered(site, "dmm pipeline run " + host) == offered(site, "dmm pipeline check " + host));
  CHECK(offered(site, "dmm pipeline run " + host + "n") == host + "name\n");
}

TEST_CASE("completion: zsh and fish know every verb", "[cli][completion][integration]") {
  const Site site("completion", false);
  for (const std::string shell_name : {"zsh", "fish"}) {
    const Result script = without_server({"completion", shell_name});
    INFO(shell_name);
    REQUIRE(script.code == 0);
    for (const std::string verb :
         {"dev",        "init",    "ls",      "get",    "put",    "rm",       "notify",  "report",
          "reports",    "parked",  "watch",   "leases", "doctor", "pipeline", "explain", "help",
          "completion", "version", "history", "diff",   "edit",   "bundle"}) {
      INFO(verb);
      CHECK(script.out.find(verb) != std::string::npos);
    }
    if (testing::find_program(shell_name)) {
      CHECK(shell(site, "\"$DMM\" completion " + shell_name + " | " + shell_name + " -n /dev/stdin")
                .code == 0);
    }
  }
}

}  // namespace
}  // namespace dmm::cli_test
