#include "dmm/resource/sessions.h"

#include <fmt/format.h>
#include <poll.h>

#include "dmm/resource/migrations_internal.h"

namespace dmm::resource::internal {

bool has_ended(Session& session) {
  try {
    pollfd file{session.connection().sock(), POLLIN, 0};
    return ::poll(&file, 1, 0) != 0;
  } catch (const std::exception&) {
    return true;
  }
}

void as_the_user_has_it(Session& session) {
  pqxx::nontransaction setup(session.connection());
  setup.exec(
      "RESET search_path; RESET row_security; RESET TimeZone; RESET DateStyle;"
      "RESET IntervalStyle; RESET bytea_output; RESET extra_float_digits; RESET lc_monetary");
}

void Sessions::commit(pqxx::work& transaction, std::string_view doing) {
  try {
    transaction.commit();
  } catch (const pqxx::in_doubt_error& error) {
    throw Error(code::in_doubt,
                fmt::format("{}: PostgreSQL did not answer the commit: {}", doing, error.what()));
  }
}

std::unique_ptr<Session> Sessions::open() const {
  auto session = std::make_unique<Session>(
      connection_, postgres::internal::SessionOptions{.application = "dmm resource",
                                                      .statement_timeout = statement_timeout_});
  postgres::internal::guarded("looking for the tables of resources", [&] {
    {
      pqxx::read_transaction transaction(session->connection());
      require_migrated(transaction);
    }
    as_the_user_has_it(*session);
    // A host that is frozen in the midst of a transaction keeps others from what it locked, and
    // them from starting. Long enough for what a user's own code does in one.
    pqxx::nontransaction setup(session->connection());
    setup.exec("SET idle_in_transaction_session_timeout = '60s'");
  });
  return session;
}

std::unique_ptr<Session> Sessions::take() {
  std::unique_ptr<Session> session;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return lent_ < most_; });
    ++lent_;
    if (!idle_.empty()) {
      session = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (session != nullptr && has_ended(*session)) session.reset();
  if (session != nullptr) return session;
  try {
    return open();
  } catch (...) {
    give_back(nullptr);
    throw;
  }
}

void Sessions::give_back(std::unique_ptr<Session> session) {
  const std::lock_guard lock(mutex_);
  --lent_;
  if (session != nullptr) idle_.push_back(std::move(session));
  changed_.notify_one();
}

}  // namespace dmm::resource::internal
