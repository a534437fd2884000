#include "dmm/cli/view_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <functional>

#include "dmm/cli/pipeline_file.h"
#include "dmm/error.h"
#include "dmm/json.h"
#include "dmm/log.h"
#ifdef DMM_CLI_POSTGRES
#include "dmm/postgres/table.h"
#endif

namespace dmm::cli {

namespace {

using nlohmann::json;

#ifdef DMM_CLI_POSTGRES
/// {"table": "songs", "schema", "connection", "name"}: what it leaves out comes from libpq's
/// environment.
ViewInput table_input(const json& source, const std::string& view, ViewReader reader) {
  const auto text = [&](const char* member, std::string otherwise) {
    const auto found = source.find(member);
    if (found == source.end()) return otherwise;
    if (!found->is_string()) {
      throw Error(code::bad_view, fmt::format("an input's \"{}\" is not a text", member));
    }
    return found->get<std::string>();
  };
  constexpr std::array kMembers{"table", "schema", "connection", "name", "age_s"};
  for (const auto& [member, value] : source.items()) {
    if (std::ranges::find(kMembers, member) != kMembers.end()) continue;
    throw Error(code::bad_view, fmt::format("an input of a table has no member \"{}\"; known: {}",
                                            printable(member, 100), fmt::join(kMembers, ", ")));
  }
  postgres::TableOptions options;
  options.table = text("table", "");
  options.schema = text("schema", "public");
  options.connection = text("connection", "");
  options.reader = fmt::format("view {}", view);
  options.passing = reader == ViewReader::passing;
  if (options.passing) options.reader += fmt::format(" (dmm, process {})", getpid());
  options.logger = Logger::standard(Level::warn);
  return ViewInput::table(text("name", options.table), postgres::table(std::move(options)));
}
#endif

View make_view(const json& source, ViewReader reader) {
  const std::string name =
      source.is_object() && source.contains("view") && source["view"].is_string()
          ? source["view"].get<std::string>()
          : "";
  return view_from_json(source, [&](const json& input) -> ViewInput {
#ifdef DMM_CLI_POSTGRES
    if (input.contains("table")) return table_input(input, name, reader);
#else
    static_cast<void>(reader);
#endif
    throw Error(code::release_unknown_here,
                fmt::format("only the program that declared view {} can read its input {}",
                            printable(name, 100), printable(dump_json(input), 200)));
  });
}

}  // namespace

View read_view(const std::string& file, ViewReader reader) {
  const json source = read_pipeline(file);
  try {
    return make_view(source, reader);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", printable(file, 300), error.message()));
  }
}

View view_of(const ViewRelease& release, ViewReader reader) {
  return make_view(release.view, reader);
}

View find_view(Views& views, const std::string& name_or_file, ViewReader reader) {
  const bool file = name_or_file == "-" || name_or_file.find_first_of("./") != std::string::npos;
  if (!file) return view_of(views.release(name_or_file), reader);
  return read_view(name_or_file, reader);
}

}  // namespace dmm::cli
