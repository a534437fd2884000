#include "tests/bench/resources/peers.h"

#include <fmt/format.h>

#include <stdexcept>

#include <nlohmann/json.hpp>

#include "dmm/testing/child_process.h"

namespace dmm::bench {

std::vector<ResourcePeer> measure_resource_peers(const std::filesystem::path& directory,
                                                 const testing::PostgresServer& postgres,
                                                 std::size_t count) {
  if (!std::filesystem::exists(directory / "node_modules")) {
    throw std::invalid_argument(
        fmt::format("there are no installed peers in \"{}\"; scripts/bench resources --peers "
                    "installs them",
                    directory.string()));
  }
  std::vector<ResourcePeer> peers;
  for (const char* name : {"graphile-worker", "pg-boss"}) {
    testing::ChildOptions options;
    options.arguments = {"run.js", name,
                         fmt::format("postgresql://dmm@127.0.0.1:{}/postgres", postgres.port()),
                         std::to_string(count)};
    options.working_directory = directory;
    const testing::Finished finished =
        testing::run("node", std::move(options), std::chrono::minutes(15));
    if (!finished.status.success()) {
      throw std::runtime_error(fmt::format("{} ended with {}:\n{}{}", name,
                                           testing::to_string(finished.status), finished.output,
                                           finished.error_output));
    }
    const auto result = nlohmann::json::parse(finished.output);
    peers.push_back({result.at("system"), result.at("values")});
  }
  return peers;
}

}  // namespace dmm::bench
