// Goal: the processes that tests and tools start are found, answer, and end when they should.

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include <filesystem>
#include <functional>
#include <set>
#include <string>

#include "dmm/error.h"
#include "dmm/testing/child_process.h"
#include "dmm/testing/free_port.h"
#include "dmm/testing/nats_server.h"
#include "dmm/testing/postgres_server.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/testing/wait_for.h"

namespace {

using namespace std::chrono_literals;
using namespace dmm::testing;

bool alive(pid_t pid) {
  return ::kill(pid, 0) == 0;
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const dmm::Error& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("child: output and exit code are those of the program", "[testing][unit]") {
  ChildOptions options;
  options.arguments = {"-c", "cat; echo \"$GREETING\"; echo trouble >&2; exit 3"};
  options.environment["GREETING"] = "hello";
  options.input = "given\n";
  const Finished finished = run("sh", options);
  CHECK(finished.status == ExitStatus{3, 0});
  CHECK(finished.output == "given\nhello\n");
  CHECK(finished.error_output == "trouble\n");
  CHECK(to_string(finished.status) == "exit code 3");
}

TEST_CASE("child: a signal that ends it is told", "[testing][unit]") {
  ChildOptions options;
  options.arguments = {"60"};
  ChildProcess child("sleep", options);
  CHECK(child.running());
  CHECK_FALSE(child.wait(1ms).has_value());
  CHECK(child.kill(SIGKILL));
  REQUIRE(child.wait(5s).has_value());
  CHECK(*child.wait(0ms) == ExitStatus{0, SIGKILL});
  CHECK_FALSE(child.kill(SIGTERM));
}

TEST_CASE("child: it ends with its object", "[testing][unit]") {
  pid_t pid = 0;
  {
    ChildOptions options;
    options.arguments = {"60"};
    ChildProcess child("sleep", options);
    pid = child.pid();
    CHECK(alive(pid));
  }
  CHECK_FALSE(alive(pid));
}

TEST_CASE("child: it dies with the process that started it", "[testing][fault]") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const pid_t parent = ::fork();
  if (parent == 0) {  // the process that is going to crash
    ChildOptions options;
    options.arguments = {"60"};
    ChildProcess child("sleep", options);
    const pid_t pid = child.pid();
    if (::write(ends[1], &pid, sizeof pid) == sizeof pid) ::pause();
    ::_exit(1);
  }
  pid_t sleeper = 0;
  REQUIRE(::read(ends[0], &sleeper, sizeof sleeper) == sizeof sleeper);
  CHECK(alive(sleeper));
  ::kill(parent, SIGKILL);
  REQUIRE(::waitpid(parent, nullptr, 0) == parent);
  CHECK(becomes_true([&] { return !alive(sleeper); }, 5s));
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("child: a program that does not exist is said to be missing", "[testing][unit]") {
  CHECK(message_of([] { ChildProcess child("no-such-program-of-dmm"); }) ==
        "DMM-0405: there is no program no-such-program-of-dmm in PATH");
  CHECK_FALSE(find_program("/etc/passwd").has_value());
}

TEST_CASE("wait: what was waited for is named when time is up", "[testing][unit]") {
  CHECK(message_of([] {
          wait_for(
              "the moon", [] { return false; }, 5ms);
        }) == "DMM-0103: waited 5 ms for the moon");
  int calls = 0;
  wait_for(
      "the third look", [&] { return ++calls == 3; }, 1s);
  CHECK(calls == 3);
}

TEST_CASE("port: no port is given twice and none is of the ephemeral range", "[testing][unit]") {
  std::set<std::uint16_t> ports;
  for (int i = 0; i < 20; ++i) ports.insert(free_port());
  CHECK(ports.size() == 20);
  CHECK(*ports.begin() >= 10'000);
}

TEST_CASE("directory: it goes with its object", "[testing][unit]") {
  std::filesystem::path path;
  {
    TemporaryDirectory directory("dmm-test");
    path = directory.path();
    write_file(directory / "file", "text");
    CHECK(read_file(path / "file") == "text");
  }
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("nats server: it keeps port and store over crash and stop", "[testing][integration]") {
  NatsServerOptions options;
  options.mqtt = true;
  NatsServer server(options);
  const auto port = server.port();
  const pid_t first = server.pid();
  CHECK(server.running());
  CHECK(server.mqtt_port() != 0);
  CHECK(server.url() == "nats://127.0.0.1:" + std::to_string(port));
  CHECK(std::filesystem::exists(server.store_directory()));

  server.kill();
  CHECK_FALSE(server.running());
  CHECK_FALSE(alive(first));
  server.start();
  CHECK(server.running());
  CHECK(server.port() == port);

  server.pause();
  CHECK(server.running());
  server.stop();
  CHECK_FALSE(server.running());
  server.start();
  CHECK(server.running());
}

TEST_CASE("nats server: a start that fails shows the log", "[testing][integration]") {
  NatsServerOptions options;
  options.extra = "no_such_setting_of_nats: 1";
  const std::string message = message_of([&] { NatsServer server(options); });
  INFO(message);
  CHECK(message.starts_with("DMM-0101"));
  CHECK(message.find("no_such_setting_of_nats") != std::string::npos);
}

TEST_CASE("postgres server: it answers and is gone with its object", "[testing][integration]") {
  std::string connection;
  {
    PostgresServer server;
    connection = server.connection_string();
    ChildOptions psql;
    psql.arguments = {connection, "-Atc", "create table song (id int); select count(*) from song"};
    const Finished asked = run("psql", psql);
    INFO(asked.error_output << server.log());
    CHECK(asked.output == "CREATE TABLE\n0\n");

    server.stop();
    CHECK_FALSE(server.running());
    server.start();
    psql.arguments = {connection, "-Atc", "select count(*) from song"};
    CHECK(run("psql", psql).output == "0\n");
  }
  ChildOptions psql;
  psql.arguments = {connection, "-Atc", "select 1"};
  CHECK_FALSE(run("psql", psql).status.success());
}
