#include "dmm/downlink/calls.h"

#include "dmm/error.h"

namespace dmm::downlink {

Calls::Calls(std::shared_ptr<transport::Messenger> messenger, const std::string& filter)
    : messenger_(std::move(messenger)),
      subscription_(messenger_->subscribe(
          filter, {}, [this](transport::Note note) { take(std::move(note)); })) {}

void Calls::take(transport::Note note) {
  const std::lock_guard lock(mutex_);
  auto found = waiting_.find(note.subject);
  if (found == waiting_.end()) {
    found = waiting_.find(note.subject.substr(0, note.subject.rfind('.')));
  }
  if (found == waiting_.end() || found->second) return;  // too late, or a second answer
  found->second = std::move(note);
  changed_.notify_all();
}

std::optional<transport::Note> Calls::call(const transport::Note& note,
                                           std::chrono::steady_clock::time_point deadline,
                                           const std::stop_token& stop) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.try_emplace(note.reply);
  }
  std::optional<transport::Note> answer;
  std::exception_ptr failure;
  try {
    messenger_->send(note);
  } catch (...) {
    failure = std::current_exception();
  }
  std::unique_lock lock(mutex_);
  const auto here = [&] { return waiting_.at(note.reply).has_value(); };
  if (!failure) changed_.wait_until(lock, stop, deadline, here);
  answer = std::move(waiting_.at(note.reply));
  waiting_.erase(note.reply);
  if (failure) std::rethrow_exception(failure);
  if (!answer && stop.stop_requested()) {
    throw Error(code::run_cancelled,
                "asked to stop while waiting for an answer on " + note.subject);
  }
  return answer;
}

}  // namespace dmm::downlink
