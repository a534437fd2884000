#include "dmm/testing/internal/memory_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace dmm::testing {

using Clock = Courier::Clock;

MemoryReader::MemoryReader(std::shared_ptr<MemoryConnection> connection,
                           transport::StreamConfig config, bool may_create,
                           transport::ReadOptions options, transport::ReaderSink& sink)
    : connection_(std::move(connection)),
      config_(std::move(config)),
      part_(part_of_stream(config_.name)),
      may_create_(may_create),
      options_(std::move(options)),
      sink_(sink),
      find_end_(options_.only_new),
      created_(options_.created),
      given_(options_.only_new ? 0 : options_.after.value),
      passed_(given_),
      number_(connection_->attach(*this)) {}

MemoryReader::~MemoryReader() {
  connection_->detach(number_);
}

void MemoryReader::grant(std::size_t count) {
  const std::lock_guard lock(connection_->core().mutex());
  granted_ += count;
  connection_->wake();
}

bool MemoryReader::behind() const {
  const MemoryLog* const log = connection_->core().log(config_.name);
  if (look_ || lost_ || !caught_up_) return true;
  return log != nullptr && log->next(passed_, options_.filter) != nullptr;
}

void MemoryReader::lose_history(std::string reason) {
  given_ = 0;
  passed_ = 0;
  created_.clear();
  caught_up_ = false;
  complete_ = false;
  due_.reset();
  lost_ = std::move(reason);
}

/// Is the stream the one that was read, with all that was read in it?
void MemoryReader::look(const MemoryLog* log) {
  if (log == nullptr) {
    if (!created_.empty()) lose_history("the stream is gone");
    return;
  }
  if (!created_.empty() && created_ != log->created()) {
    lose_history("the stream was created again");
  } else if (log->last() < given_) {
    lose_history(fmt::format("the stream ends at {}, but {} was read", log->last(), given_));
  }
  created_ = log->created();
  end_ = log->last();
  if (std::exchange(find_end_, false)) given_ = end_;
  passed_ = given_;
  look_ = false;
}

void MemoryReader::look_now() {
  look_ = true;
  if (!lost_) look(connection_->core().log(config_.name));
}

Courier::Task MemoryReader::next(Clock::time_point& until) {
  MemoryCore& core = connection_->core();
  const MemoryLog* log = core.log(config_.name);
  if (look_ && !lost_) look(log);
  if (lost_) {
    return [this, reason = *std::exchange(lost_, std::nullopt)] { sink_.on_history_lost(reason); };
  }
  if (log == nullptr) {
    // It comes back with a word to all readers, so this is asked again.
    if (may_create_) core.bring_back(config_);
    return {};
  }
  const transport::Message* const message = log->next(passed_, options_.filter);
  const bool nothing = message == nullptr;
  if (nothing) passed_ = log->last();
  if (!caught_up_ && (nothing || message->sequence.value > end_)) {
    caught_up_ = true;
    complete_ = nothing;
    return [this, nothing] {
      sink_.on_caught_up();
      if (nothing) sink_.on_complete();
    };
  }
  if (nothing && !std::exchange(complete_, true)) {
    return [this] { sink_.on_complete(); };
  }
  if (nothing || granted_ == 0) return {};
  const auto lag = connection_->faults().lag_of(part_, *message);
  if (!due_ && lag.count() > 0) due_ = Clock::now() + lag;
  if (due_ && *due_ > Clock::now()) {
    until = std::min(until, *due_);
    return {};
  }
  due_.reset();
  return give(*message);
}

Courier::Task MemoryReader::give(const transport::Message& message) {
  given_ = passed_ = message.sequence.value;
  --granted_;
  transport::Message copy = message;
  if (options_.headers_only) {
    copy.headers.emplace_back("Nats-Msg-Size", std::to_string(copy.payload.size()));
    copy.payload.clear();
  }
  return [this, copy = std::move(copy)] { sink_.on_message(copy); };
}

}  // namespace dmm::testing
