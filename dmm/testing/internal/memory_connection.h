#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dmm/error.h"
#include "dmm/internal/runtime.h"
#include "dmm/testing/internal/courier.h"
#include "dmm/testing/internal/fault_book.h"
#include "dmm/testing/internal/memory_core.h"
#include "dmm/testing/internal/memory_messenger.h"

namespace dmm::testing {

class MemoryReader;

/// The inside of a MemoryTransport: carries calls to the server and answers back, as its faults let
/// it. Thread-safe.
class MemoryConnection final {
 public:
  MemoryConnection(std::shared_ptr<MemoryCore> core, std::uint64_t seed, bool announce);
  /// As close().
  ~MemoryConnection();
  MemoryConnection(const MemoryConnection&) = delete;
  MemoryConnection& operator=(const MemoryConnection&) = delete;

  MemoryCore& core() noexcept { return *core_; }
  const std::shared_ptr<MemoryCore>& shared_core() const noexcept { return core_; }
  FaultBook& faults() noexcept { return faults_; }
  /// The server can be reached.
  bool linked() const noexcept { return linked_; }
  bool closed() const noexcept { return closed_; }
  std::uint64_t reconnects() const noexcept { return reconnects_; }
  MemoryMessenger& messenger() noexcept { return messenger_; }

  void partition() noexcept { linked_ = false; }
  void heal();
  /// A partition for good: nothing that is done here arrives any more.
  void sever() noexcept {
    severed_ = true;
    linked_ = false;
  }
  /// What waits is answered by DMM-0108, and so is every call from now on.
  void close();
  /// On the connection's thread, or here if that has ended.
  void deliver(Courier::Task task, Courier::Clock::time_point due = {});

  void publish(Part part, transport::Publication publication, std::chrono::milliseconds deadline,
               transport::Completion<Sequence> done);

  /// A call that is answered later.
  /// subject   that chance goes by.
  /// what      is being done, for errors.
  template <class T>
  void call(Part part, Call kind, const std::string& subject, const std::string& what,
            std::function<Result<T>()> perform, transport::Completion<T> done);

  /// For a call that blocks: throws what its faults make of it.
  void ask(Part part, std::string_view stream, const std::string& what);

  // ---- with the server's mutex held
  bool reads(std::string_view stream) const;
  /// Readers of a stream that have begun.
  std::size_t readers_of(std::string_view stream) const;
  void look_again(std::string_view stream);
  /// Readers find out at once that a stream lost messages, unless they are cut off.
  void look_now(std::string_view stream);
  void tell_behind(std::vector<std::string>& all) const;
  void wake() { courier_.wake(); }
  /// Publishes that wait are tried again.
  void retry();
  void reconnected();

  // ---- readers
  std::uint64_t attach(MemoryReader& reader);
  /// Returns when the sink of the reader is not being called, unless it is itself that calls.
  void detach(std::uint64_t number);

 private:
  using Clock = Courier::Clock;
  struct Publishing;

  static Error unanswered(const std::string& what);
  static Error unreachable(const std::string& what);
  static Error no_more(const std::string& what);
  void attempt(const std::shared_ptr<Publishing>& publishing);
  void finish(Publishing& publishing, Result<Sequence> result);
  void stall(const std::shared_ptr<Publishing>& publishing);
  void reply(const Verdict& verdict, Part part, Call kind, Courier::Task task,
             Clock::time_point due);
  Clock::time_point hand_out();

  const std::shared_ptr<MemoryCore> core_;
  FaultBook faults_;
  std::atomic<bool> linked_{true};
  std::atomic<bool> severed_{false};
  std::atomic<bool> closed_{false};
  std::atomic<std::uint64_t> reconnects_{0};

  std::mutex stalled_mutex_;
  std::vector<std::shared_ptr<Publishing>> stalled_;  ///< publishes that cannot be made now

  // Guarded by the server's mutex.
  std::map<std::uint64_t, MemoryReader*> readers_;
  std::uint64_t readers_made_ = 0;
  std::uint64_t calling_ = 0;  ///< the reader whose sink is being called
  internal::Condition called_;

  MemoryMessenger messenger_;
  Courier courier_;  ///< last: its thread uses what stands before
};

template <class T>
void MemoryConnection::call(Part part, Call kind, const std::string& subject,
                            const std::string& what, std::function<Result<T>()> perform,
                            transport::Completion<T> done) {
  using Fate = Verdict::Fate;
  internal::yield();
  if (closed_) return done(no_more(what));
  const Verdict verdict = faults_.judge(part, kind, subject);
  if (verdict.fate == Fate::refused || verdict.fate == Fate::request_lost) {
    return reply(
        verdict, part, kind, [done = std::move(done), what] { done(unanswered(what)); },
        verdict.patience.count() > 0 ? Clock::now() + verdict.patience : Clock::time_point());
  }
  auto act = [this, verdict, part, kind, what, perform = std::move(perform),
              done = std::move(done)] {
    Result<T> result = unreachable(what);
    if (closed_) {
      result = no_more(what);
    } else if (linked_) {
      result = perform();
      if (verdict.fate != Fate::none) result = unanswered(what);
    }
    const bool late = verdict.fate == Fate::answer_lost;
    reply(
        verdict, part, kind,
        [done, result = std::move(result)]() mutable { done(std::move(result)); },
        late ? Clock::now() + verdict.patience : Clock::time_point());
  };
  if (verdict.there.count() == 0) return act();
  deliver(std::move(act), Clock::now() + verdict.there);
}

}  // namespace dmm::testing
