#include "tests/bench/engine/sqlite_plan.h"

#include <map>
#include <stdexcept>

#include "tests/bench/engine/workload.h"

namespace dmm::bench {
namespace {

constexpr std::size_t kNone = 99;

const SqlitePlan kFilter{
    "CREATE TABLE r(id INTEGER PRIMARY KEY, site INT, st INT, val INT);",
    {{"INSERT INTO r VALUES(?1, ?2, ?3, ?4)", "DELETE FROM r WHERE id = ?1", 4, {0, {0}}}},
    {"SELECT id, val * 2 + 1 FROM r WHERE id = ?1 AND st = 0"},
    "SELECT id, val * 2 + 1 FROM r WHERE st = 0"};

const SqlitePlan kAddresses{
    "CREATE TABLE svc(id INTEGER PRIMARY KEY);"
    "CREATE TABLE pod(id INTEGER PRIMARY KEY, app INT, run INT, ip INT);"
    "CREATE INDEX pod_app ON pod(app, run, ip);",
    {{"INSERT INTO svc VALUES(?1)", "DELETE FROM svc WHERE id = ?1", 1, {0, {0}}},
     {"INSERT INTO pod VALUES(?1, ?2, ?3, ?4)", "DELETE FROM pod WHERE id = ?1", 4, {0, {1}}}},
    {"SELECT svc.id, ip FROM svc JOIN pod ON app = svc.id WHERE svc.id = ?1 AND run = 1 "
     "ORDER BY ip"},
    "SELECT svc.id, ip FROM svc JOIN pod ON app = svc.id WHERE run = 1 ORDER BY svc.id, ip",
    true};

const SqlitePlan kGroups{
    "CREATE TABLE r(id INTEGER PRIMARY KEY, g INT, v INT); CREATE INDEX r_g ON r(g, v);",
    {{"INSERT INTO r VALUES(?1, ?2, ?3)", "DELETE FROM r WHERE id = ?1", 3, {0, {1}}}},
    {"SELECT g, count(*), sum(v) & 4294967295, sum(v) >> 32, min(v), max(v) FROM r "
     "WHERE g = ?1 GROUP BY g"},
    "SELECT g, count(*), sum(v) & 4294967295, sum(v) >> 32, min(v), max(v) FROM r GROUP BY g"};

const SqlitePlan kReconciliation{
    "CREATE TABLE des(src INT, d INT, k INT, v INT, PRIMARY KEY(d, k, v, src)) WITHOUT ROWID;"
    "CREATE TABLE obs(d INT, k INT, v INT, PRIMARY KEY(d, k, v)) WITHOUT ROWID;",
    {{"INSERT INTO des VALUES(?1, ?2, ?3, ?4)",
      "DELETE FROM des WHERE src = ?1 AND d = ?2 AND k = ?3 AND v = ?4",
      4,
      {0, {1, 2}}},
     {"INSERT INTO obs VALUES(?1, ?2, ?3)",
      "DELETE FROM obs WHERE d = ?1 AND k = ?2 AND v = ?3",
      3,
      {0, {0, 1}}}},
    {"SELECT DISTINCT 0, d, k, v FROM des WHERE d = ?1 AND k = ?2 AND NOT EXISTS "
     "(SELECT 1 FROM obs WHERE obs.d = des.d AND obs.k = des.k AND obs.v = des.v) "
     "UNION ALL SELECT 1, d, k, NULL FROM obs WHERE d = ?1 AND k = ?2 AND NOT EXISTS "
     "(SELECT 1 FROM des WHERE des.d = obs.d AND des.k = obs.k)"},
    "SELECT DISTINCT 0, d, k, v FROM des WHERE NOT EXISTS "
    "(SELECT 1 FROM obs WHERE obs.d = des.d AND obs.k = des.k AND obs.v = des.v) "
    "UNION ALL SELECT 1, d, k, NULL FROM obs WHERE NOT EXISTS "
    "(SELECT 1 FROM des WHERE des.d = obs.d AND des.k = obs.k)"};

const SqlitePlan kSellers{
    "CREATE TABLE person(id INTEGER PRIMARY KEY, st INT);"
    "CREATE TABLE auction(id INTEGER PRIMARY KEY, seller INT, cat INT, ts INT, ex INT);"
    "CREATE INDEX auction_seller ON auction(seller, cat);"
    "CREATE TABLE bid(auction INT, price INT, ts INT);",
    {{"INSERT INTO person VALUES(?1, ?2)", nullptr, 2, {0, {0}}},
     {"INSERT INTO auction VALUES(?1, ?2, ?3, ?4, ?5)", nullptr, 5, {0, {1}}},
     {"INSERT INTO bid VALUES(?1, ?2, ?3)", nullptr, 3, {kNone, {}}}},
    {"SELECT a.id, p.id, p.st FROM person p JOIN auction a ON a.seller = p.id "
     "WHERE p.id = ?1 AND a.cat = 10 AND p.st < 3"},
    "SELECT a.id, p.id, p.st FROM auction a JOIN person p ON a.seller = p.id "
    "WHERE a.cat = 10 AND p.st < 3"};

// A careful application keeps the winning bids and the sums; here triggers do. A bid comes after
// its auction, as it does in the workload.
const SqlitePlan kWinningBids{
    "CREATE TABLE person(id INTEGER PRIMARY KEY, st INT);"
    "CREATE TABLE auction(id INTEGER PRIMARY KEY, seller INT, cat INT, ts INT, ex INT);"
    "CREATE TABLE bid(auction INT, price INT, ts INT);"
    "CREATE TABLE top(auction INTEGER PRIMARY KEY, cat INT, price INT);"
    "CREATE TABLE category(cat INTEGER PRIMARY KEY, sum INT, count INT);"
    "INSERT INTO category VALUES(10, 0, 0), (11, 0, 0), (12, 0, 0), (13, 0, 0), (14, 0, 0);"
    "CREATE TRIGGER bid_in AFTER INSERT ON bid BEGIN"
    "  INSERT INTO top SELECT id, cat, new.price FROM auction"
    "    WHERE id = new.auction AND new.ts BETWEEN ts AND ex"
    "    ON CONFLICT(auction) DO UPDATE SET price = excluded.price WHERE excluded.price > price;"
    "END;"
    "CREATE TRIGGER top_in AFTER INSERT ON top BEGIN"
    "  UPDATE category SET sum = sum + new.price, count = count + 1 WHERE cat = new.cat;"
    "END;"
    "CREATE TRIGGER top_up AFTER UPDATE ON top BEGIN"
    "  UPDATE category SET sum = sum + new.price - old.price WHERE cat = new.cat;"
    "END;",
    {{"INSERT INTO person VALUES(?1, ?2)", nullptr, 2, {kNone, {}}},
     {"INSERT INTO auction VALUES(?1, ?2, ?3, ?4, ?5)", nullptr, 5, {0, {2}}},
     {"INSERT INTO bid VALUES(?1, ?2, ?3)", nullptr, 3, {1, {0}}}},
    {"SELECT cat, sum / count FROM category WHERE cat = ?1 AND count > 0",
     "SELECT cat, sum / count FROM category "
     "WHERE cat = (SELECT cat FROM auction WHERE id = ?1) AND count > 0"},
    "SELECT cat, sum(price) / count(*) FROM (SELECT cat, max(price) AS price FROM auction "
    "JOIN bid ON auction = id AND bid.ts BETWEEN auction.ts AND ex GROUP BY id) GROUP BY cat"};

const SqlitePlan kReports{
    "CREATE TABLE des(d INT, k INT, v INT, PRIMARY KEY(d, k)) WITHOUT ROWID;"
    "CREATE TABLE obs(d INT, k INT, v INT, PRIMARY KEY(d, k)) WITHOUT ROWID;",
    {{"INSERT INTO des VALUES(?1, ?2, ?3)", nullptr, 3, {0, {0}}},
     {"INSERT INTO obs VALUES(?1, ?2, ?3) ON CONFLICT(d, k) DO UPDATE SET v = excluded.v "
      "WHERE v <> excluded.v",
      nullptr,
      3,
      {0, {0}}}},
    {"SELECT d, k, des.v FROM des JOIN obs USING(d, k) WHERE d = ?1 AND des.v <> obs.v"},
    "SELECT d, k, des.v FROM des JOIN obs USING(d, k) WHERE des.v <> obs.v"};

}  // namespace

const SqlitePlan& sqlite_plan(const std::string& workload) {
  static const std::map<std::string, const SqlitePlan*> plans{
      {"W1", &kFilter},      {"W2", &kAddresses},       {"W3", &kGroups},
      {"W3h", &kGroups},     {"W4", &kReconciliation},  {"Q3", &kSellers},
      {"Q4", &kWinningBids}, {"endpoints", &kAddresses}};
  if (is_reports(workload)) return kReports;
  const auto found = plans.find(workload);
  if (found == plans.end()) throw std::invalid_argument("SQLite does not know " + workload);
  return *found->second;
}

}  // namespace dmm::bench
