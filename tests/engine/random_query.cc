#include "random_query.h"

#include <utility>

namespace dmm::engine::testing {
namespace {

using nlohmann::json;

struct Column {
  enum class Type { integer, number, text, inexact };  // inexact: only to be shown and compared
  std::string name;
  Type type = Type::integer;
  bool nullable = true;
  bool computes() const { return type == Type::integer || type == Type::number; }
};

// What a branch of the program gives, or an input.
struct Relation {
  std::string name;
  std::string sql;
  std::vector<Column> columns;
};

// A column as an expression sees it.
struct Seen {
  Column column;
  std::string path;
  std::string sql;
  bool padded = false;  // of a soft input: its path may lead nowhere
  json read() const { return padded ? json{{"@definedOr", {path, nullptr}}} : json(path); }
};
using Scope = std::vector<Seen>;

struct Term {
  json expression;
  std::string sql;
  Column::Type type = Column::Type::integer;
  bool nullable = false;
};

Scope scope_of(const std::vector<Column>& columns, const std::string& path, const std::string& sql,
               bool padded = false) {
  Scope scope;
  for (const Column& column : columns) {
    Column seen = column;
    seen.nullable = column.nullable || padded;
    scope.push_back({seen, path + column.name, sql + column.name, padded});
  }
  return scope;
}

class Maker {
 public:
  explicit Maker(Random& random) : random_(random) {}

  RandomQuery make(std::size_t depth) {
    Relation result = relation(depth);
    // The last name is the output; SQL needs no such step.
    branches_.push_back({{{"@inputs", {result.name}}}, {{"@output", "output"}}});
    return {branches_, result.sql};
  }

 private:
  using Type = Column::Type;

  // Expressions -----------------------------------------------------------------------------------

  const Seen* pick(const Scope& scope, bool (*fits)(const Column&)) {
    std::vector<const Seen*> fitting;
    for (const Seen& seen : scope)
      if (fits(seen.column)) fitting.push_back(&seen);
    return fitting.empty() ? nullptr : fitting[random_.below(fitting.size())];
  }

  static Term with_value(const Seen& seen, const json& instead, const std::string& sql) {
    Term term{seen.read(), seen.sql, seen.column.type, false};
    if (!seen.column.nullable) return term;
    term.expression = {{"@definedOr", {seen.path, instead}}};
    term.sql = "coalesce(" + seen.sql + "," + sql + ")";
    return term;
  }

  Term literal() {
    const int value = static_cast<int>(random_.below(6)) - 2;
    return {value, "(" + std::to_string(value) + ")", Type::integer, false};
  }

  // A number that is not null.
  Term number(const Scope& scope, std::size_t depth) {
    const Seen* seen = pick(scope, [](const Column& c) { return c.computes(); });
    if (depth == 0 || seen == nullptr || random_.chance(40))
      return seen == nullptr || random_.chance(15) ? literal() : with_value(*seen, 0, "0");
    const Term a = number(scope, depth - 1);
    const Term b = number(scope, depth - 1);
    const Type type =
        a.type == Type::integer && b.type == Type::integer ? Type::integer : Type::number;
    const auto both = [&](const char* op, const std::string& sql) {
      return Term{{{op, {a.expression, b.expression}}}, sql, type, false};
    };
    switch (random_.below(8)) {
      case 0:
        return both("@add", "(" + a.sql + " + " + b.sql + ")");
      case 1:
        return both("@sub", "(" + a.sql + " - " + b.sql + ")");
      case 2: {
        const Term c = literal();
        return {
            {{"@mul", {a.expression, c.expression}}}, "(" + a.sql + " * " + c.sql + ")", a.type};
      }
      case 3:
        return {{{"@abs", a.expression}}, "abs(" + a.sql + ")", a.type, false};
      case 4:
        return {{{"@neg", a.expression}}, "(-" + a.sql + ")", a.type, false};
      case 5: {
        const Term c = condition(scope, depth - 1);
        return {{{"@cond", {c.expression, a.expression, b.expression}}},
                "(CASE WHEN " + c.sql + " THEN " + a.sql + " ELSE " + b.sql + " END)",
                type,
                false};
      }
      case 6:
        if (a.type != Type::integer) return a;
        return random_.chance(50)
                   ? Term{{{"@mod", {a.expression, 3}}}, "(" + a.sql + " % 3)", a.type, false}
                   : Term{{{"@div", {a.expression, 2}}}, "(" + a.sql + " / 2)", a.type, false};
      default: {
        const Term t = text(scope, depth - 1);
        return {{{"@len", t.expression}}, "length(" + t.sql + ")", Type::integer, false};
      }
    }
  }

  // A text that is not null.
  Term text(const Scope& scope, std::size_t depth) {
    const Seen* seen = pick(scope, [](const Column& c) { return c.type == Type::text; });
    const auto made = [](json expression, std::string sql) {
      return Term{std::move(expression), std::move(sql), Type::text, false};
    };
    if (seen == nullptr) return made("x", "'x'");
    const Term value = with_value(*seen, "", "''");
    if (depth == 0) return value;
    switch (random_.below(5)) {
      case 0:
        return made({{"@concat", {value.expression, "z"}}}, "(" + value.sql + " || 'z')");
      case 1:
        return made({{"@upper", value.expression}}, "upper(" + value.sql + ")");
      case 2:
        return made({{"@substring", {value.expression, 1, 1}}}, "substr(" + value.sql + ",1,1)");
      case 3:
        return made({{"@replace", {value.expression, "x", "yy"}}},
                    "replace(" + value.sql + ",'x','yy')");
      default:
        return value;
    }
  }

  // True or false, never unknown.
  Term condition(const Scope& scope, std::size_t depth) {
    if (depth > 0 && random_.chance(40)) {
      const Term a = condition(scope, depth - 1);
      if (random_.chance(30)) return {{{"@not", a.expression}}, "(NOT " + a.sql + ")"};
      const Term b = condition(scope, depth - 1);
      const bool all = random_.chance(50);
      return {{{all ? "@and" : "@or", {a.expression, b.expression}}},
              "(" + a.sql + (all ? " AND " : " OR ") + b.sql + ")"};
    }
    static constexpr std::pair<const char*, const char*> kOrders[] = {
        {"@gt", ">"}, {"@gte", ">="}, {"@lt", "<"}, {"@lte", "<="}, {"@eq", "="}, {"@neq", "<>"}};
    switch (random_.below(5)) {
      case 0: {  // null-safe equality of a column
        const Seen* seen = pick(scope, [](const Column& c) { return c.computes(); });
        if (seen == nullptr) break;
        const bool same = random_.chance(60);
        const Term with = random_.chance(20) ? Term{nullptr, "NULL"} : literal();
        return {{{same ? "@eq" : "@neq", {seen->read(), with.expression}}},
                "(" + seen->sql + (same ? " IS " : " IS NOT ") + with.sql + ")"};
      }
      case 1: {
        const Seen& seen = scope[random_.below(scope.size())];
        return {{{"@isnil", seen.read()}}, "(" + seen.sql + " IS NULL)"};
      }
      case 2: {
        const Term a = text(scope, 1);
        const auto& [op, sql] = kOrders[random_.below(6)];
        return {{{op, {a.expression, "x"}}}, "(" + a.sql + " " + sql + " 'x')"};
      }
      case 3: {
        const Term a = number(scope, 1);
        return {{{"@in", {a.expression, {0, 1, 3}}}}, "(" + a.sql + " IN (0,1,3))"};
      }
      default:
        break;
    }
    const Term a = number(scope, depth == 0 ? 0 : 1);
    const Term b = number(scope, 0);
    const auto& [op, sql] = kOrders[random_.below(6)];
    return {{{op, {a.expression, b.expression}}}, "(" + a.sql + " " + sql + " " + b.sql + ")"};
  }

  Term any(const Scope& scope) {
    if (random_.chance(60)) {
      const Seen& seen = scope[random_.below(scope.size())];
      return {seen.read(), seen.sql, seen.column.type, seen.column.nullable};
    }
    return random_.chance(70) ? number(scope, 2) : text(scope, 1);
  }

  // Relations -------------------------------------------------------------------------------------

  // A branch of its own; or further stages of the one it reads, which nothing else does.
  Relation named(std::string sql, std::vector<Column> columns, json stages,
                 const std::vector<std::string>& inputs) {
    const std::string name = "t" + std::to_string(++names_);
    json branch = json::array({{{"@inputs", inputs}}});
    if (inputs.size() == 1 && inputs.front() == extendable_ && random_.chance(70)) {
      branch = branches_.back();
      branch.erase(branch.size() - 1);
      branches_.erase(branches_.size() - 1);
    }
    for (json& stage : stages) branch.push_back(std::move(stage));
    branch.push_back({{"@output", name}});
    branches_.push_back(std::move(branch));
    extendable_ = name;
    return {name, std::move(sql), std::move(columns)};
  }

  Relation table() {
    const std::string name = random_.chance(50) ? "a" : "b";
    const std::vector<Column> columns = {
        {"k", Type::integer, true}, {"n", Type::number, true}, {"s", Type::text, true}};
    const std::string sql = "SELECT k, n, s FROM " + name;
    // A join cannot read one input twice, so now and then under a name of its own.
    return named(sql, columns, json::array(), {name});
  }

  Relation relation(std::size_t depth) {
    if (depth == 0) return table();
    switch (random_.below(joins_ < 2 ? 9 : 6)) {
      case 0:
      case 1:
        return select(relation(depth - 1));
      case 2:
        return project(relation(depth - 1));
      case 3:
        return distinct(relation(depth - 1));
      case 4:
        return group(relation(depth - 1));
      case 5:
        return unite(depth - 1);
      default:
        ++joins_;
        return join(relation(depth - 1), relation(depth > 1 ? depth - 2 : 0));
    }
  }

  Relation select(const Relation& from) {
    const Term where = condition(scope_of(from.columns, "$.", ""), 2);
    return named("SELECT * FROM (" + from.sql + ") WHERE " + where.sql, from.columns,
                 {{{"@select", where.expression}}}, {from.name});
  }

  // Projects to 1 to 3 columns.
  Relation project(const Relation& from) {
    const Scope scope = scope_of(from.columns, "$.", "");
    std::vector<Column> columns;
    json projection = json::object();
    std::string list;
    for (std::size_t i = 0, n = 1 + random_.below(3); i < n; ++i) {
      const Term term = any(scope);
      add_column("c" + std::to_string(i), term, columns, projection, list);
    }
    return named("SELECT " + list + " FROM (" + from.sql + ")", columns,
                 {{{"@project", projection}}}, {from.name});
  }

  static void add_column(const std::string& name, const Term& term, std::vector<Column>& columns,
                         json& projection, std::string& list) {
    columns.push_back({name, term.type, term.nullable});
    projection[name] = term.expression;
    list += (list.empty() ? "" : ", ") + term.sql + " AS " + name;
  }

  Relation distinct(const Relation& from) {
    return named("SELECT DISTINCT * FROM (" + from.sql + ")", from.columns, {"@distinct"},
                 {from.name});
  }

  Relation unite(std::size_t depth) {
    const std::string name = "t" + std::to_string(++names_);
    std::string sql;
    for (std::size_t i = 0, n = 2 + random_.below(2); i < n; ++i) {
      const Relation from = relation(i == 0 ? depth : 0);
      const Scope scope = scope_of(from.columns, "$.", "");
      const Term x = number(scope, 1);
      const Term y = text(scope, 1);
      branches_.push_back(json::array({{{"@inputs", {from.name}}},
                                       {{"@project", {{"x", x.expression}, {"y", y.expression}}}},
                                       {{"@output", name}}}));
      sql += (sql.empty() ? "" : " UNION ALL ") + ("SELECT " + x.sql + " AS x, " + y.sql) +
             " AS y FROM (" + from.sql + ")";
    }
    extendable_.clear();
    return {name, sql, {{"x", Type::number, false}, {"y", Type::text, false}}};
  }

  Relation join(const Relation& left, const Relation& right) {
    const std::string l = "$." + left.name + ".";
    const std::string r = "$." + right.name + ".";
    Scope scope = scope_of(left.columns, l, "l.");
    const Scope of_right = scope_of(right.columns, r, "r.");
    const Term on = join_condition(scope, of_right);
    const std::size_t kind = random_.below(10);  // 0-4 inner, 5-7 left, 8-9 anti
    json argument = on.expression;
    if (kind >= 5) argument = {on.expression, {{"soft", {right.name}}}};
    if (kind < 8)
      for (const Seen& seen : scope_of(right.columns, r, "r.", kind >= 5)) scope.push_back(seen);
    std::vector<Column> columns;
    json projection = json::object();
    std::string list;
    for (std::size_t i = 0, n = 1 + random_.below(4); i < n; ++i)
      add_column("c" + std::to_string(i), any(scope), columns, projection, list);
    json stages = {{{"@join", argument}}};
    std::string sql = "SELECT " + list + " FROM (" + left.sql + ") AS l";
    if (kind < 8) {
      sql += (kind < 5 ? " JOIN (" : " LEFT JOIN (") + right.sql + ") AS r ON " + on.sql;
    } else {
      stages.push_back({{"@select", {{"@isnil", "$." + right.name}}}});
      sql += " WHERE NOT EXISTS (SELECT 1 FROM (" + right.sql + ") AS r WHERE " + on.sql + ")";
    }
    if (random_.chance(40)) {
      const Term where = condition(scope, 1);
      stages.push_back({{"@select", where.expression}});
      sql += (kind < 8 ? " WHERE " : " AND ") + where.sql;
    }
    stages.push_back({{"@project", projection}});
    return named(sql, columns, stages, {left.name, right.name});
  }

  // An equality of columns that compare, most of the time; and conditions beside it, some of it.
  Term join_condition(const Scope& left, const Scope& right) {
    const auto fits = [](const Column& c) { return c.computes(); };
    const Seen* a = pick(left, fits);
    const Seen* b = pick(right, fits);
    Scope both = left;
    both.insert(both.end(), right.begin(), right.end());
    if (a == nullptr || b == nullptr || random_.chance(10)) return condition(both, 1);
    const Term equal{{{"@eq", {a->read(), b->read()}}}, "(" + a->sql + " IS " + b->sql + ")"};
    if (random_.chance(50)) return equal;
    const Term more = condition(both, 1);
    return {{{"@and", {equal.expression, more.expression}}},
            "(" + equal.sql + " AND " + more.sql + ")"};
  }

  Relation group(const Relation& from) {
    const Scope scope = scope_of(from.columns, "$.", "");
    const std::string inside = random_.chance(50) ? "" : "$$.";
    json key;
    std::string by;
    std::vector<Column> columns;
    json projection = json::object();
    std::string list;
    const std::size_t keys = 1 + random_.below(2);
    for (std::size_t i = 0; i < keys; ++i) {
      const Term term = any(scope);
      const std::string name = "k" + std::to_string(i);
      if (keys == 1)
        key = term.expression;
      else
        key[name] = term.expression;
      Term shown = term;
      shown.expression = keys == 1 ? "$.key" : "$.key." + name;
      add_column(name, shown, columns, projection, list);
      // Not the bare expression: an integer would be the number of a column.
      by += (by.empty() ? "" : ", ") + ("CASE WHEN 1 THEN " + term.sql) + " END";
    }
    const bool once = random_.chance(25);
    const Term value = number(scope, 1);  // the elements of the group, if they are not documents
    const bool documents = !once && !inside.empty();
    for (std::size_t i = 0, n = 1 + random_.below(3); i < n; ++i)
      add_column("v" + std::to_string(i), aggregate(from, value, documents, once), columns,
                 projection, list);
    json argument = {key, documents ? json(nullptr) : value.expression};
    if (once) argument.push_back({{"distinct", true}});
    return named("SELECT " + list + " FROM (" + from.sql + ") GROUP BY " + by, columns,
                 {{{"@groupBy", argument}}, {{"@project", projection}}}, {from.name});
  }

  // Over "$.values", which are documents or values that are not null.
  Term aggregate(const Relation& from, const Term& value, bool documents, bool once) {
    json elements = "$.values";
    Term of = value;
    const Scope inner = scope_of(from.columns, "$$.", "");
    if (documents) {
      of = number(inner, 1);
      elements = {{"@map", {of.expression, "$.values"}}};
      if (random_.chance(15)) {
        const Term where = condition(inner, 1);
        return {{{"@len", {{"@filter", {where.expression, "$.values"}}}}},
                "sum(CASE WHEN " + where.sql + " THEN 1 ELSE 0 END)"};
      }
    }
    const std::string all = (once ? "(DISTINCT " : "(") + of.sql + ")";
    switch (random_.below(5)) {
      case 0:
        return {{{"@len", "$.values"}}, once ? "count" + all : "count(*)"};
      case 1:
        return {{{"@sum", elements}}, "sum" + all, of.type};
      case 2:
        return {{{"@min", elements}}, "min" + all, of.type};
      case 3:
        return {{{"@max", elements}}, "max" + all, of.type};
      default:
        return {{{"@avg", elements}}, "avg" + all, Type::inexact};
    }
  }

  Random& random_;
  json branches_ = json::array();
  std::size_t names_ = 0;
  std::size_t joins_ = 0;
  std::string extendable_;  // what the last branch gives, if it is the only one that does
};

}  // namespace

RandomQuery random_query(Random& random, std::size_t depth) {
  return Maker(random).make(depth);
}

json random_row(Random& random) {
  json row;
  row["k"] = random.chance(12) ? json(nullptr) : json(random.below(3));
  row["n"] =
      random.chance(12) ? json(nullptr) : json(0.5 * (static_cast<double>(random.below(9)) - 4));
  static constexpr const char* kTexts[] = {"", "x", "y", "xy"};
  row["s"] = random.chance(12) ? json(nullptr) : json(kTexts[random.below(4)]);
  return row;
}

}  // namespace dmm::engine::testing
