#pragma once

// The desired songs: what the user declared. Everything else follows from it.

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "dmm/bucket.h"
#include "example/options.h"

namespace example {

/// Any thread. Methods throw when the store does not answer; whoever works for dmm lets it through
/// and is called again.
class DesiredSongs {
 public:
  virtual ~DesiredSongs() = default;

  /// The song that `player` should play; nothing if nobody declared one.
  virtual std::optional<std::string> find(const std::string& player) = 0;
  /// All of them: player -> song.
  virtual std::map<std::string, std::string> all() = 0;
  /// Declares songs: player -> song. When it returns they are stored, and the players'
  /// materializers will run.
  virtual void declare(const std::map<std::string, std::string>& songs) = 0;
};

/// The identity of a player's materializer.
inline dmm::Identity player_identity(const std::string& name) {
  return {"player", name};
}

/// Desired songs in a table of a PostgreSQL database; the table is made if it is missing.
std::unique_ptr<DesiredSongs> open_postgres_songs(const std::string& url, dmm::Bucket& bucket);

/// Desired songs in dmm itself, where no database is at hand. See desired_kv.cc.
std::unique_ptr<DesiredSongs> open_kv_songs(dmm::Bucket& bucket);
/// A worker that uses them also works on the songs themselves.
void register_kv_songs(dmm::Bucket& bucket);

/// The one that the options name. `bucket` must outlive it.
inline std::unique_ptr<DesiredSongs> open_desired(const Options& options, dmm::Bucket& bucket) {
  return options.desired == "kv" ? open_kv_songs(bucket)
                                 : open_postgres_songs(options.postgres, bucket);
}

}  // namespace example
