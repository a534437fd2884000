// The command line of the example: flags in, one command out.

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <thread>

#include "dmm/error.h"
#include "example/commands.h"

namespace example {
namespace {

// Requests a stop at SIGINT and SIGTERM. The handler may do next to nothing, so it writes a byte to
// a pipe at whose other end a thread waits.
class StopOnSignal final {
 public:
  StopOnSignal() {
    if (pipe2(pipe_, O_CLOEXEC) != 0)
      throw std::system_error(errno, std::generic_category(), "pipe");
    thread_ = std::thread([this] {
      char byte = 0;
      while (read(pipe_[0], &byte, 1) < 0 && errno == EINTR) {
      }
      source_.request_stop();
    });
    struct sigaction action {};
    action.sa_handler = [](int) { wake(); };
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    signal(SIGPIPE, SIG_IGN);
  }
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;
  ~StopOnSignal() {
    wake();
    thread_.join();
  }

  std::stop_token token() const { return source_.get_token(); }

 private:
  static void wake() {
    const int saved = errno;
    [[maybe_unused]] const auto written = write(pipe_[1], "", 1);
    errno = saved;
  }

  inline static int pipe_[2] = {-1, -1};
  std::stop_source source_;
  std::thread thread_;
};

using Command = std::function<int(std::stop_token)>;

struct CommandLine {
  CLI::App app{"The music players: keeps every player playing what was declared.", "example"};
  Options options;
  std::vector<std::string> servers;
  CreateOptions create;
  DeviceOptions device;
  DemoOptions demo;
  std::string player, song, format = "text";
  Misbehaviour misbehaviour;
  bool reboot = false;
  int report_every_ms = 2000, timeout_s = 60;
  Command chosen;

  CLI::App* command(const char* name, const char* about, Command run) {
    CLI::App* sub = app.add_subcommand(name, about);
    sub->callback([this, run = std::move(run)] { chosen = run; });
    return sub;
  }
  void add_common();
  void add_work();
  void add_declarations();
  void add_fleet();
  void add_demo();
  void finish();
};

void CommandLine::add_common() {
  app.require_subcommand(1);
  app.fallthrough();  // common flags may stand behind the command, too
  app.add_option("--server", servers, "URL of a NATS server [DMM_SERVER]")->delimiter(',');
  app.add_option("-n,--namespace", options.ns, "Namespace")
      ->envname("DMM_NAMESPACE")
      ->capture_default_str();
  app.add_option("--desired", options.desired, "Where desired songs are: postgres or kv")
      ->envname("MUSIC_DESIRED")
      ->check(CLI::IsMember({"postgres", "kv"}))
      ->capture_default_str();
  app.add_option("--postgres", options.postgres, "PostgreSQL, as libpq takes it")
      ->envname("MUSIC_POSTGRES")
      ->capture_default_str();
  app.add_option("--players-url", options.players_url, "Where the players answer")
      ->envname("MUSIC_PLAYERS_URL")
      ->capture_default_str();
  app.add_option("-o,--output", format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app.add_flag("-v,--verbose", options.verbose, "Log more, to standard error");
  app.footer(
      "Exit codes: 0 done; 1 it failed, or the demo did not converge; 2 wrong usage.\n"
      "Start with: example demo");
}

void CommandLine::add_work() {
  // For the list of commands: what it is called with goes to the service, see run().
  app.add_subcommand("worker", "Work on the players until stopped")->prefix_command();
  CLI::App* sub = command("debug", "Show what is desired, believed and real",
                          [this](std::stop_token) { return debug(options, player); });
  sub->add_option("player", player, "All about this one");
}

void CommandLine::add_declarations() {
  CLI::App* sub = command("create", "Declare songs for new players",
                          [this](std::stop_token) { return example::create(options, create); });
  sub->add_option("players", create.what, "A number, for p1, p2, ...; or a name")->required();
  sub->add_option("--song", create.song, "The song of all of them; default: one of ours for each");
  sub = command("set", "Declare another song for a player",
                [this](std::stop_token) { return set_song(options, player, song); });
  sub->add_option("player", player, "Name")->required();
  sub->add_option("song", song, "Song")->required();
}

void CommandLine::add_fleet() {
  const auto add_shares = [](CLI::App* sub, Misbehaviour& shares) {
    const CLI::Range share(0.0, 1.0);
    sub->add_option("--refuse", shares.refuse, "Share of requests to drop, 0 to 1")->check(share);
    sub->add_option("--hang", shares.hang, "Share not to answer")->check(share);
    sub->add_option("--error500", shares.error500, "Share to answer 500")->check(share);
  };
  CLI::App* sub =
      command("device", "Be a fleet of players that report their state",
              [this](std::stop_token s) { return example::device(options, device, s); });
  sub->add_option("--players", device.players, "How many: p1, p2, ...")
      ->check(CLI::Range(0, 10'000))
      ->capture_default_str();
  sub->add_option("names", device.names, "Names of more players");
  sub->add_option("--port", device.port, "Port on 127.0.0.1; 0: any")
      ->check(CLI::Range(0, 65'535))
      ->capture_default_str();
  sub->add_option("--report-every", report_every_ms, "Milliseconds between reports of everything")
      ->check(CLI::Range(100, 3'600'000))
      ->capture_default_str();
  add_shares(sub, device.misbehaviour);

  sub = command("misbehave", "Break a player, or mend it", [this](std::stop_token) {
    return misbehave(options, player, misbehaviour, reboot);
  });
  sub->add_option("player", player, "Name")->required();
  add_shares(sub, misbehaviour);
  sub->add_option("--seconds", misbehaviour.seconds, "For so long; default: until told otherwise")
      ->check(CLI::Range(0.0, 86'400.0));
  sub->add_flag("--reboot", reboot, "Forget the song");
}

void CommandLine::add_demo() {
  CLI::App* sub =
      command("demo", "Show all of it, with servers of its own", [this](std::stop_token s) {
        return demo.zones == 0 ? example::demo(options, demo, s) : zones_demo(options, demo, s);
      });
  CLI::Option* style = sub->add_option("--style", demo.style, "pull or push")
                           ->check(CLI::IsMember({"pull", "push"}))
                           ->capture_default_str();
  sub->add_option("--reach", demo.reach, "How players are told: http or command")
      ->check(CLI::IsMember({"http", "command"}))
      ->capture_default_str();
  sub->add_option("--players", demo.players, "How many")
      ->check(CLI::Range(4, 1'000))
      ->capture_default_str();
  sub->add_option("--timeout", timeout_s, "Seconds in which everything has to converge")
      ->check(CLI::Range(1, 3'600))
      ->capture_default_str();
  CLI::Option* keep = sub->add_flag("--keep", demo.keep, "Stay up afterwards, until Ctrl-C");
  sub->add_option("--zones", demo.zones,
                  "Instead: players in so many zones, kept by a view; a playlist is changed")
      ->check(CLI::Range(1, 1'000))
      ->excludes(style)
      ->excludes(keep);
}

void CommandLine::finish() {
  options.nats.servers = servers;
  options.nats.fill_from(dmm::ConnectionOptions::load());
  options.json = format == "json";
  device.report_every = std::chrono::milliseconds(report_every_ms);
  demo.timeout = std::chrono::seconds(timeout_s);
  demo.program = std::filesystem::read_symlink("/proc/self/exe");
}

// Where the command stands: behind options, of which most have a value.
int command_at(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (!word.starts_with('-')) return i;
    const bool alone = word == "-v" || word == "--verbose" || word == "-h" || word == "--help";
    if (!alone && word.find('=') == std::string_view::npos) ++i;
  }
  return argc;
}

int run(int argc, char** argv) {
  if (const int at = command_at(argc, argv); at < argc && argv[at] == std::string_view("worker")) {
    std::rotate(argv + at, argv + at + 1, argv + argc);
    return worker(argc - 1, argv);
  }
  CommandLine line;
  line.demo.shown_as = argv[0];
  line.add_common();
  line.add_demo();
  line.add_work();
  line.add_declarations();
  line.add_fleet();
  try {
    line.app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return line.app.exit(e) == 0 ? 0 : 2;
  }
  line.finish();
  const StopOnSignal signals;
  return line.chosen(signals.token());
}

}  // namespace
}  // namespace example

int main(int argc, char** argv) {
  try {
    return example::run(argc, argv);
  } catch (const dmm::Error& e) {
    fmt::print(stderr, "example: {}\n  {}\n", e.what(), e.remedy());
  } catch (const std::exception& e) {
    fmt::print(stderr, "example: {}\n", e.what());
  }
  return 1;
}
