// command, shadow: the way down to devices.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "dmm/cli/documents.h"
#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/interrupts.h"
#include "dmm/cli/program.h"
#include "dmm/cli/table.h"
#include "dmm/json.h"

namespace dmm::cli {

namespace {

constexpr const char* kGroup = "Devices";

struct DeviceOptions {
  std::string kind;
  std::string device;
  std::optional<std::string> json;
  double timeout_s = std::chrono::duration<double>(limits::command_timeout).count();
};

int exit_code_of(CommandReply::Result result) {
  switch (result) {
    case CommandReply::Result::answered:
      return exit_code::ok;
    case CommandReply::Result::refused:
      return exit_code::conflict;
    case CommandReply::Result::unreadable:
      return exit_code::failed;
    case CommandReply::Result::no_answer:
      return exit_code::timed_out;
    case CommandReply::Result::offline:
      return exit_code::not_found;
  }
  return exit_code::failed;
}

int command(Session& session, const DeviceOptions& options) {
  check_name(options.kind, "kind");
  check(Identity{options.kind, options.device});
  const nlohmann::json payload = parse_json(session.text_argument(options.json)).value();
  Bucket bucket = session.open();
  StopOnInterrupt interrupt;
  std::optional<CommandReply> reply;
  try {
    reply = bucket.command(options.kind, options.device, payload,
                           std::chrono::ceil<std::chrono::milliseconds>(
                               std::chrono::duration<double>(options.timeout_s)),
                           interrupt.token());
  } catch (const Error&) {
    if (!interrupt.interrupted()) throw;
    throw Interrupted("the command was sent, and its answer was not waited for");
  }
  if (session.json()) {
    session.show({{"kind", options.kind},
                  {"device", options.device},
                  {"result", to_string(reply->result())},
                  {"answer", reply->answer()},
                  {"reason", reply->reason()}});
    return exit_code_of(reply->result());
  }
  session.out().write(json_text(reply->get(), session.terminal().interactive) + "\n");
  return exit_code::ok;
}

nlohmann::json document_of(const Shadow& shadow) {
  nlohmann::json document{{"kind", shadow.kind},
                          {"device", shadow.device},
                          {"revision", shadow.revision.value},
                          {"at", rfc3339(shadow.at)},
                          {"from", shadow.from}};
  set_value(document, "document", shadow.document);
  return document;
}

int list_shadows(Session& session, const std::string& kind) {
  Bucket bucket = session.open();
  const std::vector<Shadow> found = bucket.inspect().shadows(kind);
  if (session.json()) {
    auto documents = nlohmann::json::array();
    for (const Shadow& shadow : found) documents.push_back(document_of(shadow));
    session.show(documents);
    return exit_code::ok;
  }
  if (found.empty()) {
    if (session.terminal().interactive) session.say("no shadows");
    return exit_code::ok;
  }
  const Time now = std::chrono::system_clock::now();
  Table table({{.title = "KIND"},
               {.title = "DEVICE", .flexible = true},
               {.title = "WRITTEN"},
               {.title = "BY", .flexible = true},
               {.title = "DOCUMENT", .flexible = true}});
  for (const Shadow& shadow : found) {
    table.add({{shadow.kind},
               {shadow.device.empty() ? "\"\"" : shadow.device},
               {human_age(shadow.at, now)},
               {shadow.from},
               {shadow.document}});
  }
  session.out().write(table.render(session.terminal()));
  return exit_code::ok;
}

int get_shadow(Session& session, const DeviceOptions& options) {
  check_name(options.kind, "kind");
  Bucket bucket = session.open();
  const auto document = bucket.shadow(options.kind, options.device);
  if (!document) {
    throw Error(code::not_found, fmt::format("nothing is desired of {} {}", options.kind,
                                             printable(options.device, 300)));
  }
  if (session.json()) {
    session.show(*document);
  } else {
    session.out().write(json_text(*document, session.terminal().interactive) + "\n");
  }
  return exit_code::ok;
}

int tell_change(Session& session, const DeviceOptions& options, bool changed,
                std::string_view done) {
  if (session.json()) {
    session.show({{"kind", options.kind}, {"device", options.device}, {"changed", changed}});
  }
  session.say(fmt::format("{} {}: {}", options.kind, printable(options.device, 300),
                          changed ? done : "it was so already"));
  return exit_code::ok;
}

int set_shadow(Session& session, const DeviceOptions& options) {
  check_name(options.kind, "kind");
  check(Identity{options.kind, options.device});
  const nlohmann::json document = parse_json(session.text_argument(options.json)).value();
  Bucket bucket = session.open();
  const bool changed = bucket.set_shadow(options.kind, options.device, document);
  return tell_change(session, options, changed, "stored and told");
}

int remove_shadow(Session& session, const DeviceOptions& options) {
  check_name(options.kind, "kind");
  check(Identity{options.kind, options.device});
  Bucket bucket = session.open();
  const bool changed = bucket.clear_shadow(options.kind, options.device);
  return tell_change(session, options, changed, "nothing is desired any more");
}

void add_device(CLI::App* verb, DeviceOptions& options) {
  verb->add_option("kind", options.kind, "Kind of the device")->required()->type_name("KIND");
  verb->add_option("device", options.device, "Device, as its owner spells it")
      ->required()
      ->type_name("DEVICE");
}

}  // namespace

void add_downlink_commands(Program& program) {
  auto call = std::make_shared<DeviceOptions>();
  CLI::App* verb =
      program.add_verb("command", "Send a command to a device and show its answer", kGroup,
                       {"dmm command player kitchen '{\"play\":\"Naima\"}'",
                        "dmm command player kitchen '{\"play\":\"Naima\"}' --timeout 30",
                        "dmm command player kitchen - < command.json"},
                       [call](Session& session) { return command(session, *call); });
  add_device(verb, *call);
  verb->add_option("json", call->json, "What to say; \"-\" or nothing: standard input")
      ->type_name("JSON");
  verb->add_option("--timeout", call->timeout_s, "Seconds to wait for the answer")
      ->check(CLI::Range(0.001, 86'400.0))
      ->capture_default_str()
      ->type_name("SECONDS");

  CLI::App* shadow = program.add_family(
      "shadow", "The desired document that is kept for a device", kGroup,
      {"dmm shadow set player kitchen '{\"song\":\"Naima\"}'", "dmm shadow ls player"});
  auto get = std::make_shared<DeviceOptions>();
  add_device(program.add_verb_to(*shadow, "get", "Show what is desired of a device",
                                 {"dmm shadow get player kitchen"},
                                 [get](Session& session) { return get_shadow(session, *get); }),
             *get);
  auto set = std::make_shared<DeviceOptions>();
  verb = program.add_verb_to(*shadow, "set", "Keep a document for a device, and tell it",
                             {"dmm shadow set player kitchen '{\"song\":\"Naima\"}'",
                              "dmm shadow set player kitchen - < desired.json"},
                             [set](Session& session) { return set_shadow(session, *set); });
  add_device(verb, *set);
  verb->add_option("json", set->json, "The document; \"-\" or nothing: standard input")
      ->type_name("JSON");
  auto rm = std::make_shared<DeviceOptions>();
  add_device(program.add_verb_to(*shadow, "rm", "Desire nothing of a device any more",
                                 {"dmm shadow rm player kitchen"},
                                 [rm](Session& session) { return remove_shadow(session, *rm); }),
             *rm);
  auto kind = std::make_shared<std::string>();
  program
      .add_verb_to(*shadow, "ls", "List the documents that are kept",
                   {"dmm shadow ls", "dmm shadow ls player -o json"},
                   [kind](Session& session) { return list_shadows(session, *kind); })
      ->add_option("kind", *kind, "Only this kind")
      ->type_name("KIND");
}

}  // namespace dmm::cli
