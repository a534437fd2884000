#include "dmm/testing/temporary_directory.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <system_error>

#include "dmm/error.h"

namespace dmm::testing {

TemporaryDirectory::TemporaryDirectory(std::string_view label) {
  std::error_code error;
  std::filesystem::path parent = std::filesystem::temp_directory_path(error);
  if (error) parent = "/tmp";
  std::string name = (parent / fmt::format("{}-XXXXXX", label)).string();
  if (::mkdtemp(name.data()) == nullptr) {
    throw Error(code::bad_option,
                fmt::format("cannot make the temporary directory {}: {}; set TMPDIR to a "
                            "directory that you may write to",
                            name, std::strerror(errno)));
  }
  path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;  // a left-over in /tmp is no reason to fail
  std::filesystem::remove_all(path_, ignored);
}

void write_file(const std::filesystem::path& path, std::string_view content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  file.close();
  if (!file) throw Error(code::bad_option, fmt::format("cannot write {}", path.string()));
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

}  // namespace dmm::testing
