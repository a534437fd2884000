#pragma once

// A Gathering runs one statement for those who ask at the same time. Who comes when nobody asks
// leads: it runs the statement at once, on its own thread. Those who come meanwhile wait, and go
// together with the next, led by the first of them. So one caller waits for nobody, and many share
// a statement, a round trip and a commit.
//
// Each execution is a transaction of its own. Whom it has to wake it wakes with its commit if it
// has one caller, and afterwards if it has more: a commit that notifies keeps all others that do
// from the disk. A statement that the database refuses, or that waits too long for a lock, is
// nobody's: everybody in it is told to ask alone, so that none pays for another one's row.
// Thread-safe.

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dmm/postgres/session.h"

namespace dmm::resource::internal {

using postgres::internal::Session;

class Gathering final {
 public:
  /// One caller, for one question.
  struct Call {
    std::string members;  ///< of its JSON object, without braces and "n"
    virtual ~Call() = default;
    /// Takes a row of the answer, on the thread of whoever leads. Must not throw but
    /// std::exception, which becomes the caller's.
    virtual void answer(const pqxx::row& row) = 0;
    /// Whether somebody has to be woken for what was done. Asked behind answer().
    virtual bool wakes() const noexcept { return false; }

   private:
    friend Gathering;
    enum class Fate { waits, leads, answered, alone };
    Fate fate = Fate::waits;
    std::exception_ptr failure;
    std::condition_variable changed;
  };

  struct Options {
    std::string sql;          ///< with $1, a JSON array; the first column of its rows is "n"
    std::string doing;        ///< for messages: "informing"
    std::size_t leaders = 1;  ///< executions at a time, each on a connection of its own
    /// A lost connection leaves open whether it was done.
    bool writes = false;
    std::chrono::milliseconds statement_timeout = std::chrono::seconds(60);
  };

  Gathering(std::string connection, Options options)
      : connection_(std::move(connection)), options_(std::move(options)) {}
  Gathering(const Gathering&) = delete;
  Gathering& operator=(const Gathering&) = delete;

  /// Waits for the answer: its rows were given to the call. False: it has to be asked alone. Throws
  /// Error{retry} DMM-0110, {in_doubt} DMM-0105 if it writes, {invalid} DMM-0111; what else the
  /// database says of this call alone, and what answer() threw.
  bool ask(Call& call);

 private:
  using Calls = std::vector<Call*>;

  Calls take();
  bool run(const Calls& calls, bool by_itself);
  pqxx::result execute(const std::string& items, bool by_itself);
  void wake() noexcept;
  std::unique_ptr<Session> session();
  std::unique_ptr<Session> open() const;

  const std::string connection_;
  const Options options_;
  std::mutex mutex_;
  std::deque<Call*> waiting_;  ///< not empty only while somebody leads
  std::size_t leading_ = 0;
  std::vector<std::unique_ptr<Session>> idle_;
};

}  // namespace dmm::resource::internal
