#include "example/screen.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

namespace example {
namespace {

winsize size_of(std::FILE* out) {
  winsize size{};
  if (ioctl(fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) {
    size.ws_col = 100;
    size.ws_row = 40;
  }
  return size;
}

}  // namespace

Screen::Screen(std::FILE* out) : out_(out), terminal_(isatty(fileno(out)) != 0) {}

void Screen::print(std::string_view text) {
  fmt::print(out_, "{}", text);
  std::fflush(out_);
}

void Screen::say(std::string_view text) {
  keep();
  print(fmt::format("{}\n", text));
}

void Screen::show(const std::vector<PlayerView>& players, double seconds) {
  const auto converged = static_cast<std::size_t>(
      std::count_if(players.begin(), players.end(), [](const auto& p) { return p.converged(); }));
  const auto failing = static_cast<std::size_t>(
      std::count_if(players.begin(), players.end(), [](const auto& p) { return p.attempts > 0; }));
  const std::string summary = fmt::format("{} of {} players play what was declared, {} are retried",
                                          converged, players.size(), failing);
  if (!terminal_) {
    if (summary != last_) print(fmt::format("  {:5.2f} s  {}\n", seconds, summary));
    last_ = summary;
    return;
  }

  const winsize size = size_of(out_);
  std::vector<std::string> lines = table_of(players, size.ws_col - 1u);
  const std::size_t rows_max = size.ws_row > 8 ? size.ws_row - 4u : 4u;
  if (lines.size() > rows_max) lines.resize(rows_max);  // what scrolled away cannot be redrawn
  std::string picture = drawn_ > 0 ? fmt::format("\033[{}A\r\033[J", drawn_) : "";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const bool good = i > 0 && players[i - 1].converged();
    picture += fmt::format("{}{}\033[0m\n",
                           i == 0 ? "\033[1m"
                           : good ? "\033[32m"
                                  : "\033[33m",
                           lines[i]);
  }
  picture += fmt::format("{:5.2f} s  {}\n", seconds, summary);
  drawn_ = lines.size() + 1;
  print(picture);
}

void Screen::keep() {
  drawn_ = 0;
  last_.clear();
}

}  // namespace example
