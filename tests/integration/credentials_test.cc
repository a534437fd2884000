// Goal: secrets and certificates that are changed, and rights that are taken away, while programs
// are connected: they say what is wrong, and go on without a restart when it is mended.
// Method: a server whose users stand in a file of the test, which is told to read it again.

#include <catch2/catch.hpp>

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <memory>
#include <mutex>

#include "certificates.h"
#include "fixture.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

/// Lines of a log, as "DMM-0102 the server refuses this program; ...".
class Lines final {
 public:
  Logger logger() {
    return Logger(Level::info,
                  [this](Level, std::string_view message, const nlohmann::json& fields) {
                    const std::lock_guard lock(mutex_);
                    lines_.push_back(fields.value("code", "") + " " + std::string(message) + " " +
                                     fields.value("error", ""));
                  });
  }
  bool has(std::string_view code, std::string_view words) const {
    const std::lock_guard lock(mutex_);
    return std::ranges::any_of(lines_, [&](const std::string& line) {
      return line.starts_with(code) && line.find(words) != std::string::npos;
    });
  }
  std::string all() const {
    const std::lock_guard lock(mutex_);
    std::string text;
    for (const std::string& line : lines_) text += line + "\n";
    return text;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
};

/// A server whose users stand in a file.
class Guarded final {
 public:
  /// users   as in the configuration of the server: "{ user: a, password: b }".
  explicit Guarded(const std::string& users) {
    write(users);
    testing::NatsServerOptions options;
    options.extra = "include \"../" + directory_.path().filename().string() + "/users.conf\"";
    server_ = std::make_unique<testing::NatsServer>(options);
  }
  testing::NatsServer& server() { return *server_; }
  std::filesystem::path file(std::string_view name) const { return directory_ / name; }

  /// From now on these may connect, and nobody else stays.
  void reload(const std::string& users) {
    write(users);
    const std::size_t before = reloads();
    ::kill(server_->pid(), SIGHUP);
    wait_for("the server to read its users again", [&] { return reloads() > before; });
  }

 private:
  void write(const std::string& users) {
    testing::write_file(directory_ / "users.conf", "authorization { users = [ " + users + " ] }\n");
  }
  std::size_t reloads() const {
    const std::string log = server_->log();
    std::size_t count = 0;
    for (std::size_t at = 0;
         (at = log.find("Reloaded server configuration", at)) != std::string::npos; ++at)
      ++count;
    return count;
  }

  testing::TemporaryDirectory directory_;
  std::unique_ptr<testing::NatsServer> server_;
};

/// A worker in this process that is logged in in some way.
struct Program {
  Lines lines;
  Journal journal;
  Bucket bucket;
  std::unique_ptr<Worker> worker;

  Program(const testing::NatsServer& server, ConnectionOptions connection)
      : bucket(open(server, std::move(connection))) {
    bucket.register_type(kType, journal.noting(), quick());
    worker = std::make_unique<Worker>(bucket);
    works_on(1);
    wait_ready();
  }
  ~Program() {
    worker->stop();
    CHECK(worker->error().empty());
    UNSCOPED_INFO(lines.all());
  }

  Bucket open(const testing::NatsServer& server, ConnectionOptions connection) {
    BucketOptions options;
    options.connection = std::move(connection);
    options.connection.servers = {server.url()};
    options.logger = lines.logger();
    return Bucket::open(kNamespace, std::move(options));
  }
  /// News reach it, and are done.
  void works_on(int value) {
    wait_for(
        "news to be taken",
        [&] {
          try {
            bucket.notify(thing("a"), json{{"value", value}});
            return true;
          } catch (const Error& error) {
            UNSCOPED_INFO(error.what());
            return false;
          }
        },
        60s);
    wait_settled_on(bucket, thing("a"), json{{"value", value}}, 60s);
  }
  void wait_ready() {
    wait_for(
        "the worker to be ready", [&] { return bucket.not_ready().empty(); }, 60s);
  }
  void wait_not_ready(std::string_view words) {
    std::string last;
    const bool told = testing::becomes_true(
        [&] {
          last.clear();
          for (const std::string& reason : bucket.not_ready()) last += reason + "; ";
          return last.find(words) != std::string::npos;
        },
        60s);
    INFO(last);
    INFO(lines.all());
    REQUIRE(told);
  }
  void wait_logged(std::string_view code, std::string_view words) {
    const bool told = testing::becomes_true([&] { return lines.has(code, words); }, 60s);
    INFO(lines.all());
    REQUIRE(told);
  }
};

ConnectionOptions with_password_file(const std::filesystem::path& file) {
  ConnectionOptions options;
  options.user = "worker";
  options.password_file = file.string();
  return options;
}

// Key pairs made for this test; they open nothing else.
constexpr const char* kSeed = "SUACPXK35K6QRT3D2LBV5CIOBHT3M6VWNOSVCGMLTZYL7P7VP7ZMSGEH5Y";
constexpr const char* kPublic = "UBP2J4Y4XIR37U4X36E275QITG756KTZHZC757KWKVEJJXIJYUGD22DB";
constexpr const char* kOtherSeed = "SUAHB3EHTGLTJIRWS53HEPFDGHAKITIH7FIHRHFIXE6NVONYBBOIFYGSE4";
constexpr const char* kOtherPublic = "UATPMG2IPPPQLULA4HINFVOID24R2XCXWQ3ISCX6JW63DI3XSBFB3DIY";

}  // namespace

TEST_CASE("credentials: a new password in its file is taken without a restart",
          "[credentials][fault][integration]") {
  Guarded guarded("{ user: worker, password: old }");
  testing::write_file(guarded.file("password"), "old\n");
  Program program(guarded.server(), with_password_file(guarded.file("password")));
  SECTION("the file first, and then the server") {
    testing::write_file(guarded.file("password"), "new\n");
    guarded.reload("{ user: worker, password: new }");
  }
  SECTION("the server first") {
    guarded.reload("{ user: worker, password: new }");
    program.wait_logged("DMM-0102", "the server refuses this program");
    program.wait_not_ready("DMM-0102");
    testing::write_file(guarded.file("password"), "new\n");
  }
  program.works_on(2);
  program.wait_ready();
}

TEST_CASE("credentials: a new seed in its file is taken without a restart",
          "[credentials][fault][integration]") {
  Guarded guarded(fmt::format("{{ nkey: {} }}", kPublic));
  testing::write_file(guarded.file("seed"), std::string(kSeed) + "\n");
  ConnectionOptions login;
  login.nkey_seed_file = guarded.file("seed").string();
  Program program(guarded.server(), login);
  testing::write_file(guarded.file("seed"), std::string(kOtherSeed) + "\n");
  guarded.reload(fmt::format("{{ nkey: {} }}", kOtherPublic));
  program.works_on(2);
  program.wait_ready();
}

TEST_CASE("credentials: a new token in its file is taken without a restart",
          "[credentials][fault][integration]") {
  testing::TemporaryDirectory directory;
  const auto write_server = [&](const std::string& token) {
    testing::write_file(directory / "users.conf", "authorization { token: " + token + " }\n");
  };
  write_server("old");
  testing::NatsServerOptions options;
  options.extra = "include \"../" + directory.path().filename().string() + "/users.conf\"";
  testing::NatsServer server(options);
  testing::write_file(directory / "token", "old\n");
  ConnectionOptions login;
  login.token_file = (directory / "token").string();
  Program program(server, login);
  testing::write_file(directory / "token", "new\n");
  write_server("new");
  server.kill();
  server.start();
  program.works_on(2);
  program.wait_ready();
}

TEST_CASE("rights: one that is taken away is named and comes back",
          "[credentials][fault][integration]") {
  const std::string all = "{ user: worker, password: w }";
  Guarded guarded(all);
  ConnectionOptions login;
  login.user = "worker";
  login.password = "w";
  Program program(guarded.server(), login);
  const auto without = [](const std::string& rights) {
    return "{ user: worker, password: w, permissions: { " + rights + " } }";
  };
  SECTION("to publish news") {
    guarded.reload(without("publish: { deny: \"dmm.test.work.>\" }"));
    try {
      program.bucket.notify(thing("a"), json{{"value", 2}});
      FAIL("it was taken");
    } catch (const Error& error) {
      INFO(error.what());
      CHECK(error.code().id == "DMM-0115");
      CHECK(error.message().find("Publish to \"dmm.test.work.thing.") != std::string::npos);
    }
    program.wait_not_ready("DMM-0115");
  }
  SECTION("to publish heartbeats") {
    guarded.reload(without("publish: { deny: \"dmm.test.lease.>\" }"));
    program.wait_logged("DMM-0115", "Publish to \"dmm.test.lease.");
    program.wait_not_ready("DMM-0115");
  }
  SECTION("to publish entries") {
    guarded.reload(without("publish: { deny: \"$KV.dmm_test.>\" }"));
    program.bucket.notify(thing("b"), json{{"value", 2}});
    program.wait_logged("DMM-0115", "Publish to \"$KV.dmm_test.thing.b");
    program.wait_not_ready("DMM-0115");
    CHECK(phase(program.bucket, thing("b")) != Phase::parked);
  }
  SECTION("to ask JetStream") {
    guarded.reload(without("publish: { deny: \"$JS.API.>\" }"));
    program.wait_logged("DMM-0115", "Publish to \"$JS.API.");
    program.wait_not_ready("DMM-0115");
  }
  SECTION("to listen to answers") {
    guarded.reload(without("subscribe: { deny: \"_INBOX.>\" }"));
    program.wait_logged("DMM-0115", "Subscription to \"_INBOX.");
    program.wait_not_ready("DMM-0115");
  }
  guarded.reload(all);
  program.works_on(3);
  program.wait_ready();
}

TEST_CASE("rights: a user that is removed is refused until it is back",
          "[credentials][fault][integration]") {
  Guarded guarded("{ user: worker, password: w }");
  ConnectionOptions login;
  login.user = "worker";
  login.password = "w";
  Program program(guarded.server(), login);
  guarded.reload("{ user: somebody, password: s }");
  program.wait_logged("DMM-0102", "the server refuses this program");
  program.wait_not_ready("DMM-0102");
  guarded.reload("{ user: worker, password: w }");
  program.works_on(2);
  program.wait_ready();
}

TEST_CASE("certificates: renewed files are read when the connection is made again",
          "[credentials][fault][integration]") {
  Certificates certificates;
  testing::NatsServerOptions options;
  options.tls = certificates.for_server(true);
  testing::NatsServer server(options);
  ConnectionOptions login;
  login.tls_ca = certificates.path("ca.pem");
  login.tls_cert = certificates.path("client.pem");
  login.tls_key = certificates.path("client.key");
  Program program(server, login);

  // Another authority: what the program was opened with is worth nothing any more, and the
  // certificate in its file has expired.
  certificates.make_authority();
  certificates.make_server();
  certificates.make_expired_client();
  server.kill();
  server.start();
  program.wait_logged("DMM-0102", "client.pem was valid until");
  program.wait_not_ready("DMM-0102");

  certificates.make_client();
  program.works_on(2);
  program.wait_ready();
}
