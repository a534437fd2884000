// dev: a local server to try things out.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <condition_variable>
#include <mutex>

#include "dmm/cli/exit_code.h"
#include "dmm/cli/interrupts.h"
#include "dmm/cli/program.h"
#include "dmm/json.h"
#include "dmm/testing/nats_server.h"

namespace dmm::cli {

namespace {

using namespace std::chrono_literals;

constexpr std::uint16_t kPort = 4222;
constexpr auto kLookInterval = 200ms;

struct DevOptions {
  std::uint16_t port = kPort;
  std::string store;
  std::optional<std::uint16_t> mqtt_port;
};

void tell_how_to_use(Session& session, const testing::NatsServer& server, bool keeps) {
  const std::string url = server.url();
  const std::string& ns = session.globals().ns;
  const std::string store = printable(server.store_directory().string());
  if (session.json()) {
    nlohmann::json document{{"url", url},
                            {"namespace", ns},
                            {"pid", server.pid()},
                            {"store", server.store_directory().string()},
                            {"mqtt_port", nullptr}};
    if (server.mqtt_port() != 0) document["mqtt_port"] = server.mqtt_port();
    session.out().write(document, false);
  } else {
    session.say(fmt::format("nats-server runs at {}, namespace {} is ready", url, ns));
    session.say(fmt::format("store: {}{}", store, keeps ? "" : " (removed at the end)"));
    if (server.mqtt_port() != 0) session.say(fmt::format("MQTT: port {}", server.mqtt_port()));
    session.say("");
    session.say("In another terminal:");
    if (server.port() != kPort) session.say(fmt::format("  export DMM_SERVER={}", url));
    if (ns != "default") session.say(fmt::format("  export DMM_NAMESPACE={}", ns));
    session.say("  dmm doctor");
    session.say("  dmm watch");
    session.say("  dmm put player kitchen '{\"current_song\":\"A\"}'");
    session.say("");
    session.say("Ctrl-C ends it.");
  }
  session.out().flush();
}

int dev(Session& session, const DevOptions& options) {
  StopOnInterrupt interrupt;  // from here on, so that nothing is left behind
  testing::NatsServerOptions server_options;
  server_options.port = options.port;
  if (!options.store.empty()) {
    server_options.store_directory = std::filesystem::absolute(options.store);
  }
  server_options.mqtt = options.mqtt_port.has_value();
  server_options.mqtt_port = options.mqtt_port.value_or(0);
  testing::NatsServer server(std::move(server_options));
  {
    BucketOptions bucket;
    bucket.connection.servers = {server.url()};
    bucket.generation = session.globals().generation;
    bucket.logger = Logger();
    Bucket::open(session.globals().ns, std::move(bucket)).close();
  }
  tell_how_to_use(session, server, !options.store.empty());
  std::mutex mutex;
  std::condition_variable_any changed;
  while (!interrupt.token().stop_requested() && server.running()) {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, interrupt.token(), kLookInterval, [] { return false; });
  }
  if (!interrupt.interrupted()) {
    throw Error(code::unreachable,
                fmt::format("nats-server has ended by itself; its log:\n{}", server.log()));
  }
  server.stop();
  session.say("nats-server has ended");
  return exit_code::ok;
}

}  // namespace

void add_dev_commands(Program& program) {
  auto options = std::make_shared<DevOptions>();
  CLI::App* verb = program.add_verb(
      "dev", "Start a local nats-server with JetStream, until Ctrl-C", "Start",
      {"dmm dev                              on port 4222, forgets everything at the end",
       "dmm dev --port 0 --store ./state     on a free port, keeps its state",
       "dmm dev --mqtt-port 1883             devices may speak MQTT"},
      [options](Session& session) { return dev(session, *options); });
  verb->add_option("--port", options->port, "Port on 127.0.0.1; 0: a free one")
      ->capture_default_str()
      ->type_name("N");
  verb->add_option("--store", options->store, "Keep the state in this directory")->type_name("DIR");
  verb->add_option("--mqtt-port", options->mqtt_port,
                   "Speak MQTT, too, on this port; 0: a free one")
      ->type_name("N");
}

}  // namespace dmm::cli
