#include "dmm/testing/internal/memory_log.h"

#include <fmt/format.h>

#include <algorithm>

#include "dmm/limits.h"
#include "dmm/testing/internal/subject.h"

namespace dmm::testing {

namespace {

constexpr std::string_view kMessageId = "Nats-Msg-Id";
/// How many messages that went could come back. A power cut costs few.
constexpr std::size_t kGoneMax = 4096;

/// What a message takes in a file of nats-server.
std::uint64_t bytes_of(const transport::Message& message) {
  constexpr std::uint64_t kRecord = 30;
  std::uint64_t bytes = kRecord + message.subject.size() + message.payload.size();
  if (message.headers.empty()) return bytes;
  bytes += 4 + std::string_view("NATS/1.0\r\n\r\n").size();
  for (const auto& [name, value] : message.headers) bytes += name.size() + value.size() + 4;
  return bytes;
}

}  // namespace

bool MemoryLog::takes(std::string_view subject) const noexcept {
  return std::ranges::any_of(config_.subjects, [&](const std::string& filter) {
    return subject_matches(filter, subject);
  });
}

Result<Sequence> MemoryLog::store(std::string subject, transport::Headers headers,
                                  std::string payload, std::optional<Sequence> expected,
                                  std::chrono::system_clock::time_point at) {
  const auto now = Clock::now();
  forget_old_ids(now);
  const auto id = transport::find_header(headers, kMessageId);
  if (id) {
    if (const auto known = ids_.find(std::string(*id)); known != ids_.end()) {
      return Sequence{known->second};
    }
  }
  const auto newest = newest_.find(subject);
  const std::uint64_t there = newest == newest_.end() ? 0 : newest->second;
  if (expected && expected->value != there) {
    return Error(code::write_conflict,
                 fmt::format("publishing {}: wrong last sequence: {}", subject, there));
  }
  ++last_;
  if (id) {
    ids_.emplace(*id, last_);
    seen_.push_back({std::string(*id), now});
  }
  if (there != 0) take_out(messages_.find(there));
  put_in({std::move(subject), std::move(headers), std::move(payload), Sequence{last_}, at});
  return Sequence{last_};
}

const transport::Message* MemoryLog::last_of(const std::string& subject) const {
  const auto newest = newest_.find(subject);
  return newest == newest_.end() ? nullptr : &messages_.at(newest->second);
}

const transport::Message* MemoryLog::find(std::uint64_t sequence) const {
  const auto found = messages_.find(sequence);
  return found == messages_.end() ? nullptr : &found->second;
}

bool MemoryLog::erase(std::uint64_t sequence) {
  const auto found = messages_.find(sequence);
  if (found == messages_.end()) return false;
  take_out(found);
  return true;
}

void MemoryLog::put_in(transport::Message message) {
  const std::uint64_t sequence = message.sequence.value;
  bytes_ += bytes_of(message);
  newest_[message.subject] = sequence;
  messages_.emplace(sequence, std::move(message));
}

void MemoryLog::take_out(std::map<std::uint64_t, transport::Message>::iterator found) {
  bytes_ -= bytes_of(found->second);
  newest_.erase(found->second.subject);
  gone_.push_back({std::move(found->second), last_});
  if (gone_.size() > kGoneMax) gone_.pop_front();
  messages_.erase(found);
}

const transport::Message* MemoryLog::next(std::uint64_t after, std::string_view filter) const {
  for (auto at = messages_.upper_bound(after); at != messages_.end(); ++at) {
    if (filter.empty() || subject_matches(filter, at->second.subject)) return &at->second;
  }
  return nullptr;
}

std::vector<std::string> MemoryLog::subjects(std::string_view filter) const {
  std::vector<std::string> found;
  for (const auto& [sequence, message] : messages_) {
    if (subject_matches(filter, message.subject)) found.push_back(message.subject);
  }
  return found;
}

transport::StreamState MemoryLog::state() const {
  transport::StreamState state;
  state.name = config_.name;
  state.created = created_;
  state.last = Sequence{last_};
  if (!messages_.empty()) {
    state.first = messages_.begin()->second.sequence;
  } else if (last_ > 0) {
    state.first = Sequence{last_ + 1};
  }
  state.messages = messages_.size();
  state.bytes = bytes_;
  state.replicas = config_.replicas;
  return state;
}

void MemoryLog::lose_last(std::uint64_t count) {
  last_ -= std::min(last_, count);
  std::deque<Gone> gone;
  gone.swap(gone_);
  while (!messages_.empty() && messages_.rbegin()->first > last_) {
    take_out(std::prev(messages_.end()));
  }
  gone_.clear();
  for (Gone& one : gone) {
    if (one.last <= last_) {
      gone_.push_back(std::move(one));
    } else if (one.message.sequence.value <= last_) {
      put_in(std::move(one.message));
    }
  }
  std::erase_if(ids_, [this](const auto& known) { return known.second > last_; });
}

void MemoryLog::forget_old_ids(Clock::time_point now) {
  while (!seen_.empty() && now - seen_.front().at > limits::dedupe_window) {
    ids_.erase(seen_.front().message_id);
    seen_.pop_front();
  }
}

}  // namespace dmm::testing
