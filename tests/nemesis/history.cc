#include "tests/nemesis/history.h"

#include "dmm/identity.h"

#include <algorithm>
#include <charconv>

namespace dmm::nemesis {

std::string id_of(std::uint32_t identity) {
  return "d" + std::to_string(identity);
}

std::int64_t number_of(std::string_view id) {
  if (id.size() < 2 || id.front() != 'd') return -1;
  std::uint32_t number = 0;
  const char* const end = id.data() + id.size();
  const auto [rest, error] = std::from_chars(id.data() + 1, end, number);
  return error == std::errc() && rest == end ? std::int64_t{number} : -1;
}

std::uint32_t lane_of(std::uint32_t identity) {
  return lane_of_key(key_of(Identity{kType, id_of(identity)}));
}

void put_in_order(History& history) {
  for (Run& run : history.runs) {
    if (run.end == 0) run.end = history.lives.at(run.life).end;
  }
  std::ranges::stable_sort(history.notified, {}, &Notified::at);
  std::ranges::stable_sort(history.runs, {}, &Run::begin);
  std::ranges::stable_sort(history.entries, {}, &Entry::revision);
  std::ranges::stable_sort(history.volleys, {}, &Volley::first);
}

}  // namespace dmm::nemesis
