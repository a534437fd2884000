#include <fmt/format.h>

#include <pqxx/pqxx>

#include "dmm/postgres/outbox.h"
#include "dmm/postgres/table.h"
#include "example/zones.h"

namespace example {
namespace {

// Plain tables, which any program may write with plain SQL. dmm adds triggers that tell it of every
// change; nobody has to poke anything.
class PostgresZones final : public Zones {
 public:
  explicit PostgresZones(std::string url) : url_(std::move(url)) {
    {
      pqxx::connection connection(url_);
      pqxx::work transaction(connection);
      transaction.exec(
          "CREATE TABLE IF NOT EXISTS places (id text PRIMARY KEY, zone text NOT NULL)");
      transaction.exec(
          "CREATE TABLE IF NOT EXISTS playlists (id text PRIMARY KEY, song text NOT NULL)");
      transaction.commit();
    }
    dmm::postgres::Outbox outbox(url_);
    outbox.migrate();
    outbox.watch("public", "places");
    outbox.watch("public", "playlists");
  }

  void place(const std::map<std::string, std::string>& players) override {
    store("places", "zone", players);
  }
  void declare(const std::map<std::string, std::string>& songs) override {
    store("playlists", "song", songs);
  }
  std::vector<dmm::ViewInput> inputs() override {
    std::vector<dmm::ViewInput> inputs;
    for (const std::string table : {"places", "playlists"}) {
      inputs.push_back(dmm::ViewInput::table(
          table, dmm::postgres::table(
                     {.connection = url_, .table = table, .reader = "example-" + table})));
    }
    return inputs;
  }

 private:
  void store(const std::string& table, const std::string& column,
             const std::map<std::string, std::string>& values) {
    pqxx::connection connection(url_);
    pqxx::work transaction(connection);
    for (const auto& [id, value] : values) {
      transaction.exec_params(fmt::format("INSERT INTO {0} (id, {1}) VALUES ($1, $2)"
                                          " ON CONFLICT (id) DO UPDATE SET {1} = excluded.{1}",
                                          table, column),
                              id, value);
    }
    transaction.commit();
  }

  const std::string url_;
};

}  // namespace

std::unique_ptr<Zones> open_postgres_zones(const std::string& url) {
  return std::make_unique<PostgresZones>(url);
}

}  // namespace example
