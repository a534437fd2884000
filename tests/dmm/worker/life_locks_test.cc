#include "dmm/worker/life_locks.h"

#include <signal.h>

#include <catch2/catch.hpp>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "dmm/error.h"
#include "dmm/testing/child_process.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/testing/wait_for.h"

namespace dmm::worker {

using namespace std::chrono_literals;
using testing::wait_for;

namespace {

std::string boot() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string text;
  std::getline(in, text);
  return text;
}

std::size_t files_in(const std::filesystem::path& directory) {
  const std::filesystem::directory_iterator all(directory);
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

/// Another process that locks the file of a holder, and then sleeps.
std::unique_ptr<testing::ChildProcess> start_holder(const std::filesystem::path& file) {
  testing::ChildOptions options;
  options.arguments = {"-c", R"(exec 9>"$0.new" && flock 9 && printf %s "$1" >&9 &&
                           mv "$0.new" "$0" && exec sleep 1000)",
                       file.string(), boot()};
  auto child = std::make_unique<testing::ChildProcess>("sh", std::move(options));
  wait_for("the lock", [&] { return std::filesystem::exists(file); });
  return child;
}

std::string code_of(const std::string& directory) {
  try {
    LifeLocks locks(directory);
  } catch (const Error& error) {
    return std::string(error.code().id);
  }
  return "none";
}

}  // namespace

TEST_CASE("life locks: a holder whose process was killed is dead and one that is stopped is not",
          "[leases][unit]") {
  const testing::TemporaryDirectory directory;
  const LifeLocks locks((directory / "run").string());
  const LifeLocks others((directory / "run").string());
  const auto child = start_holder(directory / "run/holder");
  CHECK_FALSE(locks.is_dead("holder"));
  REQUIRE(child->kill(SIGSTOP));
  CHECK_FALSE(locks.is_dead("holder"));
  REQUIRE(child->kill(SIGKILL));
  wait_for("the death to be seen", [&] { return locks.is_dead("holder"); });
  CHECK(locks.is_dead("holder"));
  CHECK(others.is_dead("holder"));  // whoever looks first takes it from nobody
}

TEST_CASE("life locks: who listens is told when a process ends and not when somebody looks",
          "[leases][unit]") {
  const testing::TemporaryDirectory directory;
  const LifeLocks locks((directory / "run").string());
  const auto child = start_holder(directory / "run/holder");
  std::atomic<int> told = 0;
  const DeathWatch::Listener listener = locks.listen([&] { ++told; });
  {
    const DeathWatch::Listener gone = locks.listen([] { FAIL("told behind its end"); });
  }
  int looks = 0;
  wait_for("some looks", [&] { return locks.is_dead("holder") || ++looks == 20; });
  CHECK(looks == 20);
  CHECK(told == 0);
  REQUIRE(child->kill(SIGKILL));
  wait_for("word of it", [&] { return told > 0; });
  CHECK(locks.is_dead("holder"));
}

TEST_CASE("life locks: a holder is alive while its lock is kept and unknown when it is given up",
          "[leases][unit]") {
  const testing::TemporaryDirectory directory;
  const LifeLocks locks(directory.path().string());
  {
    const LifeLocks::Lock lock = locks.lock("holder");
    CHECK(files_in(directory.path()) == 1);
    CHECK_FALSE(locks.is_dead("holder"));
    CHECK_FALSE(LifeLocks(directory.path().string()).is_dead("holder"));
  }
  CHECK(files_in(directory.path()) == 0);
  CHECK_FALSE(locks.is_dead("holder"));
  CHECK_FALSE(locks.is_dead("never-there"));
}

TEST_CASE("life locks: what another machine or an earlier boot left proves nothing",
          "[leases][unit]") {
  const testing::TemporaryDirectory directory;
  const LifeLocks locks(directory.path().string());
  testing::write_file(directory / "elsewhere", "6a8f2c1e-0000-4000-8000-000000000000");
  testing::write_file(directory / "empty", "");
  testing::write_file(directory / "here", boot());
  CHECK_FALSE(locks.is_dead("elsewhere"));
  CHECK_FALSE(locks.is_dead("empty"));
  CHECK(locks.is_dead("here"));
}

TEST_CASE("life locks: a name that leaves the directory is nobody's", "[leases][unit]") {
  const testing::TemporaryDirectory directory;
  const LifeLocks locks((directory / "run").string());
  testing::write_file(directory / "outside", boot());
  testing::write_file(directory / "gone.dead", "");
  CHECK_FALSE(locks.is_dead("../outside"));
  CHECK_FALSE(locks.is_dead("../gone"));
  CHECK_FALSE(locks.is_dead(""));
  CHECK(std::filesystem::exists(directory / "outside"));
}

TEST_CASE("life locks: a directory that others can write to is refused", "[leases][unit]") {
  const testing::TemporaryDirectory directory;
  CHECK(code_of((directory / "deep/run").string()) == "none");
  CHECK(code_of((directory / "deep/run").string()) == "none");
  std::filesystem::permissions(directory / "deep/run", std::filesystem::perms::all);
  CHECK(code_of((directory / "deep/run").string()) == "DMM-0404");
  testing::write_file(directory / "file", "");
  CHECK(code_of((directory / "file").string()) == "DMM-0404");
  CHECK(code_of((directory / "file/run").string()) == "DMM-0404");
}

TEST_CASE("life locks: files of the dead go when they are old and those of the living stay",
          "[leases][unit]") {
  const testing::TemporaryDirectory directory;
  const LifeLocks locks(directory.path().string());
  const LifeLocks::Lock lock = locks.lock("living");
  testing::write_file(directory / "dead", boot());
  testing::write_file(directory / "elsewhere", "another boot");
  testing::write_file(directory / "half.new", "");
  const auto age = [&](std::chrono::minutes time) {
    for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
      std::filesystem::last_write_time(entry, std::filesystem::file_time_type::clock::now() - time);
    }
  };
  age(1h);
  const LifeLocks next(directory.path().string());  // it marks the dead, for a while
  CHECK(files_in(directory.path()) == 2);
  CHECK(next.is_dead("dead"));
  age(1h);
  const LifeLocks last(directory.path().string());
  CHECK(files_in(directory.path()) == 1);
  CHECK_FALSE(last.is_dead("living"));
}

}  // namespace dmm::worker
