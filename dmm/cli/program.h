#pragma once

// A Program is the tool as a tree of verbs, each with its options and what it does.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dmm/cli/globals.h"
#include "dmm/cli/session.h"

namespace CLI {
class App;
}

namespace dmm::cli {

/// Used by the main thread.
class Program final {
 public:
  /// Does the verb; returns the exit code. What it throws is told to the user.
  using Run = std::function<int(Session&)>;

  Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program();

  /// Adds a verb and returns where its options go.
  /// group      under which `dmm --help` lists it.
  /// examples   lines of "command   what it does", each a real call.
  CLI::App* add_verb(const std::string& name, const std::string& description,
                     const std::string& group, const std::vector<std::string>& examples, Run run);
  /// Adds a verb that only holds further ones, and returns it.
  CLI::App* add_family(const std::string& name, const std::string& description,
                       const std::string& group, const std::vector<std::string>& examples);
  /// What `dmm FAMILY` does by itself.
  void set_default(CLI::App& family, Run run);
  /// Lets a verb that looks be repeated, by --watch.
  void repeat(CLI::App& verb);
  /// Adds a verb to such a one: `dmm FAMILY NAME`.
  CLI::App* add_verb_to(CLI::App& family, const std::string& name, const std::string& description,
                        const std::vector<std::string>& examples, Run run);

  /// Every verb that does something, as it is typed behind "dmm": "ls", "parked", "parked ls".
  std::vector<std::string> calls() const;

  /// The whole tree, for help and completion.
  CLI::App& root() noexcept { return *root_; }

  /// Does what the arguments say (without the program's name). Tells errors on standard error.
  /// returns   an exit code. Does not throw.
  int run(std::vector<std::string> arguments, Output& output) noexcept;

 private:
  void add_globals();
  int parse_and_run(std::vector<std::string> arguments, Output& output);
  int refuse_unknown(const CLI::App& family, const std::vector<std::string>& arguments,
                     const std::string& what) const;

  Globals globals_;
  double every_s_ = 0;  ///< how often the verb is repeated; 0: it is not
  std::unique_ptr<CLI::App> root_;
  std::vector<std::pair<CLI::App*, Run>> verbs_;
};

/// view plan|apply|rollback|verify|lag; part of add_view_commands().
void add_view_change_commands(Program& program, CLI::App& family);

/// The groups of verbs, one file each.
void add_look_commands(Program& program);       // ls get reports
void add_change_commands(Program& program);     // put rm notify
void add_control_commands(Program& program);    // pause resume policy ls|show|set|unset
void add_parked_commands(Program& program);     // parked ls|retry|drop
void add_report_commands(Program& program);     // report
void add_downlink_commands(Program& program);   // command shadow get|set|rm|ls
void add_watch_commands(Program& program);      // watch
void add_history_commands(Program& program);    // history diff
void add_edit_commands(Program& program);       // edit
void add_top_commands(Program& program);        // top
void add_bundle_commands(Program& program);     // bundle
void add_workers_commands(Program& program);    // workers lanes log-level
void add_namespace_commands(Program& program);  // init leases doctor
void add_pipeline_commands(Program& program);   // pipeline check|explain|run
void add_postgres_commands(Program& program);   // postgres migrate|watch|unwatch|status
void add_resource_commands(Program& program);   // resource ls|get|retry|events|migrate|...
void add_view_commands(Program& program);       // view ls|show|approve|run
void add_explain_commands(Program& program);    // explain
void add_dev_commands(Program& program);        // dev
void add_help_commands(Program& program);       // help completion version

}  // namespace dmm::cli
