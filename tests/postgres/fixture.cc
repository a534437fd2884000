#include "fixture.h"

#include <catch2/catch.hpp>

#include <cstdlib>

#include "dmm/error.h"

namespace dmm::postgres {

Client::Client(const testing::PostgresServer& server, const std::string& more)
    : connection_(server.connection_string() + " " + more) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  connection_.inhibit_reactivation(true);
#pragma GCC diagnostic pop
  // The role is called like the schema of the outbox, which would be the first on its path.
  exec("SET search_path = public; SET client_min_messages = warning");
}

pqxx::result Client::exec(const std::string& sql) {
  pqxx::nontransaction transaction(connection_);
  return transaction.exec(sql);
}

std::int64_t Client::number(const std::string& sql) {
  return exec(sql)[0][0].as<std::int64_t>();
}

void wait_until_up(const testing::PostgresServer& server) {
  wait_for(
      "PostgreSQL to answer",
      [&] {
        try {
          Client(server).exec("SELECT 1");
          return true;
        } catch (const std::exception&) {
          return false;
        }
      },
      30s);
}

TableOptions songs(const testing::PostgresServer& server) {
  TableOptions options;
  options.connection = server.connection_string();
  options.table = "songs";
  options.reader = "test";
  options.poll = 60s;
  if (std::getenv("DMM_TEST_LOG") != nullptr) options.logger = Logger::standard(Level::debug);
  return options;
}

void Sink::note(Event event) {
  const std::lock_guard lock(mutex_);
  if (event.kind == "restart") rows_.clear();
  if (event.kind == "row") {
    if (event.deleted) {
      rows_.erase(event.text);
    } else {
      rows_[event.text] = json::parse(event.document, nullptr, false);
    }
  }
  events_.push_back(std::move(event));
}

void Sink::on_row(SourceRow row) noexcept {
  note({"row", row.key, row.document.value_or(""), !row.document, row.position});
}

void Sink::on_loaded() noexcept {
  note({"loaded", "", "", false, ""});
}

void Sink::on_doubt(std::string reason) noexcept {
  note({"doubt", std::move(reason), "", false, ""});
}

void Sink::on_restart(std::string reason) noexcept {
  note({"restart", std::move(reason), "", false, ""});
}

std::vector<Sink::Event> Sink::events() const {
  const std::lock_guard lock(mutex_);
  return events_;
}

std::map<std::string, json> Sink::rows() const {
  const std::lock_guard lock(mutex_);
  return rows_;
}

std::vector<json> Sink::history(const std::string& key) const {
  std::vector<json> all;
  for (const Event& event : events()) {
    if (event.kind != "row" || event.text != key) continue;
    all.push_back(event.deleted ? json() : json::parse(event.document));
  }
  return all;
}

std::size_t Sink::count(const std::string& kind) const {
  std::size_t count = 0;
  for (const Event& event : events()) count += event.kind == kind ? 1 : 0;
  return count;
}

std::string Sink::last(const std::string& kind) const {
  std::string text;
  for (const Event& event : events()) {
    if (event.kind == kind) text = event.text;
  }
  return text;
}

Database::Database(testing::PostgresServerOptions options)
    : server(std::move(options)), client(server) {
  Outbox outbox(server.connection_string());
  outbox.migrate();
  client.exec("CREATE TABLE public.songs (id text PRIMARY KEY, title text)");
  outbox.watch("public", "songs");
}

Reader::Reader(const TableOptions& options, const json& baseline, std::size_t granted) {
  reading = table(options)->read(baseline, sink);
  if (granted > 0) reading->grant(granted);
}

Reader& Reader::loaded() {
  wait_for(
      "the table to be loaded", [&] { return sink.count("loaded") > 0; }, 20s);
  return *this;
}

void Reader::wait_equal(Client& client, const std::string& query,
                        std::chrono::milliseconds deadline) {
  const bool equal = becomes_true([&] { return sink.rows() == rows_of(client, query); }, deadline);
  if (!equal) CHECK(sink.rows() == rows_of(client, query));
  REQUIRE(equal);
}

std::map<std::string, json> rows_of(Client& client, const std::string& query) {
  std::map<std::string, json> rows;
  for (const auto& row : client.exec(query)) {
    rows[row[0].as<std::string>()] = json::parse(row[1].as<std::string>());
  }
  return rows;
}

std::string code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    UNSCOPED_INFO(error.what());
    return std::string(error.code().id);
  }
  return "none";
}

}  // namespace dmm::postgres
