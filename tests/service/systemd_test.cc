// Goal: systemd hears that the service is ready, lives, reads its file again and ends.
// Method: a socket of the test's own in place of systemd's.

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include <cstring>
#include <string>
#include <vector>

#include "dmm/testing/child_process.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/testing/wait_for.h"
#include "tests/service/subject.h"

namespace {

using dmm::service_test::server;
using dmm::service_test::Subject;
using namespace std::chrono_literals;

class Notified {
 public:
  Notified() : path_((directory_ / "notify").string()) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    REQUIRE(path_.size() < sizeof(address.sun_path));
    std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
    fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    REQUIRE(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  }
  Notified(const Notified&) = delete;
  Notified& operator=(const Notified&) = delete;
  ~Notified() { ::close(fd_); }

  const std::string& path() const { return path_; }
  /// Waits until a message holds the text.
  void wait_for(const std::string& text) {
    dmm::testing::wait_for("systemd to hear " + text, [&] { return heard(text); });
  }
  /// Whether a message since the last one that was waited for holds the text.
  bool heard(const std::string& text) {
    char bytes[4'096];
    for (ssize_t n = 0; (n = ::recv(fd_, bytes, sizeof(bytes), 0)) > 0;) {
      heard_.emplace_back(bytes, static_cast<std::size_t>(n));
    }
    for (std::size_t i = 0; i < heard_.size(); ++i) {
      if (heard_[i].find(text) == std::string::npos) continue;
      heard_.erase(heard_.begin(), heard_.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      return true;
    }
    return false;
  }

 private:
  dmm::testing::TemporaryDirectory directory_;
  std::string path_;
  int fd_ = -1;
  std::vector<std::string> heard_;
};

dmm::testing::ChildOptions asked(std::vector<std::string> arguments) {
  dmm::testing::ChildOptions options;
  options.arguments = std::move(arguments);
  return options;
}

}  // namespace

TEST_CASE("systemd: it hears how the service stands", "[service][systemd][integration]") {
  Notified systemd;
  Subject subject(server().url(), "systemd", {},
                  {{"NOTIFY_SOCKET", systemd.path()}, {"WATCHDOG_USEC", "300000"}});
  systemd.wait_for("READY=1");
  systemd.wait_for("STATUS=ready");
  systemd.wait_for("WATCHDOG=1");
  systemd.wait_for("WATCHDOG=1");
  subject.process().kill(SIGHUP);
  systemd.wait_for("RELOADING=1\nMONOTONIC_USEC=");
  systemd.wait_for("READY=1");
  subject.process().kill(SIGTERM);
  systemd.wait_for("STOPPING=1");
  CHECK(subject.process().stop(SIGCONT).success());
}

TEST_CASE("systemd: a watchdog that is meant for another process is not fed",
          "[service][systemd][integration]") {
  Notified systemd;
  Subject subject(
      server().url(), "watchdog", {},
      {{"NOTIFY_SOCKET", systemd.path()}, {"WATCHDOG_USEC", "100000"}, {"WATCHDOG_PID", "1"}});
  systemd.wait_for("STATUS=ready");
  CHECK_FALSE(dmm::testing::becomes_true([&] { return systemd.heard("WATCHDOG=1"); }, 500ms));
}

TEST_CASE("systemd: the unit is sound and leaves little open", "[service][systemd][unit]") {
  const auto analyze = dmm::testing::find_program("systemd-analyze");
  if (!analyze) {
    WARN("systemd-analyze is not installed (Debian: systemd), so it was not asked");
    return;
  }
  std::string unit = dmm::testing::read_file(std::string(DMM_SHARE_DIR) + "/dmm@.service");
  REQUIRE_FALSE(unit.empty());
  // The program and the manual page need not be here.
  const auto replace = [&](const std::string& from, const std::string& to) {
    const std::size_t at = unit.find(from);
    REQUIRE(at != std::string::npos);
    unit.replace(at, from.size(), to);
  };
  replace("/usr/local/bin/%i", "/bin/true");
  replace("Documentation=man:dmm(1)\n", "");
  const dmm::testing::TemporaryDirectory directory;
  const std::string path = directory / "dmm@players.service";
  dmm::testing::write_file(path, unit);

  const auto verified = dmm::testing::run(*analyze, asked({"verify", path}));
  INFO(verified.output << verified.error_output);
  CHECK(verified.status.success());
  CHECK(verified.error_output.find("dmm@players.service") == std::string::npos);
  const auto open =
      dmm::testing::run(*analyze, asked({"security", "--offline=true", "--threshold=20", path}));
  INFO(open.output << open.error_output);
  CHECK(open.status.success());
}
