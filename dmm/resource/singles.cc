#include "dmm/resource/singles.h"

#include <fmt/format.h>

#include <utility>

#include "dmm/limits.h"

namespace dmm::resource::internal {

namespace {

/// Comparisons with something that has changed meanwhile, until its row is locked instead.
constexpr int kTries = 5;

struct ReadCall final : Gathering::Call {
  std::int64_t generation = 0;  ///< 0: there is none
  std::string content;
  void answer(const pqxx::row& row) override {
    generation = row[1].as<std::int64_t>();
    content = row[2].as<std::string>();
  }
};

struct SingleCall final : Gathering::Call {
  std::optional<Informed> informed;
  void answer(const pqxx::row& row) override { informed = informed_of(row); }
  /// To work it, or for the event that it was skipped.
  bool wakes() const noexcept override {
    return informed && (informed->worked() || informed->result == Informed::Result::stale ||
                        informed->result == Informed::Result::deleted);
  }
};

}  // namespace

Singles::Singles(const std::string& connection, std::chrono::milliseconds statement_timeout)
    : reads_(connection,
             {.sql = "SELECT g.n, k.generation, k.object::text FROM json_to_recordset($1::json)"
                     " AS g (n integer, ns text COLLATE \"C\", kind text COLLATE \"C\","
                     " id text COLLATE \"C\") CROSS JOIN LATERAL ("
                     "SELECT r.generation, r.object FROM dmm.resource AS r"
                     " WHERE r.namespace = g.ns AND r.kind = g.kind AND r.id = g.id OFFSET 0) AS k"
                     " WHERE $2::boolean IS NOT NULL",
              .doing = "reading what is informed",
              .leaders = 1,
              .statement_timeout = statement_timeout}),
      informs_(connection,
               {.sql = fmt::format("SELECT {} FROM dmm.inform($1::json, false, 0, $2::boolean)",
                                   kInformedColumns),
                .doing = "informing",
                .leaders = limits::resource_groups,
                .writes = true,
                .statement_timeout = statement_timeout}) {}

std::optional<Informed> Singles::inform(const AnyObject& object) {
  const std::string text = checked_text(object);
  for (int i = 0; i < kTries; ++i) {
    Comparison comparison;
    if (object.compare) {
      ReadCall read;
      read.members = members_of(key_of_object(object));
      if (!reads_.ask(read)) return std::nullopt;
      comparison = read.generation == 0 ? Comparison{.expected = 0}
                                        : compare(object, read.generation, read.content);
    }
    SingleCall call;
    call.members = members_of(object, text, comparison);
    if (!informs_.ask(call)) return std::nullopt;
    if (call.informed) return call.informed;
  }
  return std::nullopt;
}

}  // namespace dmm::resource::internal
