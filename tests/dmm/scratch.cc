#include "tests/dmm/scratch.h"

#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>

namespace dmm::testing {

namespace {

void set(const std::string& name, const std::optional<std::string>& value) {
  if (value) {
    ::setenv(name.c_str(), value->c_str(), 1);
  } else {
    ::unsetenv(name.c_str());
  }
}

// Standard error goes to `fd` for as long as this lives.
class Redirect final {
 public:
  explicit Redirect(int fd) : saved_(::dup(STDERR_FILENO)) { ::dup2(fd, STDERR_FILENO); }
  ~Redirect() {
    ::dup2(saved_, STDERR_FILENO);
    ::close(saved_);
  }
  Redirect(const Redirect&) = delete;
  Redirect& operator=(const Redirect&) = delete;

 private:
  const int saved_;
};

}  // namespace

ScratchFile::ScratchFile(const std::string& content) {
  const char* folder = std::getenv("TMPDIR");
  path_ = std::string(folder == nullptr ? "/tmp" : folder) + "/dmm-test-XXXXXX";
  const int fd = ::mkstemp(path_.data());
  if (fd < 0) throw std::runtime_error("no temporary file: " + path_);
  ::close(fd);
  std::ofstream(path_, std::ios::binary) << content;
}

ScratchFile::~ScratchFile() {
  ::unlink(path_.c_str());
}

ScratchEnvironment::ScratchEnvironment(const Variables& variables) {
  for (const auto& [name, value] : variables) {
    const char* before = std::getenv(name.c_str());
    before_.emplace_back(name,
                         before == nullptr ? std::nullopt : std::optional(std::string(before)));
    set(name, value);
  }
}

ScratchEnvironment::~ScratchEnvironment() {
  for (const auto& [name, value] : before_) set(name, value);
}

std::string capture_stderr(const std::function<void()>& action) {
  const ScratchFile file("");
  const int fd = ::open(file.path().c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd < 0) throw std::runtime_error("cannot open " + file.path());
  {
    const Redirect redirect(fd);
    action();
  }
  ::close(fd);
  return read_text_file(file.path());
}

std::string capture_terminal(const std::function<void()>& action) {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (master < 0 || ::grantpt(master) != 0 || ::unlockpt(master) != 0) {
    throw std::runtime_error("no pseudo-terminal");
  }
  const int slave = ::open(::ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
  termios raw{};
  ::tcgetattr(slave, &raw);
  ::cfmakeraw(&raw);  // line feeds stay what they are
  ::tcsetattr(slave, TCSANOW, &raw);
  std::string shown;
  std::thread reader([master, &shown] {
    char buffer[4096];
    // Reading ends with an error when the last descriptor of the other side is closed.
    for (ssize_t got = 0; (got = ::read(master, buffer, sizeof buffer)) > 0;) {
      shown.append(buffer, static_cast<std::size_t>(got));
    }
  });
  {
    const Redirect redirect(slave);
    action();
  }
  ::close(slave);
  reader.join();
  ::close(master);
  return shown;
}

std::string read_text_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

}  // namespace dmm::testing
