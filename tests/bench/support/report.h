#pragma once

// The result of a benchmark: figures beside their baseline and their goals, as a table for people
// and as one JSON object a figure for tools.

#include <functional>
#include <string>
#include <vector>

namespace dmm::bench {

/// What a ratio (or a value) should be.
struct Goal {
  std::string text;               ///< ">= 0.40"; empty: no goal
  std::function<bool()> reached;  ///< called while the figure is printed
};

struct Figure {
  std::string name;     ///< words in a fixed order: "notify drain"
  double value = 0;     ///< of dmm
  std::string unit;     ///< "1/s", "us"
  std::string against;  ///< what the baseline is: "bare client"; a name, then after a comma details
  double baseline = 0;  ///< in the same unit
  Goal floor;           ///< to ship
  Goal aim;

  double ratio() const { return baseline > 0 ? value / baseline : 0; }
};

class Report final {
 public:
  void add(Figure figure) { figures_.push_back(std::move(figure)); }

  /// A table on standard output.
  void print() const;
  /// Appends a line {"figure":..,"value":..,"unit":..,"against":..,"ratio":..} for each figure.
  /// Throws std::runtime_error if the file cannot be written.
  void append_json(const std::string& path) const;
  /// Names of the figures that miss their floor.
  std::vector<std::string> below_floor() const;

 private:
  std::vector<Figure> figures_;
};

}  // namespace dmm::bench
