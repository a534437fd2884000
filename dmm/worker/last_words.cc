#include "dmm/worker/last_words.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <mutex>
#include <optional>

namespace dmm::worker {

namespace {

struct Fatal {
  int number;
  std::string_view name;
};
constexpr std::array<Fatal, 5> kFatal{{{SIGSEGV, "SIGSEGV"},
                                       {SIGBUS, "SIGBUS"},
                                       {SIGFPE, "SIGFPE"},
                                       {SIGILL, "SIGILL"},
                                       {SIGABRT, "SIGABRT"}}};
constexpr std::string_view kNothing = "\n";

// All of this is read by the signal handler: nothing here is built or destroyed at run time, and
// the storage of a thread is there before it is asked for.
struct File {
  std::atomic<int> file{-1};
  std::atomic<off_t> offset{0};
};
constinit std::array<File, 256> g_files;
constinit std::array<struct sigaction, kFatal.size()> g_before{};
constinit std::atomic<pid_t> g_process{0};
/// Whom this thread runs, and whether that was written already.
constinit thread_local std::string_view t_run __attribute__((tls_model("initial-exec")));
constinit thread_local volatile sig_atomic_t t_written __attribute__((tls_model("initial-exec"))) =
    0;

/// Calls only what may be called in a signal handler.
void put(int file, off_t offset, std::string_view text) noexcept {
  while (::pwrite(file, text.data(), text.size(), offset) < 0 && errno == EINTR) {
  }
}

/// signal   empty: takes back what was said.
void write_words(std::string_view signal) noexcept {
  for (const File& one : g_files) {
    const int file = one.file.load(std::memory_order_acquire);
    if (file < 0) continue;
    off_t at = one.offset.load(std::memory_order_relaxed);
    if (signal.empty()) {
      put(file, at, kNothing);
      continue;
    }
    for (const std::string_view part : {signal, std::string_view(" "), t_run, kNothing}) {
      put(file, at, part);
      at += static_cast<off_t>(part.size());
    }
  }
  t_written = signal.empty() ? 0 : 1;
}

void on_fatal(int signal, siginfo_t* info, void* context);

/// Whether the process still ends by this signal, behind the handler that had it before. Such a
/// handler either deals with it, and the process goes on; or it gives the signal back to whom it
/// had it from, and sends it again or lets what happened happen again.
bool will_end(int signal) noexcept {
  sigset_t pending;
  ::sigemptyset(&pending);
  ::sigpending(&pending);
  struct sigaction now {};
  ::sigaction(signal, nullptr, &now);
  return ::sigismember(&pending, signal) == 1 || now.sa_sigaction != on_fatal;
}

void on_fatal(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  const auto* const found = std::ranges::find(kFatal, signal, &Fatal::number);
  const struct sigaction& before = g_before[static_cast<std::size_t>(found - kFatal.begin())];
  // A child that was forked in a run has the same files, but is not the process they speak of.
  const bool speaks = !t_run.empty() && ::getpid() == g_process.load(std::memory_order_relaxed);
  if (speaks) write_words(found->name);
  const bool by_hand = info->si_code <= 0;  // somebody sent it: the instruction is not at fault
  if ((before.sa_flags & SA_SIGINFO) != 0) {
    before.sa_sigaction(signal, info, context);
  } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(signal);
  } else if (before.sa_handler == SIG_DFL || !by_hand) {
    // What happened happens again behind the handler, and ends the process.
    struct sigaction plain {};
    plain.sa_handler = SIG_DFL;
    ::sigaction(signal, &plain, nullptr);
    if (by_hand) ::raise(signal);
    errno = error;
    return;
  }
  if (speaks && !will_end(signal)) write_words({});
  errno = error;
}

void take_signals() noexcept {
  g_process = ::getpid();
  struct sigaction action {};
  action.sa_sigaction = on_fatal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (std::size_t index = 0; index < kFatal.size(); ++index) {
    ::sigaction(kFatal[index].number, nullptr, &g_before[index]);
    ::sigaction(kFatal[index].number, &action, nullptr);
  }
}

/// A stack for signals, unless the thread has one.
class SignalStack final {
 public:
  SignalStack() noexcept {
    stack_t present{};
    if (::sigaltstack(nullptr, &present) != 0 || (present.ss_flags & SS_DISABLE) == 0) return;
    void* const memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED) return;
    stack_t own{};
    own.ss_sp = memory;
    own.ss_size = kBytes;
    if (::sigaltstack(&own, nullptr) == 0) {
      memory_ = memory;
    } else {
      ::munmap(memory, kBytes);
    }
  }
  ~SignalStack() {
    if (memory_ == nullptr) return;
    stack_t present{};
    // Somebody else may have given the thread another one meanwhile.
    if (::sigaltstack(nullptr, &present) == 0 && present.ss_sp == memory_) {
      stack_t none{};
      none.ss_flags = SS_DISABLE;
      ::sigaltstack(&none, nullptr);
    }
    ::munmap(memory_, kBytes);
  }
  SignalStack(const SignalStack&) = delete;
  SignalStack& operator=(const SignalStack&) = delete;

 private:
  /// Whoever had the signal before runs on it, too, and may print a whole backtrace.
  static constexpr std::size_t kBytes = std::size_t{128} << 10;
  void* memory_ = nullptr;
};

}  // namespace

void leave_last_words(int file, off_t offset) noexcept {
  static std::once_flag taken;
  std::call_once(taken, take_signals);
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  for (File& one : g_files) {
    if (one.file.load(std::memory_order_relaxed) >= 0) continue;
    one.offset.store(offset, std::memory_order_relaxed);
    one.file.store(file, std::memory_order_release);
    return;
  }
}

void leave_no_last_words(int file) noexcept {
  for (File& one : g_files) {
    int expected = file;
    if (one.file.compare_exchange_strong(expected, -1)) return;
  }
}

LastWords read_last_words(std::string_view text) {
  const std::size_t space = text.find(' ');
  const std::size_t end = text.find('\n');
  if (space >= end || end == std::string_view::npos) return {};
  const std::string_view signal = text.substr(0, space);
  if (std::ranges::find(kFatal, signal, &Fatal::name) == kFatal.end()) return {};
  return {std::string(text.substr(space + 1, end - space - 1)), std::string(signal)};
}

Blame::Blame(std::string_view run) noexcept {
  static thread_local const SignalStack stack;
  t_written = 0;
  t_run = run;
  std::atomic_signal_fence(std::memory_order_release);
}

Blame::~Blame() {
  std::atomic_signal_fence(std::memory_order_acquire);
  t_run = {};
  // A signal came, and whoever had it before went on by a way of its own.
  if (t_written != 0) write_words({});
}

}  // namespace dmm::worker
