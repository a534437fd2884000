// postgres: make tables of a database tell their changes, so that views can read them.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/program.h"
#include "dmm/cli/table.h"
#include "dmm/json.h"
#include "dmm/postgres/migrations.h"
#include "dmm/postgres/outbox.h"

namespace dmm::cli {

namespace {

struct PostgresOptions {
  std::string connection;
  std::optional<int> version;
  bool print = false;
  std::string table;
  std::string schema;
  std::vector<std::string> key;
  bool no_notify = false;
};

struct TableName {
  std::string schema;
  std::string table;
};

// "songs" or "music.songs", as they are stored. With --schema dots are part of the name.
TableName name_of(const PostgresOptions& options) {
  if (!options.schema.empty()) return {options.schema, options.table};
  const auto dot = options.table.find('.');
  if (dot == std::string::npos) return {"public", options.table};
  return {options.table.substr(0, dot), options.table.substr(dot + 1)};
}

std::string shown(const TableName& name) {
  return printable(name.schema) + "." + printable(name.table);
}

int migrate(Session& session, const PostgresOptions& options) {
  if (options.print) {
    session.out().write(postgres::migration_script());
    return exit_code::ok;
  }
  if (options.version == 0 &&
      !session.confirm("Remove the schema dmm, its triggers, and what no view has read yet?")) {
    return exit_code::failed;
  }
  postgres::Outbox outbox(options.connection);
  const int before = outbox.migrate(options.version);
  const int now = outbox.status().version;
  if (session.json()) session.show({{"before", before}, {"version", now}});
  session.say(before == now
                  ? fmt::format("the schema dmm has version {} already", now)
                  : fmt::format("the schema dmm went from version {} to {}", before, now));
  return exit_code::ok;
}

int watch(Session& session, const PostgresOptions& options) {
  const TableName name = name_of(options);
  postgres::Outbox(options.connection)
      .watch(name.schema, name.table, {.key = options.key, .notify = !options.no_notify});
  if (session.json()) session.show({{"schema", name.schema}, {"table", name.table}});
  session.say(fmt::format("table {} tells its changes", shown(name)));
  return exit_code::ok;
}

int unwatch(Session& session, const PostgresOptions& options) {
  const TableName name = name_of(options);
  const bool was = postgres::Outbox(options.connection).unwatch(name.schema, name.table);
  if (session.json()) {
    session.show({{"schema", name.schema}, {"table", name.table}, {"was_watched", was}});
  }
  session.say(was ? fmt::format("table {} tells its changes no more", shown(name))
                  : fmt::format("table {} was not watched", shown(name)));
  return exit_code::ok;
}

nlohmann::json document_of(const postgres::OutboxStatus& status) {
  nlohmann::json document{{"version", status.version},
                          {"newest", status.newest},
                          {"tables", nlohmann::json::array()},
                          {"readers", nlohmann::json::array()}};
  for (const auto& table : status.tables) {
    document["tables"].push_back({{"table", table.name},
                                  {"key", table.key},
                                  {"told", table.told},
                                  {"changes", table.changes}});
  }
  for (const auto& reader : status.readers) {
    document["readers"].push_back({{"reader", reader.name},
                                   {"table", reader.table},
                                   {"unread", reader.unread},
                                   {"seen_seconds_ago", reader.unseen.count()}});
  }
  return document;
}

std::string joined(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

int status(Session& session, const PostgresOptions& options) {
  const auto status = postgres::Outbox(options.connection).status();
  if (session.json()) {
    session.show(document_of(status));
    return exit_code::ok;
  }
  session.say(fmt::format("the schema dmm has version {} of {}", status.version, status.newest));
  Table tables({{.title = "TABLE", .flexible = true},
                {.title = "KEY"},
                {.title = "TRIGGERS"},
                {.title = "CHANGES", .number = true}});
  for (const auto& table : status.tables) {
    tables.add({{table.name},
                {joined(table.key)},
                {table.told ? "on" : "missing or off", table.told ? Color::none : Color::red},
                {human_count(static_cast<std::uint64_t>(table.changes))}});
  }
  if (!tables.empty()) session.out().write(tables.render(session.terminal()));
  Table readers({{.title = "READER", .flexible = true},
                 {.title = "TABLE", .flexible = true},
                 {.title = "UNREAD", .number = true},
                 {.title = "SEEN"}});
  for (const auto& reader : status.readers) {
    readers.add({{reader.name},
                 {reader.table},
                 {human_count(static_cast<std::uint64_t>(reader.unread))},
                 {human_duration(reader.unseen) + " ago"}});
  }
  if (!readers.empty()) session.out().write(readers.render(session.terminal()));
  return exit_code::ok;
}

using Verb = int (*)(Session&, const PostgresOptions&);

}  // namespace

void add_postgres_commands(Program& program) {
  auto options = std::make_shared<PostgresOptions>();
  CLI::App* family = program.add_family(
      "postgres", "Let tables of PostgreSQL tell their changes to views", "Namespace",
      {"dmm postgres migrate --postgres postgresql://admin@db/music", "dmm postgres watch songs",
       "dmm postgres status"});
  const auto add = [&](const char* name, const char* description,
                       const std::vector<std::string>& examples, Verb verb) {
    CLI::App* added =
        program.add_verb_to(*family, name, description, examples,
                            [options, verb](Session& session) { return verb(session, *options); });
    added
        ->add_option("--postgres", options->connection,
                     "Connection for libpq; what it leaves out comes from PGHOST and the like")
        ->envname("DMM_POSTGRES")
        ->type_name("URL");
    return added;
  };
  const auto add_table = [&](CLI::App* verb) {
    verb->add_option("table", options->table, "Table as it is stored: NAME or SCHEMA.NAME")
        ->required()
        ->type_name("TABLE");
    verb->add_option("--schema", options->schema, "Its schema; TABLE is then its whole name")
        ->type_name("NAME");
  };
  CLI::App* migrating =
      add("migrate", "Make or update the schema dmm of a database",
          {"dmm postgres migrate", "dmm postgres migrate --print > dmm.sql    for other tools",
           "dmm postgres migrate --to 0              removes it"},
          migrate);
  migrating->add_option("--to", options->version, "Version; 0: none")->type_name("N");
  migrating->add_flag("--print", options->print, "Only print the SQL for an empty database");
  CLI::App* watching =
      add("watch", "Let a table tell its changes, by triggers",
          {"dmm postgres watch songs", "dmm postgres watch music.songs --key shop,number"}, watch);
  add_table(watching);
  watching->add_option("--key", options->key, "Columns that name a row; default: its primary key")
      ->delimiter(',')
      ->type_name("COLUMN,...");
  watching->add_flag("--no-notify", options->no_notify,
                     "Readers poll: for tables written by two-phase commits");
  add_table(add("unwatch", "Take the triggers away", {"dmm postgres unwatch songs"}, unwatch));
  add("status", "Show watched tables and who reads them",
      {"dmm postgres status", "dmm postgres status -o json | jq .readers"}, status);
}

}  // namespace dmm::cli
