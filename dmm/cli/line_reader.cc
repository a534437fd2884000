#include "dmm/cli/line_reader.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

namespace dmm::cli {

namespace {

constexpr std::size_t kReadBytes = 64 * 1024;

[[noreturn]] void throw_errno() {
  throw std::system_error(errno, std::generic_category(), "standard input");
}

}  // namespace

// Takes the next whole line out of the buffer; false if more has to be read first.
bool LineReader::take_line(std::string& line, bool& too_long) {
  const std::size_t end = buffer_.find('\n', looked_);
  if (end == std::string::npos && !at_end_) {
    looked_ = buffer_.size();
    if (buffer_.size() - start_ > line_bytes_max_) {
      skipping_ = true;  // keep nothing of it
      buffer_.clear();
      start_ = looked_ = 0;
    }
    return false;
  }
  const std::size_t stop = std::min(end, buffer_.size());
  if (end == std::string::npos && start_ == stop && !skipping_) return false;  // nothing is left
  too_long = skipping_ || stop - start_ > line_bytes_max_;
  line.assign(buffer_, start_, too_long ? 0 : stop - start_);
  if (!line.empty() && line.back() == '\r') line.pop_back();
  skipping_ = false;
  start_ = looked_ = std::min(stop + 1, buffer_.size());
  ++line_number_;
  return true;
}

LineReader::Event LineReader::next(std::string& line, std::chrono::milliseconds patience) {
  std::array<char, kReadBytes> chunk;
  for (;;) {
    bool too_long = false;
    if (take_line(line, too_long)) return too_long ? Event::too_long : Event::line;
    if (at_end_) return Event::end;
    buffer_.erase(0, start_);
    looked_ -= start_;
    start_ = 0;
    pollfd wanted{fd_, POLLIN, 0};
    const int ready = ::poll(&wanted, 1, static_cast<int>(patience.count()));
    if (ready < 0 && errno != EINTR) throw_errno();
    if (ready <= 0) return Event::idle;
    const ssize_t n = ::read(fd_, chunk.data(), chunk.size());
    if (n < 0 && errno != EINTR && errno != EAGAIN) throw_errno();
    if (n < 0) return Event::idle;
    at_end_ = n == 0;
    buffer_.append(chunk.data(), static_cast<std::size_t>(n));
    bytes_read_ += static_cast<std::size_t>(n);
  }
}

std::string read_all(int fd, std::size_t bytes_max) {
  std::string text;
  std::array<char, kReadBytes> chunk;
  while (text.size() <= bytes_max) {
    const ssize_t n = ::read(fd, chunk.data(), std::min(chunk.size(), bytes_max + 1 - text.size()));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_errno();
    if (n == 0) break;
    text.append(chunk.data(), static_cast<std::size_t>(n));
  }
  return text;
}

}  // namespace dmm::cli
