#include "example/zones.h"

#include <utility>

namespace example {
namespace {

/// What is declared of a player or of a zone. There is nothing to do for it: it is here to be read.
struct Declaration {
  void materialize(dmm::Context&) {}
};
struct Place : Declaration {
  std::string player, zone;
  std::string identity() const { return player; }
  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(Place, player, zone)
};
struct Playlist : Declaration {
  std::string zone, song;
  std::string identity() const { return zone; }
  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(Playlist, zone, song)
};

class KvZones final : public Zones {
 public:
  explicit KvZones(dmm::Bucket& bucket) : bucket_(bucket) {
    bucket_.register_type<Place>("place");
    bucket_.register_type<Playlist>("playlist");
  }

  void place(const std::map<std::string, std::string>& players) override {
    std::vector<Place> places;
    for (const auto& [player, zone] : players) places.push_back({{}, player, zone});
    notify<Place>(places);
  }
  void declare(const std::map<std::string, std::string>& songs) override {
    std::vector<Playlist> playlists;
    for (const auto& [zone, song] : songs) playlists.push_back({{}, zone, song});
    notify<Playlist>(playlists);
  }
  std::vector<dmm::ViewInput> inputs() override {
    dmm::ViewInput places = dmm::ViewInput::cache("place");
    dmm::ViewInput playlists = dmm::ViewInput::cache("playlist");
    places.name = "places";
    playlists.name = "playlists";
    return {places, playlists};
  }

 private:
  template <class M>
  void notify(const std::vector<M>& declarations) {
    const auto failures = bucket_.notify_all<M>(declarations);
    if (!failures.empty()) throw failures.front().error;
  }

  dmm::Bucket& bucket_;
};

}  // namespace

std::unique_ptr<Zones> open_kv_zones(dmm::Bucket& bucket) {
  return std::make_unique<KvZones>(bucket);
}

dmm::View zones_view(std::vector<dmm::ViewInput> declared) {
  dmm::View view;
  view.name = "zone-players";
  view.type = "player";
  view.inputs = std::move(declared);
  view.inputs.push_back(dmm::ViewInput::reports("player"));
  view.pipeline = nlohmann::json::parse(R"([
    {"@join": {"@and": [{"@eq": ["$.player.device", "$.places.id"]},
                        {"@eq": ["$.places.zone", "$.playlists.id"]}]}},
    {"@project": {"id": "$.player.device", "zone": "$.places.zone", "song": "$.playlists.song",
                  "current_song": "$.player.current_song"}}])");
  return view;
}

}  // namespace example
