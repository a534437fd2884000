#include "dmm/cli/terminal.h"

#include <fmt/format.h>
#include <langinfo.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include <algorithm>
#include <charconv>
#include <clocale>
#include <cstdlib>

namespace dmm::cli {

namespace {

constexpr std::size_t kWidthDefault = 80;

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view{} : std::string_view{value};
}

std::size_t width_of(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  const std::string_view columns = environment("COLUMNS");
  std::size_t width = 0;
  const auto [end, error] = std::from_chars(columns.data(), columns.data() + columns.size(), width);
  const bool whole = error == std::errc{} && end == columns.data() + columns.size();
  return whole && width > 0 ? width : kWidthDefault;
}

struct Glyph {
  std::size_t bytes;
  std::size_t columns;
};

// The glyph at the start of a text that is not empty. What is no UTF-8 counts one column a byte.
Glyph first_glyph(std::string_view text) noexcept {
  const auto lead = static_cast<unsigned char>(text.front());
  const std::size_t bytes = lead < 0xC0 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (bytes == 1 || bytes > text.size()) return {1, 1};
  char32_t value = lead & (0xFFu >> (bytes + 1));
  for (std::size_t i = 1; i < bytes; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xC0) != 0x80) return {1, 1};
    value = (value << 6) | (next & 0x3Fu);
  }
  const int columns = ::wcwidth(static_cast<wchar_t>(value));
  return {bytes, columns < 0 ? 1 : static_cast<std::size_t>(columns)};
}

// How many bytes of the start of a text fit into `width` columns.
std::size_t bytes_that_fit(std::string_view text, std::size_t width) noexcept {
  std::size_t at = 0;
  std::size_t columns = 0;
  while (at < text.size()) {
    const Glyph glyph = first_glyph(text.substr(at));
    if (columns + glyph.columns > width) break;
    columns += glyph.columns;
    at += glyph.bytes;
  }
  return at;
}

std::string_view escape_of(Color color) {
  switch (color) {
    case Color::none:
      return "";
    case Color::bold:
      return "\x1b[1m";
    case Color::dim:
      return "\x1b[2m";
    case Color::red:
      return "\x1b[31m";
    case Color::green:
      return "\x1b[32m";
    case Color::yellow:
      return "\x1b[33m";
  }
  return "";
}

}  // namespace

Terminal Terminal::detect(int fd, bool no_color) {
  Terminal terminal;
  std::setlocale(LC_CTYPE, "");  // NOLINT(concurrency-mt-unsafe): before any thread starts
  terminal.unicode = std::string_view(::nl_langinfo(CODESET)) == "UTF-8";
  terminal.interactive = ::isatty(fd) == 1;
  if (!terminal.interactive) return terminal;
  const std::string_view kind = environment("TERM");
  terminal.moves = !kind.empty() && kind != "dumb";
  terminal.color = terminal.moves && !no_color && environment("NO_COLOR").empty();
  terminal.width = width_of(fd);
  return terminal;
}

std::string Terminal::paint(std::string_view text, Color wanted) const {
  if (!color || wanted == Color::none || text.empty()) return std::string(text);
  return fmt::format("{}{}\x1b[0m", escape_of(wanted), text);
}

std::size_t display_width(std::string_view text) noexcept {
  std::size_t columns = 0;
  while (!text.empty()) {
    const Glyph glyph = first_glyph(text);
    columns += glyph.columns;
    text.remove_prefix(glyph.bytes);
  }
  return columns;
}

std::string clip(std::string_view text, std::size_t width, bool unicode) {
  if (display_width(text) <= width) return std::string(text);
  const std::string_view mark = unicode ? "…" : "..";
  const std::size_t mark_columns = unicode ? 1 : 2;
  if (width <= mark_columns) return std::string(text.substr(0, bytes_that_fit(text, width)));
  const std::size_t kept = bytes_that_fit(text, width - mark_columns);
  return fmt::format("{}{}", text.substr(0, kept), mark);
}

std::string wrap(std::string_view text, std::size_t width, std::size_t indent) {
  if (width == 0) return std::string(text);
  if (indent + 8 > width) indent = 0;
  std::string result;
  std::size_t room = width;
  while (display_width(text) > room) {
    std::size_t cut = std::max<std::size_t>(bytes_that_fit(text, room), 1);
    const std::size_t space = text.substr(0, cut + 1).rfind(' ');
    if (space != std::string_view::npos && space > 0) cut = space;
    result += fmt::format("{}\n{:{}}", text.substr(0, cut), "", indent);
    text.remove_prefix(cut);
    while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
    room = width - indent;
  }
  return result.append(text);
}

}  // namespace dmm::cli
