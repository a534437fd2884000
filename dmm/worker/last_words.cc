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
/// The run of this thread.
constinit thread_local std::string_view t_run __attribute__((tls_model("initial-exec")));
/// The t_run of the thread that spoke. Where several crash at once, the first one speaks.
constinit std::atomic<const std::string_view*> g_speaker{nullptr};

// What follows, up to on_fatal(), calls only what may be called in a signal handler.

void write_all(std::string_view text) noexcept {
  for (const File& one : g_files) {
    const int file = one.file.load(std::memory_order_acquire);
    if (file < 0) continue;
    const off_t at = one.offset.load(std::memory_order_relaxed);
    while (::pwrite(file, text.data(), text.size(), at) < 0 && errno == EINTR) {
    }
  }
}

void speak(std::string_view signal) noexcept {
  std::array<char, 2048> line;
  if (signal.size() + t_run.size() + 2 > line.size()) return;
  const std::string_view* nobody = nullptr;
  if (!g_speaker.compare_exchange_strong(nobody, &t_run)) return;
  auto* end = std::ranges::copy(signal, line.data()).out;
  *end++ = ' ';
  end = std::ranges::copy(t_run, end).out;
  *end++ = '\n';
  write_all({line.data(), static_cast<std::size_t>(end - line.data())});
}

/// What this thread said, if it did: the process goes on.
void take_back() noexcept {
  if (g_speaker.load(std::memory_order_relaxed) != &t_run) return;
  write_all(kNothing);
  g_speaker.store(nullptr, std::memory_order_relaxed);
}

void on_fatal(int signal, siginfo_t* info, void* context);

/// Whether the process still ends by this signal, behind the handler that had it before. Such a
/// handler either deals with it, and the process goes on; or it gives the signal back to whom it
/// had it from, and sends it again or lets what happened happen again. abort() ends it in any case.
bool will_end(int signal) noexcept {
  sigset_t pending;
  ::sigemptyset(&pending);
  ::sigpending(&pending);
  struct sigaction now {};
  ::sigaction(signal, nullptr, &now);
  return signal == SIGABRT || ::sigismember(&pending, signal) == 1 || now.sa_sigaction != on_fatal;
}

/// Lets the system call who had it before, behind this handler.
void give_back(int signal, const struct sigaction& before, bool sent) noexcept {
  ::sigaction(signal, &before, nullptr);
  if (sent) ::raise(signal);  // otherwise what happened happens again
}

void on_fatal(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  const auto* const found = std::ranges::find(kFatal, signal, &Fatal::number);
  const struct sigaction& before = g_before[static_cast<std::size_t>(found - kFatal.begin())];
  // A child that was forked in a run has the same files, but is not the process they speak of.
  const bool own = ::getpid() == g_process.load(std::memory_order_relaxed);
  if (own && !t_run.empty() && info->si_code != SI_USER) speak(found->name);
  const bool sent = info->si_code <= 0;  // the instruction is not at fault
  if (before.sa_handler == SIG_IGN && sent) {
    if (signal != SIGABRT) take_back();
  } else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) {
    struct sigaction plain {};
    plain.sa_handler = SIG_DFL;
    give_back(signal, plain, sent);
  } else if ((before.sa_flags & SA_RESETHAND) != 0) {
    give_back(signal, before, sent);
  } else {
    if ((before.sa_flags & SA_SIGINFO) != 0) {
      before.sa_sigaction(signal, info, context);
    } else {
      before.sa_handler(signal);
    }
    if (!will_end(signal)) take_back();
  }
  errno = error;
}

void take_signals() noexcept {
  struct sigaction action {};
  action.sa_sigaction = on_fatal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (std::size_t index = 0; index < kFatal.size(); ++index) {
    ::sigaction(kFatal[index].number, nullptr, &g_before[index]);
    ::sigaction(kFatal[index].number, &action, nullptr);
  }
}

/// A program that waits for its signals on one thread blocks them all on the others: then one that
/// an instruction raised ends the process without a handler.
void unblock_signals() noexcept {
  sigset_t fatal;
  ::sigemptyset(&fatal);
  for (const Fatal& one : kFatal) ::sigaddset(&fatal, one.number);
  ::pthread_sigmask(SIG_UNBLOCK, &fatal, nullptr);
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
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  const pid_t process = ::getpid();
  const pid_t before = g_process.load(std::memory_order_relaxed);
  if (before == 0) take_signals();
  if (before != process) {
    // In a process that was forked: these files are its parent's.
    for (File& one : g_files) one.file.store(-1, std::memory_order_relaxed);
    g_process = process;
  }
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

InRun::InRun(std::string_view run) noexcept {
  struct Once {
    Once() noexcept { unblock_signals(); }
    const SignalStack stack;
  };
  static thread_local const Once once;
  t_run = run;
  std::atomic_signal_fence(std::memory_order_release);
}

InRun::~InRun() {
  std::atomic_signal_fence(std::memory_order_acquire);
  // A signal came, and whoever had it before went on by a way of its own.
  take_back();
  t_run = {};
}

}  // namespace dmm::worker
