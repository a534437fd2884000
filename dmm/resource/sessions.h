#pragma once

// Sessions are the connections of a Client: opened as they are needed, at most so many at a time,
// and kept. Thread-safe.

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "dmm/postgres/session.h"

namespace dmm::resource::internal {

using postgres::internal::Session;

class Sessions final {
 public:
  Sessions(std::string connection, std::size_t most, std::chrono::milliseconds statement_timeout)
      : connection_(std::move(connection)), most_(most), statement_timeout_(statement_timeout) {}

  const std::string& connection() const noexcept { return connection_; }

  /// Runs `work(transaction)` in a transaction and commits it. Throws Error instead of what libpqxx
  /// throws; {in_doubt} DMM-0105 if the commit was not answered.
  /// doing   for example "informing customer c1".
  template <class Work>
  auto transact(std::string_view doing, Work&& work) {
    return with_session(doing, [&](Session& session) {
      pqxx::work transaction(session.connection());
      if constexpr (std::is_void_v<decltype(work(transaction))>) {
        work(transaction);
        commit(transaction, doing);
      } else {
        auto result = work(transaction);
        commit(transaction, doing);
        return result;
      }
    });
  }

 private:
  /// One session while it is used.
  class Loan {
   public:
    Loan(Sessions& owner, std::unique_ptr<Session> session)
        : owner_(owner), session_(std::move(session)) {}
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    ~Loan() { owner_.give_back(std::move(session_)); }
    Session& operator*() { return *session_; }
    void drop() { session_.reset(); }

   private:
    Sessions& owner_;
    std::unique_ptr<Session> session_;
  };

  template <class Work>
  auto with_session(std::string_view doing, Work&& work) {
    Loan loan(*this, take());
    try {
      return work(*loan);
    } catch (const pqxx::sql_error&) {
      throw postgres::internal::current_error(doing);  // refused; the session is sound
    } catch (const pqxx::failure&) {
      loan.drop();
      throw postgres::internal::current_error(doing);
    } catch (const Error& error) {
      if (error.kind() == Kind::retry || error.kind() == Kind::in_doubt) loan.drop();
      throw;
    }
  }

  static void commit(pqxx::work& transaction, std::string_view doing);
  std::unique_ptr<Session> take();
  std::unique_ptr<Session> open() const;
  void give_back(std::unique_ptr<Session> session);

  const std::string connection_;
  const std::size_t most_;
  const std::chrono::milliseconds statement_timeout_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t lent_ = 0;
  std::vector<std::unique_ptr<Session>> idle_;
};

/// Wakes whoever tells the outbox to NATS: a transaction of its own, which waits for no disk.
/// Whoever looks by itself finds what is there within limits::resource_poll.
inline constexpr const char* kWake = "SELECT pg_notify('dmm_resource', '')";

/// Whether the server has said something, although nothing was asked: mostly that it ends this.
bool has_ended(Session& session);
/// Gives a session back the settings of its role that shape what a user's statements mean.
void as_the_user_has_it(Session& session);

}  // namespace dmm::resource::internal
