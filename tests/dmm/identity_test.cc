#include "dmm/identity.h"

#include <catch2/catch.hpp>

#include <random>
#include <sstream>

#include "dmm/error.h"
#include "dmm/limits.h"
#include "tests/dmm/scratch.h"

namespace dmm {

namespace {

std::string code_of_check(const Identity& identity) {
  try {
    check(identity);
    return "fine";
  } catch (const Error& error) {
    return std::string(error.code().id);
  }
}

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

}  // namespace

// The lanes were computed by another program; other clients rely on them for ever.
TEST_CASE("identity: every test vector of the wire format holds", "[identity][unit]") {
  std::istringstream page(
      testing::read_text_file(std::string(DMM_DOCS_DIR) + "/reference/test-vectors.md"));
  int vectors = 0;
  for (std::string line; std::getline(page, line);) {
    if (line.rfind("| `", 0) != 0) continue;
    std::istringstream cells(line);
    std::string bar, type, hex, key, hash, lane;
    cells >> bar >> type >> bar >> hex >> bar >> key >> bar >> hash >> bar >> lane;
    const auto bare = [](const std::string& cell) { return cell.substr(1, cell.size() - 2); };
    INFO(line);
    const Identity identity{bare(type), hex == "(none)" ? "" : from_hex(bare(hex))};
    REQUIRE(key_of(identity) == bare(key));
    CHECK(std::to_string(lane_of_key(key_of(identity))) == lane);
    CHECK(parse_key(bare(key)) == identity);
    ++vectors;
  }
  REQUIRE(vectors >= 10);
}

TEST_CASE("identity: any bytes survive encoding and decoding", "[identity][unit]") {
  std::mt19937 random(20221);
  for (int round = 0; round < 2'000; ++round) {
    std::string id(random() % (limits::id_bytes_max + 1), '\0');
    for (char& c : id) c = static_cast<char>(random());
    const std::string spelled = encode_id(id);
    CAPTURE(spelled);
    REQUIRE(spelled.find_first_not_of(
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-=") ==
            std::string::npos);
    REQUIRE(decode_id(spelled) == id);
    REQUIRE(parse_key(key_of({"t", id})) == Identity{"t", id});
  }
}

TEST_CASE("identity: an id has no second spelling", "[identity][unit]") {
  struct Case {
    const char* wrong;
    const char* right;
  };
  const auto wrong = GENERATE(values<Case>({
      {"a=2eb", "a=2Eb"},  // lower-case hex
      {"=41", "A"},        // escape that is not needed
      {"a.b", "a=2Eb"},    // not escaped
      {"a b", "a=20b"},    //
      {"a=", "a=3D"},      // cut escape
      {"a=2", "a=3D2"},    //
      {"=G0", "=3DG0"},    // no hex
      {"", "="},           // the empty id
      {"==", "=3D=3D"},    //
      {"gr\xC3\xBCn", "gr=C3=BCn"},
      {"*", "=2A"},
      {">", "=3E"},
  }));
  CAPTURE(wrong.wrong);
  CHECK_FALSE(decode_id(wrong.wrong));
  CHECK(suggest_spelling(wrong.wrong) == wrong.right);
  CHECK(decode_id(wrong.right));
}

TEST_CASE("identity: lengths are allowed up to their limit", "[identity][unit]") {
  CHECK(code_of_check({"t", ""}) == "fine");
  CHECK(code_of_check({"t", std::string(limits::id_bytes_max, '.')}) == "fine");
  CHECK(code_of_check({"t", std::string(limits::id_bytes_max + 1, 'x')}) == "DMM-0201");
  CHECK(code_of_check({std::string(limits::type_bytes_max, 't'), "1"}) == "fine");
  CHECK(code_of_check({std::string(limits::type_bytes_max + 1, 't'), "1"}) == "DMM-0201");
  CHECK(code_of_check({"", "1"}) == "DMM-0201");
  CHECK(decode_id(encode_id(std::string(limits::id_bytes_max, '.'))));
  CHECK_FALSE(decode_id(encode_id(std::string(limits::id_bytes_max + 1, '.'))));
}

TEST_CASE("identity: a type of other characters is refused and shown harmlessly",
          "[identity][unit]") {
  for (const std::string type : {"a.b", "a b", "*", ">", "\x1b[2J", "gr\xC3\xBCn", "a/b"}) {
    CAPTURE(type);
    try {
      check_name(type, "kind");
      FAIL("was allowed");
    } catch (const Error& error) {
      CHECK(error.code().id == "DMM-0201");
      CHECK(error.message().find("kind") != std::string::npos);
      CHECK(error.message().find('\x1b') == std::string::npos);
    }
  }
}

TEST_CASE("identity: what is no key is not taken for one", "[identity][unit]") {
  for (const std::string key : {"", ".", "player", "player.", ".1", "pla yer.1", "player.1.2",
                                "refused.token.work.player.1.1", "observer.cursor.player"}) {
    CAPTURE(key);
    CHECK_FALSE(parse_key(key));
  }
  CHECK(parse_key("player.=") == Identity{"player", ""});
}

}  // namespace dmm
