#include "dmm/service/process_use.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

namespace dmm::service {

namespace {

/// Of /proc/self/stat: resident pages and the start, in ticks after the boot.
struct Stat {
  double resident_pages = 0;
  double started_ticks = 0;
};

Stat read_stat() {
  std::ifstream file("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  // The name of the program stands in parentheses and may hold spaces.
  std::istringstream fields(text.substr(std::min(text.size(), text.rfind(')') + 1)));
  Stat stat;
  std::string field;
  for (int number = 3; fields >> field; ++number) {
    if (number == 22) stat.started_ticks = std::strtod(field.c_str(), nullptr);
    if (number == 24) stat.resident_pages = std::strtod(field.c_str(), nullptr);
  }
  return stat;
}

double boot_time() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("btime ")) return std::strtod(line.c_str() + 6, nullptr);
  }
  return 0;
}

double count_fds() {
  DIR* directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) return 0;
  double count = -3;  // ".", ".." and the directory itself
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count;
}

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1'000'000;
}

}  // namespace

ProcessUse ProcessUse::read() {
  ProcessUse use;
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  use.cpu = seconds_of(used.ru_utime) + seconds_of(used.ru_stime);
  const Stat stat = read_stat();
  use.resident_bytes = stat.resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE));
  use.open_fds = count_fds();
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  use.max_fds = static_cast<double>(limit.rlim_cur);
  use.started_at = boot_time() + stat.started_ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
  return use;
}

}  // namespace dmm::service
