#include "dmm/cli/man.h"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <string_view>
#include <vector>

#include "dmm/cli/help_text.h"

namespace dmm::cli {

namespace {

// As running text: a backslash, a dash or a dot may mean something else to roff.
std::string roff(std::string_view text) {
  std::string result;
  bool begins = true;
  for (const char c : text) {
    if (begins && (c == '.' || c == '\'')) result += "\\&";
    if (c == '\\') {
      result += "\\e";
    } else if (c == '-') {
      result += "\\-";
    } else {
      result += c;
    }
    begins = c == '\n';
  }
  return result;
}

std::string literally(std::string_view lines) {
  return fmt::format(".nf\n{}\n.fi\n", roff(lines));
}

std::string names_of(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string options_of(const CLI::App& app) {
  std::string text;
  for (const CLI::Option* option : app.get_options()) {
    std::string name = names_of(*option);
    if (name.empty()) name = option->get_name(true);
    const std::string value = option->get_items_expected_max() > 0 && !option->get_positional()
                                  ? " \\fI" + roff(value_of(*option)) + "\\fR"
                                  : "";
    text +=
        fmt::format(".TP\n\\fB{}\\fR{}\n{}", roff(name), value, roff(option->get_description()));
    const std::string otherwise = option->get_default_str();
    if (!otherwise.empty()) text += fmt::format(" (default: {})", roff(otherwise));
    text += "\n";
  }
  return text;
}

// "dmm view plan VIEW": what is typed.
std::string call_of(const CLI::App& verb, const std::string& before) {
  std::string call = before + " " + verb.get_name();
  for (const CLI::Option* option : verb.get_options()) {
    if (!option->get_positional()) continue;
    const std::string name = value_of(*option);
    call += option->get_required() ? " " + name : fmt::format(" [{}]", name);
  }
  return call;
}

void add_verb(const CLI::App& verb, const std::string& before, std::string& text) {
  text += fmt::format(".SS {}\n{}.\n", roff(call_of(verb, before)), roff(verb.get_description()));
  text += options_of(verb);
  const std::string footer = verb.get_footer();
  const std::size_t end = footer.find("\n\n");
  if (!footer.empty()) text += ".PP\n" + literally(footer.substr(0, end));
  for (const CLI::App* member : verb.get_subcommands([](const CLI::App*) { return true; })) {
    add_verb(*member, before + " " + verb.get_name(), text);
  }
}

}  // namespace

std::string man_page(const CLI::App& root, const std::string& version) {
  std::string description = root.get_description();
  std::ranges::replace(description, '\n', ' ');
  std::string text = fmt::format(
      ".TH DMM 1 \"\" \"dmm {}\" \"User Commands\"\n"
      ".SH NAME\ndmm \\- look at, change and debug namespaces of the Durable Materialization "
      "Machine\n"
      ".SH SYNOPSIS\n\\fBdmm\\fR [\\fIOPTIONS\\fR] \\fIVERB\\fR ...\n"
      ".SH DESCRIPTION\n{}\n.SH OPTIONS\n{}.SH VERBS\n",
      roff(version), roff(description), options_of(root));
  for (const CLI::App* verb : root.get_subcommands([](const CLI::App*) { return true; })) {
    add_verb(*verb, "dmm", text);
  }
  return text + ".SH NOTES\n" + literally(root.get_footer());
}

}  // namespace dmm::cli
