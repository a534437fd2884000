// Goal: what a stranger may send is stored as it is or refused as a whole, through the library and
// by SQL.

#include "fixture.h"

#include <set>

#include "dmm/limits.h"

namespace dmm::resource {

namespace {

using Result = Informed::Result;

/// An object whose type says where it belongs.
struct Filed {
  std::string name;
  std::string id() const { return name; }
  static std::string kind() { return "filed"; }
  InformOptions inform_options() const {
    return {.ns = "crm", .tags = {{"aaa"}}, .metadata = json{{"from", "type"}}};
  }
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Filed, name)

std::string inform_sql(const std::string& objects) {
  return "SELECT n, result FROM dmm.inform('" + objects + "')";
}

}  // namespace

TEST_CASE("inform: what its type says of namespace and tags is stored unless the call says more",
          "[resource][inform][integration]") {
  Store store;
  store.client.inform(Filed{"f1"});
  store.client.inform(Filed{"f2"}, {.tags = {{"bbb"}}});
  const auto first = store.client.get<Filed>("f1", "crm");
  REQUIRE(first);
  CHECK(first->tags == std::vector<std::string>{"aaa"});
  const auto second = store.client.get<Filed>("f2", "crm");
  REQUIRE(second);
  CHECK(second->tags == std::vector<std::string>{"bbb"});  // replaced, not merged
  CHECK(second->metadata == json{{"from", "type"}});
  CHECK(second->max_attempts == 10);
  CHECK_FALSE(store.client.get<Filed>("f1"));
  // What is said of a key is said of its namespace, too.
  store.db.exec("UPDATE dmm.resource SET state = 'synced', synced_at = now() WHERE id = 'f1'");
  store.client.invalidate(Filed{"f1"});
  CHECK(store.client.get<Filed>("f1", "crm")->state == State::expired);
}

TEST_CASE("inform: content up to its limit is stored and one byte more is refused",
          "[resource][inform][integration]") {
  Store store;
  const auto note = [](const std::string& id, std::size_t bytes) {
    const std::size_t frame = json(Note{id, ""}).dump().size();
    return Note{id, std::string(bytes - frame, 'x')};
  };
  CHECK(store.client.inform(note("most", limits::payload_bytes_max)).result == Result::created);
  CHECK(store.client.get<Note>("most")->object.text.size() > limits::payload_bytes_max - 100);
  CHECK(code_of([&] { store.client.inform(note("more", limits::payload_bytes_max + 1)); }) ==
        "DMM-0803");
  // As many large ones as one statement does not take.
  std::vector<Note> large;
  for (int i = 0; i < 12; ++i) {
    large.push_back(note("large" + std::to_string(i), limits::payload_bytes_max));
  }
  for (const Informed& informed : store.client.inform_many(std::span<const Note>(large))) {
    CHECK(informed.result == Result::created);
  }
  CHECK(store.db.number("SELECT count(*) FROM dmm.resource") == 13);
}

TEST_CASE("inform: ids at the edge are stored and ids beyond it leave nothing behind",
          "[resource][inform][integration]") {
  Store store;
  const std::string accents = [] {
    std::string text;
    for (int i = 0; i < 127; ++i) text += "\u00e9";
    return text;
  }();
  CHECK(store.client.inform(Note{accents, "254 bytes"}).result == Result::created);
  CHECK(store.client.get<Note>(accents)->object.text == "254 bytes");
  const std::vector<std::string> bad{
      "",     std::string(256, 'x'), std::string(600, 'x'), std::string("a\0b", 3),
      "\xc3", "\xed\xa0\x80",        accents + "\u00e9"};
  for (const std::string& id : bad) {
    CAPTURE(id);
    CHECK(code_of([&] { store.client.inform(Note{id, "text"}); }) == "DMM-0803");
    CHECK(code_of([&] {
            pqxx::work transaction(store.db.connection());
            store.client.inform_tx(transaction, Note{id, "text"});
          }) == "DMM-0803");
    CHECK(code_of([&] { store.client.get({"note", id}); }) == "DMM-0803");
    CHECK(code_of([&] { store.client.forget({"note", id}); }) == "DMM-0803");
  }
  CHECK(store.db.number("SELECT count(*) FROM dmm.resource") == 1);
}

TEST_CASE("inform: a transaction that was rolled back may be repeated",
          "[resource][inform][integration]") {
  Store store;
  store.client.inform(User{"u1", "before", 1});
  store.db.exec("DELETE FROM dmm.resource_outbox");
  for (const bool commits : {false, false, true}) {
    pqxx::work transaction(store.db.connection());
    CHECK(store.client.inform_tx(transaction, User{"u1", "after", 2}).result == Result::updated);
    CHECK(store.client.inform_tx(transaction, User{"u1", "after", 2}).result == Result::unchanged);
    CHECK(store.client.inform_tx(transaction, User{"u2", "new", 1}).result == Result::created);
    if (commits) transaction.commit();
  }
  CHECK(store.client.get<User>("u1")->generation == 2);
  CHECK(store.client.get<User>("u1")->object.name == "after");
  CHECK(store.client.get<User>("u2")->generation == 1);
  CHECK(store.db.number("SELECT count(*) FROM dmm.resource_outbox") == 2);
}

TEST_CASE("inform: an error within the transaction of the caller is that of the caller",
          "[resource][inform][integration]") {
  Store store;
  {
    pqxx::work transaction(store.db.connection());
    CHECK(code_of([&] { store.client.inform_tx(transaction, Note{"", "text"}); }) == "DMM-0803");
    // Nothing was sent, so the transaction is as it was.
    store.client.inform_tx(transaction, Note{"n1", "text"});
    transaction.commit();
  }
  CHECK(store.client.get<Note>("n1"));
  {
    pqxx::work transaction(store.db.connection());
    transaction.exec("SAVEPOINT before");
    store.client.inform_tx(transaction, Note{"n2", "text"});
    transaction.exec("ROLLBACK TO SAVEPOINT before");
    store.client.inform_tx(transaction, Note{"n3", "text"});
    transaction.commit();
  }
  CHECK_FALSE(store.client.get<Note>("n2"));
  CHECK(store.client.get<Note>("n3"));
}

TEST_CASE("inform: one key many times in a call counts in its order",
          "[resource][inform][integration]") {
  Store store;
  const std::vector<User> users{{"u1", "a", 1}, {"u1", "b", 3}, {"u1", "c", 2},
                                {"u2", "d", 1}, {"u1", "e", 4}, {"u1", "e", 4}};
  const auto answers = store.client.inform_many(std::span<const User>(users));
  const std::vector<Result> expected{Result::created, Result::updated, Result::stale,
                                     Result::created, Result::updated, Result::unchanged};
  REQUIRE(answers.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(answers[i].result == expected[i]);
  CHECK(store.client.get<User>("u1")->object.name == "e");
  CHECK(store.client.get<User>("u1")->generation == 3);
  CHECK(store.client.inform_many(std::span<const User>()).empty());
}

TEST_CASE("inform: by SQL objects need no numbers and may have the same",
          "[resource][inform][integration]") {
  Store store;
  store.db.exec("SET statement_timeout = '5s'");
  const auto rows = store.db.exec(inform_sql(
      R"([{"kind":"raw","id":"a","object":{}},{"kind":"raw","id":"b","object":{}},)"
      R"({"n":9,"kind":"raw","id":"a","object":{"x":1}},{"n":9,"kind":"raw","id":"c","object":{}}])"));
  std::multiset<std::string> answers;
  for (const auto& row : rows) {
    answers.insert(row[0].as<std::string>() + " " + row[1].as<std::string>());
  }
  CHECK(answers == std::multiset<std::string>{"0 created", "1 created", "9 updated", "9 created"});
  CHECK(store.client.get({"raw", "a"})->generation == 2);
  CHECK(store.db.exec(inform_sql("[]")).empty());
}

TEST_CASE("inform: by SQL what could not be told or worked is refused",
          "[resource][inform][integration]") {
  Store store;
  const auto refused = [&](const std::string& objects) {
    try {
      store.db.exec(inform_sql(objects));
      return false;
    } catch (const pqxx::sql_error&) {
      return true;
    }
  };
  const std::string kind = R"("kind":"raw","object":{})";
  CHECK(refused(R"([{"kind":"raw","id":"a"}])"));
  CHECK(refused(R"([{"id":"a","object":{}}])"));
  CHECK(refused(R"([{"kind":"Raw Kind","id":"a","object":{}}])"));
  CHECK(refused("[{" + kind + R"(,"id":""}])"));
  CHECK(refused("[{" + kind + R"(,"ns":"No Name","id":"a"}])"));
  CHECK(refused("[{" + kind + R"(,"id":")" + std::string(256, 'x') + R"("}])"));
  // In NATS this is called by its namespace, a slash and the id.
  CHECK(refused("[{" + kind + R"(,"ns":"crm","id":")" + std::string(252, 'x') + R"("}])"));
  CHECK_FALSE(refused("[{" + kind + R"(,"ns":"crm","id":")" + std::string(251, 'x') + R"("}])"));
  CHECK(refused("[{" + kind + R"(,"id":"a","max_attempts":0}])"));
  CHECK(refused("{}"));
  CHECK(refused("[5]"));
  CHECK(store.db.number("SELECT count(*) FROM dmm.resource") == 1);
  // A known one is not emptied by a call that forgot the object.
  CHECK(refused(R"([{"kind":"raw","ns":"crm","id":")" + std::string(251, 'x') + R"("}])"));
}

TEST_CASE("client: pages stay without gaps and doubles while resources come and go",
          "[resource][inform][integration]") {
  Store store;
  std::vector<Note> notes;
  for (int i = 100; i < 200; ++i) notes.push_back({"n" + std::to_string(i), "text"});
  store.client.inform_many(std::span<const Note>(notes));
  std::vector<std::string> ids;
  std::string after;
  int round = 0;
  do {
    const Page page = store.client.list({.kind = "note"}, after, 10);
    for (const auto& resource : page.resources) ids.push_back(resource.key.id);
    after = page.next;
    // Before and behind the page, one comes, one goes, and one is worked.
    store.client.inform(Note{"a" + std::to_string(round), "text"});
    store.client.forget({"note", "n" + std::to_string(100 + round)});
    store.client.inform(Note{"n150", std::to_string(round)});
    ++round;
  } while (!after.empty());
  const std::set<std::string> once(ids.begin(), ids.end());
  CHECK(once.size() == ids.size());
  for (int i = 110; i < 200; ++i) CHECK(once.contains("n" + std::to_string(i)));
  for (const char* wrong : {"[1,2,3]", R"(["a","b"])", R"(["a","b","\u0000"])", "{}", "null"}) {
    CAPTURE(wrong);
    CHECK(code_of([&] { store.client.list({}, wrong, 1); }) == "DMM-0404");
  }
}

}  // namespace dmm::resource
