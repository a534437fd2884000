// Goal: a snapshot gives back what was written, and one that is not exactly that is not used.

#include "dmm/view/snapshot.h"

#include <catch2/catch.hpp>

#include <sys/stat.h>

#include "dmm/limits.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/view/snapshot_file.h"

namespace dmm::view {

namespace {

using engine::Value;
using nlohmann::json;
using std::chrono::hours;
using std::chrono::system_clock;

SnapshotHead head_now() {
  SnapshotHead head;
  head.ns = "test";
  head.view = "players";
  head.release = "0123";
  head.saved_at = system_clock::now();
  head.history = 3;
  head.digest = ~std::uint64_t{5};
  head.rows = 70'000;
  head.decoder = 1;
  head.fields = {"device, volume", "*"};
  head.inputs = {{"17", json{{"created", "then"}, {"last", 17}, {"messages", 9}}}, {"", nullptr}};
  KnownEntries& entries = head.entries.emplace();
  entries.mark.work = json{{"created", "a"}, {"last", 1}};
  entries.mark.cache = json{{"created", "b"}, {"last", 2}, {"messages", 3}};
  entries.open = {"x", "\xff"};
  return head;
}

const std::vector<Value>& values() {
  static const std::vector<Value> all = [] {
    std::vector<Value> values;
    for (const char* text :
         {"null", "true", "-1", "9223372036854775807", "-9223372036854775808", "1.5", "\"\"",
          "\"word\"", "[]", "[1,[2,{}]]", R"({"a":1,"b":{"a":2,"b":null}})", R"({"a":3,"b":4})",
          R"({"zone":"kitchen","volume":-300})"}) {
      values.push_back(engine::from_json(json::parse(text)));
    }
    return values;
  }();
  return all;
}

std::string small_snapshot() {
  SnapshotWriter writer;
  write_head(writer, head_now());
  for (int time = 0; time < 2; ++time) {
    for (const Value& value : values()) writer.value(value);
  }
  return writer.finish();
}

std::string damage_of(const std::string& bytes) {
  return SnapshotReader(bytes).damage();
}

}  // namespace

TEST_CASE("snapshot: what was written is read back", "[view][snapshot][unit]") {
  const SnapshotHead written = head_now();
  const std::string bytes = small_snapshot();
  SnapshotReader reader(bytes);
  REQUIRE(reader.damage().empty());
  const SnapshotHead head = read_head(reader);
  CHECK(head.saved_at - written.saved_at < hours(1));
  CHECK(head.history == 3);
  CHECK(head.digest == ~std::uint64_t{5});
  CHECK(head.rows == 70'000);
  REQUIRE(head.inputs.size() == 2);
  CHECK(head.inputs[0].position == "17");
  CHECK(head.inputs[0].baseline == written.inputs[0].baseline);
  CHECK(head.inputs[1].baseline.is_null());
  CHECK(head.fields == written.fields);
  REQUIRE(head.entries);
  CHECK(head.entries->open == written.entries->open);
  CHECK(head.entries->mark.cache == written.entries->mark.cache);
  CHECK(misfit(head, written, hours(1)).empty());
  for (int time = 0; time < 2; ++time) {
    for (const Value& value : values()) {
      const Value read = reader.value();
      CHECK(engine::to_text(read) == engine::to_text(value));
      CHECK(engine::hash(read) == engine::hash(value));
    }
  }
  CHECK(reader.ok());
  CHECK(reader.at_end());
  reader.value();
  CHECK_FALSE(reader.ok());
}

TEST_CASE("snapshot: every flipped bit and every other length is found", "[view][snapshot][unit]") {
  const std::string bytes = small_snapshot();
  REQUIRE(damage_of(bytes).empty());
  std::size_t missed = 0;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      if (damage_of(damaged).empty()) ++missed;
    }
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(~damaged[at]);
    if (damage_of(damaged).empty()) ++missed;
    if (damage_of(bytes.substr(0, at)).empty()) ++missed;
  }
  CHECK(missed == 0);
  CHECK_FALSE(damage_of(bytes + '\0').empty());
  CHECK_FALSE(damage_of(bytes + bytes).empty());
}

TEST_CASE("snapshot: content that its checksum vouches for is still read with bounds",
          "[view][snapshot][unit]") {
  // As another version of the program might write it by mistake.
  for (const auto& make : std::vector<void (*)(SnapshotWriter&)>{
           [](SnapshotWriter& writer) { writer.number(~std::uint64_t{0}); },
           [](SnapshotWriter& writer) { writer.number(6), writer.number(7); },
           [](SnapshotWriter& writer) { writer.number(5), writer.number(1'000'000); },
           [](SnapshotWriter& writer) { writer.number(4), writer.number(99); },
           [](SnapshotWriter& writer) {
             writer.number(6), writer.number(0), writer.number(2), writer.text("b");
             writer.text("a"), writer.number(0), writer.number(0);
           },
           [](SnapshotWriter& writer) { writer.number(3), writer.fixed(0x7FF0000000000000u); },
           [](SnapshotWriter& writer) {
             for (int depth = 0; depth < 10'000; ++depth) writer.number(5), writer.number(1);
             writer.number(0);
           }}) {
    SnapshotWriter writer;
    make(writer);
    const std::string bytes = writer.finish();
    SnapshotReader reader(bytes);
    REQUIRE(reader.ok());
    reader.value();
    CHECK_FALSE(reader.ok());
  }
}

TEST_CASE("snapshot: one of another view or time is not used", "[view][snapshot][unit]") {
  const SnapshotHead wanted = head_now();
  const auto why = [&](auto change) {
    SnapshotHead found = wanted;
    change(found);
    return misfit(found, wanted, hours(24));
  };
  CHECK(why([](SnapshotHead&) {}).empty());
  CHECK(why([](SnapshotHead& head) { head.saved_at -= hours(23); }).empty());
  CHECK_FALSE(why([](SnapshotHead& head) { head.ns = "other"; }).empty());
  CHECK_FALSE(why([](SnapshotHead& head) { head.view = "other"; }).empty());
  CHECK_FALSE(why([](SnapshotHead& head) { head.release = "other"; }).empty());
  CHECK_FALSE(why([](SnapshotHead& head) { head.history = 2; }).empty());
  // Another version of the engine may read more fields for the same pipeline.
  CHECK_FALSE(why([](SnapshotHead& head) { head.fields[0] = "device"; }).empty());
  CHECK_FALSE(why([](SnapshotHead& head) { head.decoder = 2; }).empty());
  CHECK_FALSE(why([](SnapshotHead& head) { head.saved_at -= hours(25); }).empty());
  CHECK_FALSE(why([](SnapshotHead& head) { head.saved_at += hours(1); }).empty());
}

TEST_CASE("snapshot: its file is replaced as a whole and readable by its owner only",
          "[view][snapshot][unit]") {
  const testing::TemporaryDirectory directory;
  const std::string place = directory / "deep/er";
  SnapshotFile file(place, "test", "players");
  REQUIRE(file.kept());
  CHECK_FALSE(file.read());
  std::string failure = "not written";
  const auto note = [&failure](const std::string& why) { failure = why; };
  file.write("first", note);
  file.wait();
  CHECK(failure == "");
  file.write(std::string(3'000'000, 'x'), note);
  CHECK(file.read() == std::string(3'000'000, 'x'));
  struct stat about {};
  REQUIRE(::stat(file.path().c_str(), &about) == 0);
  CHECK((about.st_mode & 0777) == 0600);
  // What a crash left behind is in nobody's way.
  testing::write_file(file.path().string() + ".new", "half");
  file.write("second", note);
  CHECK(file.read() == "second");
  testing::write_file(file.path().string() + ".new", "half");
  file.remove();
  CHECK_FALSE(file.read());
  CHECK(std::filesystem::is_empty(place));

  // Nor is one read that others may have written, or that is larger than any.
  file.write("third", note);
  file.wait();
  REQUIRE(::chmod(file.path().c_str(), 0620) == 0);
  CHECK_THROWS(file.read());
  REQUIRE(::chmod(file.path().c_str(), 0602) == 0);
  CHECK_THROWS(file.read());
  REQUIRE(::chmod(file.path().c_str(), 0644) == 0);
  CHECK(file.read() == "third");
  std::filesystem::resize_file(file.path(), limits::view_snapshot_bytes_max + 1);  // takes no room
  CHECK_THROWS_WITH(file.read(), Catch::Contains("too large"));
  file.remove();

  CHECK_FALSE(SnapshotFile("", "test", "players").kept());
  testing::write_file(directory / "plain", "");
  SnapshotFile nowhere(directory / "plain", "test", "players");
  nowhere.write("text", note);
  nowhere.wait();
  CHECK_FALSE(failure.empty());
  // What could not become the file does not stay beside it: the disk may be full.
  std::filesystem::create_directory(file.path());
  CHECK_THROWS(file.read());
  file.write("third", note);
  file.wait();
  CHECK_FALSE(failure.empty());
  CHECK_FALSE(std::filesystem::exists(file.path().string() + ".new"));
}

}  // namespace dmm::view
