#include "dmm/cli/program.h"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <new>

#include "dmm/cli/exit_code.h"
#include "dmm/cli/help_text.h"
#include "dmm/cli/repeat.h"
#include "dmm/json.h"
#include "dmm/text/nearest.h"

namespace dmm::cli {

namespace {

constexpr const char* kConnection = "Connection";
constexpr std::size_t kQuotedBytesMax = 100;

// Verbs that stand directly in `app`.
std::vector<const CLI::App*> verbs_in(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

// "pipeline run": what the user types behind "dmm".
std::string call_of(const CLI::App& verb) {
  const CLI::App* parent = verb.get_parent();
  if (parent == nullptr) return {};
  const std::string before = call_of(*parent);
  return before.empty() ? verb.get_name() : before + " " + verb.get_name();
}

std::string footer_of(const std::vector<std::string>& examples) {
  std::string footer = "Examples:\n";
  for (const std::string& example : examples) footer += fmt::format("  {}\n", example);
  return footer +
         "\nOptions of every verb, among them -n NAMESPACE, --server URL and -o json: dmm --help";
}

int tell_usage(std::string_view what, std::string_view verb) {
  const std::string call = verb.empty() ? "dmm --help" : fmt::format("dmm {} --help", verb);
  write_error(fmt::format("dmm: {}: {}\n     Try `{}`.\n", code::bad_option.id, what, call));
  return exit_code::usage;
}

}  // namespace

Program::Program()
    : root_(std::make_unique<CLI::App>("dmm looks at and changes what a dmm namespace holds: the "
                                       "cache objects of materializers,\n"
                                       "their outstanding work, and the reports of devices.",
                                       "dmm")) {
  root_->require_subcommand(0, 1);
  root_->fallthrough();  // global options may stand behind the verb
  root_->formatter(help_formatter());
  root_->footer(
      "Examples:\n"
      "  dmm dev                                    start a local server to try things out\n"
      "  dmm ls player                              list all players and how they stand\n"
      "  dmm get player kitchen -o json             everything known of one\n"
      "  dmm report player kitchen '{\"song\":\"A\"}'   report as a device would\n"
      "  dmm help DMM-0101                          what an error code means\n\n"
      "`dmm VERB --help` shows the options and examples of a verb. Exit codes: 0 done, 1 failed,\n"
      "2 usage, 3 server unreachable, 4 not found, 5 conflict, 6 timed out, 130 interrupted.");
  add_globals();
  add_look_commands(*this);
  add_parked_commands(*this);
  add_change_commands(*this);
  add_control_commands(*this);
  add_report_commands(*this);
  add_downlink_commands(*this);
  add_watch_commands(*this);
  add_history_commands(*this);
  add_top_commands(*this);
  add_edit_commands(*this);
  add_bundle_commands(*this);
  add_workers_commands(*this);
  add_namespace_commands(*this);
  add_pipeline_commands(*this);
#ifdef DMM_CLI_POSTGRES
  add_postgres_commands(*this);
  add_resource_commands(*this);
#endif
  add_view_commands(*this);
  add_explain_commands(*this);
  add_dev_commands(*this);
  add_help_commands(*this);
}

Program::~Program() = default;

void Program::add_globals() {
  Globals& g = globals_;
  CLI::App& app = *root_;
  app.add_option("-n,--namespace", g.ns, "Namespace to work in")
      ->envname("DMM_NAMESPACE")
      ->capture_default_str()
      ->type_name("NAME");
  app.add_option("--generation", g.generation, "Generation of the namespace's streams")
      ->envname("DMM_GENERATION")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("-o,--output", g.output, "Output for people or for programs")
      ->check(CLI::IsMember({"table", "json", "yaml"}))
      ->capture_default_str()
      ->type_name("FORMAT");
  app.add_flag("-y,--yes", g.yes, "Answer every question with yes");
  app.add_flag("--no-color", g.no_color, "No colours, as with NO_COLOR in the environment");
  app.add_flag("-v,--verbose", g.verbose, "Log what the library does to standard error");
  const auto file = [&](const char* name, std::string& value, const char* text) {
    app.add_option(name, value, text)->group(kConnection)->type_name("FILE");
  };
  app.add_option("--server", g.server, "Server URLs with commas [DMM_SERVER]")
      ->group(kConnection)
      ->type_name("URL");
  app.add_option("--user", g.user, "User [DMM_USER]")->group(kConnection)->type_name("NAME");
  file("--password-file", g.password_file, "File with the password [DMM_PASSWORD holds it]");
  file("--token-file", g.token_file, "File with the token [DMM_TOKEN holds it]");
  file("--creds", g.creds, "Credentials file of nsc [DMM_CREDS]");
  file("--nkey", g.nkey, "File with an nkey seed [DMM_NKEY_SEED]");
  file("--tls-ca", g.tls_ca, "CA certificates, PEM [DMM_TLS_CA]");
  file("--tls-cert", g.tls_cert, "Client certificate, PEM [DMM_TLS_CERT]");
  file("--tls-key", g.tls_key, "Key of the client certificate, PEM [DMM_TLS_KEY]");
  file("--config", g.config, "TOML file with the above [DMM_CONFIG]");
}

CLI::App* Program::add_verb(const std::string& name, const std::string& description,
                            const std::string& group, const std::vector<std::string>& examples,
                            Run run) {
  CLI::App* verb = add_verb_to(*root_, name, description, examples, std::move(run));
  verb->group(group);
  return verb;
}

CLI::App* Program::add_family(const std::string& name, const std::string& description,
                              const std::string& group, const std::vector<std::string>& examples) {
  CLI::App* family = root_->add_subcommand(name, description);
  family->group(group);
  family->footer(footer_of(examples));
  family->require_subcommand(1);
  return family;
}

void Program::set_default(CLI::App& family, Run run) {
  family.require_subcommand(0, 1);
  verbs_.emplace_back(&family, std::move(run));
}

CLI::App* Program::add_verb_to(CLI::App& family, const std::string& name,
                               const std::string& description,
                               const std::vector<std::string>& examples, Run run) {
  CLI::App* verb = family.add_subcommand(name, description);
  verb->footer(footer_of(examples));
  verbs_.emplace_back(verb, std::move(run));
  return verb;
}

void Program::repeat(CLI::App& verb) {
  verb.add_option("--watch", every_s_, "Again and again, until Ctrl-C; 2 s apart unless said")
      ->expected(0, 1)
      ->default_str("2")
      ->check(CLI::Range(0.1, 86'400.0))
      ->type_name("SECONDS");
}

std::vector<std::string> Program::calls() const {
  std::vector<std::string> calls;
  for (const auto& [verb, run] : verbs_) calls.push_back(call_of(*verb));
  return calls;
}

int Program::refuse_unknown(const CLI::App& family, const std::vector<std::string>& arguments,
                            const std::string& what) const {
  const std::string call = call_of(family);
  std::vector<std::string> names;
  for (const CLI::App* verb : verbs_in(family)) names.push_back(verb->get_name());
  // The first word that is no option: behind the family's name, or named by the message.
  bool behind = call.empty();
  std::string_view word;
  for (const std::string& argument : arguments) {
    const bool option = argument.empty() || argument.front() == '-';
    const bool meant = call.empty() ? what.find(argument) != std::string::npos : behind;
    if (!option && meant && word.empty()) word = argument;
    if (argument == family.get_name()) behind = true;
  }
  if (word.empty() && !call.empty()) {
    return tell_usage(fmt::format("{} needs one of: {}", call, fmt::join(names, ", ")), call);
  }
  if (word.empty() || word.size() > kQuotedBytesMax) return tell_usage(printable(what, 500), call);
  return tell_usage(fmt::format("there is no verb {}{}{}{}", call, call.empty() ? "" : " ",
                                printable(word), text::suggestion(word, names)),
                    call);
}

int Program::parse_and_run(std::vector<std::string> arguments, Output& output) {
  const std::vector<std::string> given = arguments;
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  const auto chosen = [this]() -> const CLI::App* {
    const CLI::App* verb = root_.get();
    while (!verb->get_subcommands().empty()) verb = verb->get_subcommands().front();
    return verb;
  };
  try {
    root_->parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    output.write(root_->help());
    output.flush();
    return exit_code::ok;
  } catch (const CLI::ParseError& error) {
    if (!verbs_in(*chosen()).empty()) return refuse_unknown(*chosen(), given, error.what());
    return tell_usage(printable(error.what(), 500), call_of(*chosen()));
  }
  if (chosen() == root_.get()) {
    write_error(root_->help());
    return exit_code::usage;
  }
  Session session(globals_, output);
  for (const auto& [verb, run] : verbs_) {
    if (verb != chosen()) continue;
    try {
      if (every_s_ > 0) {
        return cli::repeat(session, "dmm " + call_of(*verb), every_s_, 0, [&] { run(session); });
      }
      const int result = run(session);
      output.flush();
      return result;
    } catch (const UsageError& error) {
      return tell_usage(printable(error.what()), call_of(*verb));
    }
  }
  throw Error(code::bug, fmt::format("the verb {} does nothing", chosen()->get_name()));
}

int Program::run(std::vector<std::string> arguments, Output& output) noexcept {
  try {
    return parse_and_run(std::move(arguments), output);
  } catch (const OutputClosed&) {
    return exit_code::ok;  // whoever read it has seen enough
  } catch (const Error& error) {
    // What was said before the trouble stands before it.
    try {
      output.flush();
    } catch (...) {  // NOLINT(bugprone-empty-catch): the first error is the one to tell
    }
    complain(error);
    return exit_code_of(error);
  } catch (const Interrupted& interrupted) {
    write_error(std::string("dmm: ") + interrupted.what() + "\n");
    return exit_code::interrupted;
  } catch (const std::bad_alloc&) {
    write_error("dmm: out of memory\n");
  } catch (const std::exception& error) {
    write_error("dmm: ");
    write_error(error.what());
    write_error("\n");
  }
  return exit_code::failed;
}

}  // namespace dmm::cli
