#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace dmm::cli {

enum class Color : std::uint8_t { none, bold, dim, red, green, yellow };

/// What is known of the place where a stream is shown.
struct Terminal {
  bool interactive = false;  ///< a person looks at it
  bool moves = false;        ///< the cursor can go back to the start of the line
  bool color = false;
  bool unicode = false;   ///< can show "…"
  std::size_t width = 0;  ///< columns; 0: without limit

  /// Looks at the file descriptor, TERM, NO_COLOR, COLUMNS and the locale.
  static Terminal detect(int fd, bool no_color);

  /// `text` in a colour, if colours are wanted.
  std::string paint(std::string_view text, Color color) const;
};

/// Columns that a text takes; it holds no control characters.
std::size_t display_width(std::string_view text) noexcept;

/// The start of a text, at most `width` columns, with a mark where something was cut off.
std::string clip(std::string_view text, std::size_t width, bool unicode);

/// A text broken at spaces, or within words that are too long; each line but the first begins with
/// `indent` spaces. No end of line at the end. Width 0: unchanged.
std::string wrap(std::string_view text, std::size_t width, std::size_t indent);

}  // namespace dmm::cli
