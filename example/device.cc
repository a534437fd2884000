// The device: owns a fleet of players and reports their state. It knows nothing of what was
// declared; it says what is.

#include <fmt/format.h>

#include <stdexcept>

#include "dmm/device.h"
#include "dmm/json.h"
#include "example/commands.h"
#include "example/fleet.h"
#include "example/player.h"

namespace example {
namespace {

void check_shares(const Misbehaviour& misbehaviour) {
  const auto& [refuse, hang, error500, seconds] = misbehaviour;
  if (refuse < 0 || hang < 0 || error500 < 0 || refuse + hang + error500 > 1) {
    throw std::runtime_error(
        fmt::format("--refuse, --hang and --error500 are shares from 0 to 1, together at most 1; "
                    "these are {}, {} and {}",
                    refuse, hang, error500));
  }
}

}  // namespace

int device(const Options& options, const DeviceOptions& device_options, std::stop_token stop) {
  check_shares(device_options.misbehaviour);
  std::vector<std::string> names = device_options.names;
  for (const std::string& name : names) check_player_name(name);
  for (std::size_t i = 1; i <= device_options.players; ++i) names.push_back(fmt::format("p{}", i));

  dmm::Bucket bucket = open_bucket(options);
  const dmm::Logger log = dmm::Logger::standard(dmm::Level::warn);
  Fleet fleet(names, device_options.misbehaviour);
  const int port = fleet.start(device_options.port);
  // Behind NAT there is only this: the device connects, and is commanded over its connection.
  dmm::DeviceHostOptions host_options;
  host_options.connection = options.nats;
  host_options.concurrency = 32;  // some of the players hang
  dmm::DeviceHost host = dmm::DeviceHost::connect(options.ns, "player", host_options);
  for (const std::string& name : names) {
    host.serve_commands(name, [&fleet, name](const dmm::Command& command) {
      return fleet.obey(name, command.payload);
    });
  }
  fmt::print(stderr,
             "device: {} players at http://127.0.0.1:{}/<player>, and for commands; Ctrl-C stops "
             "it\n",
             names.size(), port);

  // On change, and all of them now and then: a report that got lost is made up for by the next.
  while (!stop.stop_requested()) {
    const auto reports = fleet.next_reports(stop, device_options.report_every);
    try {
      for (const dmm::BatchFailure& failure : bucket.report_all("player", reports)) {
        log.warn("a report was not published",
                 {{"player", reports[failure.index].first}, {"error", failure.error.what()}});
      }
    } catch (const dmm::Error& e) {
      log.warn("no report was published", {{"error", e.what()}});
    }
  }
  return 0;
}

int misbehave(const Options& options, const std::string& player, const Misbehaviour& misbehaviour,
              bool reboot) {
  check_player_name(player);
  check_shares(misbehaviour);
  http_post(options.players_url, "/" + player + "/misbehave", nlohmann::json(misbehaviour).dump());
  if (reboot) http_post(options.players_url, "/" + player + "/reboot", "");
  fmt::print("{}\n", player + (reboot ? " forgot its song" : " behaves as told"));
  return 0;
}

}  // namespace example
