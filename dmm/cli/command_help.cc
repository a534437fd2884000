// help, completion, version.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cctype>

#include "dmm/cli/completion.h"
#include "dmm/cli/exit_code.h"
#include "dmm/cli/man.h"
#include "dmm/cli/program.h"
#include "dmm/cli/table.h"
#include "dmm/json.h"
#include "dmm/wire.h"

namespace dmm::cli {

namespace {

constexpr const char* kGroup = "Help";
constexpr std::size_t kTopicBytesMax = 40;

// What the one who meets an error of this kind should do, in a sentence.
std::string_view advice(Kind kind) {
  switch (kind) {
    case Kind::retry:
      return "Passing trouble: the same may succeed later.";
    case Kind::overloaded:
      return "Too much at once: wait, then do the same again.";
    case Kind::conflict:
      return "Someone else wrote first: read again, then decide again.";
    case Kind::in_doubt:
      return "It may have happened: look before you do it again.";
    case Kind::not_found:
      return "It is not there.";
    case Kind::invalid:
      return "The data or the arguments are wrong: repeating does not help.";
    case Kind::corrupt:
      return "Stored data is damaged: this key is left, the others go on.";
    case Kind::unsupported:
      return "This server, version or build cannot do it.";
    case Kind::cancelled:
      return "It was asked to stop.";
    case Kind::bug:
      return "A defect of dmm.";
  }
  return "";
}

// The code meant by "DMM-0101", "dmm-101", "0101" or "101"; nullptr if there is none.
const Code* code_meant(std::string_view topic) {
  std::string digits(topic);
  std::transform(digits.begin(), digits.end(), digits.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (digits.starts_with("DMM-")) digits.erase(0, 4);
  const bool number = !digits.empty() && digits.size() <= 4 &&
                      std::all_of(digits.begin(), digits.end(),
                                  [](unsigned char c) { return std::isdigit(c) != 0; });
  if (!number) return nullptr;
  return find_code(fmt::format("DMM-{:0>4}", digits));
}

nlohmann::json document_of(const Code& code) {
  return {{"code", code.id},
          {"title", code.title},
          {"kind", to_string(code.kind)},
          {"advice", advice(code.kind)},
          {"remedy", code.remedy}};
}

int explain(Session& session, const Code& code) {
  if (session.json()) {
    session.show(document_of(code));
    return exit_code::ok;
  }
  session.say(session.terminal().paint(fmt::format("{}: {}", code.id, code.title), Color::bold));
  session.say("");
  session.say(fmt::format("kind    {}: {}", to_string(code.kind), advice(code.kind)));
  session.say(fmt::format("remedy  {}", code.remedy));
  session.say("");
  session.say(fmt::format("More: docs/reference/errors/{}.md", code.id));
  return exit_code::ok;
}

int list_codes(Session& session) {
  if (session.json()) {
    auto documents = nlohmann::json::array();
    for (const Code* code : error_catalogue()) documents.push_back(document_of(*code));
    session.show(documents);
    return exit_code::ok;
  }
  Table table({{.title = "CODE"}, {.title = "KIND"}, {.title = "TITLE", .flexible = true}});
  for (const Code* code : error_catalogue()) {
    table.add({{std::string(code->id)},
               {std::string(to_string(code->kind))},
               {std::string(code->title)}});
  }
  session.out().write(table.render(session.terminal()));
  return exit_code::ok;
}

int help(Session& session, const CLI::App& root, const std::string& topic) {
  if (topic.empty()) {
    // root.help() would show the chosen verb, which is this one.
    session.out().write(
        root.get_formatter()->make_help(&root, root.get_name(), CLI::AppFormatMode::Normal));
    return exit_code::ok;
  }
  if (topic == "codes") return list_codes(session);
  if (const Code* code = code_meant(topic)) return explain(session, *code);
  for (const CLI::App* verb : root.get_subcommands([](const CLI::App*) { return true; })) {
    if (verb->get_name() != topic) continue;
    session.out().write(verb->help("dmm"));
    return exit_code::ok;
  }
  throw Error(code::not_found,
              fmt::format("there is no verb and no error code {}; `dmm --help` lists the verbs, "
                          "`dmm help codes` the codes",
                          printable(topic, kTopicBytesMax)));
}

int complete(Session& session, const CLI::App& root, const std::string& shell) {
  if (shell == "bash") session.out().write(bash_completion(root));
  if (shell == "zsh") session.out().write(zsh_completion(root));
  if (shell == "fish") session.out().write(fish_completion(root));
  if (shell == "man") session.out().write(man_page(root, DMM_CLI_VERSION));
  return exit_code::ok;
}

int version(Session& session) {
  if (session.json()) {
    session.show({{"version", DMM_CLI_VERSION}, {"wire_format", wire::kFormatVersion}});
  } else {
    session.say(fmt::format("dmm {}, wire format {}", DMM_CLI_VERSION, wire::kFormatVersion));
  }
  return exit_code::ok;
}

}  // namespace

void add_help_commands(Program& program) {
  const CLI::App& root = program.root();
  auto topic = std::make_shared<std::string>();
  CLI::App* about =
      program.add_verb("help", "Explain a verb or an error code", kGroup,
                       {"dmm help DMM-0101      what happened, in general, and what can be done",
                        "dmm help codes         all error codes", "dmm help notify        a verb"},
                       [&root, topic](Session& session) { return help(session, root, *topic); });
  about->add_option("topic", *topic, "Verb, error code, or \"codes\"")->type_name("TOPIC");

  auto shell = std::make_shared<std::string>();
  CLI::App* scripts = program.add_verb(
      "completion", "Print a completion script for a shell, or the manual page", kGroup,
      {"source <(dmm completion bash)", "dmm completion zsh > ~/.zfunc/_dmm",
       "dmm completion fish | source", "dmm completion man | man -l -"},
      [&root, shell](Session& session) { return complete(session, root, *shell); });
  scripts->add_option("shell", *shell, "Shell, or man")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish", "man"}))
      ->type_name("SHELL");

  program.add_verb("version", "Print the version", kGroup, {"dmm version -o json"}, version);
}

}  // namespace dmm::cli
