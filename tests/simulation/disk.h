#pragma once

// The disk of a place: what a worker that ended left there, for the next one. While a worker lives
// it has a directory of its own, so that what is left of a killed one writes where nobody reads.

#include <cstdint>
#include <filesystem>
#include <string>

namespace dmm::simulation {

class Disk final {
 public:
  /// Takes what lies in the directory of a worker that ended.
  void keep(const std::filesystem::path& directory);
  /// Puts what was kept into the directory of the next one.
  void lay_out(const std::filesystem::path& directory) const;
  /// What was kept is cut, changed, replaced by what was kept before, or gone, as `how` says.
  void spoil(std::uint32_t how);

 private:
  std::string snapshot_;
  std::string before_;
};

}  // namespace dmm::simulation
