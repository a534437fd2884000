#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dmm/testing/child_process.h"
#include "dmm/testing/nats_server.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/testing/wait_for.h"

namespace dmm::integration {

/// A certificate authority, and certificates of it for a server and a client, made by openssl.
class Certificates final {
 public:
  Certificates() {
    testing::write_file(files_ / "server.ext", "subjectAltName=IP:127.0.0.1,DNS:localhost\n");
    testing::write_file(files_ / "client.ext", "extendedKeyUsage=clientAuth\n");
    make_authority();
    make_server();
    make_client();
  }
  std::string path(std::string_view name) const { return (files_ / name).string(); }
  testing::NatsTls for_server(bool verify_clients) const {
    return {path("ca.pem"), path("server.pem"), path("server.key"), verify_clients};
  }

  // Others in the same files; those of the authority before are worth nothing any more.
  void make_authority() {
    openssl({"req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
             "/CN=dmm test authority", "-keyout", path("ca.key"), "-out", path("ca.pem")});
  }
  void make_server() { sign("server", "/CN=localhost", "2"); }
  void make_client() { sign("client", "/CN=a worker", "2"); }
  /// One whose time is over when this returns.
  void make_expired_client() {
    sign("client", "/CN=a worker", "0");
    testing::wait_for("the certificate to expire", [this] {
      testing::ChildOptions check;
      check.arguments = {"x509", "-checkend", "0", "-noout", "-in", path("client.pem")};
      return !testing::run("openssl", check).status.success();
    });
  }

 private:
  void sign(const std::string& name, const std::string& subject, const std::string& days) {
    openssl({"req", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout",
             path(name + ".key"), "-out", path(name + ".csr")});
    openssl({"x509", "-req", "-in", path(name + ".csr"), "-CA", path("ca.pem"), "-CAkey",
             path("ca.key"), "-CAcreateserial", "-days", days, "-extfile", path(name + ".ext"),
             "-out", path(name + ".pem")});
  }
  static void openssl(std::vector<std::string> arguments) {
    testing::ChildOptions options;
    options.arguments = std::move(arguments);
    const testing::Finished finished = testing::run("openssl", options);
    if (!finished.status.success()) throw std::runtime_error(finished.error_output);
  }

  testing::TemporaryDirectory files_;
};

}  // namespace dmm::integration
