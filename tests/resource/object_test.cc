// Goal: what names and holds an object is checked before anything is written.

#include <catch2/catch.hpp>

#include "dmm/resource/check_internal.h"
#include "dmm/resource/host.h"

namespace dmm::resource {

namespace {

struct Tagged {
  std::string name;
  std::string id() const { return name; }
  std::string_view kind() const { return "tagged"; }
  InformOptions inform_options() const {
    return {.ns = "crm", .tags = {{"aaa"}}, .metadata = nlohmann::json{{"a", 1}}};
  }
  Time created_at() const { return Time(std::chrono::seconds(5)); }
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Tagged, name)

bool refused(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return &error.code() == &code::bad_resource;
  }
  return false;
}

}  // namespace

TEST_CASE("object: a kind is 1 to 64 of lower case digits and single separators",
          "[resource][unit]") {
  for (const char* kind : {"user", "a", "user_account", "user-account-2", "0"}) {
    CAPTURE(kind);
    CHECK_NOTHROW(check_kind(kind));
  }
  CHECK_NOTHROW(check_kind(std::string(64, 'a')));
  for (const std::string& kind :
       {std::string(), std::string(65, 'a'), std::string("User Account"), std::string("User"),
        std::string("a__b"), std::string("_a"), std::string("a-"), std::string("a|b"),
        std::string("a.b"), std::string("\xc3\xa9")}) {
    CAPTURE(kind);
    CHECK(refused([&] { check_kind(kind); }));
  }
}

TEST_CASE("object: what its type says holds unless the call says otherwise", "[resource][unit]") {
  const AnyObject plain = erase(Tagged{"x"});
  CHECK(plain.kind == "tagged");
  CHECK(plain.options.ns == "crm");
  CHECK(plain.options.tags == std::vector<std::string>{"aaa"});
  CHECK(plain.created_at == Time(std::chrono::seconds(5)));
  const AnyObject said = erase(Tagged{"x"}, {.tags = {{"bbb"}}});
  CHECK(said.options.ns == "crm");
  CHECK(said.options.tags == std::vector<std::string>{"bbb"});
  CHECK(said.options.metadata == nlohmann::json{{"a", 1}});
}

TEST_CASE("object: a resource and its identity name each other", "[resource][unit]") {
  const std::vector<std::pair<Key, std::string>> cases{
      {{"user", "u1"}, "u1"},
      {{"user", "u1", "tenant-a"}, "tenant-a/u1"},
      {{"user", "a/b"}, "default/a/b"},
      {{"user", "tenant-a/u1"}, "default/tenant-a/u1"},
      {{"user", "/"}, "default//"}};
  for (const auto& [key, id] : cases) {
    CAPTURE(id);
    CHECK(identity_of(key) == Identity{key.kind, id});
    CHECK(key_of_identity(identity_of(key)) == key);
  }
  CHECK_NOTHROW(identity_of({"user", std::string(255, 'x')}));
  CHECK(refused([] { identity_of({"user", std::string(256, 'x')}); }));
  CHECK_NOTHROW(identity_of({"user", std::string(251, 'x'), "crm"}));
  CHECK(refused([] { identity_of({"user", std::string(252, 'x'), "crm"}); }));
}

TEST_CASE("object: what cannot be stored is refused with its reason", "[resource][unit]") {
  const auto with = [](InformOptions options) {
    return AnyObject{"user", "u1", nlohmann::json::object(), {}, std::move(options)};
  };
  CHECK_NOTHROW(internal::check_object(with({})));
  CHECK_NOTHROW(internal::check_object(with({.tags = {{"abc", std::string(255, 'a')}}})));
  CHECK(refused([&] { internal::check_object(with({.tags = {{"ab"}}})); }));
  CHECK(refused([&] { internal::check_object(with({.tags = {{std::string(256, 'a')}}})); }));
  CHECK(refused([&] { internal::check_object(with({.tags = {{"a b c"}}})); }));
  CHECK(refused([&] { internal::check_object(with({.tags = {{"-abc"}}})); }));
  CHECK(refused([&] { internal::check_object(with({.max_attempts = 0})); }));
  CHECK(refused([&] { internal::check_object(with({.metadata = nlohmann::json::array()})); }));
  CHECK(refused([&] { internal::check_object(with({.ns = "Tenant A"})); }));
  CHECK(refused([&] { internal::check_object({"user", "", nlohmann::json::object()}); }));
  CHECK(refused([&] { internal::check_object({"user", "\xff", nlohmann::json::object()}); }));
  CHECK(refused([&] { internal::check_object({"user", "u1", nlohmann::json::array()}); }));
}

TEST_CASE("object: a text with U+0000 is refused and one that only looks like it is not",
          "[resource][unit]") {
  const auto text = [](const std::string& value) {
    return internal::stored_text(nlohmann::json{{"a", value}}, 1'000, "the object");
  };
  CHECK(refused([&] { text(std::string("a\0b", 3)); }));
  CHECK(refused([&] { text(std::string("\\\0", 2)); }));
  CHECK(text("\\u0000") == R"({"a":"\\u0000"})");
  CHECK(refused([&] { text(std::string(1'000, 'x')); }));
}

TEST_CASE("retry: delays grow with the fourth power of the failures", "[resource][unit]") {
  for (const auto& [failures, seconds] :
       std::vector<std::pair<int, int>>{{1, 1}, {2, 16}, {3, 81}, {4, 256}}) {
    for (int i = 0; i < 100; ++i) {
      const auto delay = retry_delay(failures);
      CHECK(delay >= std::chrono::milliseconds(seconds * 900 - 1));
      CHECK(delay <= std::chrono::milliseconds(seconds * 1100 + 1));
    }
  }
  CHECK(retry_delay(1'000) <= std::chrono::hours(24));
}

}  // namespace dmm::resource
