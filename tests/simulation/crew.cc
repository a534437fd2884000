#include "tests/simulation/crew.h"

#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <new>
#include <stdexcept>
#include <system_error>
#include <vector>

#include <nlohmann/json.hpp>

namespace dmm::simulation {

namespace {

using nlohmann::json;

constexpr std::size_t kMembersMax = 256;

/// What the processes share.
struct Board {
  std::atomic<std::uint64_t> next;
  std::atomic<std::uint64_t> current[kMembersMax];
};

struct Member {
  pid_t pid = -1;
  int pipe = -1;
  std::string heard;  ///< of a line that is not whole yet
};

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

void write_all(int file, const std::string& text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t some = ::write(file, text.data() + done, text.size() - done);
    if (some < 0 && errno == EINTR) continue;
    if (some < 0) ::_exit(1);
    done += static_cast<std::size_t>(some);
  }
}

std::string line_of(const Told& told) {
  json points = json::object();
  for (const auto& [name, reached] : told.points) points[name] = {reached.times, reached.kills};
  return json{{"points", std::move(points)},
              {"seed", told.seed},
              {"violated", told.violated},
              {"runs", told.runs},
              {"switches", told.switches},
              {"ms", told.simulated_ms},
              {"text", told.text}}
             .dump(-1, ' ', false, json::error_handler_t::replace) +
         '\n';
}

Told told_by(const std::string& line) {
  const json value = json::parse(line);
  Told told;
  told.seed = value.at("seed").get<std::uint64_t>();
  told.violated = value.at("violated").get<bool>();
  told.runs = value.at("runs").get<std::uint64_t>();
  told.switches = value.at("switches").get<std::uint64_t>();
  told.simulated_ms = value.at("ms").get<std::int64_t>();
  told.text = value.at("text").get<std::string>();
  for (const auto& [name, reached] : value.at("points").items()) {
    told.points[name] = {reached.at(0).get<std::uint64_t>(), reached.at(1).get<std::uint64_t>()};
  }
  return told;
}

/// One thread runs at a time, so another core could only be in the way.
void stay_on_one_core(unsigned number) {
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  const int count = CPU_COUNT(&allowed);
  int wanted = count > 0 ? static_cast<int>(number) % count : 0;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &allowed) || wanted-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    ::sched_setaffinity(0, sizeof one, &one);
    return;
  }
}

class Hands final {
 public:
  Hands(const Crew& crew, const std::function<Told(std::uint64_t)>& work)
      : crew_(crew), work_(work) {
    void* const memory =
        ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("mmap");
    board_ = new (memory) Board();
    board_->next = crew.from;
    members_.resize(std::min<std::size_t>({crew.jobs, crew.seeds, kMembersMax}));
    for (std::size_t i = 0; i < members_.size(); ++i) hire(i);
  }
  ~Hands() {
    for (Member& member : members_) dismiss(member);
    ::munmap(board_, sizeof(Board));
  }
  Hands(const Hands&) = delete;
  Hands& operator=(const Hands&) = delete;

  void listen(const std::function<bool(const Told&)>& hear) {
    while (true) {
      std::vector<pollfd> waiting;
      for (const Member& member : members_) waiting.push_back({member.pipe, POLLIN, 0});
      if (std::ranges::all_of(waiting, [](const pollfd& one) { return one.fd < 0; })) return;
      if (::poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR) fail("poll");
      for (std::size_t i = 0; i < members_.size(); ++i) {
        if (waiting[i].revents != 0 && !take(i, hear)) return;
      }
    }
  }

 private:
  void hire(std::size_t number) {
    int ends[2];
    if (::pipe(ends) != 0) fail("pipe");
    const pid_t pid = ::fork();
    if (pid < 0) fail("fork");
    if (pid == 0) {
      ::close(ends[0]);
      for (const Member& member : members_) {
        if (member.pipe >= 0) ::close(member.pipe);
      }
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      stay_on_one_core(static_cast<unsigned>(number));
      serve(number, ends[1]);
    }
    ::close(ends[1]);
    members_[number] = {pid, ends[0], {}};
  }

  [[noreturn]] void serve(std::size_t number, int pipe) {
    while (true) {
      const std::uint64_t seed = board_->next++;
      if (seed >= crew_.from + crew_.seeds) ::_exit(0);
      board_->current[number] = seed;
      Told told;
      try {
        told = work_(seed);
      } catch (const std::exception& error) {
        told = {.seed = seed, .violated = true, .text = error.what()};
      }
      write_all(pipe, line_of(told));
    }
  }

  /// What a member says. False: that is enough.
  bool take(std::size_t number, const std::function<bool(const Told&)>& hear) {
    Member& member = members_[number];
    char buffer[65536];
    const ssize_t some = ::read(member.pipe, buffer, sizeof buffer);
    if (some < 0 && errno == EINTR) return true;
    if (some <= 0) return ended(number, hear);
    member.heard.append(buffer, static_cast<std::size_t>(some));
    for (std::size_t end = 0; (end = member.heard.find('\n')) != std::string::npos;) {
      const Told told = told_by(member.heard.substr(0, end));
      member.heard.erase(0, end + 1);
      if (!hear(told)) return false;
    }
    return true;
  }

  bool ended(std::size_t number, const std::function<bool(const Told&)>& hear) {
    Member& member = members_[number];
    int status = 0;
    while (::waitpid(member.pid, &status, 0) < 0 && errno == EINTR) {
    }
    ::close(member.pipe);
    member = {};
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
    const std::string how = WIFSIGNALED(status) ? fmt::format("signal {} ({})", WTERMSIG(status),
                                                              ::strsignal(WTERMSIG(status)))
                                                : fmt::format("exit code {}", WEXITSTATUS(status));
    const Told told{.seed = board_->current[number],
                    .violated = true,
                    .text = "the process ended by " + how + "; what it said stands above"};
    if (!hear(told)) return false;
    hire(number);
    return true;
  }

  static void dismiss(Member& member) {
    if (member.pid < 0) return;
    ::kill(member.pid, SIGKILL);
    while (::waitpid(member.pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    ::close(member.pipe);
    member = {};
  }

  const Crew crew_;
  const std::function<Told(std::uint64_t)>& work_;
  Board* board_ = nullptr;
  std::vector<Member> members_;
};

}  // namespace

void run_crew(const Crew& crew, const std::function<Told(std::uint64_t seed)>& work,
              const std::function<bool(const Told& told)>& hear) {
  Hands(crew, work).listen(hear);
}

}  // namespace dmm::simulation
