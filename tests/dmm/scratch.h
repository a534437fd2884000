#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace dmm::testing {

/// A file in the system's temporary folder, removed with the object.
class ScratchFile final {
 public:
  explicit ScratchFile(const std::string& content);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
};

/// Sets environment variables (nothing: unsets) and puts the old values back.
class ScratchEnvironment final {
 public:
  using Variables = std::vector<std::pair<std::string, std::optional<std::string>>>;

  explicit ScratchEnvironment(const Variables& variables);
  ~ScratchEnvironment();
  ScratchEnvironment(const ScratchEnvironment&) = delete;
  ScratchEnvironment& operator=(const ScratchEnvironment&) = delete;

 private:
  Variables before_;
};

/// What `action` writes to standard error; through a file, or through a pseudo-terminal.
std::string capture_stderr(const std::function<void()>& action);
std::string capture_terminal(const std::function<void()>& action);

/// The whole file. Throws std::runtime_error if it cannot be read.
std::string read_text_file(const std::string& path);

}  // namespace dmm::testing
