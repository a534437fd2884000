#include "dmm/testing/internal/memory_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "dmm/limits.h"
#include "dmm/testing/internal/memory_reader.h"
#include "dmm/wire.h"

namespace dmm::testing {

using std::chrono::milliseconds;
using Fate = Verdict::Fate;

namespace {

constexpr std::string_view kMessageId = "Nats-Msg-Id";

}  // namespace

/// A publish under way. After the first attempt only the connection's thread uses it.
struct MemoryConnection::Publishing {
  Part part;
  transport::Publication publication;
  std::string what;
  Clock::time_point deadline;
  transport::Completion<Sequence> done;
  Verdict verdict;
  std::optional<Error> trouble = {};  ///< why it could not be made yet
  bool finished = false;
};

MemoryConnection::MemoryConnection(std::shared_ptr<MemoryCore> core, std::uint64_t seed,
                                   bool announce)
    : core_(std::move(core)),
      faults_(seed, announce),
      messenger_(*this),
      courier_([this] { return hand_out(); }) {
  core_->attach(*this);
}

MemoryConnection::~MemoryConnection() {
  close();
}

void MemoryConnection::close() {
  if (closed_.exchange(true)) return;
  messenger_.close();
  core_->detach(*this);
  for (FaultBook::Answer& answer : faults_.clear()) deliver(std::move(answer));
  retry();
  courier_.close();
}

void MemoryConnection::deliver(Courier::Task task, Clock::time_point due) {
  if (const Courier::Task refused = courier_.post(std::move(task), due)) refused();
}

Error MemoryConnection::unanswered(const std::string& what) {
  return {code::timed_out, what + ": the server did not answer"};
}

Error MemoryConnection::unreachable(const std::string& what) {
  return {code::unreachable, what + ": not connected to a server at the moment"};
}

Error MemoryConnection::no_more(const std::string& what) {
  return {code::closed, what + ": the connection is closed"};
}

// ---- the link

void MemoryConnection::heal() {
  if (closed_ || severed_ || linked_.exchange(true)) return;
  const std::lock_guard lock(core_->mutex());
  reconnected();
}

void MemoryConnection::reconnected() {
  if (closed_ || !linked_) return;
  ++reconnects_;
  for (const auto& [number, reader] : readers_) reader->look_again();
  messenger_.reconnected();
  retry();
  wake();
}

void MemoryConnection::ask(Part part, std::string_view stream, const std::string& what) {
  internal::yield();
  if (closed_) throw no_more(what);
  const Verdict verdict = faults_.judge(part, Call::ask, stream);
  if (!linked_) throw unreachable(what);
  if (verdict.patience.count() > 0) {
    std::mutex mutex;
    internal::Condition answer;  // that never comes
    std::unique_lock lock(mutex);
    answer.wait_for(lock, verdict.patience);
  }
  if (verdict.fate != Fate::none) throw unanswered(what);
}

// ---- publishing

void MemoryConnection::publish(Part part, transport::Publication publication, milliseconds deadline,
                               transport::Completion<Sequence> done) {
  const std::string what = "publishing " + publication.subject;
  internal::yield();
  if (closed_) return done(no_more(what));
  const auto bytes_max =
      std::min<std::uint64_t>(limits::payload_bytes_max, core_->payload_bytes_max());
  if (publication.payload.size() > bytes_max) {
    Error error(code::too_large,
                fmt::format("the value for {} has {} bytes, more than {}", publication.subject,
                            publication.payload.size(), bytes_max));
    return deliver(
        [done = std::move(done), error = std::move(error)]() mutable { done(std::move(error)); });
  }
  // As they are sent, and stored, by NATS.
  publication.headers.emplace_back(kMessageId, wire::unique_id());
  if (publication.expected_last) {
    publication.headers.emplace_back("Nats-Expected-Last-Subject-Sequence",
                                     std::to_string(publication.expected_last->value));
  }
  const Verdict verdict = faults_.judge(part, Call::publish, publication.subject);
  const auto now = Clock::now();
  const auto publishing = std::make_shared<Publishing>(
      Publishing{part, std::move(publication), what, now + deadline, std::move(done), verdict});
  if (verdict.fate == Fate::refused) return finish(*publishing, unanswered(what));
  if (verdict.fate == Fate::request_lost) return finish(*publishing, unanswered(what));
  if (verdict.there.count() == 0) return attempt(publishing);
  deliver([this, publishing] { attempt(publishing); }, now + verdict.there);
}

void MemoryConnection::attempt(const std::shared_ptr<Publishing>& publishing) {
  if (publishing->finished) return;
  if (closed_) return finish(*publishing, no_more(publishing->what));
  // Whoever stood still meanwhile does not send what is too late.
  if (publishing->trouble && Clock::now() >= publishing->deadline) {
    return finish(*publishing, std::move(*publishing->trouble));
  }
  if (!linked_) {
    publishing->trouble = unreachable(publishing->what);
  } else if (auto stored = core_->publish(publishing->publication)) {
    if (publishing->verdict.twice) {
      std::erase_if(publishing->publication.headers,
                    [](const auto& header) { return header.first == kMessageId; });
      core_->publish(publishing->publication);
    }
    return finish(*publishing, std::move(*stored));
  } else {
    publishing->trouble =
        Error(code::stream_missing, publishing->what + ": no stream takes the subject");
  }
  if (Clock::now() >= publishing->deadline)
    return finish(*publishing, std::move(*publishing->trouble));
  stall(publishing);
}

/// It waits until something changes, or its deadline.
void MemoryConnection::stall(const std::shared_ptr<Publishing>& publishing) {
  {
    const std::lock_guard lock(stalled_mutex_);
    stalled_.push_back(publishing);
  }
  deliver([this, publishing] { attempt(publishing); }, publishing->deadline);
  // What was missing may have come before it stood in the list.
  if (closed_ || (linked_ && core_->takes(publishing->publication.subject))) retry();
}

void MemoryConnection::retry() {
  std::vector<std::shared_ptr<Publishing>> stalled;
  {
    const std::lock_guard lock(stalled_mutex_);
    stalled.swap(stalled_);
  }
  for (auto& publishing : stalled) {
    // Never here: the server's mutex may be held. A courier that has ended has run all it had.
    courier_.post([this, publishing = std::move(publishing)] { attempt(publishing); });
  }
}

void MemoryConnection::finish(Publishing& publishing, Result<Sequence> result) {
  publishing.finished = true;
  const Verdict& verdict = publishing.verdict;
  Clock::time_point due{};
  const bool lost = verdict.fate == Fate::request_lost || verdict.fate == Fate::answer_lost;
  if (lost) due = std::min(publishing.deadline, Clock::now() + verdict.patience);
  if ((lost || verdict.fate == Fate::in_doubt) && !closed_) {
    result = Error(code::in_doubt, publishing.what + ": the server did not answer");
  }
  reply(
      verdict, publishing.part, Call::publish,
      [done = std::move(publishing.done), result = std::move(result)]() mutable {
        done(std::move(result));
      },
      due);
}

/// Brings an answer back.
void MemoryConnection::reply(const Verdict& verdict, Part part, Call kind, Courier::Task task,
                             Clock::time_point due) {
  if (verdict.back.count() > 0) due = std::max(due, Clock::now()) + verdict.back;
  if (!verdict.held || closed_) return deliver(std::move(task), due);
  faults_.keep(part, kind, std::move(task));
  // It closed meanwhile, and nobody lets go any more.
  if (closed_) {
    for (FaultBook::Answer& answer : faults_.let_go(Part::any, Call::any)) {
      deliver(std::move(answer));
    }
  }
}

// ---- readers

std::uint64_t MemoryConnection::attach(MemoryReader& reader) {
  const std::lock_guard lock(core_->mutex());
  readers_.emplace(++readers_made_, &reader);
  wake();
  return readers_made_;
}

void MemoryConnection::detach(std::uint64_t number) {
  std::unique_lock lock(core_->mutex());
  readers_.erase(number);
  if (!courier_.is_this_thread()) called_.wait(lock, [&] { return calling_ != number; });
}

bool MemoryConnection::reads(std::string_view stream) const {
  return std::ranges::any_of(
      readers_, [&](const auto& numbered) { return numbered.second->stream() == stream; });
}

std::size_t MemoryConnection::readers_of(std::string_view stream) const {
  return static_cast<std::size_t>(std::ranges::count_if(readers_, [&](const auto& numbered) {
    return numbered.second->stream() == stream && numbered.second->has_begun();
  }));
}

void MemoryConnection::look_again(std::string_view stream) {
  for (const auto& [number, reader] : readers_) {
    if (reader->stream() == stream) reader->look_again();
  }
  wake();
}

void MemoryConnection::look_now(std::string_view stream) {
  if (!linked_) return look_again(stream);
  for (const auto& [number, reader] : readers_) {
    if (reader->stream() == stream) reader->look_now();
  }
  wake();
}

void MemoryConnection::tell_behind(std::vector<std::string>& all) const {
  for (const auto& [number, reader] : readers_) {
    if (number == calling_ || reader->behind()) all.push_back(reader->description());
  }
}

/// Each reader gets its next message. On the connection's thread.
MemoryConnection::Clock::time_point MemoryConnection::hand_out() {
  auto until = Clock::time_point::max();
  std::unique_lock lock(core_->mutex());
  for (std::uint64_t number = 0; linked_ && !closed_;) {
    const auto found = readers_.upper_bound(number);
    if (found == readers_.end()) break;
    number = found->first;
    Courier::Task task = found->second->next(until);
    if (!task) continue;
    until = Clock::time_point::min();
    calling_ = number;
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
    calling_ = 0;
    called_.notify_all();
  }
  return until;
}

}  // namespace dmm::testing
