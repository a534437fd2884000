#include "dmm/cli/session.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "dmm/cli/line_reader.h"
#include "dmm/json.h"
#include "dmm/limits.h"

namespace dmm::cli {

Session::Session(const Globals& globals, Output& output)
    : globals_(globals),
      output_(output),
      terminal_(Terminal::detect(STDOUT_FILENO, globals.no_color)),
      error_terminal_(Terminal::detect(STDERR_FILENO, globals.no_color)) {
  output_.use_yaml(globals.output == "yaml");
}

void Session::show(const nlohmann::json& document) {
  output_.write(document, terminal_.interactive);
}

void Session::say(std::string_view line) {
  if (json()) return;
  output_.write(wrap(line, terminal_.width, 2));
  output_.write("\n");
}

void Session::warn(std::string_view line) const {
  write_error(fmt::format("dmm: {}\n", line));
}

Bucket Session::open(bool create, int replicas, ViewSnapshots snapshots) const {
  BucketOptions options;
  options.connection = connection_of(globals_);
  options.create = create;
  options.replicas = replicas;
  options.generation = globals_.generation;
  options.snapshots = std::move(snapshots);
  options.logger = globals_.verbose ? Logger::standard(Level::debug) : Logger();
  return Bucket::open(globals_.ns, std::move(options));
}

bool Session::confirm(std::string_view question) const {
  if (globals_.yes) return true;
  if (::isatty(STDIN_FILENO) != 1 || !error_terminal_.interactive) {
    throw UsageError(
        fmt::format("this needs a yes, and there is no terminal to ask \"{}\"; say "
                    "--yes",
                    question));
  }
  write_error(fmt::format("{} [y/N] ", question));
  std::string answer;
  std::array<char, 256> chunk;
  for (;;) {
    const ssize_t n = ::read(STDIN_FILENO, chunk.data(), chunk.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    answer.append(chunk.data(), static_cast<std::size_t>(n));
    if (answer.find('\n') != std::string::npos || answer.size() > chunk.size()) break;
  }
  while (!answer.empty() && static_cast<unsigned char>(answer.back()) <= ' ') answer.pop_back();
  return answer == "y" || answer == "Y" || answer == "yes";
}

std::string Session::text_argument(const std::optional<std::string>& argument) const {
  if (argument && *argument != "-") return *argument;
  if (!argument && ::isatty(STDIN_FILENO) == 1) {
    throw UsageError("there is no JSON: give it as the last argument, or \"-\" to type it here");
  }
  std::string text = read_all(STDIN_FILENO, limits::payload_bytes_max);
  require(text.size() <= limits::payload_bytes_max, code::too_large,
          fmt::format("standard input has more than {} bytes", limits::payload_bytes_max));
  return text;
}

void complain(const Error& error, std::string_view place) {
  write_error(fmt::format("dmm: {}{}{}: {}\n", place, place.empty() ? "" : ": ", error.code().id,
                          printable(error.message(), limits::error_text_bytes_max * 2)));
  if (place.empty()) write_error(fmt::format("     {}\n", error.remedy()));
}

}  // namespace dmm::cli
