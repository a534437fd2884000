// Goal: the tables come and go by versions, whoever else does so at the same time.

#include "fixture.h"

#include <algorithm>
#include <thread>

namespace dmm::resource {

TEST_CASE("migration: many programs at once bring the tables once",
          "[resource][migration][integration]") {
  Store store;
  store.db.exec("DROP SCHEMA dmm CASCADE");
  std::vector<int> before(8, -1);
  {
    std::vector<std::jthread> programs;
    for (int& version : before) {
      programs.emplace_back([&] { version = migrate(store.connection()); });
    }
  }
  CHECK(std::count(before.begin(), before.end(), 0) == 1);
  CHECK(std::count(before.begin(), before.end(), 1) == 7);
  const MigrationStatus status = migration_status(store.connection());
  CHECK(status.version == status.newest);
  CHECK(store.client.inform(Note{"n1", "x"}).worked());
}

TEST_CASE("migration: down removes the tables and leaves what is not theirs",
          "[resource][migration][integration]") {
  Store store;
  store.db.exec("CREATE TABLE dmm.mine (id int)");
  CHECK(migrate(store.connection(), 0) == 1);
  CHECK(migration_status(store.connection()).version == 0);
  CHECK(store.db.number("SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n"
                        " ON n.oid = c.relnamespace WHERE n.nspname = 'dmm' AND relkind = 'r'") ==
        1);
  CHECK(store.db.number("SELECT count(*) FROM pg_proc AS p JOIN pg_namespace AS n"
                        " ON n.oid = p.pronamespace WHERE n.nspname = 'dmm'") == 0);
  CHECK(migrate(store.connection(), 0) == 0);
  store.db.exec("DROP TABLE dmm.mine");
  CHECK(migrate(store.connection()) == 0);
  CHECK(migrate(store.connection(), 0) == 1);
  CHECK(store.db.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'dmm'") == 0);
}

TEST_CASE("migration: a version that is not or is newer than this program is refused",
          "[resource][migration][integration]") {
  Store store;
  CHECK(code_of([&] { migrate(store.connection(), 99); }) == "DMM-0404");
  CHECK(code_of([&] { migrate(store.connection(), -1); }) == "DMM-0404");
  store.db.exec("INSERT INTO dmm.resource_migration (version, name) VALUES (99, 'later')");
  CHECK(code_of([&] { migrate(store.connection()); }) == "DMM-0805");
  CHECK(code_of([&] { Client(store.connection()).kinds(); }) == "DMM-0805");
}

TEST_CASE("migration: what the tables have as numbers is what the limits say",
          "[resource][migration][integration]") {
  Store store;
  store.client.inform(Note{"n1", "x"});
  CHECK(store.client.get<Note>("n1")->max_attempts == limits::resource_attempts);
  for (int i = 0; i < limits::resource_errors_kept + 5; ++i) {
    store.db.exec("UPDATE dmm.resource SET errors = dmm.resource_errors(errors, 1, 'boom', '')");
  }
  CHECK(store.client.get<Note>("n1")->errors.size() ==
        static_cast<std::size_t>(limits::resource_errors_kept));
}

TEST_CASE("migration: the script does what migrating does", "[resource][migration][integration]") {
  Store store;
  store.db.exec("DROP SCHEMA dmm CASCADE");
  store.db.exec(migration_script());
  CHECK(migrate(store.connection()) == 1);
  CHECK(store.client.inform(Note{"n1", "x"}).worked());
}

}  // namespace dmm::resource
