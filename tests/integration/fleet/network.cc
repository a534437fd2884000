#include "fleet/network.h"

#include <fmt/format.h>

#include <cstdlib>

#include "dmm/nats/nats_transport.h"
#include "dmm/testing/free_port.h"
#include "fixture.h"

namespace dmm::integration {

namespace {

Logger logger() {
  return std::getenv("DMM_TEST_LOG") != nullptr ? Logger::standard(Level::debug) : Logger();
}

std::vector<std::string> urls_of(const std::vector<std::uint16_t>& ports) {
  std::vector<std::string> urls;
  for (const std::uint16_t port : ports) urls.push_back(url_of(port));
  return urls;
}

}  // namespace

std::string url_of(std::uint16_t port) {
  return fmt::format("nats://127.0.0.1:{}", port);
}

Bucket open_bucket_at(const std::vector<std::uint16_t>& ports, int replicas) {
  BucketOptions options;
  options.connection.servers = urls_of(ports);
  options.replicas = replicas;
  options.logger = logger();
  return Bucket::open(kNamespace, std::move(options));
}

Bucket open_bucket_on(std::shared_ptr<transport::Transport> connection) {
  BucketOptions options;
  options.transport = std::move(connection);
  options.logger = logger();
  return Bucket::open(kNamespace, std::move(options));
}

std::shared_ptr<transport::Transport> connect_to(const std::vector<std::uint16_t>& ports) {
  ConnectionOptions options;
  options.servers = urls_of(ports);
  return nats::connect(options, logger());
}

json ask(std::uint16_t port, const std::string& what, const json& request) {
  RawClient client(port);
  return json::parse(client.request("$JS.API." + what, request.is_null() ? "" : request.dump()));
}

void remove_stream(std::uint16_t port, const std::string& name) {
  const json answer = ask(port, "STREAM.DELETE." + name);
  if (!answer.value("success", false)) throw std::runtime_error(answer.dump());
}

std::uint64_t consumers(Bucket& bucket) {
  std::uint64_t count = 0;
  for (const transport::StreamState& stream : bucket.inspect().streams()) {
    count += stream.consumers;
  }
  return count;
}

std::filesystem::path files_of(const testing::NatsServer& server, const std::string& stream) {
  return server.store_directory() / "jetstream" / "$G" / "streams" / stream;
}

Cluster::Cluster(std::size_t size) : directory_("dmm-cluster") {
  std::vector<std::uint16_t> routes;
  for (std::size_t i = 0; i < size; ++i) routes.push_back(testing::free_port());
  std::string all;
  for (const std::uint16_t route : routes) {
    all += fmt::format("{}\"{}\"", all.empty() ? "" : ", ", url_of(route));
  }
  for (std::size_t i = 0; i < size; ++i) {
    testing::NatsServerOptions options;
    options.store_directory = directory_ / fmt::format("store-{}", i);
    if (size > 1) {
      options.extra = fmt::format(
          "server_name: s{}\ncluster {{ name: test, listen: \"127.0.0.1:{}\", routes: [{}] }}\n", i,
          routes[i], all);
    }
    servers_.push_back(std::make_unique<testing::NatsServer>(std::move(options)));
  }
  wait_for(
      "the cluster to hold streams",
      [&] { return code_of([&] { open_bucket_at(ports(), static_cast<int>(size)); }) == "none"; },
      60s);
}

std::vector<std::uint16_t> Cluster::ports() const {
  std::vector<std::uint16_t> ports;
  for (const auto& server : servers_) ports.push_back(server->port());
  return ports;
}

std::size_t Cluster::leader_of(const std::string& stream) {
  if (servers_.size() == 1) return 0;
  std::size_t leader = servers_.size();
  wait_for(
      "a leader of " + stream,
      [&] {
        for (std::size_t i = 0; i < servers_.size(); ++i) {
          if (!servers_[i]->running()) continue;
          try {
            const json info = ask(servers_[i]->port(), "STREAM.INFO." + stream);
            const std::string name = info.value("/cluster/leader"_json_pointer, "");
            if (name.size() != 2) continue;
            leader = static_cast<std::size_t>(name[1] - '0');
            return servers_[leader]->running();
          } catch (const std::exception&) {
            // This one does not know.
          }
        }
        return false;
      },
      60s);
  return leader;
}

}  // namespace dmm::integration
