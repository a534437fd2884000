// bundle: what a supporter needs to know of a namespace, in one file.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <filesystem>
#include <functional>
#include <map>

#include "dmm/cli/documents.h"
#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/program.h"
#include "dmm/cli/progress.h"
#include "dmm/json.h"
#include "dmm/testing/child_process.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/views.h"

namespace dmm::cli {

namespace {

using nlohmann::json;

/// The identities that do not stand as they should; of the others only how many there are.
constexpr std::size_t kTroubledMax = 1'000;

template <class Things>
json documents_of_all(const Things& things) {
  json documents = json::array();
  for (const auto& thing : things) documents.push_back(document_of(thing));
  return documents;
}

json about_tool(const Session& session) {
  return {{"version", DMM_CLI_VERSION},
          {"namespace", session.globals().ns},
          {"generation", session.globals().generation},
          {"made_at", rfc3339(std::chrono::system_clock::now())}};
}

/// Without values: they belong to the user.
json identities(Bucket& bucket) {
  std::map<std::string, std::map<std::string, std::size_t>> counts;
  json troubled = json::array();
  for (const Matter& matter : bucket.inspect().list("")) {
    ++counts[matter.identity.type][std::string(to_string(matter.phase))];
    const bool fine = matter.phase == Phase::settled || matter.phase == Phase::waiting;
    if (!fine && troubled.size() < kTroubledMax) troubled.push_back(document_of(matter, false));
  }
  return {{"counts", counts}, {"troubled", std::move(troubled)}};
}

json controls(Bucket& bucket) {
  json pauses = json::array();
  for (const Pause& pause : bucket.control().pauses()) {
    pauses.push_back({{"type", pause.scope.type},
                      {"id", pause.scope.id ? json(*pause.scope.id) : json()},
                      {"reason", pause.reason},
                      {"by", pause.by},
                      {"at", rfc3339(pause.at)}});
  }
  return {{"pauses", std::move(pauses)}};
}

/// What makes up a bundle, by the name of its file.
using Part = std::pair<const char*, std::function<json()>>;

json made(const Part& part) {
  try {
    return part.second();
  } catch (const Error& error) {  // what does not work is what the bundle is made for
    return {{"error_code", error.code().id}, {"error", error.message()}};
  }
}

int bundle(Session& session, std::string file) {
  if (file.empty()) {
    std::string time = rfc3339(std::chrono::system_clock::now()).substr(0, 19);
    std::ranges::replace(time, ':', '-');
    file = fmt::format("dmm-{}-{}.tar.gz", session.globals().ns, time);
  }
  if (std::filesystem::exists(file) &&
      !session.confirm(fmt::format("Replace {}?", printable(file, 300)))) {
    return exit_code::failed;
  }
  Bucket bucket = session.open();
  Inspector& inspector = bucket.inspect();
  const std::array<Part, 9> parts{{
      {"tool", [&] { return about_tool(session); }},
      {"server", [&] { return document_of(inspector.server()); }},
      {"doctor", [&] { return documents_of_all(inspector.diagnose()); }},
      {"streams", [&] { return documents_of_all(inspector.streams()); }},
      {"leases", [&] { return documents_of_all(inspector.leases()); }},
      {"identities", [&] { return identities(bucket); }},
      {"refused", [&] { return documents_of_all(inspector.refused()); }},
      {"views", [&] { return documents_of_all(bucket.views().list()); }},
      {"control", [&] { return controls(bucket); }},
  }};
  const testing::TemporaryDirectory directory("dmm-bundle");
  const std::string name = std::filesystem::path(file).filename().replace_extension("").stem();
  const std::filesystem::path folder = directory / name;
  std::filesystem::create_directory(folder);
  json contents = json::array();
  for (const Part& part : parts) {
    testing::write_file(folder / (std::string(part.first) + ".json"),
                        json_text(made(part), true) + "\n");
    contents.push_back(part.first);
  }
  testing::ChildOptions tar;
  tar.arguments = {"-czf", file, "-C", directory.path().string(), name};
  const testing::Finished packed = testing::run("tar", std::move(tar));
  if (!packed.status.success()) {
    throw Error(code::bad_option, fmt::format("tar could not write {}: {}", printable(file, 300),
                                              printable(packed.error_output, 500)));
  }
  if (session.json()) {
    session.show({{"file", file}, {"parts", contents}});
  } else {
    session.say(fmt::format("{}: {} parts, {}", file, parts.size(),
                            human_bytes(std::filesystem::file_size(file))));
    session.say(
        "It holds no values, passwords or keys; error texts are as your handlers wrote them.");
  }
  return exit_code::ok;
}

}  // namespace

void add_bundle_commands(Program& program) {
  auto file = std::make_shared<std::string>();
  CLI::App* verb = program.add_verb(
      "bundle", "Write what a supporter needs to know into one archive", "Namespace",
      {"dmm bundle                     dmm-<namespace>-<time>.tar.gz, here",
       "dmm bundle /tmp/music.tar.gz"},
      [file](Session& session) { return bundle(session, *file); });
  verb->add_option("file", *file, "The archive to write")->type_name("FILE");
}

}  // namespace dmm::cli
