#include "dmm/worker/entry_store.h"

#include <catch2/catch.hpp>

using dmm::Sequence;
using dmm::worker::Entry;
using dmm::worker::EntryStore;

namespace {

Entry entry_of(std::uint64_t revision, std::string value) {
  return Entry{Sequence{revision}, std::move(value), std::nullopt};
}

}  // namespace

TEST_CASE("entry store: it finds what was put and not what was dropped", "[worker][unit]") {
  EntryStore store(1'000'000);
  store.put("player.a", entry_of(7, "{}"));
  REQUIRE(store.find("player.a") != nullptr);
  CHECK(store.find("player.a")->revision == Sequence{7});
  store.drop("player.a");
  CHECK(store.find("player.a") == nullptr);
}

TEST_CASE("entry store: the least recently used entry makes way", "[worker][unit]") {
  EntryStore store(3 * 1'300);
  const std::string value(1'000, 'x');
  store.put("a", entry_of(1, value));
  store.put("b", entry_of(2, value));
  store.put("c", entry_of(3, value));
  REQUIRE(store.find("a") != nullptr);  // now b is the oldest
  store.put("d", entry_of(4, value));
  CHECK(store.find("b") == nullptr);
  CHECK(store.find("a") != nullptr);
  CHECK(store.find("d") != nullptr);
}

TEST_CASE("entry store: a complete store knows that a key is missing until an entry goes",
          "[worker][unit]") {
  EntryStore store(2'000);
  store.set_complete();
  store.put("a", entry_of(1, "{}"));
  REQUIRE(store.find("nobody") != nullptr);
  CHECK_FALSE(store.find("nobody")->value.has_value());
  CHECK(store.find("nobody")->revision == Sequence{});

  SECTION("by being dropped") {
    store.drop("a");
  }
  SECTION("by making way") {
    store.put("b", entry_of(2, std::string(1'900, 'x')));
  }
  SECTION("by being forgotten with all others") {
    store.clear();
  }
  CHECK(store.find("nobody") == nullptr);
}

TEST_CASE("entry store: a removed message is an entry without a value but with a revision",
          "[worker][unit]") {
  dmm::transport::Message message;
  message.sequence = Sequence{9};
  message.headers = {{"KV-Operation", "DEL"}, {"Dmm-Done", "2026-01-01T00:00:00Z 5"}};
  const Entry entry = Entry::from(message);
  CHECK(entry.revision == Sequence{9});
  CHECK_FALSE(entry.value.has_value());
  REQUIRE(entry.done.has_value());
  CHECK(entry.done->covers("2026-01-01T00:00:00Z", Sequence{5}));
  CHECK_FALSE(entry.done->covers("2026-01-01T00:00:00Z", Sequence{6}));
  CHECK_FALSE(entry.done->covers("2026-02-02T00:00:00Z", Sequence{5}));
}
