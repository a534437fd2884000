#include "dmm/cli/output.h"

#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "dmm/text/yaml.h"

namespace dmm::cli {

namespace {

constexpr std::size_t kBufferBytes = 64 * 1024;

// Returns 0 or the errno.
int write_all(int fd, std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return 0;
}

}  // namespace

void Output::write(std::string_view text) {
  buffer_ += text;
  if (buffer_.size() >= kBufferBytes) flush();
}

void Output::write(const nlohmann::json& document, bool for_people) {
  if (yaml_) return write((std::exchange(wrote_, true) ? "---\n" : "") + text::yaml_text(document));
  write(json_text(document, for_people));
  write("\n");
}

void Output::flush() {
  const int error = write_all(fd_, buffer_);
  buffer_.clear();
  if (error == EPIPE) throw OutputClosed{};
  if (error != 0) throw std::system_error(error, std::generic_category(), "standard output");
}

std::string json_text(const nlohmann::json& document, bool for_people) {
  return document.dump(for_people ? 2 : -1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void write_error(std::string_view text) noexcept {
  write_all(STDERR_FILENO, text);
}

}  // namespace dmm::cli
