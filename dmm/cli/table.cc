#include "dmm/cli/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "dmm/error.h"
#include "dmm/json.h"

namespace dmm::cli {

namespace {

constexpr std::size_t kGap = 2;
constexpr std::size_t kFlexibleMin = 10;
constexpr std::size_t kCellBytesMax = 4'000;

std::size_t total_of(const std::vector<std::size_t>& widths) {
  return std::accumulate(widths.begin(), widths.end(), std::size_t{0}) + kGap * (widths.size() - 1);
}

std::string padded(std::string_view text, std::size_t width, bool right) {
  const std::size_t taken = display_width(text);
  const std::string space(width > taken ? width - taken : 0, ' ');
  return right ? fmt::format("{}{}", space, text) : fmt::format("{}{}", text, space);
}

}  // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::add(std::vector<Cell> row) {
  DMM_ASSERT(row.size() == columns_.size());
  for (Cell& cell : row) cell.text = cell.text.empty() ? "-" : printable(cell.text, kCellBytesMax);
  rows_.push_back(std::move(row));
}

std::string Table::render(const Terminal& terminal) const {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    widths.push_back(display_width(columns_[c].title));
    for (const auto& row : rows_) {
      widths[c] = std::max(widths[c], display_width(row[c].text));
    }
  }
  while (terminal.width != 0 && total_of(widths) > terminal.width) {
    std::size_t widest = columns_.size();
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      if (!columns_[c].flexible || widths[c] <= kFlexibleMin) continue;
      if (widest == columns_.size() || widths[c] > widths[widest]) widest = c;
    }
    if (widest == columns_.size()) return blocks(terminal);
    const std::size_t excess = total_of(widths) - terminal.width;
    // In steps, so that two wide columns shrink evenly.
    widths[widest] -= std::min({excess, widths[widest] - kFlexibleMin, std::size_t{4}});
  }
  std::string text;
  const auto add_line = [&](const auto& cell_at) {
    std::string line;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      const Cell cell = cell_at(c);
      const bool last = c + 1 == columns_.size();
      const std::string shown = clip(cell.text, widths[c], terminal.unicode);
      const std::size_t width = last && !columns_[c].number ? 0 : widths[c];
      line += terminal.paint(padded(shown, width, columns_[c].number), cell.color);
      if (!last) line.append(kGap, ' ');
    }
    text += line + "\n";
  };
  add_line([&](std::size_t c) { return Cell{columns_[c].title, Color::bold}; });
  for (const auto& row : rows_) {
    add_line([&](std::size_t c) { return row[c]; });
  }
  return text;
}

std::string Table::blocks(const Terminal& terminal) const {
  std::string text;
  for (const auto& row : rows_) {
    if (!text.empty()) text += "\n";
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      text += wrap(fmt::format("{}: {}", columns_[c].title, row[c].text), terminal.width, 2) + "\n";
    }
  }
  return text;
}

}  // namespace dmm::cli
