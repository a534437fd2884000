#pragma once

// What all commands of the example have in common: where things are.

#include <string>

#include "dmm/bucket.h"
#include "dmm/connection_options.h"

namespace example {

struct Options {
  dmm::ConnectionOptions nats;       ///< --server, else DMM_SERVER and the configuration file
  std::string ns = "music";          ///< the namespace
  std::string desired = "postgres";  ///< where the desired songs are: "postgres" or "kv"
  std::string postgres = "postgresql://postgres@127.0.0.1:5432/postgres";
  std::string players_url = "http://127.0.0.1:8180";  ///< of the process that plays all players
  bool json = false;                                  ///< -o json
  bool verbose = false;
};

/// Opens the namespace. Throws dmm::Error.
inline dmm::Bucket open_bucket(const Options& options) {
  dmm::BucketOptions bucket;
  bucket.connection = options.nats;
  bucket.logger = dmm::Logger::standard(options.verbose ? dmm::Level::info : dmm::Level::warn);
  return dmm::Bucket::open(options.ns, bucket);
}

}  // namespace example
