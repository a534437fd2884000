#include "tests/bench/engine/children.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace dmm::bench {
namespace {

std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

/// What a shell command writes to standard output; its errors go where ours go.
std::string output_of(const std::string& command) {
  std::FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot start: " + command);
  std::string output;
  std::array<char, 4'096> buffer;
  while (const std::size_t count = std::fread(buffer.data(), 1, buffer.size(), pipe)) {
    output.append(buffer.data(), count);
  }
  const int status = ::pclose(pipe);
  if (status != 0) {
    throw std::runtime_error(fmt::format("{} ended with {}: {}", command,
                                         WIFEXITED(status) ? WEXITSTATUS(status) : status, output));
  }
  return output;
}

std::string this_program() {
  return std::filesystem::read_symlink("/proc/self/exe").string();
}

std::string child_command(const Task& task) {
  return fmt::format("{} --child {} {} {} {} {}", quoted(this_program()), quoted(task.subject),
                     quoted(task.workload), task.size, task.updates, task.batches);
}

std::uint64_t collected(const Task& task) {
  const std::string output = output_of(
      "valgrind --tool=callgrind --callgrind-out-file=/dev/null "
      "--toggle-collect=dmm_bench_step " +
      child_command(task) + " 2>&1 >/dev/null");
  constexpr std::string_view kLabel = "Collected :";
  const auto at = output.find(kLabel);
  if (at == std::string::npos) throw std::runtime_error("callgrind counted nothing: " + output);
  return std::stoull(output.substr(at + kLabel.size()));
}

}  // namespace

Measurement measure_in_child(const Task& task) {
  return measurement_from_json(nlohmann::json::parse(output_of(child_command(task))));
}

Measurement measure_db_ivm(const std::string& directory, const Task& task) {
  const std::string command =
      fmt::format("node --max-old-space-size=8000 --expose-gc {}/run.js {} {} {} {}",
                  quoted(directory), quoted(task.workload), task.size, task.updates, task.batches);
  return measurement_from_json(nlohmann::json::parse(output_of(command)));
}

std::uint64_t instructions(const Task& task) {
  Task one = task;
  one.batches = 0;
  one.updates = 1;
  Task many = one;
  many.updates = 1'001;
  return (collected(many) - collected(one)) / 1'000;
}

bool has_program(const std::string& name) {
  return !output_of("command -v " + quoted(name) + " || true").empty();
}

}  // namespace dmm::bench
