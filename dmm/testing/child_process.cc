#include "dmm/testing/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <linux/close_range.h>
#include <pwd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "dmm/error.h"
#include "dmm/testing/wait_for.h"

extern char** environ;

namespace dmm::testing {

namespace {

// A file descriptor that closes itself.
class Descriptor final {
 public:
  explicit Descriptor(int fd = -1) noexcept : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const noexcept { return fd_; }
  int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

[[noreturn]] void fail(std::string_view what) {
  throw Error(code::bad_option, fmt::format("{}: {}", what, std::strerror(errno)));
}

Descriptor checked(int fd, std::string_view what) {
  if (fd < 0) fail(what);
  return Descriptor(fd);
}

Descriptor in_memory(const char* name) {
  return checked(::memfd_create(name, MFD_CLOEXEC), "cannot make a file in memory");
}

Descriptor open_input(const std::string& text) {
  if (text.empty()) return checked(::open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null");
  Descriptor file = in_memory("input");
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(file.get(), text.data() + done, text.size() - done);
    if (n < 0) fail("cannot keep the input of a child");
    done += static_cast<std::size_t>(n);
  }
  ::lseek(file.get(), 0, SEEK_SET);
  return file;
}

Descriptor open_output(Output where, int ours, const std::filesystem::path& log_file) {
  if (!log_file.empty()) {
    return checked(::open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644),
                   fmt::format("cannot open the log {}", log_file.string()));
  }
  switch (where) {
    case Output::inherit:
      return checked(::fcntl(ours, F_DUPFD_CLOEXEC, 3), "cannot hand on an output");
    case Output::discard:
      return checked(::open("/dev/null", O_WRONLY | O_CLOEXEC), "/dev/null");
    case Output::capture:
      return in_memory("output");
  }
  return Descriptor();
}

// Everything a child needs between fork and exec, made before: there only calls that are safe in a
// signal handler are allowed, because other threads may hold any lock.
struct Launch {
  std::string program;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
  std::vector<char*> argv;
  std::vector<char*> envp;
  std::string directory;
  Descriptor input, output, error;
  Descriptor failure;  ///< closed by a successful exec; otherwise errno is written to it
  pid_t parent = 0;
  int death_signal = SIGKILL;
  bool own_process_group = false;
  bool change_user = false;
  uid_t uid = 0;
  gid_t gid = 0;
};

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  result.reserve(texts.size() + 1);
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

std::vector<std::string> merged_environment(const std::map<std::string, std::string>& more) {
  std::vector<std::string> result;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    if (!more.contains(std::string(text.substr(0, text.find('='))))) result.emplace_back(text);
  }
  for (const auto& [name, value] : more) result.push_back(fmt::format("{}={}", name, value));
  return result;
}

void resolve_user(const std::string& name, Launch& launch) {
  if (name.empty()) return;
  const passwd* user = ::getpwnam(name.c_str());
  if (user == nullptr) {
    throw Error(code::not_found, fmt::format("there is no user {} on this machine", name));
  }
  launch.change_user = true;
  launch.uid = user->pw_uid;
  launch.gid = user->pw_gid;
}

[[noreturn]] void give_up(const Launch& launch) {
  const int reason = errno;
  // If even this fails the parent sees an exit code of 127.
  [[maybe_unused]] const ssize_t n = ::write(launch.failure.get(), &reason, sizeof reason);
  ::_exit(127);
}

[[noreturn]] void become_program(const Launch& launch) {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  if (launch.own_process_group) ::setpgid(0, 0);
  if (launch.change_user && (::setgroups(1, &launch.gid) != 0 || ::setgid(launch.gid) != 0 ||
                             ::setuid(launch.uid) != 0)) {
    give_up(launch);
  }
  // Behind the change of user, which would clear it.
  if (::prctl(PR_SET_PDEATHSIG, launch.death_signal) != 0) give_up(launch);
  if (::getppid() != launch.parent) ::_exit(127);  // it died before we could ask
  if (!launch.directory.empty() && ::chdir(launch.directory.c_str()) != 0) give_up(launch);
  if (::dup2(launch.input.get(), 0) < 0 || ::dup2(launch.output.get(), 1) < 0 ||
      ::dup2(launch.error.get(), 2) < 0) {
    give_up(launch);
  }
  // Connections of ours that were not opened with O_CLOEXEC.
  ::close_range(3, UINT_MAX, CLOSE_RANGE_CLOEXEC);
  ::execve(launch.program.c_str(), launch.argv.data(), launch.envp.data());
  give_up(launch);
}

ExitStatus decode(int status) {
  if (WIFSIGNALED(status)) return ExitStatus{0, WTERMSIG(status)};
  return ExitStatus{WEXITSTATUS(status), 0};
}

std::string read_all(int fd) {
  std::string text;
  if (fd < 0) return text;
  char buffer[16'384];
  for (;;) {
    const ssize_t n = ::pread(fd, buffer, sizeof buffer, static_cast<off_t>(text.size()));
    if (n <= 0) return text;
    text.append(buffer, static_cast<std::size_t>(n));
  }
}

}  // namespace

std::string to_string(ExitStatus status) {
  if (status.signal != 0) {
    return fmt::format("signal {} ({})", status.signal, ::strsignal(status.signal));
  }
  return fmt::format("exit code {}", status.code);
}

ChildProcess::ChildProcess(const std::string& program, ChildOptions options) {
  const std::optional<std::string> path = find_program(program);
  if (!path) throw Error(code::not_found, fmt::format("there is no program {} in PATH", program));

  Launch launch;
  launch.program = *path;
  launch.arguments = std::move(options.arguments);
  launch.arguments.insert(launch.arguments.begin(), program);
  launch.environment = merged_environment(options.environment);
  launch.argv = pointers(launch.arguments);
  launch.envp = pointers(launch.environment);
  launch.directory = options.working_directory.string();
  launch.input = open_input(options.input);
  launch.output = open_output(options.output, 1, options.log_file);
  launch.error = open_output(options.error, 2, options.log_file);
  launch.parent = ::getpid();
  launch.death_signal = options.death_signal;
  launch.own_process_group = options.own_process_group;
  resolve_user(options.user, launch);

  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) fail("cannot make a pipe");
  Descriptor answer(ends[0]);
  launch.failure = Descriptor(ends[1]);

  pid_ = ::fork();
  if (pid_ < 0) fail(fmt::format("cannot start {}", *path));
  if (pid_ == 0) become_program(launch);

  launch.failure = Descriptor();  // ours; what is left is the child's
  int reason = 0;
  if (::read(answer.get(), &reason, sizeof reason) == sizeof reason) {
    reap(true);
    errno = reason;
    fail(fmt::format("cannot start {}", *path));
  }
  if (options.log_file.empty()) {
    if (options.output == Output::capture) output_fd_ = launch.output.release();
    if (options.error == Output::capture) error_fd_ = launch.error.release();
  }
}

ChildProcess::~ChildProcess() {
  if (kill(SIGKILL)) reap(true);
  if (output_fd_ >= 0) ::close(output_fd_);
  if (error_fd_ >= 0) ::close(error_fd_);
}

void ChildProcess::reap(bool block) {
  int status = 0;
  pid_t ended = 0;
  do {
    ended = ::waitpid(pid_, &status, block ? 0 : WNOHANG);
  } while (ended < 0 && errno == EINTR);
  // Someone else may have waited for our child (SIGCHLD ignored): then only its end is known.
  if (ended == pid_) status_ = decode(status);
  if (ended < 0) status_ = ExitStatus{127, 0};
}

bool ChildProcess::running() {
  if (!status_) reap(false);
  return !status_;
}

bool ChildProcess::kill(int signal) {
  return running() && ::kill(pid_, signal) == 0;
}

std::optional<ExitStatus> ChildProcess::wait(std::chrono::milliseconds deadline) {
  becomes_true([this] { return !running(); }, deadline);
  return status_;
}

ExitStatus ChildProcess::stop(int signal, std::chrono::milliseconds grace) {
  if (kill(signal) && !wait(grace)) {
    kill(SIGKILL);
    reap(true);
  }
  return *status_;
}

std::string ChildProcess::output() const {
  return read_all(output_fd_);
}
std::string ChildProcess::error_output() const {
  return read_all(error_fd_);
}

Finished run(const std::string& program, ChildOptions options, std::chrono::milliseconds deadline) {
  ChildProcess child(program, std::move(options));
  const std::optional<ExitStatus> status = child.wait(deadline);
  if (!status) {
    throw Error(code::timed_out,
                fmt::format("{} has not ended after {} ms; it wrote: {}{}", program,
                            deadline.count(), child.output(), child.error_output()));
  }
  return Finished{*status, child.output(), child.error_output()};
}

std::optional<std::string> find_program(std::string_view name,
                                        const std::vector<std::string>& more_directories) {
  const auto executable = [](const std::string& path) {
    struct stat facts {};
    return ::access(path.c_str(), X_OK) == 0 && ::stat(path.c_str(), &facts) == 0 &&
           S_ISREG(facts.st_mode);
  };
  if (name.find('/') != std::string_view::npos) {
    const std::string path(name);
    return executable(path) ? std::optional(path) : std::nullopt;
  }
  std::vector<std::string> directories;
  const char* search_path = std::getenv("PATH");
  for (std::string_view rest = search_path == nullptr ? "/usr/bin:/bin" : search_path;;) {
    const std::size_t colon = rest.find(':');
    directories.emplace_back(rest.substr(0, colon));
    if (colon == std::string_view::npos) break;
    rest.remove_prefix(colon + 1);
  }
  directories.insert(directories.end(), more_directories.begin(), more_directories.end());
  for (const std::string& directory : directories) {
    const std::string path = fmt::format("{}/{}", directory.empty() ? "." : directory, name);
    if (executable(path)) return path;
  }
  return std::nullopt;
}

}  // namespace dmm::testing
