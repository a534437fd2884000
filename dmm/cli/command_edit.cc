// edit: the value of an identity in an editor.

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "dmm/cli/bulk.h"
#include "dmm/cli/exit_code.h"
#include "dmm/cli/program.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/testing/temporary_directory.h"

namespace dmm::cli {

namespace {

/// What the user wants to edit with, as a line of shell.
std::string editor() {
  for (const char* name : {"DMM_EDITOR", "VISUAL", "EDITOR"}) {
    const char* value = std::getenv(name);
    if (value != nullptr && *value != '\0') return value;
  }
  return "vi";
}

/// The editor shares the terminal, so it is waited for like a part of this program.
void edit_file(const std::filesystem::path& file) {
  const std::string line = editor() + " \"$1\"";
  const pid_t child = ::fork();
  if (child < 0) throw Error(code::bad_option, "no process for the editor could be started");
  if (child == 0) {
    ::execl("/bin/sh", "sh", "-c", line.c_str(), "sh", file.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  throw UsageError(
      fmt::format("the editor \"{}\" failed; set EDITOR to another one", printable(editor(), 200)));
}

/// What the user made of it; asks again for as long as it is no object.
nlohmann::json edited(Session& session, const std::filesystem::path& file) {
  for (;;) {
    edit_file(file);
    const std::string text = testing::read_file(file);
    auto value = parse_json(text);
    std::string fault;
    if (!value.ok()) {
      fault = value.error().message();
    } else if (!value.value().is_object()) {
      fault = fmt::format("it is of type {}, and has to be an object", value.value().type_name());
    } else {
      return std::move(value).value();
    }
    session.warn(fmt::format("this is no value of a cache: {}", fault));
    if (session.globals().yes || !session.confirm("Edit it again?")) {
      throw UsageError("nothing was changed");
    }
  }
}

/// Notifies `value`, unless the identity is another one by now than `before`.
void bring(Session& session, Bucket& bucket, const Identity& identity,
           const std::optional<Matter>& before, const nlohmann::json& value) {
  const auto version = [](const std::optional<Matter>& matter) {
    return matter ? std::pair(matter->revision, matter->token) : std::pair(Sequence{}, Sequence{});
  };
  const std::string name = name_of(identity);
  if (version(bucket.inspect().get(identity)) != version(before) &&
      !session.confirm(fmt::format("{} was changed meanwhile. Replace that?", name))) {
    throw Error(code::write_conflict, fmt::format("{} was changed while it was edited", name));
  }
  bucket.notify(identity, value);
}

int edit(Session& session, const Identity& identity) {
  check(identity);
  Bucket bucket = session.open();
  const auto before = bucket.inspect().get(identity);
  nlohmann::json value = nlohmann::json::object();
  if (before && before->effective) {
    auto found = parse_json(*before->effective);
    if (!found.ok()) throw found.error();
    value = std::move(found).value();
  }
  const testing::TemporaryDirectory directory("dmm-edit");
  const std::filesystem::path file = directory / (identity.type + ".json");
  testing::write_file(file, json_text(value, true) + "\n");
  const nlohmann::json changed = edited(session, file);
  if (changed == value) {
    session.say("nothing was changed");
    return exit_code::ok;
  }
  try {
    bring(session, bucket, identity, before, changed);
  } catch (...) {
    session.warn("it was not brought; what you wrote is " +
                 printable(json_text(changed, false), limits::payload_bytes_max));
    throw;
  }
  if (session.json()) {
    session.show({{"type", identity.type},
                  {"id", identity.id},
                  {"done", "notified"},
                  {"patch", nlohmann::json::diff(value, changed)}});
  } else {
    session.say(fmt::format("{}: notified", name_of(identity)));
  }
  return exit_code::ok;
}

}  // namespace

void add_edit_commands(Program& program) {
  auto identity = std::make_shared<Identity>();
  CLI::App* verb = program.add_verb(
      "edit", "Change the value of one identity in an editor, and have it run", "Change",
      {"dmm edit player kitchen                 with $VISUAL or $EDITOR",
       "DMM_EDITOR='sed -i s/Aria/Canon/' dmm edit player kitchen"},
      [identity](Session& session) { return edit(session, *identity); });
  verb->add_option("type", identity->type, "Type")->required()->type_name("TYPE");
  verb->add_option("id", identity->id, "Id, as its owner spells it")->required()->type_name("ID");
}

}  // namespace dmm::cli
