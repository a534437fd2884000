#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "dmm/internal/runtime.h"

namespace dmm::view {

/// The file in which the snapshot of a view lies. Written under another name, synced and renamed,
/// so that there is always a whole one; readable by its owner only, because it holds what devices
/// and people told. One thread.
class SnapshotFile {
 public:
  /// directory   made when something is written; empty: nothing is kept.
  SnapshotFile(const std::string& directory, std::string_view ns, std::string_view view);
  ~SnapshotFile();
  SnapshotFile(const SnapshotFile&) = delete;
  SnapshotFile& operator=(const SnapshotFile&) = delete;

  bool kept() const noexcept { return !path_.empty(); }
  const std::filesystem::path& path() const noexcept { return path_; }

  /// All of it; nothing if there is none. Throws std::system_error if it cannot be read.
  std::optional<std::string> read();
  /// Begins to replace it, on a thread of its own, behind a write that is under way.
  /// done   called on that thread; with why it could not be written, or empty.
  void write(std::string bytes, std::function<void(const std::string& failure)> done);
  /// Waits for a write that is under way.
  void wait();
  void remove();

 private:
  std::filesystem::path path_;
  internal::Thread writer_;
};

}  // namespace dmm::view
