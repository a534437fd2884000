#include "dmm/testing/postgres_server.h"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include "dmm/error.h"
#include "dmm/testing/free_port.h"
#include "dmm/testing/wait_for.h"

namespace dmm::testing {

namespace {

constexpr int kStartTries = 5;  // another program may take a free port before the server does
constexpr std::size_t kLogTailBytes = 2'000;

// "15" of /usr/lib/postgresql/15/bin, as a number, so that 15 is newer than 9.6.
int major_version(const std::filesystem::path& programs) {
  return std::atoi(programs.parent_path().filename().c_str());
}

std::string tail(const std::string& text) {
  return text.size() <= kLogTailBytes ? text : text.substr(text.size() - kLogTailBytes);
}

}  // namespace

std::filesystem::path find_postgres() {
  constexpr const char* kRemedy =
      "; install the Debian package postgresql (apt-get install postgresql), or name the directory "
      "of initdb in DMM_POSTGRES_BIN";
  const char* named = std::getenv("DMM_POSTGRES_BIN");
  if (named != nullptr && *named != '\0') {
    if (find_program(fmt::format("{}/initdb", named))) return named;
    throw Error(code::not_found, fmt::format("there is no initdb in {}, which DMM_POSTGRES_BIN "
                                             "names{}",
                                             named, kRemedy));
  }
  std::filesystem::path newest;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/usr/lib/postgresql", error)) {
    const std::filesystem::path programs = entry.path() / "bin";
    if (!find_program((programs / "initdb").string())) continue;
    if (newest.empty() || major_version(programs) > major_version(newest)) newest = programs;
  }
  if (!newest.empty()) return newest;
  if (const auto path = find_program("initdb")) return std::filesystem::path(*path).parent_path();
  throw Error(
      code::not_found,
      fmt::format("there is no PostgreSQL server in /usr/lib/postgresql or PATH{}", kRemedy));
}

PostgresServer::PostgresServer(PostgresServerOptions options)
    : options_(std::move(options)), programs_(find_postgres()), directory_("dmm-postgres") {
  if (::geteuid() == 0) {  // PostgreSQL refuses to run as root
    user_ = "postgres";
    const passwd* user = ::getpwnam(user_.c_str());
    if (user == nullptr) {
      throw Error(code::not_found,
                  "PostgreSQL does not run as root and there is no user postgres; install the "
                  "Debian package postgresql, or start this as another user");
    }
    if (::chown(directory_.path().c_str(), user->pw_uid, user->pw_gid) != 0) {
      throw Error(code::bad_option, fmt::format("cannot give {} to user postgres: {}",
                                                directory_.path().string(), std::strerror(errno)));
    }
  }
  make_cluster();
  const bool choose_port = options_.port == 0;
  for (int left = kStartTries;; --left) {
    if (choose_port) options_.port = free_port();
    try {
      start();
      return;
    } catch (const Error&) {
      const bool taken = log().find("Address already in use") != std::string::npos;
      if (!choose_port || !taken || left <= 1) throw;
    }
  }
}

PostgresServer::~PostgresServer() {
  kill();
}

void PostgresServer::make_cluster() {
  ChildOptions child;
  child.arguments = {"-D",   directory_ / "data", "-U",       "dmm", "-A", "trust", "-E",
                     "UTF8", "--locale=C",        "--no-sync"};
  child.working_directory = directory_.path();
  child.user = user_;
  const Finished made =
      run((programs_ / "initdb").string(), std::move(child), options_.start_deadline);
  if (!made.status.success()) {
    throw Error(code::unreachable, fmt::format("initdb ended with {}: {}", to_string(made.status),
                                               tail(made.output + made.error_output)));
  }
}

void PostgresServer::start() {
  if (running()) return;
  ChildOptions child;
  const std::string directory = directory_.path().string();
  child.arguments = {"-D", directory_ / "data", "-p", std::to_string(options_.port)};
  for (const std::string& setting :
       {std::string("listen_addresses=127.0.0.1"), "unix_socket_directories=" + directory,
        std::string("fsync=off"), std::string("wal_level=logical")}) {
    child.arguments.insert(child.arguments.end(), {"-c", setting});
  }
  for (const std::string& setting : options_.settings) {
    child.arguments.insert(child.arguments.end(), {"-c", setting});
  }
  child.working_directory = directory_.path();
  child.log_file = directory_ / "postgres.log";
  child.user = user_;
  child.death_signal = SIGQUIT;  // an immediate shutdown; SIGKILL would leave its shared memory
  child.own_process_group = true;
  process_ = std::make_unique<ChildProcess>((programs_ / "postgres").string(), std::move(child));
  const bool answered =
      becomes_true([this] { return !process_->running() || ready(); }, options_.start_deadline);
  if (answered && process_->running()) return;
  kill();
  throw Error(code::unreachable, fmt::format("PostgreSQL did not start on 127.0.0.1:{}; the end "
                                             "of its log:\n{}",
                                             options_.port, tail(log())));
}

// As pg_ctl sees it: the last line of the pid file says so, once this very process wrote it.
bool PostgresServer::ready() const {
  const std::string text = read_file(directory_ / "data/postmaster.pid");
  return text.starts_with(fmt::format("{}\n", process_->pid())) &&
         text.find("\nready") != std::string::npos;
}

void PostgresServer::stop() {
  if (process_) process_->stop(SIGINT, std::chrono::seconds(20));
  process_.reset();
}

void PostgresServer::kill() {
  if (process_) process_->stop(SIGQUIT, std::chrono::seconds(10));
  process_.reset();
}

bool PostgresServer::running() {
  return process_ && process_->running();
}

pid_t PostgresServer::pid() const noexcept {
  return process_ ? process_->pid() : 0;
}

std::string PostgresServer::connection_string() const {
  return fmt::format("host=127.0.0.1 port={} user=dmm dbname=postgres", options_.port);
}

std::string PostgresServer::log() const {
  return read_file(directory_ / "postgres.log");
}

}  // namespace dmm::testing
