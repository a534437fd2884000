#include "dmm/view/snapshot_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "dmm/internal/runtime.h"
#include "dmm/limits.h"

namespace dmm::view {

namespace {

[[noreturn]] void fail(const char* what, const std::filesystem::path& path, int error = errno) {
  throw std::system_error(error, std::generic_category(),
                          fmt::format("{} {}", what, path.string()));
}

/// A file that is open.
class Descriptor {
 public:
  Descriptor(const std::filesystem::path& path, int flags)
      : number_(::open(path.c_str(), flags | O_CLOEXEC, S_IRUSR | S_IWUSR)) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  bool open() const noexcept { return number_ >= 0; }
  int number() const noexcept { return number_; }

 private:
  const int number_;
};

void sync(const std::filesystem::path& path, int flags) {
  const Descriptor file(path, flags);
  if (!file.open() || ::fsync(file.number()) != 0) fail("syncing", path);
}

std::filesystem::path next_to(const std::filesystem::path& path) {
  return path.string() + ".new";
}

/// What cannot be removed is void all the same.
void discard(const std::filesystem::path& path) noexcept {
  std::error_code ignored;
  std::filesystem::remove(path, ignored);
}

void write_whole(const std::filesystem::path& next, const std::string& bytes) {
  const Descriptor file(next, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW);
  if (!file.open()) fail("creating", next);
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t some = ::write(file.number(), bytes.data() + done, bytes.size() - done);
    if (some < 0 && errno == EINTR) continue;
    if (some < 0) fail("writing", next);
    done += static_cast<std::size_t>(some);
  }
  if (::fsync(file.number()) != 0) fail("syncing", next);
}

void replace(const std::filesystem::path& path, const std::string& bytes) {
  if (bytes.size() > limits::view_snapshot_bytes_max) fail("writing", path, EFBIG);
  std::filesystem::create_directories(path.parent_path());
  const std::filesystem::path next = next_to(path);
  std::filesystem::remove(next);
  try {
    write_whole(next, bytes);
    std::filesystem::rename(next, path);
  } catch (...) {
    discard(next);  // the disk may be full of it
    throw;
  }
  sync(path.parent_path(), O_RDONLY | O_DIRECTORY);
}

}  // namespace

SnapshotFile::SnapshotFile(const std::string& directory, std::string_view ns,
                           std::string_view view) {
  if (directory.empty()) return;
  path_ = std::filesystem::absolute(directory) / fmt::format("{}.{}.snapshot", ns, view);
}

SnapshotFile::~SnapshotFile() = default;

std::optional<std::string> SnapshotFile::read() {
  wait();
  const Descriptor file(path_, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file.open() && errno == ENOENT) return std::nullopt;
  struct stat about {};
  if (!file.open() || ::fstat(file.number(), &about) != 0) fail("opening", path_);
  if (!S_ISREG(about.st_mode)) fail("this is no file:", path_, EINVAL);
  // Its checksum speaks against mistakes, not against other users.
  if (about.st_uid != ::geteuid() || (about.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    fail("others may have written", path_, EPERM);
  }
  const auto size = static_cast<std::size_t>(about.st_size);
  if (size > limits::view_snapshot_bytes_max) fail("reading", path_, EFBIG);
  std::string bytes(size, '\0');
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t some = ::read(file.number(), bytes.data() + done, bytes.size() - done);
    if (some < 0 && errno == EINTR) continue;
    if (some < 0) fail("reading", path_);
    if (some == 0) bytes.resize(done);  // its size tells
    done += static_cast<std::size_t>(some);
  }
  return bytes;
}

void SnapshotFile::write(std::string bytes, std::function<void(const std::string&)> done) {
  wait();
  try {
    writer_ = internal::Thread([path = path_, bytes = std::move(bytes), done] {
      std::string failure;
      try {
        replace(path, bytes);
      } catch (const std::exception& error) {
        failure = error.what();
      }
      done(failure);
    });
  } catch (const std::exception& error) {
    done(error.what());  // there is no thread for it
  }
}

void SnapshotFile::wait() {
  if (writer_.joinable()) writer_.join();
}

void SnapshotFile::remove() {
  if (!kept()) return;
  wait();
  discard(path_);
  discard(next_to(path_));
}

}  // namespace dmm::view
