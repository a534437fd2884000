// pause, resume, policy: how the work of types is done, changed while it is being done.

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/program.h"
#include "dmm/cli/table.h"
#include "dmm/control.h"
#include "dmm/json.h"
#include "dmm/text/nearest.h"

namespace dmm::cli {

namespace {

constexpr const char* kGroup = "Steer";

std::string name_of(const PauseScope& scope) {
  if (scope.type.empty()) return "everything";
  if (!scope.id) return scope.type;
  return fmt::format("{}/{}", scope.type, scope.id->empty() ? "\"\"" : printable(*scope.id));
}

std::string caller() {
  const char* user = std::getenv("USER");
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host.front() = '\0';
  return fmt::format("{}@{}", user == nullptr ? "uid " + std::to_string(getuid()) : user,
                     host.data());
}

nlohmann::json document_of(const PauseScope& scope) {
  nlohmann::json document{{"type", nullptr}, {"id", nullptr}};
  if (!scope.type.empty()) document["type"] = scope.type;
  if (scope.id) document["id"] = *scope.id;
  return document;
}

// ---- pause, resume

struct PauseOptions {
  std::string what;  ///< TYPE or TYPE/ID
  bool all = false;
  std::string reason;
};

PauseScope scope_of(const PauseOptions& options) {
  if (options.all != options.what.empty()) throw UsageError("give TYPE, TYPE/ID or --all");
  const std::size_t slash = options.what.find('/');
  PauseScope scope{options.what.substr(0, slash), {}};
  if (slash != std::string::npos) scope.id = options.what.substr(slash + 1);
  if (!options.all) check_name(scope.type, "type");
  if (scope.id) check(Identity{scope.type, *scope.id});
  return scope;
}

int show_pauses(Session& session) {
  Bucket bucket = session.open();
  const std::vector<Pause> pauses = bucket.control().pauses();
  if (session.json()) {
    auto documents = nlohmann::json::array();
    for (const Pause& pause : pauses) {
      nlohmann::json document = document_of(pause.scope);
      document.update({{"reason", pause.reason}, {"by", pause.by}, {"at", rfc3339(pause.at)}});
      documents.push_back(std::move(document));
    }
    session.show(documents);
    return exit_code::ok;
  }
  if (pauses.empty()) {
    if (session.terminal().interactive) session.say("nothing is paused");
    return exit_code::ok;
  }
  Table table({{.title = "PAUSED", .flexible = true},
               {.title = "SINCE"},
               {.title = "BY"},
               {.title = "REASON", .flexible = true}});
  const Time now = std::chrono::system_clock::now();
  for (const Pause& pause : pauses) {
    table.add({{name_of(pause.scope), Color::yellow},
               {human_age(pause.at, now)},
               {pause.by},
               {pause.reason}});
  }
  session.out().write(table.render(session.terminal()));
  return exit_code::ok;
}

int pause(Session& session, const PauseOptions& options) {
  if (!options.all && options.what.empty()) return show_pauses(session);
  const PauseScope scope = scope_of(options);
  Bucket bucket = session.open();
  if (options.all &&
      !session.confirm(fmt::format("Pause all work of namespace {}?", bucket.ns()))) {
    session.warn("nothing was paused");
    return exit_code::failed;
  }
  bucket.control().pause(scope, options.reason, caller());
  if (session.json()) {
    nlohmann::json document = document_of(scope);
    document["paused"] = true;
    session.show(document);
  } else {
    session.say(fmt::format("{}: paused; runs in flight end, news wait", name_of(scope)));
  }
  return exit_code::ok;
}

int resume(Session& session, const PauseOptions& options) {
  const PauseScope scope = scope_of(options);
  Bucket bucket = session.open();
  if (!bucket.control().resume(scope)) {
    std::string others;
    for (const Pause& pause : bucket.control().pauses()) {
      if (!others.empty()) others += ", ";
      others += name_of(pause.scope);
    }
    throw Error(code::not_found,
                fmt::format("{} is not paused{}", name_of(scope),
                            others.empty() ? "" : "; paused by themselves are: " + others));
  }
  if (session.json()) {
    nlohmann::json document = document_of(scope);
    document["paused"] = false;
    session.show(document);
  } else {
    session.say(fmt::format("{}: goes on", name_of(scope)));
  }
  return exit_code::ok;
}

// ---- policy

struct PolicyOptions {
  std::string type;
  std::vector<std::string> settings;
};

std::string text_of(double value) {
  return fmt::format("{:g}", value);
}

const TypeControl* find(const std::vector<TypeControl>& types, std::string_view type) {
  const auto found = std::ranges::find(types, type, &TypeControl::type);
  return found == types.end() ? nullptr : &*found;
}

nlohmann::json document_of(const TypeControl& control) {
  return {{"type", control.type},
          {"set", nlohmann::json(control.set)},
          {"unsound", control.unsound},
          {"in_force", nlohmann::json(control.in_force)}};
}

int list_policies(Session& session) {
  Bucket bucket = session.open();
  const std::vector<TypeControl> types = bucket.control().types();
  if (session.json()) {
    auto documents = nlohmann::json::array();
    for (const TypeControl& control : types) documents.push_back(document_of(control));
    session.show(documents);
    return exit_code::ok;
  }
  if (types.empty()) {
    if (session.terminal().interactive) session.say("no type has a policy or had a worker");
    return exit_code::ok;
  }
  Table table({{.title = "TYPE"}, {.title = "SET", .flexible = true}});
  for (const TypeControl& control : types) {
    std::string set;
    for (const auto& [name, value] : control.set) {
      set += fmt::format("{}{}={}", set.empty() ? "" : " ", printable(name, 100), text_of(value));
    }
    if (!control.unsound.empty()) set = "not in force: " + control.unsound;
    table.add({{control.type}, {set, control.unsound.empty() ? Color::none : Color::red}});
  }
  session.out().write(table.render(session.terminal()));
  return exit_code::ok;
}

int show_policy(Session& session, const PolicyOptions& options) {
  check_name(options.type, "type");
  Bucket bucket = session.open();
  const auto types = bucket.control().types();
  const TypeControl* control = find(types, options.type);
  if (control == nullptr) {
    throw Error(code::not_found, fmt::format("type {} has no policy and had no worker in {}",
                                             options.type, bucket.ns()));
  }
  if (session.json()) {
    session.show(document_of(*control));
    return exit_code::ok;
  }
  Table table({{.title = "SETTING"},
               {.title = "IN FORCE", .number = true},
               {.title = "SET", .number = true},
               {.title = "MEANING", .flexible = true}});
  for (const PolicySetting& setting : policy_settings()) {
    const auto text = [&](const Policy& policy) {
      const auto found = policy.find(setting.name);
      return found == policy.end() ? std::string() : text_of(found->second);
    };
    table.add({{setting.name}, {text(control->in_force)}, {text(control->set)}, {setting.help}});
  }
  session.out().write(table.render(session.terminal()));
  if (!control->unsound.empty()) {
    session.say("not in force: " + printable(control->unsound, 500));
  }
  return exit_code::ok;
}

// The setting that the user named, as it is spelled.
std::string setting_name(const std::string& name) {
  std::vector<std::string> names;
  for (const PolicySetting& setting : policy_settings()) names.push_back(setting.name);
  if (std::ranges::find(names, name) != names.end()) return name;
  throw UsageError(
      fmt::format("there is no setting {}{}", printable(name, 100), text::suggestion(name, names)));
}

int change(Session& session, const PolicyOptions& options, const std::function<void(Policy&)>& by) {
  check_name(options.type, "type");
  Bucket bucket = session.open();
  const Policy policy = bucket.control().change_policy(options.type, by);
  if (session.json()) {
    session.show({{"type", options.type}, {"set", nlohmann::json(policy)}});
    return exit_code::ok;
  }
  std::string text;
  for (const auto& [name, value] : policy) text += fmt::format(" {}={}", name, text_of(value));
  session.say(fmt::format("{}:{}", options.type, text.empty() ? " as its programs have it" : text));
  return exit_code::ok;
}

int set_policy(Session& session, const PolicyOptions& options) {
  return change(session, options, [&](Policy& policy) {
    for (const std::string& text : options.settings) {
      const std::size_t equals = text.find('=');
      if (equals == std::string::npos) {
        throw UsageError(fmt::format("{} is not SETTING=NUMBER", printable(text, 100)));
      }
      const std::string name = setting_name(text.substr(0, equals));
      double value = 0;
      const char* begin = text.data() + equals + 1;
      const char* end = text.data() + text.size();
      const auto [at, error] = std::from_chars(begin, end, value);
      if (error != std::errc() || at != end) {
        throw UsageError(fmt::format("{} of {} is not a number", printable(begin, 100), name));
      }
      policy.insert_or_assign(name, value);
    }
  });
}

int unset_policy(Session& session, const PolicyOptions& options) {
  return change(session, options, [&](Policy& policy) {
    if (options.settings.empty()) policy.clear();
    for (const std::string& name : options.settings) {
      // Whatever lies there may go, known or not.
      if (policy.erase(name) == 0) policy.erase(setting_name(name));
    }
  });
}

void add_policy_commands(Program& program) {
  auto options = std::make_shared<PolicyOptions>();
  CLI::App* family = program.add_family(
      "policy", "How the work of a type is done, changed while it is being done", kGroup,
      {"dmm policy show player                          what is in force, and what it means",
       "dmm policy set player rate=20 timeout_s=30      for all workers, at once"});
  program.add_verb_to(*family, "ls", "List the types and what is set for them", {"dmm policy ls"},
                      list_policies);
  const auto add_type = [&](CLI::App* verb) {
    verb->add_option("type", options->type, "Type")->required()->type_name("TYPE");
  };
  add_type(program.add_verb_to(
      *family, "show", "Show every setting of a type", {"dmm policy show player"},
      [options](Session& session) { return show_policy(session, *options); }));
  CLI::App* set = program.add_verb_to(
      *family, "set", "Set some; the others stay",
      {"dmm policy set player concurrency=4 rate=20",
       "dmm policy set player resync_s=3600           run every player again within an hour",
       "dmm policy set player pause_at_failing_percent=30"},
      [options](Session& session) { return set_policy(session, *options); });
  add_type(set);
  set->add_option("settings", options->settings, "What to set")
      ->required()
      ->type_name("SETTING=NUMBER");
  CLI::App* unset = program.add_verb_to(
      *family, "unset", "Leave some, or all, to the programs",
      {"dmm policy unset player rate", "dmm policy unset player                       all"},
      [options](Session& session) { return unset_policy(session, *options); });
  add_type(unset);
  unset->add_option("settings", options->settings, "Names of settings; none: all")
      ->type_name("SETTING");
}

}  // namespace

void add_control_commands(Program& program) {
  auto options = std::make_shared<PauseOptions>();
  const auto add_scope = [options](CLI::App* verb) {
    verb->add_option("what", options->what, "A type, or one of it")->type_name("TYPE[/ID]");
    verb->add_flag("--all", options->all, "Everything in the namespace");
  };
  CLI::App* stop = program.add_verb(
      "pause", "Have no run begin; without arguments, list what is paused", kGroup,
      {"dmm pause player --reason 'new firmware'   runs in flight end, news wait",
       "dmm pause player/kitchen                   one of them",
       "dmm pause --all --yes                      everything",
       "dmm pause                                  what is paused, since when, by whom"},
      [options](Session& session) { return pause(session, *options); });
  add_scope(stop);
  stop->add_option("--reason", options->reason, "Why, for whoever finds it")->type_name("TEXT");
  CLI::App* go =
      program.add_verb("resume", "Let runs begin again", kGroup,
                       {"dmm resume player", "dmm resume player/kitchen", "dmm resume --all"},
                       [options](Session& session) { return resume(session, *options); });
  add_scope(go);
  add_policy_commands(program);
}

}  // namespace dmm::cli
