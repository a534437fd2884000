#include "tests/bench/engine/quoted.h"

namespace dmm::bench {
namespace {

// One row for each engine, workload and figure; 0: no mark. Where an engine was measured in several
// ways, the better one for that figure.
struct Mark {
  const char* engine;
  const char* workload;
  const char* figure;
  double at_1k, at_10k, at_100k, at_1m;
};

constexpr const char* kDbsp = "dbsp";
constexpr const char* kDifferential = "differential-dataflow";

// us for p50, updates/s for batch, rows/s for load, bytes, instructions.
constexpr Mark kMarks[] = {
    {kDbsp, "W1", "one-row p50", 0.27, 0.27, 0.26, 0.26},
    {kDbsp, "W2", "one-row p50", 5.16, 6.03, 7.17, 11.5},
    {kDbsp, "W3", "one-row p50", 6.31, 7.71, 6.00, 8.61},
    {kDbsp, "W3h", "one-row p50", 6.01, 6.19, 5.94, 6.14},
    {kDbsp, "W4", "one-row p50", 4.93, 5.04, 5.43, 6.22},
    {kDbsp, "Q3", "one-row p50", 1.12, 1.21, 1.11, 1.20},
    {kDbsp, "Q4", "one-row p50", 4.07, 4.17, 4.54, 4.87},
    {kDifferential, "W1", "one-row p50", 2.42, 2.51, 2.40, 2.41},
    {kDifferential, "W2", "one-row p50", 18.6, 19.6, 22.3, 28.2},
    {kDifferential, "W3", "one-row p50", 23.7, 26.9, 22.0, 24.8},
    {kDifferential, "W3h", "one-row p50", 23.2, 77.2, 61.8, 60.9},
    {kDifferential, "W4", "one-row p50", 27.7, 27.9, 28.4, 29.9},
    {kDifferential, "Q3", "one-row p50", 5.23, 5.19, 5.14, 5.29},
    {kDifferential, "Q4", "one-row p50", 17.4, 17.4, 17.2, 18.0},

    {kDbsp, "W1", "batch", 0, 8.25e6, 14.34e6, 14.04e6},
    {kDbsp, "W2", "batch", 0, 1.06e6, 473e3, 237e3},
    {kDbsp, "W3", "batch", 0, 2.64e6, 1.13e6, 295e3},
    {kDbsp, "W3h", "batch", 0, 3.96e6, 3.48e6, 4.12e6},
    {kDbsp, "W4", "batch", 0, 1.31e6, 796e3, 517e3},
    {kDbsp, "Q3", "batch", 0, 15.48e6, 22.32e6, 25.18e6},
    {kDbsp, "Q4", "batch", 0, 6.38e6, 6.06e6, 7.06e6},
    {kDifferential, "W1", "batch", 0, 66.77e6, 67.71e6, 42.12e6},
    {kDifferential, "W2", "batch", 0, 570e3, 248e3, 142e3},
    {kDifferential, "W3", "batch", 0, 829e3, 129e3, 80e3},
    {kDifferential, "W3h", "batch", 0, 896e3, 138e3, 93e3},
    {kDifferential, "W4", "batch", 0, 1.17e6, 714e3, 587e3},
    {kDifferential, "Q3", "batch", 0, 16.51e6, 22.77e6, 20.61e6},
    {kDifferential, "Q4", "batch", 0, 2.17e6, 2.52e6, 2.46e6},

    {kDbsp, "W1", "load", 0, 0, 0, 30.09e6},
    {kDbsp, "W2", "load", 0, 0, 0, 2.08e6},
    {kDbsp, "W3", "load", 0, 0, 0, 6.05e6},
    {kDbsp, "W3h", "load", 0, 0, 0, 13.65e6},
    {kDbsp, "W4", "load", 0, 0, 0, 4.11e6},
    {kDbsp, "Q3", "load", 0, 0, 0, 13.73e6},
    {kDbsp, "Q4", "load", 0, 0, 0, 7.58e6},
    {kDifferential, "W1", "load", 0, 0, 0, 108.41e6},
    {kDifferential, "W2", "load", 0, 0, 0, 1.11e6},
    {kDifferential, "W3", "load", 0, 0, 0, 1.95e6},
    {kDifferential, "W3h", "load", 0, 0, 0, 2.63e6},
    {kDifferential, "W4", "load", 0, 0, 0, 1.64e6},
    {kDifferential, "Q3", "load", 0, 0, 0, 34.67e6},
    {kDifferential, "Q4", "load", 0, 0, 0, 3.90e6},

    // W1 and Q3 keep almost nothing.
    {kDbsp, "W2", "bytes-per-row", 0, 0, 0, 110},
    {kDbsp, "W3", "bytes-per-row", 0, 0, 0, 41},
    {kDbsp, "W3h", "bytes-per-row", 0, 0, 0, 34},
    {kDbsp, "W4", "bytes-per-row", 0, 0, 0, 109},
    {kDbsp, "Q4", "bytes-per-row", 0, 0, 0, 48},
    {kDifferential, "W2", "bytes-per-row", 0, 0, 0, 79},
    {kDifferential, "W3", "bytes-per-row", 0, 0, 0, 33},
    {kDifferential, "W3h", "bytes-per-row", 0, 0, 0, 29},
    {kDifferential, "W4", "bytes-per-row", 0, 0, 0, 86},
    {kDifferential, "Q4", "bytes-per-row", 0, 0, 0, 33},

    {kDbsp, "W1", "one-row instructions", 4'677, 0, 4'637, 0},
    {kDbsp, "W2", "one-row instructions", 55'967, 0, 70'125, 0},
    {kDbsp, "W3", "one-row instructions", 75'561, 0, 85'007, 0},
    {kDbsp, "W3h", "one-row instructions", 75'540, 0, 73'647, 0},
    {kDbsp, "W4", "one-row instructions", 54'281, 0, 56'719, 0},
    {kDbsp, "Q3", "one-row instructions", 17'591, 0, 17'685, 0},
    {kDbsp, "Q4", "one-row instructions", 51'639, 0, 54'347, 0},
    {kDifferential, "W1", "one-row instructions", 39'332, 0, 39'430, 0},
    {kDifferential, "W2", "one-row instructions", 209'214, 0, 228'550, 0},
    {kDifferential, "W3", "one-row instructions", 298'775, 0, 263'456, 0},
    {kDifferential, "W4", "one-row instructions", 353'534, 0, 358'327, 0},
    {kDifferential, "Q3", "one-row instructions", 75'876, 0, 76'280, 0},
    {kDifferential, "Q4", "one-row instructions", 248'817, 0, 185'069, 0},

    // Reports already decoded.
    {kDbsp, "W6", "ingest", 0, 80e3, 79e3, 69e3},
    {kDbsp, "W6", "batch", 0, 241e3, 127e3, 105e3},
};

double at_size(const Mark& mark, std::uint32_t size) {
  switch (size) {
    case 1'000:
      return mark.at_1k;
    case 10'000:
      return mark.at_10k;
    case 100'000:
      return mark.at_100k;
    case 1'000'000:
      return mark.at_1m;
    default:
      return 0;
  }
}

}  // namespace

std::vector<Quoted> quoted_marks(const std::string& workload, const std::string& figure,
                                 std::uint32_t size) {
  std::vector<Quoted> found;
  for (const Mark& mark : kMarks) {
    const double value = at_size(mark, size);
    if (value > 0 && mark.workload == workload && mark.figure == figure) {
      found.push_back({mark.engine, value});
    }
  }
  return found;
}

}  // namespace dmm::bench
