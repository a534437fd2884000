#include "dmm/cli/completion.h"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <vector>

namespace dmm::cli {

namespace {

/// An option or a positional, as the shells see it.
struct Word {
  std::vector<std::string> names;  ///< "-n", "--namespace"; none for a positional
  std::string description;
  bool takes_value = false;
  std::vector<std::string> choices;  ///< of the value
  bool file = false;
  bool directory = false;
  bool many = false;  ///< a positional that may be repeated
};

// CLI11 shows the members of a set in the name of the type: "FORMAT:{table,json}".
std::vector<std::string> choices_of(const std::string& type) {
  const std::size_t open = type.find('{');
  const std::size_t close = type.find('}', open == std::string::npos ? 0 : open);
  if (open == std::string::npos || close == std::string::npos) return {};
  return CLI::detail::split(type.substr(open + 1, close - open - 1), ',');
}

Word word_of(const CLI::Option& option) {
  Word word;
  for (const std::string& name : option.get_snames()) word.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) word.names.push_back("--" + name);
  word.description = option.get_description();
  const std::string type = option.get_type_name();
  word.takes_value = option.get_items_expected_max() > 0;
  word.choices = choices_of(type);
  word.file = type.starts_with("FILE");
  word.directory = type.starts_with("DIR");
  word.many = option.get_items_expected_max() > 1;
  return word;
}

std::vector<Word> words_of(const CLI::App& app, bool positionals) {
  std::vector<Word> words;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional() == positionals) words.push_back(word_of(*option));
  }
  return words;
}

std::string joined(const std::vector<std::string>& parts, std::string_view separator) {
  return fmt::format("{}", fmt::join(parts, separator));
}

// Within single quotes of a shell.
std::string shell_quoted(std::string_view text) {
  std::string result = "'";
  for (const char c : text) {
    if (c == '\'') {
      result += "'\\''";
    } else {
      result += c;
    }
  }
  return result + "'";
}

std::string all_names(const std::vector<Word>& words) {
  std::vector<std::string> names;
  for (const Word& word : words) names.insert(names.end(), word.names.begin(), word.names.end());
  return joined(names, " ");
}

std::vector<const CLI::App*> verbs_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

std::string all_verbs(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* verb : verbs_of(app)) names.push_back(verb->get_name());
  return joined(names, " ");
}

/// A verb with what the user types to reach it: "pipeline run".
struct Verb {
  std::string call;
  const CLI::App* app;
};

// All verbs below `app`, families before their members.
std::vector<Verb> tree_of(const CLI::App& app, const std::string& before = {}) {
  std::vector<Verb> verbs;
  for (const CLI::App* verb : verbs_of(app)) {
    const std::string call = before.empty() ? verb->get_name() : before + " " + verb->get_name();
    verbs.push_back({call, verb});
    for (Verb& member : tree_of(*verb, call)) verbs.push_back(std::move(member));
  }
  return verbs;
}

// The cases of "the word before is an option that takes a value".
std::string bash_values(const std::vector<Word>& words) {
  std::string cases;
  for (const Word& word : words) {
    if (!word.takes_value || word.names.empty()) continue;
    std::string what = "COMPREPLY=()";
    if (!word.choices.empty()) {
      what = fmt::format("COMPREPLY=($(compgen -W {} -- \"$cur\"))",
                         shell_quoted(joined(word.choices, " ")));
    } else if (word.file) {
      what = "compopt -o default; COMPREPLY=()";
    } else if (word.directory) {
      what = "COMPREPLY=($(compgen -d -- \"$cur\"))";
    }
    cases += fmt::format("    {}) {}; return ;;\n", joined(word.names, "|"), what);
  }
  return cases;
}

// One argument of zsh's _arguments.
std::string zsh_argument(const Word& word) {
  std::string text;
  for (const char c : word.description) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') text += '\\';
    text += c;
  }
  std::string value;
  if (word.takes_value) {
    value = ":value:";
    if (!word.choices.empty()) value += fmt::format("({})", joined(word.choices, " "));
    if (word.file) value += "_files";
    if (word.directory) value += "_files -/";
  }
  std::string lines;
  for (const std::string& name : word.names) {
    const std::string equals = word.takes_value && name.starts_with("--") ? "=" : "";
    lines += fmt::format(" \\\n        {}",
                         shell_quoted(fmt::format("{}{}[{}]{}", name, equals, text, value)));
  }
  return lines;
}

}  // namespace

std::string bash_completion(const CLI::App& root) {
  const std::vector<Word> globals = words_of(root, false);
  std::string families;
  std::string cases;
  std::string values = bash_values(globals);
  for (const Verb& verb : tree_of(root)) {
    values += bash_values(words_of(*verb.app, false));
    std::string members = all_verbs(*verb.app);
    if (!members.empty()) {
      families +=
          fmt::format("      {}) verbs={} ;;\n", shell_quoted(verb.call), shell_quoted(members));
    }
    std::string files;
    for (const Word& word : words_of(*verb.app, true)) {
      for (const std::string& choice : word.choices) members += " " + choice;
      if (word.file) files = " files=-f";
    }
    const std::size_t begin = members.find_first_not_of(' ');
    cases +=
        fmt::format("    {}) options={}; values={}{} ;;\n", shell_quoted(verb.call),
                    shell_quoted(all_names(words_of(*verb.app, false))),
                    shell_quoted(begin == std::string::npos ? "" : members.substr(begin)), files);
  }
  return fmt::format(
      R"(# bash completion of dmm; load it with: source <(dmm completion bash)
_dmm() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}}
  local verb= verbs={verbs} options= values= files= i
  COMPREPLY=()
  case $prev in
{values}  esac
  for ((i = 1; i < COMP_CWORD; i++)); do
    case " $verbs " in
      *" ${{COMP_WORDS[i]}} "*) verb="${{verb:+$verb }}${{COMP_WORDS[i]}}" ;;
      *) continue ;;
    esac
    case $verb in
{families}      *) break ;;
    esac
  done
  case $verb in
    '') values={verbs} ;;
{cases}  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$options "{globals} -- "$cur"))
  elif [[ -n $files ]]; then
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$cur"))
  else
    COMPREPLY=($(compgen -W "$values" -- "$cur"))
  fi
}}
complete -F _dmm dmm
)",
      fmt::arg("values", values), fmt::arg("verbs", shell_quoted(all_verbs(root))),
      fmt::arg("families", families), fmt::arg("cases", cases),
      fmt::arg("globals", shell_quoted(all_names(globals))));
}

namespace {

// The list of verbs and the case of each, for the root and for a family within it.
void add_zsh_verbs(const CLI::App& app, std::string& verbs, std::string& cases) {
  for (const CLI::App* verb : verbs_of(app)) {
    verbs += fmt::format(
        "    {}\n", shell_quoted(fmt::format("{}:{}", verb->get_name(), verb->get_description())));
    if (!verbs_of(*verb).empty()) {
      std::string members;
      std::string member_cases;
      add_zsh_verbs(*verb, members, member_cases);
      cases += fmt::format(
          "    {})\n  verbs=(\n{}  )\n  _arguments -C $globals '1: :->verb' '*:: :->rest'\n"
          "  case $state in\n    verb) _describe verb verbs; return ;;\n  esac\n"
          "  case $line[1] in\n{}  esac ;;\n",
          verb->get_name(), members, member_cases);
      continue;
    }
    std::string arguments;
    for (const Word& word : words_of(*verb, false)) arguments += zsh_argument(word);
    std::string positionals;
    for (const Word& word : words_of(*verb, true)) {
      std::string action =
          word.choices.empty() ? "" : fmt::format("({})", joined(word.choices, " "));
      if (word.file) action = "_files";
      positionals += fmt::format(" \\\n        {}",
                                 shell_quoted((word.many ? "*:argument:" : ":argument:") + action));
    }
    cases += fmt::format("    {})\n      _arguments -s $globals{}{} ;;\n", verb->get_name(),
                         arguments, positionals);
  }
}

}  // namespace

std::string zsh_completion(const CLI::App& root) {
  std::string globals;
  for (const Word& word : words_of(root, false)) globals += zsh_argument(word);
  std::string verbs;
  std::string cases;
  add_zsh_verbs(root, verbs, cases);
  return fmt::format(R"(#compdef dmm
# zsh completion of dmm; save it as _dmm in a directory of $fpath, or: source <(dmm completion zsh)
_dmm() {{
  local -a verbs globals
  local curcontext=$curcontext state line
  verbs=(
{verbs}  )
  globals=({globals})
  _arguments -C $globals '1: :->verb' '*:: :->rest'
  case $state in
    verb) _describe verb verbs; return ;;
  esac
  case $line[1] in
{cases}  esac
}}
if [[ $funcstack[1] == _dmm ]]; then _dmm "$@"; else compdef _dmm dmm; fi
)",
                     fmt::arg("verbs", verbs), fmt::arg("globals", globals),
                     fmt::arg("cases", cases));
}

std::string fish_completion(const CLI::App& root) {
  std::string text =
      "# fish completion of dmm; load it with: dmm completion fish | source\n"
      "complete -c dmm -f\n";
  const auto add = [&text](const Word& word, const std::string& condition) {
    std::string line = "complete -c dmm";
    if (!condition.empty()) line += " -n " + shell_quoted(condition);
    for (const std::string& name : word.names) {
      line += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
    }
    if (word.takes_value && !word.names.empty()) line += word.file ? " -r" : " -x";
    if (!word.choices.empty()) line += " -a " + shell_quoted(joined(word.choices, " "));
    if (word.file) line += " -F";
    if (word.directory) line += " -a '(__fish_complete_directories)'";
    text += line + " -d " + shell_quoted(word.description) + "\n";
  };
  for (const Word& word : words_of(root, false)) add(word, "");
  for (const Verb& verb : tree_of(root)) {
    const std::size_t cut = verb.call.rfind(' ');
    std::string place = "__fish_use_subcommand";
    std::string condition = "__fish_seen_subcommand_from " + verb.app->get_name();
    if (cut != std::string::npos) {
      const std::string family = "__fish_seen_subcommand_from " + verb.call.substr(0, cut);
      place = fmt::format("{}; and not __fish_seen_subcommand_from {}", family,
                          all_verbs(*verb.app->get_parent()));
      condition = family + "; and " + condition;
    }
    text += fmt::format("complete -c dmm -n {} -a {} -d {}\n", shell_quoted(place),
                        verb.app->get_name(), shell_quoted(verb.app->get_description()));
    for (const Word& word : words_of(*verb.app, false)) add(word, condition);
    for (const Word& word : words_of(*verb.app, true)) {
      if (!word.choices.empty() || word.file) add(word, condition);
    }
  }
  return text;
}

}  // namespace dmm::cli
