// A worker that tests can kill: it works the type "thing" and does what each cache says.
//
//   value        what the run is known by; any JSON
//   hold         path: the run lasts until this file exists
//   fail_while   path: the run throws as long as this file exists
//   command      JSON: the run commands the speaker of the same name
//   crash_while  path: the process dies by SIGKILL as long as this file exists
//   fault_while  path: the run ends its process by SIGSEGV as long as this exists
//
// What it observes it notifies under the device's id; `hold`, `crash_while` and `fault_while` of a
// report are heeded there, too.
//
// Each run appends one line to the journal when it begins and one when it ends, each by a single
// write, so that what was written before a kill -9 is whole.

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <thread>

#include <nlohmann/json.hpp>

#include "dmm/bucket.h"
#include "fixture.h"

namespace {

using namespace dmm;
using integration::json;

struct Arguments {
  std::string server;
  std::string journal;
  std::string observe;  ///< a kind; empty: observe nothing
  bool silent = false;  ///< do not work the type
  std::string run_directory;
  WorkOptions work = integration::quick();
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const std::string value = argv[i + 1];
    const auto milliseconds = [&] { return std::chrono::milliseconds(std::stoi(value)); };
    if (name == "--server")
      arguments.server = value;
    else if (name == "--journal")
      arguments.journal = value;
    else if (name == "--observe")
      arguments.observe = value;
    else if (name == "--timeout-ms")
      arguments.work.timeout = milliseconds();
    else if (name == "--backoff-ms")
      arguments.work.backoff_first = milliseconds();
    else if (name == "--backoff-max-ms")
      arguments.work.backoff_max = milliseconds();
    else if (name == "--grace-ms")
      arguments.work.grace = milliseconds();
    else if (name == "--run-directory")
      arguments.run_directory = value;
    else if (name == "--attempts-max")
      arguments.work.attempts_max = std::stoi(value);
    else
      throw std::runtime_error("unknown option " + name);
  }
  return arguments;
}

class JournalFile final {
 public:
  explicit JournalFile(const std::string& path)
      : fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {
    if (fd_ < 0) throw std::runtime_error("cannot open " + path);
  }
  void write(const json& line) const {
    const std::string text = line.dump() + "\n";
    if (::write(fd_, text.data(), text.size()) < 0) throw std::runtime_error("journal");
  }
  int next() { return ++count_; }

 private:
  int fd_;
  std::atomic<int> count_{0};
};

bool exists(const json& cache, const char* field) {
  return cache.is_object() && cache.contains(field) &&
         std::filesystem::exists(cache[field].get<std::string>());
}

void hold(const json& cache) {
  if (!cache.is_object() || !cache.contains("hold")) return;
  integration::wait_for(
      "the file to hold for", [&] { return exists(cache, "hold"); }, std::chrono::seconds(60));
}

void end_if_told(const json& cache) {
  if (exists(cache, "crash_while")) ::raise(SIGKILL);
  if (exists(cache, "fault_while")) ::raise(SIGSEGV);
}

Outcome materialize(JournalFile& journal, Context& context, json& cache) {
  const int run = journal.next();
  journal.write({{"event", "run"},
                 {"run", run},
                 {"id", context.identity().id},
                 {"cache", cache},
                 {"attempt", context.attempt()},
                 {"deleted", context.deleted()},
                 {"epoch", context.epoch().value},
                 {"pid", ::getpid()},
                 {"at", integration::monotonic_ns()}});
  hold(cache);
  if (cache.is_object() && cache.contains("command")) {
    context.command("speaker", context.identity().id, cache["command"], std::chrono::seconds(2))
        .get();
  }
  end_if_told(cache);
  journal.write({{"event", "run"},
                 {"run", run},
                 {"ended", true},
                 {"pid", ::getpid()},
                 {"at", integration::monotonic_ns()}});
  if (exists(cache, "fail_while")) throw std::runtime_error("told to fail");
  if (cache.is_object()) cache["by"] = ::getpid();
  return Outcome::done();
}

void observe(JournalFile& journal, ObserveContext& context, const json& report) {
  journal.write({{"event", "report"},
                 {"run", journal.next()},
                 {"id", context.device()},
                 {"cache", report},
                 {"attempt", 0},
                 {"deleted", false},
                 {"epoch", 0},
                 {"pid", ::getpid()},
                 {"at", integration::monotonic_ns()}});
  hold(report);
  end_if_told(report);
  const Identity identity = integration::thing(context.device());
  json cache = context.matter(identity);
  cache["value"] = report.at("value");
  context.notify(identity, cache);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Arguments arguments = parse(argc, argv);
    // A handler that catches it, as sanitizers have one, would report a defect of the test.
    ::signal(SIGSEGV, SIG_DFL);
    JournalFile journal(arguments.journal);

    // SIGTERM asks to stop: all threads are made after it is blocked, one waits for it.
    sigset_t signals;
    ::sigemptyset(&signals);
    ::sigaddset(&signals, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);

    BucketOptions options;
    options.connection.servers = {arguments.server};
    options.run_directory = arguments.run_directory;
    options.logger =
        Logger::json(std::getenv("DMM_TEST_LOG") != nullptr ? Level::debug : Level::warn);
    Bucket bucket = Bucket::open(integration::kNamespace, std::move(options));
    bucket.register_type(integration::kType,
                         AnyMaterializer{[&journal](Context& context, json& cache) {
                           return materialize(journal, context, cache);
                         }},
                         arguments.work);
    if (!arguments.observe.empty()) {
      bucket.observe(arguments.observe,
                     ReportHandler([&journal](ObserveContext& context, const json& report) {
                       observe(journal, context, report);
                     }));
    }
    std::jthread work([&bucket](std::stop_token stop) { bucket.work(stop); });
    int received = 0;
    ::sigwait(&signals, &received);
    work.request_stop();
    work.join();
    bucket.close();
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "test_worker: {}\n", error.what());
    return 1;
  }
}
