#include "dmm/worker/life_locks.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>
#include <vector>

#include "dmm/error.h"
#include "dmm/worker/lease.h"

namespace dmm::worker {

namespace {

// What ends the names of files that are not locked yet, and of those whose holder is dead.
constexpr std::string_view kNew = ".new";
constexpr std::string_view kDead = ".dead";
/// Long after every lease of the holder has run out.
constexpr auto kKept = std::chrono::minutes(10);

/// Changes with each boot, and is another one on each machine and in each virtual machine.
std::string read_boot() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string boot;
  std::getline(in, boot);
  return boot;
}

/// The first line is the boot; behind it lie the last words, if there are any.
struct Content {
  std::string boot;
  std::string words;
};
Content read_content(int file) {
  std::array<char, 4096> bytes{};
  const ssize_t size = ::pread(file, bytes.data(), bytes.size(), 0);
  const std::string_view text(bytes.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
  const std::size_t end = std::min(text.find('\n'), text.size());
  return {std::string(text.substr(0, end)),
          std::string(text.substr(std::min(end + 1, text.size())))};
}

class File final {
 public:
  explicit File(int file) noexcept : file_(file) {}
  ~File() {
    if (file_ >= 0) ::close(file_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const noexcept { return file_; }
  int release() noexcept { return std::exchange(file_, -1); }

 private:
  int file_;
};

[[noreturn]] void refuse(const std::string& directory, std::string_view why) {
  throw Error(
      code::bad_option,
      fmt::format("the run directory {} {}; name a directory of this machine that only this "
                  "user can write to, or none",
                  directory, why));
}

}  // namespace

LifeLocks::LifeLocks(std::string directory)
    : directory_(std::move(directory)),
      kernel_(read_boot()),
      watch_(std::make_unique<DeathWatch>(directory_)) {
  std::error_code failed;
  const std::filesystem::path path(directory_);
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), failed);
  if (::mkdir(directory_.c_str(), S_IRWXU) != 0 && errno != EEXIST) {
    refuse(directory_, fmt::format("cannot be made ({})", std::strerror(errno)));
  }
  struct stat info {};
  if (::stat(directory_.c_str(), &info) != 0) {
    refuse(directory_, fmt::format("cannot be looked at ({})", std::strerror(errno)));
  }
  if (!S_ISDIR(info.st_mode)) refuse(directory_, "is a file");
  if (info.st_uid != ::geteuid() || (info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    refuse(directory_, "can be written to by others");
  }
  clear();
}

LifeLocks::Lock LifeLocks::lock(std::string_view holder) const noexcept try {
  const std::string path = fmt::format("{}/{}", directory_, holder);
  const std::string unlocked = path + std::string(kNew);
  File file(::open(unlocked.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR));
  const std::string content = kernel_ + '\n';
  const auto size = static_cast<ssize_t>(content.size());
  // It gets its name only now, so that nobody finds it without its lock.
  if (file.get() < 0 || kernel_.empty() || ::flock(file.get(), LOCK_EX | LOCK_NB) != 0 ||
      ::write(file.get(), content.data(), content.size()) != size ||
      ::rename(unlocked.c_str(), path.c_str()) != 0) {
    if (file.get() >= 0) ::unlink(unlocked.c_str());
    return {};
  }
  leave_last_words(file.get(), size);
  return Lock(file.release(), path);
} catch (const std::exception&) {
  return {};
}

bool LifeLocks::is_dead(std::string_view holder) const noexcept try {
  // It comes from the server, where anybody may have written it.
  if (!is_holder(holder)) return false;
  const std::string path = fmt::format("{}/{}", directory_, holder);
  const std::string dead = path + std::string(kDead);
  if (::access(dead.c_str(), F_OK) == 0) return true;
  // Only read: the watch reports what was open for writing.
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0 || ::flock(file.get(), LOCK_EX | LOCK_NB) != 0) return false;
  if (kernel_.empty() || read_content(file.get()).boot != kernel_) return false;
  // Kept for the others of this machine, and for a while only.
  ::futimens(file.get(), nullptr);
  ::rename(path.c_str(), dead.c_str());
  return true;
} catch (const std::exception&) {
  return false;
}

LastWords LifeLocks::last_words(std::string_view holder) const noexcept try {
  if (!is_dead(holder)) return {};
  const std::string path = fmt::format("{}/{}{}", directory_, holder, kDead);
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return file.get() < 0 ? LastWords() : read_last_words(read_content(file.get()).words);
} catch (const std::exception&) {
  return {};
}

/// Marks those that are dead, and removes what was marked long ago or is of another boot.
void LifeLocks::clear() const {
  std::error_code failed;
  std::vector<std::filesystem::directory_entry> found;
  for (const auto& entry : std::filesystem::directory_iterator(directory_, failed)) {
    found.push_back(entry);
  }
  const auto old = std::filesystem::file_time_type::clock::now() - kKept;
  for (const auto& entry : found) {
    const std::string name = entry.path().filename().string();
    const bool holder = !name.ends_with(kDead) && !name.ends_with(kNew);
    if (holder && is_dead(name)) continue;
    const auto written = entry.last_write_time(failed);
    if (failed || written > old) continue;
    const File file(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
    const bool locked = file.get() < 0 || ::flock(file.get(), LOCK_EX | LOCK_NB) != 0;
    if (!locked) ::unlink(entry.path().c_str());
  }
}

LifeLocks::Lock::Lock(int file, std::string path) noexcept : file_(file), path_(std::move(path)) {}

LifeLocks::Lock::Lock(Lock&& other) noexcept
    : file_(std::exchange(other.file_, -1)), path_(std::move(other.path_)) {}

LifeLocks::Lock& LifeLocks::Lock::operator=(Lock&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(path_, other.path_);
  return *this;
}

LifeLocks::Lock::~Lock() {
  if (file_ < 0) return;
  leave_no_last_words(file_);
  ::unlink(path_.c_str());
  ::close(file_);
}

}  // namespace dmm::worker
