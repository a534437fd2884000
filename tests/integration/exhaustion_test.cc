// Goal: a worker that is short of threads, descriptors, room in the store or room on its disk loses
// nothing, says so, and goes on when there is enough again.
// Method: the limits of a process that runs are changed from outside, by prlimit; a stream of
// somebody else fills the store.

#include <catch2/catch.hpp>

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>

#include "view_scene.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // they take address space as they like, and end without
#else
constexpr bool kSanitized = false;
#endif

/// A lower limit of a process, until it is lifted.
class Limited final {
 public:
  Limited(pid_t pid, decltype(RLIMIT_AS) what, rlim_t most) : pid_(pid), what_(what) {
    if (::prlimit(pid_, what_, nullptr, &before_) != 0) throw std::runtime_error("prlimit");
    rlimit now = before_;
    now.rlim_cur = most;
    if (::prlimit(pid_, what_, &now, nullptr) != 0) throw std::runtime_error("prlimit");
  }
  ~Limited() { lift(); }
  void lift() { ::prlimit(pid_, what_, &before_, nullptr); }

 private:
  pid_t pid_;
  decltype(RLIMIT_AS) what_;
  rlimit before_{};
};

rlim_t address_space(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/statm");
  rlim_t pages = 0;
  file >> pages;
  return pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE));
}

/// A server whose store takes no more than this.
testing::NatsServerOptions with_store(const testing::TemporaryDirectory& directory,
                                      std::string_view most) {
  testing::NatsServerOptions options;
  options.jetstream = false;
  options.extra = "jetstream { store_dir: \"" + (directory / "store").string() +
                  "\", max_file_store: " + std::string(most) + " }";
  return options;
}

/// Fills the store of a server with messages of its own.
class Filling final {
 public:
  explicit Filling(RawClient& raw) : raw_(raw) {
    raw_.request("$JS.API.STREAM.CREATE.FILL", R"({"name":"FILL","subjects":["fill.>"]})");
  }
  /// Until nothing more fits, not even little; the server's words.
  std::string fill() {
    std::string words;
    for (const std::size_t bytes : {100'000, 1'000, 1}) {
      const std::string payload(bytes, 'x');
      try {
        for (;;) raw_.store("fill.x", payload);
      } catch (const std::exception& error) {
        words = error.what();
      }
    }
    return words;
  }
  void make_room() { raw_.request("$JS.API.STREAM.PURGE.FILL", ""); }

 private:
  RawClient& raw_;
};

std::string joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& text : texts) all += text + "; ";
  return all;
}

std::size_t running(const std::filesystem::path& journal) {
  const std::vector<Run> runs = read_runs(journal);
  return static_cast<std::size_t>(
      std::ranges::count_if(runs, [](const Run& run) { return run.end_ns == 0; }));
}

}  // namespace

TEST_CASE("threads: a worker that gets no more of them works on with those it has",
          "[exhaustion][fault][integration]") {
  if (kSanitized) return;
  testing::NatsServer server;
  testing::TemporaryDirectory files;
  Bucket bucket = open_bucket(server);
  WorkerProcess worker(server, files / "journal");
  bucket.notify(thing("first"), json{{"value", 1}});
  wait_for("the first run", [&] { return settled_with(bucket, thing("first"), 1); });

  constexpr int kRuns = 16;
  const auto notify_all = [&](const std::string& hold) {
    for (int i = 0; i < kRuns; ++i) {
      bucket.notify(thing(std::to_string(i)),
                    json{{"value", hold}, {"hold", (files / hold).string()}});
    }
  };
  const auto wait_all = [&](const std::string& hold) {
    for (int i = 0; i < kRuns; ++i) {
      wait_for(
          "run " + std::to_string(i),
          [&] { return settled_with(bucket, thing(std::to_string(i)), hold); }, 30s);
    }
  };
  // Room for what a run needs, and none for the stack of another thread.
  Limited limited(worker.pid(), RLIMIT_AS, address_space(worker.pid()) + 1'000'000);
  notify_all("short");
  wait_for("the worker to say so", [&] {
    return worker.process().error_output().find("the system makes no more threads") !=
           std::string::npos;
  });
  wait_for("a run that goes on", [&] { return running(files / "journal") > 0; });
  CHECK(running(files / "journal") < kRuns);
  testing::write_file(files / "short", "");
  wait_all("short");

  limited.lift();
  notify_all("plenty");
  wait_for(
      "as many runs as there may be", [&] { return running(files / "journal") == kRuns; }, 30s);
  testing::write_file(files / "plenty", "");
  wait_all("plenty");
  CHECK(worker.process().running());
}

TEST_CASE("descriptors: a worker without any reconnects when it gets some",
          "[exhaustion][fault][integration]") {
  testing::NatsServer server;
  testing::TemporaryDirectory files;
  Bucket bucket = open_bucket(server);
  WorkerProcess worker(server, files / "journal");
  bucket.notify(thing("a"), json{{"value", 1}});
  wait_for("the first run", [&] { return settled_with(bucket, thing("a"), 1); });

  Limited limited(worker.pid(), RLIMIT_NOFILE, 3);
  server.kill();
  server.start();
  wait_for(
      "the worker to say why it does not reconnect",
      [&] {
        return worker.process().error_output().find("no connection can be made") !=
               std::string::npos;
      },
      60s);
  bucket.notify(thing("a"), json{{"value", 2}});
  CHECK(worker.process().running());
  CHECK_FALSE(settled_with(bucket, thing("a"), 2));

  limited.lift();
  wait_for(
      "the run", [&] { return settled_with(bucket, thing("a"), 2); }, 60s);
}

TEST_CASE("store: a full one refuses news with a code and loses none that it has",
          "[exhaustion][fault][integration]") {
  testing::TemporaryDirectory files;
  testing::NatsServer server(with_store(files, "4MB"));
  RawClient raw(server.port());
  Filling filling(raw);
  Bucket bucket = open_bucket(server);
  Journal journal;
  Gate gate;
  bucket.register_type(kType, journal.noting([&](Context&, json&) {
    gate.pass();  // deaf to its stop token: the worst case
    return Outcome::done();
  }),
                       quick());
  Worker worker(bucket);
  wait_for("the worker to be ready", [&] { return bucket.not_ready().empty(); });
  for (int i = 0; i < 40; ++i) {
    bucket.notify(thing(std::to_string(i)), json{{"value", i}});
  }
  wait_for("runs that go on", [&] { return journal.runs().size() == 16; });
  INFO(filling.fill());
  const WorkerProcess other(server, files / "journal");

  // News are refused, and say why; nothing of them is there afterwards.
  try {
    bucket.notify(thing("refused"), json{{"value", 1}});
    FAIL("it was taken");
  } catch (const Error& error) {
    INFO(error.what());
    CHECK(error.code().id == "DMM-0114");
    CHECK(error.kind() == Kind::retry);
  }
  CHECK_FALSE(bucket.inspect().get(thing("refused")));
  // A heartbeat is a write as well: nobody owns anything, nobody begins.
  wait_for("the worker to say why it is not ready", [&] {
    const std::string reasons = joined(bucket.not_ready());
    return reasons.find("DMM-0114") != std::string::npos &&
           reasons.find("type thing") != std::string::npos;
  });
  CHECK(journal.runs().size() == 16);
  CHECK(read_runs(files / "journal").empty());

  gate.open();
  filling.make_room();
  for (int i = 0; i < 40; ++i) {
    const std::string id = std::to_string(i);
    wait_for(
        "identity " + id, [&] { return phase(bucket, thing(id)) == Phase::settled; }, 60s);
    std::vector<Run> runs = journal.runs(id);
    for (const Run& run : read_runs_of(files / "journal", id)) runs.push_back(run);
    CHECK(most_at_once(runs) == 1);
    CHECK(bucket.matter(thing(id))["value"] == i);
  }
  bucket.notify(thing("refused"), json{{"value", 2}});
  wait_for("the news that were refused",
           [&] { return phase(bucket, thing("refused")) == Phase::settled; });
  wait_for(
      "the worker to be ready", [&] { return bucket.not_ready().empty(); }, 60s);
}

TEST_CASE("snapshot: a full disk leaves the one before in force and stops nothing",
          "[exhaustion][fault][integration]") {
  Scene scene;
  testing::TemporaryDirectory directory;
  const auto file = directory / "test.things.snapshot";
  scene.zone("z", "jazz");
  for (int i = 0; i < 20; ++i) {
    scene.report("p" + std::to_string(i), {{"zone", "z"}, {"volume", i}});
  }
  const ViewSnapshots snapshots{directory.path().string(), 50ms};
  {
    Keeper keeper(scene.server, zones_view(), snapshots);
    keeper.worker.stop();
  }
  const std::string before = testing::read_file(file);
  REQUIRE_FALSE(before.empty());

  // What is written beyond the limit is refused, as on a full disk.
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  {
    Keeper keeper(scene.server, zones_view(), snapshots);
    Limited limited(::getpid(), RLIMIT_FSIZE, before.size());
    for (int i = 0; i < 100; ++i) {
      scene.report("q" + std::to_string(i), {{"zone", "z"}, {"volume", i}});
    }
    wait_for("the failure to be counted", [&] { return keeper.view.stats().snapshots_failed > 0; });
    // The view tells on.
    scene.zone("z", "blues");
    wait_for("news of the view", [&] {
      return effective(scene.bucket, "p1")["list"] == "blues" &&
             effective(scene.bucket, "q99")["list"] == "blues";
    });
    keeper.wait_told();
    keeper.worker.stop();
    CHECK(keeper.worker.error().empty());
  }
  ::signal(SIGXFSZ, handler);
  CHECK(testing::read_file(file) == before);
  CHECK_FALSE(std::filesystem::exists(file.string() + ".new"));

  // The next owner begins with what is there, and knows the rest by itself.
  Keeper keeper(scene.server, zones_view(), snapshots);
  CHECK(keeper.view.stats().restored > 0);
  CHECK(keeper.view.stats().rows == 120);
  CompareOptions options;
  options.settle = 0ms;
  CHECK(scene.bucket.views().compare(zones_view(), options).samples.empty());
  wait_for("a snapshot that fits", [&] { return keeper.view.stats().snapshots > 0; });
}
