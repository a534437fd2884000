#include "dmm/testing/internal/subject.h"

namespace dmm::testing {

bool subject_matches(std::string_view filter, std::string_view subject) noexcept {
  while (true) {
    const std::size_t filter_dot = filter.find('.');
    const std::size_t subject_dot = subject.find('.');
    const std::string_view token = filter.substr(0, filter_dot);
    if (token == ">") return !subject.empty();
    if (token != "*" && token != subject.substr(0, subject_dot)) return false;
    const bool filter_ends = filter_dot == std::string_view::npos;
    const bool subject_ends = subject_dot == std::string_view::npos;
    if (filter_ends || subject_ends) return filter_ends && subject_ends;
    filter.remove_prefix(filter_dot + 1);
    subject.remove_prefix(subject_dot + 1);
  }
}

}  // namespace dmm::testing
