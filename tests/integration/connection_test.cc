// Goal: every way to authenticate works against a real server, and every way to fail names itself
// within its time.

#include <catch2/catch.hpp>

#include <atomic>
#include <chrono>

#include "certificates.h"
#include "dmm/testing/free_port.h"
#include "fixture.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

testing::NatsUser user(std::string name, std::string secret) {
  testing::NatsUser result;
  result.user = std::move(name);
  result.password = std::move(secret);
  return result;
}

ConnectionOptions password(std::string name, std::string secret) {
  ConnectionOptions result;
  result.user = std::move(name);
  result.password = std::move(secret);
  return result;
}

ConnectionOptions token(std::string secret) {
  ConnectionOptions result;
  result.token = std::move(secret);
  return result;
}

ConnectionOptions nkey(std::string seed_file) {
  ConnectionOptions result;
  result.nkey_seed_file = std::move(seed_file);
  return result;
}

// Opens the namespace with these options and brings one report through it.
std::string try_out(const testing::NatsServer& server, ConnectionOptions connection) {
  connection.servers = {server.url()};
  return code_of([&] {
    BucketOptions options;
    options.connection = connection;
    options.logger = Logger();
    Bucket bucket = Bucket::open(kNamespace, std::move(options));
    bucket.notify(thing("a"), json{{"value", 1}});
    if (bucket.matter(thing("a")) != json{{"value", 1}}) throw std::runtime_error("not stored");
    bucket.close();
  });
}

}  // namespace

TEST_CASE("connection: without a server the error comes in time and names the address",
          "[connection][integration]") {
  const std::string url =
      "nats://somebody:secret@127.0.0.1:" + std::to_string(testing::free_port());
  const auto begun = std::chrono::steady_clock::now();
  try {
    BucketOptions options;
    options.connection.servers = {url};
    options.logger = Logger();
    Bucket::open(kNamespace, std::move(options));
    FAIL("it opened");
  } catch (const Error& error) {
    CHECK(error.code().id == "DMM-0101");
    const std::string text = error.what();
    CHECK(text.find(url.substr(url.rfind(':'))) != std::string::npos);
    CHECK(text.find("secret") == std::string::npos);
  }
  CHECK(std::chrono::steady_clock::now() - begun < 10s);
}

TEST_CASE("connection: a server without JetStream is told apart", "[connection][integration]") {
  testing::NatsServerOptions options;
  options.jetstream = false;
  testing::NatsServer server(options);
  const auto begun = std::chrono::steady_clock::now();
  CHECK(try_out(server, {}) == "DMM-0104");
  CHECK(std::chrono::steady_clock::now() - begun < 10s);
}

TEST_CASE("connection: only the right user and password open a bucket",
          "[connection][integration]") {
  testing::NatsServerOptions options;
  options.users = {user("worker", "right")};
  testing::NatsServer server(options);
  CHECK(try_out(server, password("worker", "right")) == "none");
  CHECK(try_out(server, password("worker", "wrong")) == "DMM-0102");
  CHECK(try_out(server, password("nobody", "right")) == "DMM-0102");
  CHECK(try_out(server, {}) == "DMM-0102");
}

TEST_CASE("connection: only the right token opens a bucket", "[connection][integration]") {
  testing::NatsServerOptions options;
  options.token = "s3cr3t";
  testing::NatsServer server(options);
  CHECK(try_out(server, token("s3cr3t")) == "none");
  CHECK(try_out(server, token("guess")) == "DMM-0102");
}

TEST_CASE("connection: an nkey signs its way in", "[connection][integration]") {
  // A key pair made for this test; it opens nothing else.
  testing::NatsServerOptions options;
  options.users.emplace_back().nkey = "UBP2J4Y4XIR37U4X36E275QITG756KTZHZC757KWKVEJJXIJYUGD22DB";
  testing::NatsServer server(options);
  testing::TemporaryDirectory files;
  testing::write_file(files / "right.nk",
                      "SUACPXK35K6QRT3D2LBV5CIOBHT3M6VWNOSVCGMLTZYL7P7VP7ZMSGEH5Y\n");
  CHECK(try_out(server, nkey((files / "right.nk").string())) == "none");
  CHECK(try_out(server, {}) == "DMM-0102");
  CHECK(try_out(server, nkey((files / "missing.nk").string())) == "DMM-0404");
}

TEST_CASE("connection: only credentials of a known account open a bucket",
          "[connection][integration]") {
  const std::filesystem::path files = DMM_OPERATOR_DIR;
  testing::NatsServerOptions options;
  options.extra = testing::read_file(files / "server.conf");
  testing::NatsServer server(options);
  const auto creds = [](const std::filesystem::path& file) {
    ConnectionOptions result;
    result.creds_file = file.string();
    return result;
  };
  CHECK(try_out(server, creds(files / "worker.creds")) == "none");
  CHECK(try_out(server, creds(files / "stranger.creds")) == "DMM-0102");
  CHECK(try_out(server, {}) == "DMM-0102");
  CHECK(try_out(server, creds(files / "missing.creds")) == "DMM-0404");
}

TEST_CASE("connection: TLS with an authority and a client certificate works",
          "[connection][integration]") {
  const Certificates certificates;
  testing::NatsServerOptions options;
  options.tls = certificates.for_server(true);
  testing::NatsServer server(options);
  REQUIRE(server.url().starts_with("tls://"));
  ConnectionOptions whole;
  whole.tls_ca = certificates.path("ca.pem");
  whole.tls_cert = certificates.path("client.pem");
  whole.tls_key = certificates.path("client.key");
  CHECK(try_out(server, whole) == "none");

  ConnectionOptions without_client = whole;
  without_client.tls_cert.clear();
  without_client.tls_key.clear();
  CHECK(try_out(server, without_client) == "DMM-0102");

  const Certificates others;
  ConnectionOptions other_authority = whole;
  other_authority.tls_ca = others.path("ca.pem");
  CHECK(try_out(server, other_authority) == "DMM-0102");
  ConnectionOptions other_client = whole;
  other_client.tls_cert = others.path("client.pem");
  other_client.tls_key = others.path("client.key");
  CHECK(try_out(server, other_client) == "DMM-0102");
}

TEST_CASE("connection: TLS goes with a password and survives a restart of the server",
          "[connection][fault][integration]") {
  const Certificates certificates;
  testing::NatsServerOptions options;
  options.tls = certificates.for_server(false);
  options.users = {user("worker", "right")};
  testing::NatsServer server(options);
  BucketOptions bucket_options;
  bucket_options.connection.servers = {server.url()};
  bucket_options.connection.user = "worker";
  bucket_options.connection.password = "right";
  bucket_options.connection.tls_ca = certificates.path("ca.pem");
  bucket_options.logger = Logger();
  Bucket bucket = Bucket::open(kNamespace, std::move(bucket_options));
  Journal journal;
  bucket.register_type(kType, journal.noting(), quick());
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"value", 1}});
  wait_settled_on(bucket, thing("a"), json{{"value", 1}});
  server.kill();
  server.start();
  bucket.notify(thing("a"), json{{"value", 2}});
  wait_settled_on(bucket, thing("a"), json{{"value", 2}});
}

TEST_CASE("connection: a device that may publish only its own reports needs nothing else",
          "[connection][integration]") {
  testing::NatsServerOptions options;
  testing::NatsUser device_user = user("device", "d");
  device_user.publish = {"dmm.test.report.speaker.kitchen"};
  device_user.subscribe = {"_INBOX.>"};
  options.users = {user("worker", "w"), device_user};
  testing::NatsServer server(options);
  BucketOptions worker_options;
  worker_options.connection.servers = {server.url()};
  worker_options.connection.user = "worker";
  worker_options.connection.password = "w";
  worker_options.logger = Logger();
  Bucket bucket = Bucket::open(kNamespace, std::move(worker_options));
  std::atomic<int> heard = 0;
  bucket.observe("speaker", ReportHandler([&](ObserveContext&, const json&) { ++heard; }));
  Worker worker(bucket);
  // With these rights a bucket cannot be opened, and it says why.
  CHECK(try_out(server, password("device", "d")) == "DMM-0102");
  RawClient device(server.port(), "device", "d");
  device.store("dmm.test.report.speaker.kitchen", R"({"song":1})");
  wait_for("the report", [&] { return heard == 1; });
  CHECK_THROWS(device.store("dmm.test.report.speaker.bathroom", R"({"song":1})"));
}

TEST_CASE("connection: a bucket that is closed says so", "[connection][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  bucket.notify(thing("a"), json{{"value", 1}});
  bucket.close();
  CHECK(code_of([&] { bucket.notify(thing("a"), json{{"value", 2}}); }) == "DMM-0108");
  CHECK(code_of([&] { bucket.matter(thing("a")); }) == "DMM-0108");
  bucket.close();  // once more is harmless
}
