#pragma once

// Zones: where each player stands, and what is to be played in each zone. Declared by people; the
// rest follows from a view that joins it with what the players report.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "dmm/bucket.h"
#include "example/options.h"

namespace example {

/// One thread.
class Zones {
 public:
  virtual ~Zones() = default;
  /// player -> zone. Stored when it returns.
  virtual void place(const std::map<std::string, std::string>& players) = 0;
  /// zone -> song. Stored when it returns.
  virtual void declare(const std::map<std::string, std::string>& songs) = 0;
  /// The same as inputs of a view: rows "places" (id, zone) and "playlists" (id, song).
  virtual std::vector<dmm::ViewInput> inputs() = 0;
};

/// In tables of a PostgreSQL database, made and watched if they are not yet.
std::unique_ptr<Zones> open_postgres_zones(const std::string& url);
/// In dmm itself: objects of the types "place" and "playlist", which `bucket` works.
std::unique_ptr<Zones> open_kv_zones(dmm::Bucket& bucket);

inline std::unique_ptr<Zones> open_zones(const Options& options, dmm::Bucket& bucket) {
  return options.desired == "kv" ? open_kv_zones(bucket) : open_postgres_zones(options.postgres);
}

/// The view: a row for each player that reports and stands in a zone with a playlist.
dmm::View zones_view(std::vector<dmm::ViewInput> declared);

}  // namespace example
