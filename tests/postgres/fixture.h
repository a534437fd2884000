#pragma once

// What the tests of dmm::postgres share: a database with an outbox, and a sink that remembers what
// it was told.

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <pqxx/pqxx>

#include "dmm/postgres/outbox.h"
#include "dmm/postgres/table.h"
#include "dmm/testing/postgres_server.h"
#include "dmm/testing/wait_for.h"

namespace dmm::postgres {

using namespace std::chrono_literals;
using json = nlohmann::json;
using testing::becomes_true;
using testing::wait_for;

/// A connection of the user, who is not dmm: its tables are in the schema public.
class Client final {
 public:
  explicit Client(const testing::PostgresServer& server, const std::string& more = {});

  /// Runs statements outside of a transaction that this object would begin.
  pqxx::result exec(const std::string& sql);
  std::int64_t number(const std::string& sql);

 private:
  pqxx::connection connection_;
};

/// Waits until the server answers.
void wait_until_up(const testing::PostgresServer& server);

/// Options of a reading of public.songs by "test", with a slow poll, so that a test that needs
/// the notification notices its absence.
TableOptions songs(const testing::PostgresServer& server);

/// Remembers what it is told. Thread-safe.
class Sink final : public SourceSink {
 public:
  struct Event {
    std::string kind;  ///< "row", "loaded", "doubt", "restart"
    std::string text;  ///< key or reason
    std::string document;
    bool deleted = false;
    std::string position;
  };

  void on_row(SourceRow row) noexcept override;
  void on_loaded() noexcept override;
  void on_complete() noexcept override {}
  void on_doubt(std::string reason) noexcept override;
  void on_restart(std::string reason) noexcept override;

  std::vector<Event> events() const;
  /// The rows as they were told last, and since the last restart.
  std::map<std::string, json> rows() const;
  /// All that was told of a key, in order; null for a deletion.
  std::vector<json> history(const std::string& key) const;
  std::size_t count(const std::string& kind) const;
  /// What an event of this kind said last; empty if there was none.
  std::string last(const std::string& kind) const;

 private:
  void note(Event event);

  mutable std::mutex mutex_;
  std::vector<Event> events_;
  std::map<std::string, json> rows_;
};

/// A server with an outbox and the watched table public.songs (id text primary key, title text).
struct Database {
  explicit Database(testing::PostgresServerOptions options = {});

  testing::PostgresServer server;
  Client client;
};

/// A reading with a sink, granted a lot.
struct Reader {
  explicit Reader(const TableOptions& options, const json& baseline = nullptr,
                  std::size_t granted = 1'000'000'000);

  /// Waits for the first on_loaded.
  Reader& loaded();
  /// Waits until rows() is what a query of (key, document) gives.
  void wait_equal(
      Client& client,
      const std::string& query = "SELECT id, row_to_json(t.*)::text FROM public.songs AS t",
      std::chrono::milliseconds deadline = 20s);

  Sink sink;
  std::unique_ptr<SourceReading> reading;
};

/// The rows that a query of (key, document) gives.
std::map<std::string, json> rows_of(Client& client, const std::string& query);

/// The code of the Error that a call throws ("DMM-0201"), "none" if it does not throw.
std::string code_of(const std::function<void()>& call);

}  // namespace dmm::postgres
