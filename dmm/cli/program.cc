#include "dmm/cli/program.h"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <new>
#include <numeric>

#include "dmm/cli/exit_code.h"
#include "dmm/json.h"

namespace dmm::cli {

namespace {

constexpr const char* kConnection = "Connection";
constexpr std::size_t kQuotedBytesMax = 100;

// How many single-character edits lie between two words.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1] ? 1u : 0u)});
      diagonal = above;
    }
  }
  return row.back();
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
  root_->get_formatter()->column_width(34);
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
  add_change_commands(*this);
  add_report_commands(*this);
  add_watch_commands(*this);
  add_namespace_commands(*this);
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
      ->check(CLI::IsMember({"table", "json"}))
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
  CLI::App* verb = root_->add_subcommand(name, description);
  verb->group(group);
  std::string footer = "Examples:\n";
  for (const std::string& example : examples) footer += fmt::format("  {}\n", example);
  verb->footer(footer +
               "\nOptions of every verb, among them -n NAMESPACE, --server URL and "
               "-o json: dmm --help");
  verbs_.emplace_back(verb, std::move(run));
  return verb;
}

int Program::refuse_unknown(const std::vector<std::string>& arguments,
                            const std::string& what) const {
  std::string_view word;
  for (const std::string& argument : arguments) {
    const bool option = !argument.empty() && argument.front() == '-';
    if (!option && what.find(argument) != std::string::npos && !argument.empty()) {
      word = argument;
      break;
    }
  }
  if (word.empty() || word.size() > kQuotedBytesMax) return tell_usage(printable(what, 500), "");
  std::string nearest;
  std::size_t least = 3;
  for (const auto& [verb, run] : verbs_) {
    const std::size_t edits = distance(word, verb->get_name());
    if (edits >= least) continue;
    least = edits;
    nearest = verb->get_name();
  }
  return tell_usage(fmt::format("there is no verb {}{}", printable(word),
                                nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest)),
                    "");
}

int Program::parse_and_run(std::vector<std::string> arguments, Output& output) {
  const std::vector<std::string> given = arguments;
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  const auto chosen = [this] {
    const auto parsed = root_->get_subcommands();
    return parsed.empty() ? nullptr : parsed.front();
  };
  try {
    root_->parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    output.write(root_->help());
    output.flush();
    return exit_code::ok;
  } catch (const CLI::ParseError& error) {
    if (chosen() == nullptr) return refuse_unknown(given, error.what());
    return tell_usage(printable(error.what(), 500), chosen()->get_name());
  }
  if (chosen() == nullptr) {
    write_error(root_->help());
    return exit_code::usage;
  }
  Session session(globals_, output);
  for (const auto& [verb, run] : verbs_) {
    if (verb != chosen()) continue;
    try {
      const int result = run(session);
      output.flush();
      return result;
    } catch (const UsageError& error) {
      return tell_usage(printable(error.what()), verb->get_name());
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
