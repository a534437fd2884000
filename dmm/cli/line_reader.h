#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace dmm::cli {

/// Reads lines from a file descriptor, without more memory than one line may take, and without
/// waiting for the next line longer than the caller wants to. Not thread-safe.
class LineReader final {
 public:
  enum class Event {
    line,      ///< a line, without its end
    too_long,  ///< a line over the limit was skipped
    idle,      ///< nothing came in time
    end,       ///< the end of the file
  };

  /// fd             borrowed.
  /// line_bytes_max of one line; longer ones are skipped and told.
  LineReader(int fd, std::size_t line_bytes_max) : fd_(fd), line_bytes_max_(line_bytes_max) {}

  /// Throws std::system_error if it cannot be read.
  Event next(std::string& line, std::chrono::milliseconds patience);

  /// Of the line that was given or skipped last, from 1.
  std::size_t line_number() const noexcept { return line_number_; }
  std::size_t bytes_read() const noexcept { return bytes_read_; }

 private:
  bool take_line(std::string& line, bool& too_long);

  int fd_;
  std::size_t line_bytes_max_;
  std::string buffer_;
  std::size_t start_ = 0;   // of the next line in buffer_
  std::size_t looked_ = 0;  // no end of line before this
  bool skipping_ = false;   // within a line that is too long
  bool at_end_ = false;
  std::size_t line_number_ = 0;
  std::size_t bytes_read_ = 0;
};

/// All of a file descriptor; at most `bytes_max` + 1 bytes, so that a caller sees that there is
/// more.
std::string read_all(int fd, std::size_t bytes_max);

}  // namespace dmm::cli
