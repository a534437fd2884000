#include "dmm/cli/progress.h"

#include <fmt/format.h>

#include <algorithm>

#include "dmm/cli/human.h"
#include "dmm/cli/output.h"

namespace dmm::cli {

namespace {

using namespace std::chrono_literals;
constexpr auto kInterval = 100ms;
constexpr std::size_t kBarColumns = 24;

std::string bar(std::uint64_t part, std::uint64_t total) {
  const double share = std::min(
      1.0, static_cast<double>(part) / static_cast<double>(std::max<std::uint64_t>(total, 1)));
  const auto full = static_cast<std::size_t>(share * static_cast<double>(kBarColumns));
  return fmt::format("[{}{}] {:3.0f} %  ", std::string(full, '#'),
                     std::string(kBarColumns - full, '.'), share * 100);
}

}  // namespace

Progress::Progress(Terminal terminal, std::string label, std::uint64_t total)
    : terminal_(terminal),
      label_(std::move(label)),
      total_(total),
      started_(std::chrono::steady_clock::now()),
      drawn_(started_) {}

Progress::~Progress() {
  clear();
}

void Progress::update(std::uint64_t done, std::uint64_t failed, std::uint64_t part) {
  const auto now = std::chrono::steady_clock::now();
  if (!terminal_.moves || now - drawn_ < kInterval) return;
  drawn_ = now;
  const double seconds = std::chrono::duration<double>(now - started_).count();
  const auto rate =
      static_cast<std::uint64_t>(static_cast<double>(done) / std::max(seconds, 0.001));
  std::string line = total_ != 0 ? bar(part, total_) : std::string();
  line += fmt::format("{} {}, {}/s", human_count(done), label_, human_count(rate));
  if (failed != 0) line += fmt::format(", {} failed", human_count(failed));
  // One column stays free: some terminals begin a new line when the last one is filled.
  const std::size_t room = terminal_.width > 1 ? terminal_.width - 1 : 1;
  write_error(fmt::format("\r{}\x1b[K", clip(line, room, terminal_.unicode)));
  shown_ = true;
}

void Progress::clear() noexcept {
  if (shown_) write_error("\r\x1b[K");
  shown_ = false;
}

}  // namespace dmm::cli
