// The program of the tests: a service of players whose materialize does what its cache says.

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <string>

#include "dmm/service/service.h"

namespace {

struct Player {
  std::string id;
  std::string song;
  std::string told;       ///< the traceparent that the run saw
  int hang_ms = 0;        ///< the run takes so long
  bool stubborn = false;  ///< and does not listen
  bool fails = false;
  std::string tells;  ///< another player, who gets the same song

  std::string identity() const { return id; }
  void set_identity(std::string name) { id = std::move(name); }

  void materialize(dmm::Context& context) {
    told = context.traceparent();
    if (hang_ms > 0) {
      std::mutex mutex;
      std::condition_variable_any never;
      std::unique_lock lock(mutex);
      const std::stop_token stop = stubborn ? std::stop_token() : context.stop_token();
      never.wait_for(lock, stop, std::chrono::milliseconds(hang_ms), [] { return false; });
    }
    if (fails) throw std::runtime_error("the player refuses");
    if (!tells.empty()) {
      Player other;
      other.id = tells;
      other.song = song;
      context.notify(other);
    }
  }

  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(Player, id, song, told, hang_ms, stubborn, fails,
                                              tells)
};

struct Report {
  std::string song;
  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(Report, song)
};

void observe(dmm::ObserveContext& context, const Report& report) {
  auto player = context.matter<Player>(context.device());
  player.song = report.song;
  context.notify(player);
}

dmm::View zones() {
  dmm::View view;
  view.name = "zones";
  view.type = "zone";
  view.key = "zone";
  view.inputs = {dmm::ViewInput::reports("player")};
  view.pipeline =
      nlohmann::json::parse(R"([{"@project": {"zone": "$.device", "song": "$.song"}}])");
  return view;
}

}  // namespace

int main(int argc, char** argv) {
  dmm::Service service("players");
  service.about("keeps players playing")
      .option({.name = "greeting", .help = "Said at the start", .value = "hello"})
      .option({.name = "colour",
               .help = "Of the players",
               .value = "red",
               .environment = "PLAYERS_COLOUR",
               .choices = {"red", "green"}})
      .option({.name = "run-grace", .help = "Of runs at the end", .value = "500ms"})
      .option({.name = "zones", .help = "Keep a view, too", .shows = ""})
      .option({.name = "throw", .help = "Fail at the start", .shows = ""})
      .on_reload([](const dmm::ServiceConfig& config) {
        config.log.info("reloaded", {{"greeting", config.text("greeting")}});
      });
  return service.run(argc, argv, [](dmm::Bucket& bucket, const dmm::ServiceConfig& config) {
    if (config.is_on("throw")) throw std::runtime_error("told to fail");
    config.log.info("greeting", {{"greeting", config.text("greeting")}});
    dmm::WorkOptions options;
    options.grace = config.duration("run-grace");
    bucket.register_type<Player>("player", options);
    bucket.observe<Report>("player", observe);
    if (config.is_on("zones")) bucket.view(zones());
  });
}
