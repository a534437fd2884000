#pragma once

// How the bytes of a fuzzer become what a parser of dmm is given. The first byte, a letter, chooses
// the parser, so that what was found can be read and written by hand.

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "dmm/error.h"
#include "dmm/transport/stream.h"

namespace dmm::fuzz {

/// What has to hold.
inline void must(bool holds) {
  if (!holds) std::abort();
}

/// Calls what may refuse its input by an Error that says why. Whatever else is thrown ends it all.
template <class Call>
void may_refuse(Call call) {
  try {
    call();
  } catch (const Error& error) {
    must(!error.message().empty());
  }
}

/// Cuts the next line off `rest`.
inline std::string_view next_line(std::string_view& rest) {
  const std::size_t end = rest.find('\n');
  const std::string_view line = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  return line;
}

/// "Name: value" lines up to an empty one.
inline transport::Headers next_headers(std::string_view& rest) {
  transport::Headers headers;
  for (std::string_view line = next_line(rest); !line.empty(); line = next_line(rest)) {
    const std::size_t colon = line.find(": ");
    if (colon == std::string_view::npos) continue;
    headers.emplace_back(line.substr(0, colon), line.substr(colon + 2));
  }
  return headers;
}

/// A stored message: its subject in the first line, headers, an empty line, the payload.
inline transport::Message message_of(std::string_view rest) {
  transport::Message message;
  message.subject = next_line(rest);
  message.headers = next_headers(rest);
  message.payload = rest;
  message.sequence = Sequence{5};
  message.stored_at = std::chrono::system_clock::time_point(std::chrono::seconds(1'700'000'000));
  return message;
}

/// One that holds nothing but a payload.
inline transport::Message payload_of(std::string_view rest) {
  transport::Message message;
  message.payload = rest;
  message.sequence = Sequence{5};
  return message;
}

/// A file in memory.
class File {
 public:
  explicit File(std::string_view content) : descriptor_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    must(descriptor_ >= 0);
    const auto size = static_cast<ssize_t>(content.size());
    must(::write(descriptor_, content.data(), content.size()) == size);
  }
  ~File() { ::close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  const int descriptor_;
};

}  // namespace dmm::fuzz
