#include "dmm/connection_options.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>

#include "dmm/error.h"
#include "dmm/limits.h"
#include "tests/dmm/scratch.h"

namespace dmm {

namespace {

using Catch::Matchers::Contains;
using testing::ScratchEnvironment;
using testing::ScratchFile;

// What is said of a file with this text, "" if nothing.
std::string complaint_about(const std::string& toml) {
  const ScratchFile file(toml);
  try {
    ConnectionOptions::from_file(file.path());
    return {};
  } catch (const Error& error) {
    CHECK(error.code().id == "DMM-0404");
    CHECK(error.kind() == Kind::invalid);
    return error.message();
  }
}

std::string complaint_about(const ConnectionOptions& options) {
  try {
    options.check();
    return {};
  } catch (const Error& error) {
    CHECK(error.code().id == "DMM-0404");
    return error.message();
  }
}

std::string complaint_about_server(const std::string& url) {
  ConnectionOptions options;
  options.servers = {url};
  return complaint_about(options);
}

// No variable of the machine reaches the test.
ScratchEnvironment clean_environment() {
  return ScratchEnvironment({{"DMM_SERVER", std::nullopt},
                             {"DMM_USER", std::nullopt},
                             {"DMM_PASSWORD", std::nullopt},
                             {"DMM_TOKEN", std::nullopt},
                             {"DMM_NKEY_SEED", std::nullopt},
                             {"DMM_CREDS", std::nullopt},
                             {"DMM_TLS_CA", std::nullopt},
                             {"DMM_TLS_CERT", std::nullopt},
                             {"DMM_TLS_KEY", std::nullopt},
                             {"DMM_CONFIG", std::nullopt},
                             {"HOME", "/nonexistent"}});
}

}  // namespace

TEST_CASE("connection options: every variable of the environment is read", "[connection][unit]") {
  const ScratchEnvironment clean = clean_environment();
  CHECK(ConnectionOptions::from_environment().servers.empty());
  const ScratchEnvironment set({{"DMM_SERVER", "nats://a:4222, tls://b"},
                                {"DMM_USER", "u"},
                                {"DMM_PASSWORD", "p"},
                                {"DMM_TOKEN", "t"},
                                {"DMM_NKEY_SEED", "n"},
                                {"DMM_CREDS", "c"},
                                {"DMM_TLS_CA", "ca"},
                                {"DMM_TLS_CERT", "cert"},
                                {"DMM_TLS_KEY", "key"}});
  const ConnectionOptions options = ConnectionOptions::from_environment();
  CHECK(options.servers == std::vector<std::string>{"nats://a:4222", "tls://b"});
  CHECK(options.user == "u");
  CHECK(options.password == "p");
  CHECK(options.token == "t");
  CHECK(options.nkey_seed_file == "n");
  CHECK(options.creds_file == "c");
  CHECK(options.tls_ca == "ca");
  CHECK(options.tls_cert == "cert");
  CHECK(options.tls_key == "key");
}

TEST_CASE("connection options: a file gives every field", "[connection][unit]") {
  const ScratchFile file(R"(# how to reach the servers
server = ["nats://a:4222", "nats://b:4222"]
user = "u"
password = "p\u00fc"
token = "t"
nkey_seed = "n"
creds = "c"
tls_ca = "ca"
tls_cert = "cert"
tls_key = "key"
)");
  const ConnectionOptions options = ConnectionOptions::from_file(file.path());
  CHECK(options.servers == std::vector<std::string>{"nats://a:4222", "nats://b:4222"});
  CHECK(options.user == "u");
  CHECK(options.password == "p\xC3\xBC");
  CHECK(options.token == "t");
  CHECK(options.nkey_seed_file == "n");
  CHECK(options.creds_file == "c");
  CHECK(options.tls_ca == "ca");
  CHECK(options.tls_cert == "cert");
  CHECK(options.tls_key == "key");
  const ScratchFile one("server = 'nats://a:4222,nats://b:4222'");
  CHECK(ConnectionOptions::from_file(one.path()).servers.size() == 2);
  const ScratchFile none("");
  CHECK(ConnectionOptions::from_file(none.path()).servers.empty());
}

TEST_CASE("connection options: flags go before environment before file", "[connection][unit]") {
  const ScratchEnvironment clean = clean_environment();
  const ScratchFile file(
      "server = 'nats://file'\nuser = 'file'\npassword = 'file'\ntls_ca = 'file'");
  const ScratchEnvironment set(
      {{"DMM_CONFIG", file.path()}, {"DMM_SERVER", "nats://environment"}, {"DMM_USER", "env"}});
  ConnectionOptions options;
  options.servers = {"nats://flag"};
  options.fill_from(ConnectionOptions::load());
  CHECK(options.servers == std::vector<std::string>{"nats://flag"});
  CHECK(options.user == "env");
  CHECK(options.password == "file");
  CHECK(options.tls_ca == "file");
  CHECK(ConnectionOptions::load().servers == std::vector<std::string>{"nats://environment"});
}

TEST_CASE("connection options: another way to log in is not mixed in", "[connection][unit]") {
  ConnectionOptions file;
  file.servers = {"nats://u:p@host:4222"};
  file.user = "user";
  file.password = "password";
  file.token = "token";
  file.tls_cert = "cert";
  file.tls_key = "key";

  ConnectionOptions with_creds;
  with_creds.creds_file = "creds";
  with_creds.tls_cert = "mine";
  with_creds.fill_from(file);
  CHECK(with_creds.user.empty());
  CHECK(with_creds.password.empty());
  CHECK(with_creds.token.empty());
  CHECK(with_creds.servers == std::vector<std::string>{"nats://host:4222"});
  CHECK(with_creds.tls_key.empty());

  ConnectionOptions with_user;
  with_user.user = "other";
  with_user.fill_from(file);
  CHECK(with_user.user == "other");
  CHECK(with_user.password == "password");
  CHECK(with_user.token.empty());

  ConnectionOptions nothing;
  nothing.fill_from(file);
  CHECK(nothing.token == "token");
  CHECK(nothing.servers == file.servers);
}

TEST_CASE("connection options: the file in the home folder is used if it is there",
          "[connection][unit]") {
  const ScratchEnvironment clean = clean_environment();
  CHECK(ConnectionOptions::load().servers.empty());
  const ScratchEnvironment homeless(ScratchEnvironment::Variables{{"HOME", std::nullopt}});
  CHECK(ConnectionOptions::load().servers.empty());
  const ScratchEnvironment wrong(
      ScratchEnvironment::Variables{{"DMM_CONFIG", "/nonexistent/dmm.toml"}});
  CHECK_THROWS_WITH(ConnectionOptions::load(), Contains("/nonexistent/dmm.toml") &&
                                                   Contains("No such file") &&
                                                   Contains("DMM_CONFIG"));
}

TEST_CASE("connection options: an unknown key names its line and the nearest known one",
          "[connection][unit]") {
  CHECK_THAT(complaint_about("user = 'a'\n\nsever = 'b'\n"),
             Contains("line 3") && Contains("\"sever\"") && Contains("\"server\""));
  CHECK_THAT(complaint_about("tls_crt = 'a'"), Contains("line 1") && Contains("\"tls_cert\""));
  CHECK_THAT(complaint_about("passwort = 'a'"), Contains("\"password\""));
  CHECK_THAT(complaint_about("[nats]\nserver = 'b'"), Contains("\"nats\""));
  CHECK_THAT(complaint_about(fmt::format("\"{}\" = 1", std::string(10'000, 'x'))), Contains("..."));
}

TEST_CASE("connection options: a file that cannot be meant is refused with its line",
          "[connection][unit]") {
  CHECK_THAT(complaint_about("user = 'a'\npassword = secret\n"), Contains("line 2"));
  CHECK_THAT(complaint_about("user = 'a'\nuser = 'b'\n"), Contains("line 2"));
  CHECK_THAT(complaint_about("user = 7"), Contains("line 1: user must be a text"));
  CHECK_THAT(complaint_about("server = 4222"), Contains("or a list"));
  CHECK_THAT(complaint_about("server = ['a', 1]"), Contains("server must be a text"));
  CHECK_THAT(complaint_about("user = '\xFF'"), Contains("line 1"));
  CHECK_THAT(complaint_about(fmt::format("user = {}", std::string(100'000, '['))),
             Contains("line 1"));
  CHECK_THAT(complaint_about(std::string(limits::config_file_bytes_max + 1, '\n')),
             Contains("more than 1000000 bytes"));
  CHECK(complaint_about(std::string(limits::config_file_bytes_max, '\n')).empty());
  CHECK_THROWS_WITH(ConnectionOptions::from_file("/"), Contains("cannot be read"));
  // Letters beyond ASCII: in strings and comments only.
  CHECK(complaint_about(
            "# gr\xC3\xBC\xC3\x9F\nuser = 'k\xC3\xBC' # \xC3\xBC\ntls_ca = \"\\\"\xC3\xBC\"\n")
            .empty());
  for (const char* letter : {"\xC3\xBC", "\xEF\xBB\xBE", "\xC2\x85", "\xF0\x9F\x8E\xB5"}) {
    CHECK_THAT(complaint_about(fmt::format("user = 'a'\nna{}me = 'b'\n", letter)),
               Contains("line 2: a letter that is not ASCII"));
  }
  // Nothing of a value is shown: it may be the password.
  CHECK_THAT(complaint_about("password = 12345"), !Contains("12345"));
}

TEST_CASE("connection options: sound options pass the check", "[connection][unit]") {
  CHECK(complaint_about(ConnectionOptions{}).empty());
  for (const char* url :
       {"nats://127.0.0.1:4222", "tls://nats.example.com", "host", "host:1", "nats://[::1]:4222",
        "[fe80::1]", "nats://u:p@host", "nats://t@h:65535", "nats://host:4222/"}) {
    CAPTURE(url);
    CHECK(complaint_about_server(url).empty());
  }
  const ScratchFile file("content");
  ConnectionOptions options;
  options.user = "u";
  options.password = "p";
  options.tls_ca = options.tls_cert = options.tls_key = file.path();
  CHECK(complaint_about(options).empty());
}

TEST_CASE("connection options: a server that cannot be is refused", "[connection][unit]") {
  for (const char* url :
       {"", "%%%", "ho$t", "http://host", "nats://", "nats://:4222", "host:0", "host:65536",
        "host:x", "host:", "host:42 22", "nats://ho st", "nats://host\n", "nats://[::1", "::1",
        "[::1]x", "nats://u@", "nats://host/path", "nats://host?x=1"}) {
    CAPTURE(url);
    CHECK_FALSE(complaint_about_server(url).empty());
  }
  CHECK_THAT(complaint_about_server("http://u:secret@host"), !Contains("secret"));
}

TEST_CASE("connection options: values that contradict each other are refused",
          "[connection][unit]") {
  const ScratchFile file("content");
  ConnectionOptions options;
  SECTION("user alone") {
    options.user = "u";
    CHECK_THAT(complaint_about(options), Contains("without a password"));
  }
  SECTION("password alone") {
    options.password = "secret";
    CHECK_THAT(complaint_about(options), Contains("without a user") && !Contains("secret"));
  }
  SECTION("creds and nkey") {
    options.creds_file = options.nkey_seed_file = file.path();
    CHECK_THAT(complaint_about(options), Contains("nkey_seed and creds are both given"));
  }
  SECTION("token and user") {
    options.token = options.user = options.password = "x";
    CHECK_THAT(complaint_about(options), Contains("user and password and token"));
  }
  SECTION("credentials in the URL and a token") {
    options.servers = {"nats://u:p@host"};
    options.token = "t";
    CHECK_THAT(complaint_about(options), Contains("in a server URL and token"));
  }
  SECTION("certificate without key") {
    options.tls_cert = file.path();
    CHECK_THAT(complaint_about(options), Contains("tls_cert is given without tls_key"));
  }
  SECTION("key without certificate") {
    options.tls_key = file.path();
    CHECK_THAT(complaint_about(options), Contains("tls_key is given without tls_cert"));
  }
  SECTION("control characters") {
    options.user = "u";
    options.password = "p\nq";
    CHECK_THAT(complaint_about(options), Contains("password holds a control character (0x0A)"));
  }
  SECTION("a file that is not there") {
    options.tls_ca = "/nonexistent/ca.pem";
    CHECK_THAT(complaint_about(options), Contains("/nonexistent/ca.pem"));
  }
  SECTION("a folder") {
    options.creds_file = "/";
    CHECK_THAT(complaint_about(options), Contains("is a directory"));
  }
  SECTION("the seed itself in place of its file") {
    options.nkey_seed_file = fmt::format("SU{}", std::string(56, 'A'));
    CHECK_THAT(complaint_about(options), Contains("must name a file") && !Contains("AAAA"));
  }
}

TEST_CASE("connection options: a URL for a log shows no credentials", "[connection][unit]") {
  CHECK(redact_url("nats://user:password@host:4222") == "nats://host:4222");
  CHECK(redact_url("nats://token@host") == "nats://host");
  CHECK(redact_url("user:password@host") == "host");
  CHECK(redact_url("tls://u:p@ss/w:rd@host") == "tls://host");
  CHECK(redact_url("nats://host:4222") == "nats://host:4222");
  CHECK(redact_url("host") == "host");
  CHECK(redact_url("").empty());
}

}  // namespace dmm
