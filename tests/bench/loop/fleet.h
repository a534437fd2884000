#pragma once

// The simulated devices: what each of them reports, and what the view has to say of each, worked
// out without dmm.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace dmm::bench {

inline constexpr std::size_t kZones = 100;

/// Devices 0 to count-1, each in a zone, with a volume and counters that no view reads. One thread.
class Fleet final {
 public:
  explicit Fleet(std::size_t count) : devices_(count) {}

  std::size_t size() const noexcept { return devices_.size(); }

  static std::string id(std::size_t device);
  static std::string zone(std::size_t device);
  static std::string list_of_zone(std::size_t zone);

  /// The present report of a device, 256 bytes.
  std::string report(std::size_t device) const;

  /// The next report of the next device in turn; every hundredth changes what the view reads.
  /// Returns the device.
  std::size_t turn();
  /// How many of the turns changed a row of the view.
  std::uint64_t changed() const noexcept { return changed_; }

  /// What the view has to say of a device now, as canonical JSON.
  std::string row(std::size_t device) const;

 private:
  struct Device {
    std::uint32_t volume = 0;
    std::uint32_t uptime = 0;
  };
  std::vector<Device> devices_;
  std::uint64_t turns_ = 0;
  std::uint64_t changed_ = 0;
};

/// The view of the fleet, as dmm::View takes it: the pipeline as text.
extern const char* const kPipeline;

}  // namespace dmm::bench
