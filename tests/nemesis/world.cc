#include "tests/nemesis/world.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <new>
#include <stdexcept>

namespace dmm::nemesis {

namespace {

constexpr int kNewsBits = 40;
constexpr std::uint64_t kNewsMask = (std::uint64_t{1} << kNewsBits) - 1;

}  // namespace

World::World(const std::filesystem::path& path) {
  // A file full of zeros is a page as it is constructed.
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) throw std::runtime_error("cannot open " + path.string());
  void* at = MAP_FAILED;
  if (::ftruncate(fd, sizeof(Page)) == 0) {
    at = ::mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  ::close(fd);
  if (at == MAP_FAILED) throw std::runtime_error("cannot map " + path.string());
  page_ = std::launder(static_cast<Page*>(at));
}

World::~World() {
  ::munmap(page_, sizeof(Page));
}

World::Answer World::change(std::uint32_t identity, std::uint64_t epoch,
                            std::uint64_t news) noexcept {
  std::atomic<std::uint64_t>& state = page_->registers[identity];
  std::uint64_t before = state.load();
  do {
    if (before >> kNewsBits > epoch) {
      ++page_->refused;
      return Answer::refused;
    }
  } while (!state.compare_exchange_weak(before, epoch << kNewsBits | (news & kNewsMask)));
  if ((before & kNewsMask) > news) ++page_->went_back;
  return Answer::changed;
}

std::uint64_t World::news(std::uint32_t identity) const noexcept {
  return page_->registers[identity].load() & kNewsMask;
}

}  // namespace dmm::nemesis
