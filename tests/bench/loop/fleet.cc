#include "tests/bench/loop/fleet.h"

#include <fmt/format.h>

namespace dmm::bench {

namespace {
constexpr std::uint64_t kOneIn = 100;  ///< reports of which one changes anything
constexpr std::size_t kReportBytes = 256;
constexpr std::uint32_t kVolumes = 1'000;
}  // namespace

const char* const kPipeline = R"([
  {"@join": {"@eq": ["$.player.zone", "$.zones.key"]}},
  {"@project": {"id": "$.player.device", "list": "$.zones.list", "volume": "$.player.volume"}}])";

std::string Fleet::id(std::size_t device) {
  return fmt::format("p{:07}", device);
}

std::string Fleet::zone(std::size_t device) {
  return fmt::format("z{}", device % kZones);
}

std::string Fleet::list_of_zone(std::size_t zone) {
  return fmt::format("playlist of zone {}", zone);
}

std::string Fleet::report(std::size_t device) const {
  const Device& state = devices_.at(device);
  std::string text =
      fmt::format(R"({{"battery":{},"firmware":"4.17.2","song":"So What","uptime":{},"volume":{},)"
                  R"("zone":"{}","serial":")",
                  device % 101, state.uptime, state.volume, zone(device));
  if (text.size() + 2 < kReportBytes) text.append(kReportBytes - 2 - text.size(), 'x');
  return text + "\"}";
}

std::size_t Fleet::turn() {
  const std::size_t device = turns_ % devices_.size();
  Device& state = devices_[device];
  state.uptime += 1;
  // Not always the same devices, so that the changes of a round meet others than those before.
  const std::uint64_t drawn = turns_ * 0x9E3779B97F4A7C15ull >> 32;
  if (drawn % kOneIn == 0) {
    state.volume = (state.volume + 1) % kVolumes;
    ++changed_;
  }
  ++turns_;
  return device;
}

std::string Fleet::row(std::size_t device) const {
  return fmt::format(R"({{"id":"{}","list":"{}","volume":{}}})", id(device),
                     list_of_zone(device % kZones), devices_.at(device).volume);
}

}  // namespace dmm::bench
