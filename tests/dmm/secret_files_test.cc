// Goal: who logs in with a file that others can read is told so once, and so is `dmm doctor`.

#include "dmm/internal/secret_files.h"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>
#include <optional>

#include "dmm/testing/temporary_directory.h"

namespace dmm::internal {

namespace {

namespace fs = std::filesystem;

std::string put(const fs::path& path, fs::perms mode, const std::string& text = "SU...") {
  testing::write_file(path, text);
  fs::permissions(path, mode);
  return path.string();
}

// A variable of the environment, as it was before at the end.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() { before_ ? ::setenv(name_, before_->c_str(), 1) : ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* const name_;
  std::optional<std::string> before_;
};

constexpr auto kOwner = fs::perms::owner_read | fs::perms::owner_write;

}  // namespace

TEST_CASE("secrets: a file that the group or others can read is exposed", "[secrets][unit]") {
  const testing::TemporaryDirectory directory;
  const std::string mine = put(directory / "mine", kOwner);
  const std::string group = put(directory / "group", kOwner | fs::perms::group_read);
  const std::string world = put(directory / "world", kOwner | fs::perms::others_read);
  const std::string missing = (directory / "missing").string();
  CHECK(exposed_files({mine, group, world, missing, ""}) ==
        std::vector<std::string>{group + " (mode 0640)", world + " (mode 0604)"});
  // The directory of such files is closed, and their modes are those of an access list.
  const Variable handed_over("CREDENTIALS_DIRECTORY", directory.path().string());
  CHECK(exposed_files({group, world}).empty());
}

TEST_CASE("secrets: all files that one logs in with are looked at", "[secrets][unit]") {
  const testing::TemporaryDirectory directory;
  const Variable none("DMM_CONFIG", (directory / "none").string());
  ConnectionOptions options;
  CHECK(secret_files(options).empty());
  options.password_file = "a.password";
  options.token_file = "a.token";
  options.creds_file = "a.creds";
  options.nkey_seed_file = "b.nk";
  options.tls_key = "c.key";
  options.tls_cert = "c.crt";
  CHECK(secret_files(options) ==
        std::vector<std::string>{"a.password", "a.token", "a.creds", "b.nk", "c.key"});
}

TEST_CASE("secrets: a configuration file counts if it holds one", "[secrets][unit]") {
  const testing::TemporaryDirectory directory;
  const std::string path = (directory / "dmm.toml").string();
  const Variable config("DMM_CONFIG", path);
  for (const auto& [text, secret] : std::vector<std::pair<std::string, bool>>{
           {"server = \"nats://a:4222\"\n", false},
           {"server = \"nats://me:pw@a:4222\"\n", true},
           {"user = \"me\"\npassword = \"pw\"\n", true},
           {"token = \"t\"\n", true},
           {"nkey_seed = \"b.nk\"\n", false},
           {"no TOML", false},
       }) {
    INFO(text);
    testing::write_file(path, text);
    CHECK(secret_files({}) == (secret ? std::vector{path} : std::vector<std::string>()));
  }
}

}  // namespace dmm::internal
