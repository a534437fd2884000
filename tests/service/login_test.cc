// Goal: what docs/how-to/secure-a-namespace.md says of TLS and nkeys works as it is written there.
// Method: a private nats-server that asks for a client's certificate and knows one nkey; a service
// with the file of the page, its paths replaced.

#include <catch2/catch.hpp>

#include <string>
#include <vector>

#include "dmm/testing/temporary_directory.h"
#include "tests/service/subject.h"

namespace {

using dmm::service_test::Subject;
using dmm::testing::ExitStatus;
using namespace std::chrono_literals;

void openssl(std::vector<std::string> arguments) {
  dmm::testing::ChildOptions options;
  options.arguments = std::move(arguments);
  const auto finished = dmm::testing::run("openssl", options);
  INFO(finished.error_output);
  REQUIRE(finished.status.success());
}

}  // namespace

TEST_CASE("login: a service comes in over TLS with its certificate and its nkey",
          "[service][permissions][integration]") {
  const dmm::testing::TemporaryDirectory files;
  const auto path = [&](const std::string& name) { return (files / name).string(); };
  openssl({"req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=authority",
           "-keyout", path("ca.key"), "-out", path("ca.pem")});
  dmm::testing::write_file(files / "ext", "subjectAltName=IP:127.0.0.1\n");
  for (const std::string name : {"server", "players"}) {
    openssl({"req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=" + name, "-keyout",
             path(name + ".key"), "-out", path(name + ".csr")});
    openssl({"x509", "-req", "-in", path(name + ".csr"), "-CA", path("ca.pem"), "-CAkey",
             path("ca.key"), "-CAcreateserial", "-days", "2", "-extfile", path("ext"), "-out",
             path(name + ".pem")});
  }
  dmm::testing::NatsServerOptions options;
  options.tls = {path("ca.pem"), path("server.pem"), path("server.key"), true};
  options.users.emplace_back().nkey = "UBP2J4Y4XIR37U4X36E275QITG756KTZHZC757KWKVEJJXIJYUGD22DB";
  const dmm::testing::NatsServer server(options);
  const std::string seed = "SUACPXK35K6QRT3D2LBV5CIOBHT3M6VWNOSVCGMLTZYL7P7VP7ZMSGEH5Y";
  dmm::testing::write_file(files / "players.nk", seed + "\n");
  const std::string outside = "server: tls://127.0.0.1:" + std::to_string(server.port()) +
                              "\ntls_ca: " + path("ca.pem") + "\nnkey: " + path("players.nk") +
                              "\n";
  dmm::testing::write_file(files / "outside.yaml", outside);
  dmm::testing::write_file(files / "players.yaml", outside + "tls_cert: " + path("players.pem") +
                                                       "\ntls_key: " + path("players.key") + "\n");

  Subject subject("", "tls", {"--config", path("players.yaml")});
  subject.wait_until_ready();
  CHECK(subject.process().stop(SIGTERM) == ExitStatus{0, 0});
  CHECK(subject.process().error_output().find(seed) == std::string::npos);

  // Without the certificate it stays outside, and says so by its exit code.
  Subject bare("", "tls", {"--config", path("outside.yaml"), "--connect-timeout", "0s"});
  const auto bare_end = bare.process().wait(30s);
  REQUIRE(bare_end);
  INFO(bare.process().error_output());
  CHECK(*bare_end == ExitStatus{3, 0});
}
