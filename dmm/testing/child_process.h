#pragma once

// A ChildProcess is a program that this process started and ends.
//
// Invariants
//  1. Signals go only to a process that was started here and not yet waited for, by its pid.
//  2. The child does not outlive this object, nor the thread that started it: the system sends it
//     ChildOptions::death_signal when that thread ends. So start children from a thread that lives
//     as long as they should.
//  3. The child inherits no open files but its standard streams, and no blocked signals.
//
// Used by one thread at a time.

#include <signal.h>
#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dmm::testing {

/// How a process ended.
struct ExitStatus {
  int code = 0;    ///< its exit code, if `signal` is 0
  int signal = 0;  ///< the signal that ended it, or 0

  bool success() const noexcept { return code == 0 && signal == 0; }
  friend bool operator==(ExitStatus, ExitStatus) = default;
};

/// "exit code 3" or "signal 9 (Killed)".
std::string to_string(ExitStatus status);

/// Where a standard output goes.
enum class Output {
  inherit,  ///< where ours goes
  discard,
  capture,  ///< to memory, see ChildProcess::output()
};

struct ChildOptions {
  std::vector<std::string> arguments;              ///< behind the program's name
  std::map<std::string, std::string> environment;  ///< set in addition to ours
  std::filesystem::path working_directory;         ///< empty: ours
  std::string input;                               ///< standard input; empty: /dev/null
  Output output = Output::capture;                 ///< of standard output
  Output error = Output::capture;                  ///< of standard error
  std::filesystem::path log_file;  ///< if set, both outputs are appended to this file instead
  std::string user;                ///< run as this user; only root may set it
  int death_signal = SIGKILL;      ///< sent to the child when we die
  /// Keep the terminal's Ctrl-C from the child: we decide in which order things stop.
  bool own_process_group = false;
};

class ChildProcess final {
 public:
  /// Starts a program.
  /// program   a name to be found in PATH, or a path.
  /// throws    Error{not_found} DMM-0405 there is no such program; Error{invalid} DMM-0404 it
  ///           could not be started, with the system's reason.
  explicit ChildProcess(const std::string& program, ChildOptions options = {});
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  /// Ends the child with SIGKILL if it still runs, and waits for it.
  ~ChildProcess();

  pid_t pid() const noexcept { return pid_; }

  /// Sends a signal. False if the child has already ended.
  bool kill(int signal);

  /// Whether the child still runs (or is stopped by SIGSTOP).
  bool running();

  /// How the child ended, or nothing if it still runs after `deadline`.
  std::optional<ExitStatus> wait(std::chrono::milliseconds deadline);

  /// Asks it to end with `signal`, and insists with SIGKILL after `grace`.
  ExitStatus stop(int signal = SIGTERM, std::chrono::milliseconds grace = std::chrono::seconds(10));

  /// What it has written so far where Output::capture was asked for.
  std::string output() const;
  std::string error_output() const;

 private:
  void reap(bool block);

  pid_t pid_ = -1;
  int output_fd_ = -1;
  int error_fd_ = -1;
  std::optional<ExitStatus> status_;
};

/// What a program wrote and how it ended.
struct Finished {
  ExitStatus status;
  std::string output;
  std::string error_output;
};

/// Runs a program to its end. Throws as ChildProcess does, and Error{retry} DMM-0103 when it has
/// not ended by `deadline`; it is then killed.
Finished run(const std::string& program, ChildOptions options = {},
             std::chrono::milliseconds deadline = std::chrono::seconds(60));

/// The path of a program, looked for in PATH and then in `more_directories`.
std::optional<std::string> find_program(std::string_view name,
                                        const std::vector<std::string>& more_directories = {});

}  // namespace dmm::testing
