#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "dmm/cli/terminal.h"

namespace dmm::cli {

/// A table for people: a header and rows, as wide as the terminal allows. Cells are made printable
/// when they are added. Where the columns do not fit side by side, each row is shown as a block.
class Table final {
 public:
  struct Column {
    std::string title;
    bool flexible = false;  ///< may be cut off when the terminal is narrow
    bool number = false;    ///< stands to the right
  };
  struct Cell {
    std::string text;  ///< empty is shown as "-"
    Color color = Color::none;
  };

  explicit Table(std::vector<Column> columns);

  /// As many cells as there are columns.
  void add(std::vector<Cell> row);
  bool empty() const noexcept { return rows_.empty(); }

  std::string render(const Terminal& terminal) const;

 private:
  std::string blocks(const Terminal& terminal) const;

  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace dmm::cli
