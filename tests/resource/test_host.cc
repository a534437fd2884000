// A host that the tests can kill. Its world is a directory: a file for each resource with the
// version that was brought there, and the list that its informer reads.
//
//   dmm_test_host NATS-URL CONNECTION WORLD

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <random>
#include <stdexcept>
#include <thread>

#include <pqxx/pqxx>

#include "dmm/resource/host.h"
#include "storm_object.h"

namespace dmm::resource {

namespace {

using namespace std::chrono_literals;

std::filesystem::path world;

int draw(int below) {
  thread_local std::mt19937 random{std::random_device{}()};
  return std::uniform_int_distribution<int>(0, below - 1)(random);
}

/// Takes its time and fails now and then, as the other side does; or exactly so long, and never
/// fails.
Verdict work(WorkContext& context, const Resource<Thing>& thing) {
  const char* fixed = std::getenv("DMM_TEST_WORK_MS");
  {
    std::mutex mutex;
    std::condition_variable_any changed;
    std::unique_lock lock(mutex);
    const auto time = std::chrono::milliseconds(fixed != nullptr ? std::atoi(fixed) : draw(15));
    // A zombie does not see that it was told to stop.
    changed.wait_for(lock, fixed != nullptr ? std::stop_token() : context.stop_token(), time,
                     [] { return false; });
  }
  if (fixed == nullptr && draw(20) == 0) throw std::runtime_error("the other side is busy");
  const std::filesystem::path file = world / thing.object.name;
  const std::filesystem::path draft =
      fmt::format("{}.{}.{}", file.string(), ::getpid(), thing.generation);
  std::ofstream(draft) << thing.object.version;
  std::filesystem::rename(draft, file);
  return Verdict::synced().and_commit(
      [name = thing.object.name, version = thing.object.version,
       generation = thing.generation](pqxx::transaction_base& transaction) {
        transaction.exec_params(
            "INSERT INTO public.ledger (name, generation, version, pid) VALUES ($1, $2, $3, $4)",
            name, generation, version, ::getpid());
      });
}

Listed inform(InformContext& context, Sink<Thing>& sink) {
  std::ifstream list(world / "list");
  const int from = context.checkpoint().is_null() ? 0 : context.checkpoint().get<int>();
  std::string name;
  std::int64_t version = 0;
  int line = 0;
  while (list >> name >> version) {
    if (line++ < from) continue;
    sink.put({name, version});
    if (line % 50 == 0) sink.checkpoint(line);
    if (draw(500) == 0) throw std::runtime_error("the list was cut");
  }
  return Listed::complete();
}

struct Controller {
  Verdict work(WorkContext& context, const Resource<Thing>& thing) {
    return resource::work(context, thing);
  }
  Listed inform(InformContext& context, Sink<Thing>& sink) {
    return resource::inform(context, sink);
  }
};

int run(const char* url, const char* connection) {
  BucketOptions bucket_options;
  bucket_options.connection.servers = {url};
  bucket_options.logger =
      std::getenv("DMM_TEST_LOG") != nullptr ? Logger::json(Level::info) : Logger();
  HostOptions options;
  options.logger = bucket_options.logger;
  options.upkeep = 1s;
  options.lost_after = 5s;
  // The server may be away just now.
  while (true) {
    try {
      Bucket bucket = Bucket::open("storm", bucket_options);
      Host host(bucket, connection, options);
      KindOptions kind;
      kind.retry = [](int) { return 200ms; };
      kind.inform = Schedule::every(1s, 200ms);
      host.add<Thing>(Controller(), kind);
      host.work({});
      return 0;
    } catch (const Error& error) {
      if (error.kind() != Kind::retry) throw;
    }
  }
}

}  // namespace

}  // namespace dmm::resource

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  dmm::resource::world = argv[3];
  try {
    return dmm::resource::run(argv[1], argv[2]);
  } catch (const std::exception& e) {
    fmt::print(stderr, "test host: {}\n", e.what());
    return 1;
  }
}
