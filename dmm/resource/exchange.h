#pragma once

// An Exchange runs one statement for many callers: what they ask while a statement is under way
// goes into the next one together. A caller waits for its own answer.
//
// The statement must bear to be run again: after a lost connection nobody knows whether it was
// done. Thread-safe; threads of its own, each with a session.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "dmm/log.h"
#include "dmm/postgres/session.h"
#include "dmm/resource/resource.h"

namespace dmm::resource::internal {

using postgres::internal::Session;

/// The part that does not depend on what is answered.
class ExchangeBase {
 public:
  using Clock = std::chrono::steady_clock;

 protected:
  /// One caller.
  struct Call {
    std::string members;  ///< of its JSON object, without braces and "n"
    Clock::time_point deadline;
    int failures = 0;
    bool done = false;
    std::optional<Error> error;
    std::condition_variable answered;  ///< of its own: hundreds may wait
    virtual ~Call() = default;
    virtual void answer(const pqxx::row& row) = 0;
  };
  using CallPtr = std::shared_ptr<Call>;

  struct Statement {
    /// With $1, a JSON array, and $2, whether it wakes whom it has to by itself; the first column
    /// of its rows is "n".
    std::string sql;
    bool wakes = false;  ///< somebody has to be woken when it is done
    std::string application;
    std::string setup;          ///< of the session
    std::size_t at_a_time = 1;  ///< how often it may run at a time, with callers of its own each
  };

  ExchangeBase(std::string connection, Statement statement, Logger log);
  ~ExchangeBase();
  ExchangeBase(const ExchangeBase&) = delete;
  ExchangeBase& operator=(const ExchangeBase&) = delete;

  /// Waits until the call is answered. Throws its error, or {retry} DMM-0110 behind its deadline.
  void ask(const CallPtr& call);

 private:
  using SessionPtr = std::unique_ptr<Session>;  ///< null while there is none

  void run(const std::stop_token& stop);
  std::vector<CallPtr> take(const std::stop_token& stop);
  void exchange(SessionPtr& session, const std::vector<CallPtr>& calls);
  SessionPtr open() const;
  void answer(const std::vector<CallPtr>& calls, const pqxx::result& rows);
  void wake(SessionPtr& session);
  void failed(const std::vector<CallPtr>& calls, const Error& error, bool lost);
  void pause(const std::stop_token& stop);

  const std::string connection_;
  const Statement statement_;
  const Logger log_;
  std::mutex mutex_;
  std::condition_variable_any asked_;
  std::deque<CallPtr> waiting_;
  bool stopped_ = false;
  std::vector<std::jthread> threads_;  ///< last: they use all of the above
};

/// What the claim of a resource brought.
struct Claimed {
  std::string verdict;  ///< see dmm.resource_claim
  std::chrono::milliseconds delay{0};
  std::optional<AnyResource> resource;  ///< if claimed, without its key
  std::string damage;                   ///< not empty: what is stored cannot be read, and why
};

class Claims final : private ExchangeBase {
 public:
  Claims(std::string connection, Logger log);
  Claimed claim(const Key& key, const std::string& claim, Clock::time_point deadline);
};

/// How a work ended, for the database.
struct Finish {
  std::string verdict;  ///< see dmm.resource_finish
  std::string error;
  std::string trace;
  std::chrono::milliseconds delay{0};
};
struct Finished {
  std::string answer;  ///< "done", "busy" or "superseded"
  std::string state;
};

class Finishes final : private ExchangeBase {
 public:
  Finishes(std::string connection, Logger log);
  Finished finish(const Key& key, const std::string& claim, const Finish& finish,
                  Clock::time_point deadline);
};

/// The JSON of one result, for a transaction of one's own.
std::string members_of(const Key& key, const std::string& claim, const Finish& finish);

}  // namespace dmm::resource::internal
