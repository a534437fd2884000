#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace dmm::testing {

/// A directory that exists as long as this object, made with mode 0700 under TMPDIR or /tmp.
class TemporaryDirectory final {
 public:
  /// label     part of the name, so that a person sees whose it is.
  /// throws    Error{invalid} DMM-0404 if it cannot be made.
  explicit TemporaryDirectory(std::string_view label = "dmm");
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  /// Removes it with all it holds; what cannot be removed stays.
  ~TemporaryDirectory();

  const std::filesystem::path& path() const noexcept { return path_; }
  /// The path of something inside.
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// Writes a file, over what was there. Throws Error{invalid} DMM-0404.
void write_file(const std::filesystem::path& path, std::string_view content);

/// The content of a file; empty if it cannot be read.
std::string read_file(const std::filesystem::path& path);

}  // namespace dmm::testing
