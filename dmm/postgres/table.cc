#include "dmm/postgres/table.h"

#include <fmt/format.h>

#include <utility>

#include "dmm/error.h"
#include "dmm/postgres/database.h"
#include "dmm/postgres/queries_internal.h"
#include "dmm/postgres/reading.h"

namespace dmm::postgres {

namespace {

class TableSource final : public Source {
 public:
  explicit TableSource(TableOptions options) : options_(std::move(options)) {}

  std::string description() const override {
    return "table " + internal::shown(options_.schema, options_.table);
  }

  nlohmann::json definition() const override {
    return {{"table", options_.table}, {"schema", options_.schema}};
  }

  std::unique_ptr<SourceReading> read(const nlohmann::json& baseline, SourceSink& sink) override {
    return std::make_unique<internal::Reading>(options_, internal::open_table(options_), baseline,
                                               sink);
  }

  /// Of the batches behind the one that the row came with.
  std::optional<Backlog> backlog(const std::string& position) override {
    const std::string snapshot = position.substr(0, position.find('#'));
    if (snapshot.empty()) return std::nullopt;
    const auto session = internal::open_table(options_);
    return internal::guarded("counting the changes of " + description(),
                             [&] { return read_backlog(session->connection(), snapshot); });
  }

 private:
  std::optional<Backlog> read_backlog(pqxx::connection_base& connection,
                                      const std::string& snapshot) const {
    pqxx::nontransaction transaction(connection);
    const auto facts = internal::find_table(transaction, options_.schema, options_.table);
    try {
      const pqxx::result found =
          transaction.exec_params(internal::kBacklog, facts.watched, snapshot);
      if (found.empty() || !found[0][0].as<bool>()) return std::nullopt;
      Backlog backlog;
      backlog.rows = found[0][1].as<std::uint64_t>();
      if (!found[0][2].is_null()) {
        backlog.oldest = std::chrono::system_clock::time_point(
            std::chrono::microseconds(found[0][2].as<std::int64_t>()));
      }
      return backlog;
    } catch (const pqxx::data_exception&) {
      return std::nullopt;  // no position of a table: somebody else wrote it
    }
  }

  const TableOptions options_;
};

void require_positive(std::chrono::milliseconds value, std::string_view name) {
  require(value.count() > 0, code::bad_option,
          fmt::format("{} of a PostgreSQL table is {} ms, and must be more than 0", name,
                      value.count()));
}

}  // namespace

std::shared_ptr<Source> table(TableOptions options) {
  internal::check_connection_string(options.connection);
  require(!options.table.empty() && !options.schema.empty(), code::bad_option,
          "a PostgreSQL table needs a name and a schema");
  require(!options.reader.empty() && options.reader.size() <= 255, code::bad_option,
          "the reader of a PostgreSQL table needs a name of 1 to 255 bytes");
  require((options.schema + options.table + options.reader).find('\0') == std::string::npos,
          code::bad_option, "a name of a PostgreSQL table or reader holds a NUL byte");
  require_positive(options.poll, "poll");
  require_positive(options.clean, "clean");
  require_positive(options.forget_readers, "forget_readers");
  require_positive(options.statement_timeout, "statement_timeout");
  return std::make_shared<TableSource>(std::move(options));
}

}  // namespace dmm::postgres
