// Goal: with the users of nats-permissions.conf everything works that each is meant to do, and
// nothing else.
// Method: a private nats-server with that file; a device, a worker as a process, an operator and a
// viewer do their work, and then try what they must not, which the server says in its log.

#include <catch2/catch.hpp>

#include <atomic>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dmm/bucket.h"
#include "dmm/device.h"
#include "dmm/nats/messenger.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/testing/wait_for.h"
#include "dmm/transport/messenger.h"
#include "dmm/wire.h"
#include "tests/service/subject.h"

namespace {

using dmm::ConnectionOptions;
using dmm::service_test::Subject;
using dmm::testing::wait_for;
using namespace std::chrono_literals;

/// The server with the file, its passwords in the environment.
class Guarded {
 public:
  Guarded() {
    for (const char* user : {"DEVICE", "WORKER", "OPERATOR", "VIEWER"}) {
      ::setenv(("DMM_" + std::string(user) + "_PASSWORD").c_str(), "geheim", 1);
    }
    dmm::testing::NatsServerOptions options;
    options.extra = dmm::testing::read_file(std::string(DMM_SHARE_DIR) + "/nats-permissions.conf");
    REQUIRE_FALSE(options.extra.empty());
    server_.emplace(std::move(options));
  }
  dmm::testing::NatsServer& server() { return *server_; }

  ConnectionOptions as(const std::string& user) const {
    ConnectionOptions options;
    options.servers = {server_->url()};
    options.user = user;
    options.password = "geheim";
    return options;
  }
  dmm::Bucket bucket(const std::string& user, bool create = false) const {
    dmm::BucketOptions options;
    options.connection = as(user);
    options.create = create;
    options.logger = dmm::Logger();
    return dmm::Bucket::open("music", std::move(options));
  }

 private:
  std::optional<dmm::testing::NatsServer> server_;
};

struct Attempt {
  const char* user;
  std::string subject;
  bool publish = true;
};

std::vector<Attempt> attempts() {
  const auto api = [](const std::string& call) { return "$JS.API." + call; };
  std::vector<Attempt> all = {
      // A device is itself, and nobody else; it tells no worker what to do.
      {"device", "dmm.music.report.player.cellar"},
      {"device", "dmm.music.report.lamp.kitchen"},
      {"device", "dmm.music.reply.player.cellar.x.1"},
      {"device", "dmm.music.ask.player.cellar"},
      {"device", "dmm.music.work.player.1.kitchen"},
      {"device", "dmm.music.command.player.kitchen.x.1"},
      {"device", "dmm.music.lease.work.player.0.99"},
      {"device", "dmm.music.workers.ask"},
      {"device", "dmm.music.workers.tell"},
      {"device", "$KV.dmm_music.player.kitchen"},
      {"device", api("INFO")},
      {"device", api("STREAM.INFO.DMM_music_REPORTS")},
      {"device", api("CONSUMER.CREATE.DMM_music_REPORTS")},
      {"device", api("DIRECT.GET.DMM_music_SHADOW.dmm.music.shadow.player.cellar")},
      {"device", "dmm.music.command.player.cellar.>", false},
      {"device", "dmm.music.desired.player.cellar", false},
      {"device", "dmm.music.report.>", false},
      {"device", "dmm.music.>", false},
      // A worker is no device, makes and removes no streams, and stays in its namespace.
      {"worker", "dmm.music.report.player.kitchen"},
      {"worker", "dmm.music.reply.player.kitchen.x.1"},
      {"worker", "dmm.other.work.player.1.kitchen"},
      {"worker", "dmm.music.workers.tell"},
      {"worker", "$KV.dmm_other.player.kitchen"},
      {"worker", api("STREAM.CREATE.DMM_music_WORK")},
      {"worker", api("STREAM.DELETE.DMM_music_WORK")},
      {"worker", api("STREAM.PURGE.DMM_music_WORK")},
      {"worker", api("STREAM.UPDATE.KV_dmm_music")},
      {"worker", api("STREAM.MSG.DELETE.DMM_music_REPORTS")},
      {"worker", api("STREAM.INFO.DMM_other_WORK")},
      {"worker", "dmm.music.command.>", false},
      {"worker", "dmm.other.>", false},
      // An operator has this namespace and no other.
      {"operator", "dmm.other.work.player.1.kitchen"},
      {"operator", "$KV.dmm_other.player.kitchen"},
      {"operator", api("STREAM.CREATE.DMM_other_WORK")},
      {"operator", api("STREAM.DELETE.ORDERS")},
      {"operator", "dmm.other.>", false},
      // Who only looks changes nothing.
      {"viewer", "dmm.music.work.player.1.kitchen"},
      {"viewer", "dmm.music.report.player.kitchen"},
      {"viewer", "dmm.music.command.player.kitchen.x.1"},
      {"viewer", "dmm.music.shadow.player.kitchen"},
      {"viewer", "dmm.music.lease.work.player.0.99"},
      {"viewer", "dmm.music.event.parked.player.kitchen"},
      {"viewer", "dmm.music.workers.answer.x"},
      {"viewer", "dmm.music.workers.tell"},
      {"viewer", "$KV.dmm_music.player.kitchen"},
      {"viewer", "$KV.dmm_music_status.player.kitchen"},
      {"viewer", api("STREAM.CREATE.DMM_music_WORK")},
      {"viewer", api("STREAM.DELETE.DMM_music_WORK")},
      {"viewer", api("STREAM.PURGE.KV_dmm_music")},
      {"viewer", api("STREAM.MSG.DELETE.DMM_music_WORK")},
      {"viewer", api("CONSUMER.DELETE.DMM_music_WORK.x")},
      {"viewer", "dmm.music.command.>", false},
      {"viewer", "dmm.music.>", false},
  };
  return all;
}

}  // namespace

TEST_CASE("permissions: everybody can do what they are there for",
          "[service][permissions][integration]") {
  Guarded guarded;
  CHECK_THROWS_AS(guarded.bucket("viewer", true), dmm::Error);  // the streams are not there yet
  dmm::Bucket operator_ = guarded.bucket("operator", true);
  const dmm::testing::TemporaryDirectory directory;
  dmm::testing::write_file(directory / "password", "geheim\n");
  Subject subject(guarded.server().url(), "music",
                  {"--create", "false", "--user", "worker", "--password-file",
                   (directory / "password").string()});
  subject.wait_until_ready();

  // The device reports, is told a command and its shadow.
  dmm::DeviceHostOptions host_options;
  host_options.connection = guarded.as("device");
  host_options.logger = dmm::Logger();
  auto device = dmm::DeviceHost::connect("music", "player", std::move(host_options));
  std::atomic<int> commands{0};
  device.serve_commands("kitchen", [&](const dmm::Command&) -> nlohmann::json {
    ++commands;
    return {{"done", true}};
  });
  device.report("kitchen", {{"song", "Naima"}});

  // The operator changes things and sees what comes of it.
  wait_for("the report to become a run", [&] {
    const nlohmann::json cache = operator_.matter({"player", "kitchen"});
    return cache.is_object() && cache.value("song", "") == "Naima";
  });
  CHECK(operator_.command("player", "kitchen", {{"play", "Naima"}}).get().at("done") == true);
  CHECK(commands == 1);
  operator_.set_shadow("player", "kitchen", {{"volume", 3}});
  CHECK(device.shadow("kitchen").value_or(nullptr) == nlohmann::json{{"volume", 3}});
  operator_.notify({"player", "attic"}, {{"fails", true}});
  wait_for("a failure", [&] {
    const auto attic = operator_.inspect().get({"player", "attic"});
    return attic && attic->phase == dmm::Phase::failing;
  });

  // The viewer sees all of it.
  dmm::Bucket viewer = guarded.bucket("viewer");
  CHECK(viewer.inspect().list("player", true).size() == 2);
  CHECK(viewer.inspect().get({"player", "attic"})->error_code == "DMM-0301");
  CHECK(viewer.inspect().reports("player").size() == 1);
  CHECK(viewer.inspect().shadows("player").size() == 1);
  CHECK_FALSE(viewer.inspect().leases().empty());
  CHECK(viewer.inspect().streams().size() >= 5);
  for (const dmm::Finding& finding : viewer.inspect().diagnose()) {
    INFO(finding.subject << ": " << finding.text);
    CHECK(finding.text.find("cannot be listed") == std::string::npos);
  }
  std::vector<dmm::WorkerInfo> workers;
  wait_for("the worker to answer", [&] {
    workers = viewer.workers(500ms);
    return !workers.empty();
  });
  REQUIRE(workers.size() == 1);
  CHECK(workers[0].name == "players");

  // The operator has workers log otherwise for a while.
  std::vector<dmm::WorkerInfo> told;
  wait_for("the worker to be told", [&] {
    told = operator_.set_log_level({dmm::Level::error, 1min, "players"}, 500ms);
    return !told.empty();
  });
  REQUIRE(told.size() == 1);
  CHECK(told[0].log_level == dmm::Level::error);

  // Who only looks can change none of it.
  CHECK_THROWS_AS(viewer.notify({"player", "attic"}, {{"fails", false}}), dmm::Error);
  CHECK_THROWS_AS(viewer.inspect().purge({"player", "attic"}), dmm::Error);
  CHECK(operator_.inspect().purge({"player", "attic"}));
  CHECK(subject.process().stop(SIGTERM).success());
}

TEST_CASE("permissions: the server refuses everything else",
          "[service][permissions][integration]") {
  Guarded guarded;
  dmm::Bucket operator_ = guarded.bucket("operator", true);
  std::vector<std::uint64_t> before;
  for (const auto& stream : operator_.inspect().streams()) before.push_back(stream.last.value);
  for (const char* user : {"device", "worker", "operator", "viewer"}) {
    const auto messenger = dmm::nats::make_messenger(guarded.as(user), dmm::Logger());
    for (const Attempt& attempt : attempts()) {
      if (std::string(attempt.user) != user) continue;
      try {
        if (attempt.publish) {
          messenger->send({.subject = attempt.subject, .payload = "{}"});
        } else {
          messenger->subscribe(attempt.subject, "", [](const dmm::transport::Note&) {});
        }
      } catch (const dmm::Error&) {
        // It may be told so at once, too; the log of the server decides.
      }
    }
    messenger->close();
  }
  for (const Attempt& attempt : attempts()) {
    const std::string line = std::string(attempt.publish ? "Publish" : "Subscription") +
                             " Violation - User \"" + attempt.user + "\", Subject \"" +
                             attempt.subject + "\"";
    INFO(line);
    CHECK(dmm::testing::becomes_true(
        [&] { return guarded.server().log().find(line) != std::string::npos; }, 5s));
  }
  std::vector<std::uint64_t> after;
  for (const auto& stream : operator_.inspect().streams()) after.push_back(stream.last.value);
  CHECK(after == before);
}
