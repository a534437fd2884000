#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "dmm/cli/exit_code.h"
#include "dmm/cli/interrupts.h"
#include "dmm/cli/output.h"
#include "dmm/cli/program.h"

namespace {

// A closed standard stream would lend its number to the next socket, and an error message would be
// sent to the server.
bool open_standard_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) >= 0) continue;
    if (::open("/dev/null", fd == STDIN_FILENO ? O_RDONLY : O_WRONLY) != fd) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (!open_standard_streams()) return dmm::cli::exit_code::failed;
  dmm::cli::install_interrupts();
  try {
    std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
    dmm::cli::Output output(STDOUT_FILENO);
    dmm::cli::Program program;
    return program.run(std::move(arguments), output);
  } catch (const std::exception& error) {
    dmm::cli::write_error("dmm: ");
    dmm::cli::write_error(error.what());
    dmm::cli::write_error("\n");
    return dmm::cli::exit_code::failed;
  }
}
