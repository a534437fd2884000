// A process that keeps a view, for tests that kill or pause it. It says on standard output "loaded"
// when it has become the owner of the view and has compared its rows with the caches.

#include <fmt/format.h>
#include <signal.h>
#include <time.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>

#include <nlohmann/json.hpp>

#include "dmm/bucket.h"
#include "fixture.h"

namespace {

using namespace dmm;

constexpr timespec kLook{0, 20'000'000};

struct Arguments {
  std::string server;
  std::string view;  ///< its file form, as text
  ViewSnapshots snapshots;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--server") {
      arguments.server = argv[i + 1];
    } else if (name == "--view") {
      arguments.view = argv[i + 1];
    } else if (name == "--snapshots") {
      // Often, so that there is an old one whenever the process is killed.
      arguments.snapshots = {argv[i + 1], std::chrono::milliseconds(200)};
    } else {
      throw std::runtime_error("unknown option " + name);
    }
  }
  return arguments;
}

void say(const char* what) {
  fmt::print("{}\n", what);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Arguments arguments = parse(argc, argv);
    sigset_t signals;
    ::sigemptyset(&signals);
    ::sigaddset(&signals, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);

    BucketOptions options;
    options.connection.servers = {arguments.server};
    options.logger =
        Logger::json(std::getenv("DMM_TEST_LOG") != nullptr ? Level::debug : Level::error);
    options.snapshots = arguments.snapshots;
    Bucket bucket = Bucket::open(integration::kNamespace, std::move(options));
    ViewStream& view = bucket.view(view_from_json(nlohmann::json::parse(arguments.view)));
    std::atomic<bool> over = false;
    std::jthread work([&](std::stop_token stop) {
      try {
        view.work(stop);
      } catch (const std::exception& error) {
        fmt::print(stderr, "test_keeper: {}\n", error.what());
      }
      over = true;
    });
    bool was_loaded = false;
    while (!over && ::sigtimedwait(&signals, nullptr, &kLook) != SIGTERM) {
      const bool loaded = view.stats().loaded;
      if (loaded && !was_loaded) say("loaded");
      was_loaded = loaded;
    }
    if (over) return 1;
    work.request_stop();
    work.join();
    bucket.close();
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "test_keeper: {}\n", error.what());
    return 1;
  }
}
