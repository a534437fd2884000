#include "tests/simulation/disk.h"

#include "dmm/testing/temporary_directory.h"

namespace dmm::simulation {

namespace {

constexpr const char* kFile = "sim.lamps.snapshot";

}  // namespace

void Disk::keep(const std::filesystem::path& directory) {
  std::string found = testing::read_file(directory / kFile);
  if (found == snapshot_) return;
  before_ = std::move(snapshot_);
  snapshot_ = std::move(found);
}

void Disk::lay_out(const std::filesystem::path& directory) const {
  if (snapshot_.empty()) return;
  std::filesystem::create_directories(directory);
  testing::write_file(directory / kFile, snapshot_);
  using std::filesystem::perms;
  std::filesystem::permissions(directory / kFile, perms::owner_read | perms::owner_write);
}

void Disk::spoil(std::uint32_t how) {
  if (snapshot_.empty()) return;
  const std::size_t where = how / 4 % snapshot_.size();
  switch (how % 4) {
    case 0:
      return snapshot_.resize(where);
    case 1:
      snapshot_[where] = static_cast<char>(snapshot_[where] ^ (1 + how % 255));
      return;
    case 2:
      snapshot_ = before_;
      return;
    default:
      return snapshot_.clear();
  }
}

}  // namespace dmm::simulation
