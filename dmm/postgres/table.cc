#include "dmm/postgres/table.h"

#include <fmt/format.h>

#include <utility>

#include "dmm/error.h"
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

 private:
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
