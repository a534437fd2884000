// Goal: what a process is told on its command line is what it was to be told, and nonsense is
// named.

#include "tests/nemesis/options.h"

#include <catch2/catch.hpp>

#include <map>
#include <random>
#include <stdexcept>

#include "tests/nemesis/deck.h"

using namespace dmm::nemesis;

namespace {

Arguments parse(std::vector<std::string> words) {
  words.insert(words.begin(), "nemesis");
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  return parse_arguments(static_cast<int>(pointers.size()), pointers.data());
}

std::string message_of(std::vector<std::string> words) {
  try {
    parse(std::move(words));
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("options: a process gets the role that it is given", "[nemesis][unit]") {
  Role role;
  role.name = "worker";
  role.servers = {"nats://127.0.0.1:1", "nats://127.0.0.1:2"};
  role.directory = "/tmp/a place";
  role.number = 7;
  role.of = 2;
  role.identities = 64;
  role.rate = 100;
  role.bug = Bug::no_lease;
  const Arguments arguments = parse(arguments_of(role));
  REQUIRE(arguments.role.has_value());
  CHECK(arguments.role->name == role.name);
  CHECK(arguments.role->servers == role.servers);
  CHECK(arguments.role->directory == role.directory);
  CHECK(arguments.role->number == 7);
  CHECK(arguments.role->of == 2);
  CHECK(arguments.role->identities == 64);
  CHECK(arguments.role->rate == 100);
  CHECK(arguments.role->bug == Bug::no_lease);
}

TEST_CASE("options: without any there is a minute of faults from a random seed",
          "[nemesis][unit]") {
  const Arguments arguments = parse({});
  CHECK_FALSE(arguments.role.has_value());
  CHECK(arguments.options.seconds == 60);
  CHECK(arguments.options.notifies_min == 100'000);
  CHECK(arguments.options.seed != 0);
  CHECK(parse({"--seconds", "600"}).options.notifies_min == 1'000'000);
  CHECK(parse({"--cluster"}).options.cluster);
}

TEST_CASE("options: what cannot be is refused with what could be", "[nemesis][unit]") {
  CHECK(message_of({"--sceonds", "5"}) == "there is no option --sceonds");
  CHECK(message_of({"--seconds"}) == "--seconds needs a value");
  CHECK(message_of({"--seconds", "4"}) == "--seconds needs a number from 5 to 86400, not \"4\"");
  CHECK(message_of({"--seconds", "9x"}).ends_with("not \"9x\""));
  CHECK(message_of({"--identities", "5000"}).ends_with("not \"5000\""));
  CHECK(message_of({"--seed", "-1"}).ends_with("not \"-1\""));
  CHECK(message_of({"--bug", "none"}) ==
        "there is no bug \"none\"; known: drop-news, no-lease, no-fence");
}

TEST_CASE("deck: each card comes as often as it is in the deck", "[nemesis][unit]") {
  std::mt19937_64 random(1);
  Deck<char> deck({'a', 'b', 'b', 'c'});
  std::map<char, int> dealt;
  for (int i = 0; i < 8; ++i) ++dealt[deck.deal(random)];
  CHECK(dealt == std::map<char, int>{{'a', 2}, {'b', 4}, {'c', 2}});
}
