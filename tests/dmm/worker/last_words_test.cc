// Goal: a process that a signal ends says in which run it was, and one that goes on says nothing.
// Method: this program again, as a child that runs the hidden case below and ends in it.

#include "dmm/worker/last_words.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include <array>
#include <chrono>
#include <csetjmp>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "dmm/testing/child_process.h"
#include "dmm/testing/temporary_directory.h"

namespace dmm::worker {

namespace {

constexpr std::string_view kBefore = "boot\n";

volatile bool g_deeper = true;

std::array<int, 100> to_the_ground(int depth) {
  std::array<int, 100> here{};
  if (g_deeper) here = to_the_ground(depth + 1);
  ++here[static_cast<std::size_t>(depth) % here.size()];
  return here;
}

// How the child ends.
void end_by(std::string_view way) {
  if (way == "abort" || way == "printed") std::abort();
  if (way == "raise") ::raise(SIGSEGV);
  if (way == "sent") {
    ::kill(::getpid(), SIGSEGV);
    ::pause();
  }
  if (way == "fault" || way == "once" || way == "blocked") {
    // Not a null pointer, which a sanitizer would report first.
    const void* const page = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    [[maybe_unused]] const int read = *static_cast<const volatile int*>(page);
  }
  if (way == "stack") (void)to_the_ground(0);
  if (way == "uncaught") {
    const auto fails = [] { throw std::runtime_error("nobody catches it"); };
    [&fails]() noexcept { fails(); }();
  }
  if (way == "illegal") __builtin_trap();
}

std::string words_of(const std::filesystem::path& file) {
  const std::string text = testing::read_file(file);
  REQUIRE(text.starts_with(kBefore));
  return text.substr(kBefore.size());
}

// What the child left, that ended in this way.
std::string last_words(const std::string& way, int signal) {
  const testing::TemporaryDirectory directory;
  testing::ChildOptions options;
  options.arguments = {"last words: the child"};
  options.environment = {{"DMM_TEST_FILE", (directory / "words").string()}, {"DMM_TEST_WAY", way}};
  testing::ChildProcess child("/proc/self/exe", std::move(options));
  const auto ended = child.wait(std::chrono::seconds(60));
  REQUIRE(ended);
  INFO(child.output() << child.error_output());
  CHECK(ended->signal == signal);
  return words_of(directory / "words");
}

sigjmp_buf g_elsewhere;

}  // namespace

TEST_CASE("last words: the child", "[.]") {
  const char* const file = std::getenv("DMM_TEST_FILE");
  const char* const way = std::getenv("DMM_TEST_WAY");
  REQUIRE(file != nullptr);
  REQUIRE(way != nullptr);
  // Neither the sanitizers nor the framework of these tests see what is meant to happen.
  for (const int signal : {SIGSEGV, SIGABRT, SIGILL}) ::signal(signal, SIG_DFL);
  const std::string_view mended = "mended";
  if (way == mended) {
    ::signal(SIGSEGV, [](int) { ::siglongjmp(g_elsewhere, 1); });
  } else if (way == std::string_view("handed-on")) {
    // As many do: the signal is given back, and sent again.
    ::signal(SIGSEGV, [](int number) {
      ::signal(number, SIG_DFL);
      ::raise(number);
    });
  } else if (way == std::string_view("printed")) {
    ::signal(SIGABRT, [](int) {});
  } else if (way == std::string_view("once")) {
    struct sigaction once {};
    once.sa_handler = [](int) {};
    once.sa_flags = SA_RESETHAND;
    ::sigaction(SIGSEGV, &once, nullptr);
  } else if (way == std::string_view("blocked") || way == std::string_view("sent")) {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
  }
  const int words = ::open(file, O_CREAT | O_RDWR, 0600);
  REQUIRE(::write(words, kBefore.data(), kBefore.size()) == ssize_t(kBefore.size()));
  leave_last_words(words, kBefore.size());
  std::thread([&] {
    { const InRun done("ns player.before"); }
    if (way == std::string_view("outside")) ::raise(SIGSEGV);
    const std::string run = "ns player.kitchen";
    const InRun in_run(run);
    if (way == std::string_view("forked")) {
      const pid_t child = ::fork();
      if (child == 0) std::abort();
      int status = 0;
      ::waitpid(child, &status, 0);
      ::kill(::getpid(), SIGKILL);
    }
    if (way == mended || way == std::string_view("handed-on")) {
      if (sigsetjmp(g_elsewhere, 1) == 0) end_by("raise");
      return;
    }
    end_by(way);
  }).join();
  leave_no_last_words(words);
  ::kill(::getpid(), SIGKILL);
}

TEST_CASE("last words: a process says in which run a signal ended it", "[leases][unit]") {
  CHECK(last_words("abort", SIGABRT) == "SIGABRT ns player.kitchen\n");
  CHECK(last_words("raise", SIGSEGV) == "SIGSEGV ns player.kitchen\n");
  CHECK(last_words("fault", SIGSEGV) == "SIGSEGV ns player.kitchen\n");
  CHECK(last_words("uncaught", SIGABRT) == "SIGABRT ns player.kitchen\n");
  CHECK(last_words("illegal", SIGILL) == "SIGILL ns player.kitchen\n");
}

TEST_CASE("last words: whoever had the signal before has it still, and the process speaks",
          "[leases][unit]") {
  CHECK(last_words("handed-on", SIGSEGV) == "SIGSEGV ns player.kitchen\n");
  CHECK(last_words("printed", SIGABRT) == "SIGABRT ns player.kitchen\n");
  CHECK(last_words("once", SIGSEGV) == "SIGSEGV ns player.kitchen\n");
}

TEST_CASE("last words: they are heard where the program blocks all signals", "[leases][unit]") {
  CHECK(last_words("blocked", SIGSEGV) == "SIGSEGV ns player.kitchen\n");
}

// The thread sanitizer keeps a stack of calls of its own, which is exhausted first.
#ifndef __SANITIZE_THREAD__
TEST_CASE("last words: also a run that exhausts its stack is named", "[leases][unit]") {
  CHECK(last_words("stack", SIGSEGV) == "SIGSEGV ns player.kitchen\n");
}
#endif

TEST_CASE("last words: what ends outside of a run is put down to none", "[leases][unit]") {
  CHECK(last_words("outside", SIGSEGV).empty());
  CHECK(last_words("sent", SIGSEGV).empty());  // by another process, to whichever thread
}

TEST_CASE("last words: a signal that was dealt with is taken back", "[leases][unit]") {
  CHECK(last_words("mended", SIGKILL) == "\nIGSEGV ns player.kitchen\n");
  CHECK(read_last_words("\nIGSEGV ns player.kitchen\n").run.empty());
}

TEST_CASE("last words: a child that a run forks does not speak for its parent", "[leases][unit]") {
  CHECK(last_words("forked", SIGKILL).empty());
}

TEST_CASE("last words: anything else in their place says nothing", "[leases][unit]") {
  CHECK(read_last_words("SIGSEGV ns player.kitchen\nrubbish").run == "ns player.kitchen");
  CHECK(read_last_words("SIGSEGV ns player.kitchen\n").signal == "SIGSEGV");
  for (const char* const other : {"", "\n", "SIGSEGV", "SIGSEGV ns player.kitchen", "SIGHUP a\n",
                                  " a\n", "SIGSEGV\nns player.kitchen\n"}) {
    INFO(other);
    CHECK(read_last_words(other).run.empty());
  }
}

}  // namespace dmm::worker
