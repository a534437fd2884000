#pragma once

// The world that the runs change: a register for each identity, as a device would have one that
// checks epochs. It lies in a file that all processes of the scene have mapped, so that a change is
// one atomic instruction and survives the death of whoever made it.

#include <array>
#include <atomic>
#include <cstdint>
#include <filesystem>

namespace dmm::nemesis {

inline constexpr std::uint32_t kIdentitiesMax = 4'096;

/// What the processes count for the line of progress. The verdict does not rely on it.
struct Counters {
  std::atomic<std::uint64_t> notified{0};
  std::atomic<std::uint64_t> succeeded{0};
};

class World final {
 public:
  /// Maps the file, which is made if it is missing. Throws std::runtime_error.
  explicit World(const std::filesystem::path& path);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  enum class Answer { changed, refused };

  /// Sets the register to `news`, unless someone with a later epoch has set it.
  Answer change(std::uint32_t identity, std::uint64_t epoch, std::uint64_t news) noexcept;

  std::uint64_t news(std::uint32_t identity) const noexcept;
  std::uint64_t refused() const noexcept { return page_->refused; }
  /// How often a register was set to older news by someone whose epoch was good.
  std::uint64_t went_back() const noexcept { return page_->went_back; }
  Counters& counters() noexcept { return page_->counters; }

 private:
  struct Page {
    Counters counters;
    std::atomic<std::uint64_t> refused{0};
    std::atomic<std::uint64_t> went_back{0};
    /// Epoch in the upper 24 bits, news in the lower 40.
    std::array<std::atomic<std::uint64_t>, kIdentitiesMax> registers{};
  };
  Page* page_;
};

}  // namespace dmm::nemesis
