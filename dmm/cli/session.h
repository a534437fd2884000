#pragma once

// A Session is one call of the tool: its global options, its output, and what verbs share.

#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "dmm/bucket.h"
#include "dmm/cli/globals.h"
#include "dmm/cli/output.h"
#include "dmm/cli/terminal.h"

namespace dmm::cli {

/// The user called the tool in a way that has no meaning: exit code 2. The remedy names the help.
class UsageError final : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The user ended a verb by a signal: exit code 130. Says how far it had come.
class Interrupted final : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Used by the main thread.
class Session final {
 public:
  /// Both are borrowed and outlive the session.
  Session(const Globals& globals, Output& output);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const Globals& globals() const noexcept { return globals_; }
  Output& out() noexcept { return output_; }
  const Terminal& terminal() const noexcept { return terminal_; }
  const Terminal& error_terminal() const noexcept { return error_terminal_; }

  /// True if the user asked for documents: `-o json` or `-o yaml`.
  bool json() const noexcept { return globals_.output != "table"; }
  /// Writes a document as the one answer of the verb.
  void show(const nlohmann::json& document);
  /// Writes a line for people; nothing where documents are wanted.
  void say(std::string_view line);
  /// Writes a line to standard error.
  void warn(std::string_view line) const;

  /// Opens the namespace as it is; a missing one is DMM-0107.
  Bucket open() const { return open(false, 1); }
  /// For views that keep snapshots.
  Bucket open(ViewSnapshots snapshots) const { return open(false, 1, std::move(snapshots)); }
  /// Opens the namespace, creates what is missing.
  Bucket create(int replicas) const { return open(true, replicas); }

  /// True if the user agrees. With --yes nobody is asked; where nobody can be asked, throws
  /// UsageError that names --yes.
  bool confirm(std::string_view question) const;

  /// The text of an argument "JSON|-": itself, or the whole standard input for "-" or nothing.
  /// Throws UsageError if there is neither, Error{invalid} DMM-0202.
  std::string text_argument(const std::optional<std::string>& argument) const;

 private:
  Bucket open(bool create, int replicas, ViewSnapshots snapshots = {}) const;

  const Globals& globals_;
  Output& output_;
  Terminal terminal_;
  Terminal error_terminal_;
};

/// Writes "dmm: CODE: message" and its remedy to standard error. `place` stands before the code,
/// for example "line 17".
void complain(const Error& error, std::string_view place = {});

}  // namespace dmm::cli
