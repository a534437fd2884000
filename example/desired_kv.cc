// Desired songs without a database: each is an object of dmm itself, of the type "song", whose id
// is the player's name.
//
// To declare a song is to notify: the token carries the new song and is durable when notify
// returns. From then on it is what matter() reads. The materializer of a song does the one thing
// that has to happen when a desired song changes: it wakes the player. So the wake-up is retried
// until it succeeds, which a program that writes to a store and then notifies cannot promise.
//
// What you give up: the declarations live where the work lives. Whoever loses the JetStream store
// loses them too. With a database nothing that was declared is lost.

#include <stdexcept>
#include <utility>
#include <vector>

#include "dmm/json.h"
#include "example/desired.h"

namespace example {
namespace {

struct Song {
  std::string player;
  std::string title;

  std::string identity() const { return player; }
  void set_identity(std::string name) { player = std::move(name); }
  void materialize(dmm::Context& context) { context.poke(player_identity(player)); }

  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(Song, player, title)
};

dmm::Identity song_identity(const std::string& player) {
  return {"song", player};
}

class KvSongs final : public DesiredSongs {
 public:
  explicit KvSongs(dmm::Bucket& bucket) : bucket_(bucket) {}

  std::optional<std::string> find(const std::string& player) override {
    const dmm::Identity identity = song_identity(player);
    const nlohmann::json object = bucket_.matter(identity);
    if (object.is_null()) return std::nullopt;
    return dmm::decode_object<Song>(object, identity).title;
  }

  std::map<std::string, std::string> all() override {
    std::map<std::string, std::string> songs;
    for (const dmm::Matter& song : bucket_.inspect().list("song", /*values=*/true)) {
      if (!song.effective || !song.damage.empty()) continue;
      const auto object = dmm::parse_json(*song.effective);
      if (!object) continue;
      songs[song.identity.id] = dmm::decode_object<Song>(object.value(), song.identity).title;
    }
    return songs;
  }

  void declare(const std::map<std::string, std::string>& songs) override {
    std::vector<std::pair<dmm::Identity, nlohmann::json>> batch;
    for (const auto& [player, title] : songs) {
      batch.emplace_back(song_identity(player), Song{player, title});
    }
    const auto failures = bucket_.notify_all(batch);
    if (!failures.empty()) throw failures.front().error;
  }

 private:
  dmm::Bucket& bucket_;
};

}  // namespace

std::unique_ptr<DesiredSongs> open_kv_songs(dmm::Bucket& bucket) {
  return std::make_unique<KvSongs>(bucket);
}

void register_kv_songs(dmm::Bucket& bucket) {
  bucket.register_type<Song>("song");
}

}  // namespace example
