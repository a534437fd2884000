#include "dmm/service/systemd.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace dmm::service {

namespace {

std::string take_variable(const char* name) {
  const char* value = std::getenv(name);
  std::string text = value != nullptr ? value : "";
  ::unsetenv(name);
  return text;
}

std::uint64_t number_of(const std::string& text) {
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

std::uint64_t monotonic_us() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec) / 1'000;
}

}  // namespace

Systemd::Systemd() : socket_(take_variable("NOTIFY_SOCKET")) {
  const std::uint64_t us = number_of(take_variable("WATCHDOG_USEC"));
  const std::string pid = take_variable("WATCHDOG_PID");
  const bool meant = pid.empty() || number_of(pid) == static_cast<std::uint64_t>(::getpid());
  if (meant) watchdog_ = std::chrono::milliseconds(us / 1'000);
}

void Systemd::tell(const std::string& text) const noexcept {
  sockaddr_un address{};
  if (socket_.empty() || socket_.size() >= sizeof(address.sun_path)) return;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, socket_.data(), socket_.size());
  if (socket_[0] == '@') address.sun_path[0] = '\0';  // an abstract one
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_.size());
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  // Whether it arrives nobody can help: systemd gives up on a service that stays silent.
  [[maybe_unused]] const ssize_t sent =
      ::sendto(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
               reinterpret_cast<const sockaddr*>(&address), length);
  ::close(fd);
}

void Systemd::ready(std::string_view status) const noexcept {
  tell(fmt::format("READY=1\nSTATUS={}", status));
}

void Systemd::status(std::string_view status) const noexcept {
  tell(fmt::format("STATUS={}", status));
}

void Systemd::reloading() const noexcept {
  tell(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", monotonic_us()));
}

void Systemd::stopping(std::chrono::milliseconds grace) const noexcept {
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(grace).count();
  tell(fmt::format("STOPPING=1\nSTATUS=finishing what runs\nEXTEND_TIMEOUT_USEC={}", us));
}

void Systemd::alive() const noexcept {
  tell("WATCHDOG=1");
}

}  // namespace dmm::service
