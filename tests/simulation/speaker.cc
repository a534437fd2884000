#include "tests/simulation/speaker.h"

#include <utility>

namespace dmm::simulation {

namespace {

transport::StreamConfig desired_config() {
  return {
      .name = "KV_desired", .subjects = {"$KV.desired.>"}, .key_value = true, .description = {}};
}

}  // namespace

Speaker::Speaker(const testing::MemoryServer& server, std::uint64_t seed, Bug bug)
    : memory_(server.connect(seed)),
      transport_(with_bug_of_users(memory_, bug)),
      bucket_(Bucket::open("sim", {.transport = transport_})),
      desired_(transport_->open(desired_config(), true)),
      thread_([this](const std::stop_token& stop) { speak(stop); }) {}

void Speaker::say(Speech speech) {
  const std::lock_guard lock(mutex_);
  speeches_.push_back(std::move(speech));
  changed_.notify_all();
}

bool Speaker::silent() const {
  const std::lock_guard lock(mutex_);
  return speeches_.empty() && !speaking_;
}

void Speaker::speak(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return !speeches_.empty(); })) {
    const Speech speech = std::move(speeches_.front());
    speeches_.pop_front();
    speaking_ = true;
    lock.unlock();
    try {
      speech(bucket_, *desired_);
    } catch (const Error&) {
      // It was not acknowledged; what is said next is newer.
    }
    lock.lock();
    speaking_ = false;
  }
}

}  // namespace dmm::simulation
