#include "runner.h"

#include <catch2/catch.hpp>

#include <chrono>

namespace dmm::cli_test {

using namespace std::chrono_literals;

namespace {

constexpr auto kDeadline = 60s;

// Nothing of the user who runs the tests: no configuration file, no server of their own.
std::map<std::string, std::string> clean_environment() {
  return {{"HOME", "/nonexistent"}, {"XDG_CONFIG_HOME", "/nonexistent"},
          {"DMM_CONFIG", ""},       {"DMM_USER", ""},
          {"DMM_PASSWORD", ""},     {"DMM_TOKEN", ""},
          {"DMM_NAMESPACE", ""},    {"DMM_GENERATION", ""},
          {"NO_COLOR", ""},         {"LC_ALL", "C.UTF-8"}};
}

Result run_tool(const std::string& program, testing::ChildOptions options) {
  const testing::Finished finished = testing::run(program, std::move(options), kDeadline);
  return {finished.status.signal != 0 ? -1 : finished.status.code, finished.status.signal,
          finished.output, finished.error_output};
}

}  // namespace

json Result::document() const {
  INFO(out);
  json value = json::parse(out, nullptr, false);
  REQUIRE_FALSE(value.is_discarded());
  return value;
}

const std::string& tool() {
  static const std::string path = DMM_CLI;
  return path;
}

testing::NatsServer& Site::server() {
  static testing::NatsServer server;
  return server;
}

Site::Site(std::string ns, bool create) : ns_(std::move(ns)) {
  if (create) {
    BucketOptions options;
    options.connection.servers = {server().url()};
    Bucket::open(ns_, std::move(options)).close();
  }
}

Bucket Site::bucket() const {
  BucketOptions options;
  options.connection.servers = {server().url()};
  options.create = false;
  options.logger = Logger();
  return Bucket::open(ns_, std::move(options));
}

testing::ChildOptions Site::options(Arguments arguments) const {
  testing::ChildOptions options;
  options.arguments = std::move(arguments);
  options.environment = clean_environment();
  options.environment["DMM_SERVER"] = server().url();
  options.environment["DMM_NAMESPACE"] = ns_;
  return options;
}

Result Site::dmm(Arguments arguments, std::string input,
                 std::map<std::string, std::string> environment) const {
  testing::ChildOptions call = options(std::move(arguments));
  call.input = std::move(input);
  for (auto& [name, value] : environment) call.environment[name] = value;
  return run_tool(tool(), std::move(call));
}

Result without_server(Arguments arguments, std::string input) {
  testing::ChildOptions options;
  options.arguments = std::move(arguments);
  options.environment = clean_environment();
  options.environment["DMM_SERVER"] = "nats://127.0.0.1:1";  // nobody listens on port 1
  options.environment["DMM_NATS_SERVER"] = "/nonexistent";   // and `dmm dev` finds none to start
  options.input = std::move(input);
  return run_tool(tool(), std::move(options));
}

Result shell(const Site& site, const std::string& script) {
  testing::ChildOptions call = site.options({"-c", script});
  call.environment["DMM"] = tool();
  return run_tool("bash", std::move(call));
}

}  // namespace dmm::cli_test
