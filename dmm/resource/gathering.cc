#include "dmm/resource/gathering.h"

#include <fmt/format.h>

#include <utility>

#include "dmm/limits.h"
#include "dmm/resource/migrations_internal.h"
#include "dmm/resource/sessions.h"

namespace dmm::resource::internal {

namespace {

constexpr const char* kStatement = "gathered";

/// Whether it may go better without the others.
bool better_alone(const pqxx::sql_error& error, std::size_t together) {
  const std::string& state = error.sqlstate();
  return together > 1 || state == "55P03" || state == "40P01";  // lock not available, deadlock
}

}  // namespace

bool Gathering::ask(Call& call) {
  bool wakes = false;
  std::unique_lock lock(mutex_);
  waiting_.push_back(&call);
  if (leading_ < options_.leaders) {
    ++leading_;
  } else {
    call.changed.wait(lock, [&call] { return call.fate != Call::Fate::waits; });
  }
  if (call.fate == Call::Fate::waits || call.fate == Call::Fate::leads) {
    const Calls calls = take();
    const bool by_itself = calls.size() == 1 && leading_ == 1 && waiting_.empty();
    lock.unlock();
    wakes = run(calls, by_itself) && !by_itself;
    lock.lock();
    for (Call* other : calls) {
      if (other->fate == Call::Fate::waits || other->fate == Call::Fate::leads) {
        other->fate = Call::Fate::answered;
      }
      if (other != &call) other->changed.notify_one();
    }
    if (waiting_.empty()) {
      --leading_;
    } else {
      waiting_.front()->fate = Call::Fate::leads;
      waiting_.front()->changed.notify_one();
    }
  }
  lock.unlock();
  if (wakes) wake();
  if (call.failure) std::rethrow_exception(call.failure);
  return call.fate == Call::Fate::answered;
}

/// The first of those who wait, who leads, and as many more as fit.
Gathering::Calls Gathering::take() {
  Calls calls;
  std::size_t bytes = 0;
  while (!waiting_.empty() && calls.size() < limits::resource_batch &&
         (calls.empty() || bytes < limits::resource_batch_bytes)) {
    bytes += waiting_.front()->members.size();
    calls.push_back(waiting_.front());
    waiting_.pop_front();
  }
  return calls;
}

/// Gives each of the calls its rows, its failure or the word to ask alone. They are the leader's
/// now: nobody else looks at them until it says that they are done. Returns whether somebody has to
/// be woken.
bool Gathering::run(const Calls& calls, bool by_itself) {
  bool wakes = false;
  try {
    std::string items;
    for (std::size_t i = 0; i < calls.size(); ++i) {
      items += fmt::format("{}{{\"n\":{},{}}}", items.empty() ? "[" : ",", i, calls[i]->members);
    }
    for (const auto& row : execute(items + "]", by_itself)) {
      Call& call = *calls.at(row[0].as<std::size_t>());
      try {
        call.answer(row);
        wakes = wakes || call.wakes();
      } catch (const std::exception&) {
        call.failure = std::current_exception();
      }
    }
  } catch (const pqxx::sql_error& error) {
    if (better_alone(error, calls.size())) {
      for (Call* call : calls) call->fate = Call::Fate::alone;
    } else {
      calls.front()->failure =
          std::make_exception_ptr(postgres::internal::current_error(options_.doing));
    }
  } catch (...) {
    const Error error = postgres::internal::current_error(options_.doing);
    for (Call* call : calls) {  // each has its own: copies would share their text
      call->failure = std::make_exception_ptr(Error(error.code(), error.message()));
    }
  }
  return wakes;
}

pqxx::result Gathering::execute(const std::string& items, bool by_itself) {
  std::unique_ptr<Session> used = session();
  pqxx::result rows;
  try {
    pqxx::nontransaction statement(used->connection());
    rows = statement.exec_prepared(kStatement, items, by_itself);
  } catch (const pqxx::sql_error&) {  // refused; the session is sound
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(used));
    throw;
  } catch (const pqxx::failure& error) {
    if (!options_.writes) throw;
    throw Error(code::in_doubt,
                fmt::format("{}: PostgreSQL did not answer: {}", options_.doing, error.what()));
  }
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(used));
  return rows;
}

void Gathering::wake() noexcept {
  try {
    std::unique_ptr<Session> used = session();
    {
      pqxx::nontransaction statement(used->connection());
      statement.exec(kWake);
    }
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(used));
  } catch (const std::exception&) {  // what was done is found without it, a little later
  }
}

std::unique_ptr<Session> Gathering::session() {
  std::unique_ptr<Session> found;
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      found = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (found != nullptr && !has_ended(*found)) return found;
  return open();
}

std::unique_ptr<Session> Gathering::open() const {
  auto session = std::make_unique<Session>(
      connection_,
      postgres::internal::SessionOptions{.application = "dmm resource",
                                         .statement_timeout = options_.statement_timeout,
                                         .lock_timeout = limits::resource_group_lock});
  postgres::internal::guarded("looking for the tables of resources", [&] {
    {
      pqxx::nontransaction setup(session->connection());
      require_migrated(setup);
      // Rows are looked up by their keys, whatever is known of the size of the table.
      setup.exec("SET enable_seqscan = off; SET jit = off");
    }
    session->connection().prepare(kStatement, options_.sql);
  });
  return session;
}

}  // namespace dmm::resource::internal
