#include "tests/bench/support/nats_server.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>

#include <nlohmann/json.hpp>

namespace dmm::bench {
namespace {

namespace fs = std::filesystem;

std::string find_program() {
  if (const char* named = std::getenv("DMM_NATS_SERVER")) return named;
  // Debian puts it where the PATH of an ordinary user does not look.
  for (const char* place : {"/usr/sbin/nats-server", "/usr/local/bin/nats-server"}) {
    if (::access(place, X_OK) == 0) return place;
  }
  return "nats-server";
}

std::string ask_version(const std::string& program) {
  const std::string command = "'" + program + "' --version";
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(::popen(command.c_str(), "r"),
                                                             ::pclose);
  std::array<char, 128> line{};
  if (!pipe || std::fgets(line.data(), line.size(), pipe.get()) == nullptr) return "unknown";
  std::string text(line.data());
  text.erase(text.find_last_not_of(" \n") + 1);
  const auto v = text.rfind('v');
  return v == std::string::npos ? text : text.substr(v + 1);
}

std::string read_file(const fs::path& path) {
  std::ifstream in(path);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

void pause_briefly() {
  const timespec ten_ms{0, 10'000'000};
  ::nanosleep(&ten_ms, nullptr);
}

}  // namespace

NatsServer::NatsServer() {
  const std::string program = find_program();
  version_ = ask_version(program);
  std::string pattern = (fs::temp_directory_path() / "dmm-bench-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) {
    throw std::runtime_error("cannot make a directory like " + pattern);
  }
  directory_ = pattern;
  try {
    spawn(program);
    wait_until_it_listens();
  } catch (...) {
    stop();
    throw;
  }
}

NatsServer::~NatsServer() {
  stop();
}

void NatsServer::spawn(const std::string& program) {
  const std::string config = directory_ / "server.conf";
  std::ofstream(config) << "listen: \"127.0.0.1:-1\"\n"
                        << "max_payload: 8388608\n"
                        << "ports_file_dir: \"" << directory_.string() << "\"\n"
                        << "jetstream { store_dir: \"" << (directory_ / "store").string()
                        << "\" }\n";
  const std::string log = directory_ / "server.log";
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw std::runtime_error("cannot fork");
  if (pid_ == 0) {
    // The server shall not outlive a benchmark that is killed.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(127);
    const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ::dup2(out, 1);
    ::dup2(out, 2);
    ::execlp(program.c_str(), program.c_str(), "-c", config.c_str(), nullptr);
    ::_exit(127);
  }
}

void NatsServer::wait_until_it_listens() {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (std::chrono::steady_clock::now() < deadline) {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      throw std::runtime_error("nats-server ended at once; its log:\n" +
                               read_file(directory_ / "server.log") +
                               "\nIs it installed? apt-get install nats-server");
    }
    for (const auto& entry : fs::directory_iterator(directory_)) {
      if (entry.path().extension() != ".ports") continue;
      const auto ports = nlohmann::json::parse(read_file(entry.path()), nullptr, false);
      if (ports.is_object() && !ports.value("nats", nlohmann::json::array()).empty()) {
        url_ = ports["nats"][0].get<std::string>();
        return;
      }
    }
    pause_briefly();
  }
  throw std::runtime_error("nats-server does not listen; its log:\n" +
                           read_file(directory_ / "server.log"));
}

void NatsServer::stop() noexcept {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  std::error_code ignored;
  fs::remove_all(directory_, ignored);
}

}  // namespace dmm::bench
