#include "dmm/resource/exchange.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/resource/migrations_internal.h"
#include "dmm/resource/rows.h"
#include "dmm/resource/sessions.h"

namespace dmm::resource::internal {

namespace {

using namespace std::chrono_literals;

constexpr const char* kStatement = "exchanged";
/// While one waits for the disk the next one is made ready; and commits go to the disk together.
constexpr std::size_t kFinishes = 2;
constexpr int kTries = 5;          ///< of a statement that the server refuses
constexpr auto kReconnect = 50ms;  ///< between two attempts to connect

/// A copy that shares nothing: texts of exceptions are shared between copies, and between threads
/// by means that ThreadSanitizer does not see.
Error own(const Error& error) {
  return {error.code(), error.message()};
}

std::string with_claim(const Key& key, const std::string& claim) {
  return fmt::format("{},\"claim\":{}", members_of(key), json_text(claim));
}

}  // namespace

ExchangeBase::ExchangeBase(std::string connection, Statement statement, Logger log)
    : connection_(std::move(connection)), statement_(std::move(statement)), log_(std::move(log)) {
  for (std::size_t i = 0; i < statement_.at_a_time; ++i) {
    threads_.emplace_back([this](const std::stop_token& stop) { run(stop); });
  }
}

ExchangeBase::~ExchangeBase() {
  for (std::jthread& thread : threads_) thread.request_stop();
  for (std::jthread& thread : threads_) thread.join();
}

void ExchangeBase::ask(const CallPtr& call) {
  std::unique_lock lock(mutex_);
  if (stopped_) throw Error(code::closed, "the host has ended");
  waiting_.push_back(call);
  asked_.notify_one();
  call->answered.wait_until(lock, call->deadline, [&] { return call->done; });
  if (!call->done) {
    std::erase(waiting_, call);
    if (!call->error) throw Error(code::postgres_unreachable, "PostgreSQL did not answer in time");
  }
  if (call->error) throw own(*call->error);
}

void ExchangeBase::run(const std::stop_token& stop) {
  SessionPtr session;
  while (!stop.stop_requested()) {
    const std::vector<CallPtr> calls = take(stop);
    if (calls.empty()) continue;
    try {
      exchange(session, calls);
    } catch (...) {
      failed(calls, postgres::internal::current_error(statement_.application), session == nullptr);
      if (session == nullptr) pause(stop);
    }
  }
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  for (const CallPtr& call : waiting_) {
    call->error = Error(code::closed, "the host has ended");
    call->done = true;
    call->answered.notify_one();
  }
  waiting_.clear();
}

std::vector<ExchangeBase::CallPtr> ExchangeBase::take(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  asked_.wait(lock, stop, [this] { return !waiting_.empty(); });
  const auto count = std::min(waiting_.size(), limits::resource_batch);
  const auto end = waiting_.begin() + static_cast<std::ptrdiff_t>(count);
  std::vector<CallPtr> calls(waiting_.begin(), end);
  waiting_.erase(waiting_.begin(), end);
  return calls;
}

ExchangeBase::SessionPtr ExchangeBase::open() const {
  auto session = std::make_unique<Session>(
      connection_, postgres::internal::SessionOptions{.application = statement_.application});
  {
    pqxx::nontransaction setup(session->connection());
    require_migrated(setup);
    if (!statement_.setup.empty()) setup.exec(statement_.setup);
  }
  session->connection().prepare(kStatement, statement_.sql);
  return session;
}

void ExchangeBase::exchange(SessionPtr& session, const std::vector<CallPtr>& calls) {
  if (session == nullptr) session = open();
  std::string items;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    items += fmt::format("{}{{\"n\":{},{}}}", items.empty() ? "[" : ",", i, calls[i]->members);
  }
  // A commit that notifies keeps all others that do from the disk meanwhile; so where there are
  // many they are woken afterwards.
  const bool by_itself = calls.size() == 1;
  pqxx::result rows;
  try {
    pqxx::nontransaction statement(session->connection());
    rows = statement.exec_prepared(kStatement, items + "]", by_itself);
  } catch (const pqxx::sql_error&) {
    throw;
  } catch (...) {
    session.reset();
    throw;
  }
  answer(calls, rows);
  if (statement_.wakes && !by_itself) wake(session);
}

void ExchangeBase::answer(const std::vector<CallPtr>& calls, const pqxx::result& rows) {
  const std::lock_guard lock(mutex_);
  for (const auto& row : rows) {
    Call& call = *calls.at(row[0].as<std::size_t>());
    call.answer(row);
    call.done = true;
  }
  for (const CallPtr& call : calls) {
    if (!call->done) call->error = Error(code::bug, statement_.application + " left out an answer");
    call->done = true;
    call->answered.notify_one();
  }
}

void ExchangeBase::wake(SessionPtr& session) {
  try {
    pqxx::nontransaction statement(session->connection());
    statement.exec(kWake);
  } catch (const std::exception& e) {  // what was done is found without it, a little later
    log_.debug("those who tell resources could not be woken", {{"error", e.what()}});
    session.reset();
  }
}

/// Tries again what may go better, before everything that came later.
void ExchangeBase::failed(const std::vector<CallPtr>& calls, const Error& error, bool lost) {
  log_.debug("a statement of resources failed", {{"error", error.what()}});
  const std::lock_guard lock(mutex_);
  const auto now = Clock::now();
  for (auto call = calls.rbegin(); call != calls.rend(); ++call) {
    (*call)->error.emplace(error.code(), error.message());
    if (!lost) ++(*call)->failures;
    const bool hopeless = error.kind() != Kind::retry || (*call)->failures >= kTries;
    if (hopeless || now >= (*call)->deadline) {
      (*call)->done = true;
      (*call)->answered.notify_one();
    } else {
      waiting_.push_front(*call);
    }
  }
}

void ExchangeBase::pause(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  asked_.wait_for(lock, stop, kReconnect, [] { return false; });
}

// ---- claims

namespace {

void read_resource(const pqxx::row& row, AnyResource& resource) {
  resource.number = row[3].as<std::int64_t>();
  resource.generation = row[4].as<std::int64_t>();
  resource.state = State::running;
  resource.attempt = row[5].as<std::int64_t>();
  resource.tries = row[6].as<int>();
  resource.max_attempts = row[7].as<int>();
  resource.created_at = time_of(row[12].as<std::int64_t>());
  resource.external_created_at = time_of(row[13]);
  resource.synced_at = time_of(row[14]);
  resource.missing_since = time_of(row[15]);
  resource.metadata = parse_json(row[9].c_str()).value();
  resource.tags = tags_of(row[10].c_str());
  resource.errors = errors_of(row[11].c_str());
  resource.content = parse_json(row[8].c_str()).value();
}

}  // namespace

Claims::Claims(std::string connection, Logger log)
    : ExchangeBase(std::move(connection),
                   {"SELECT n, verdict, delay_ms, number, generation, attempt, tries, max_attempts,"
                    " object, metadata, tags, errors, created, external_created, synced, missing"
                    " FROM dmm.resource_claim($1::json) WHERE $2::boolean IS NOT NULL",
                    false, "dmm resource claim",
                    // A claim that a crash undoes is a claim that is not in force: its result is
                    // refused, and the resource is worked again.
                    "SET synchronous_commit = off"},
                   std::move(log)) {}

Claimed Claims::claim(const Key& key, const std::string& claim, Clock::time_point deadline) {
  struct ClaimCall final : Call {
    Claimed claimed;
    void answer(const pqxx::row& row) override {
      claimed = {};
      claimed.verdict = row[1].as<std::string>();
      claimed.delay = std::chrono::milliseconds(row[2].as<std::int64_t>());
      if (claimed.verdict != "claimed") return;
      claimed.resource.emplace();
      try {
        read_resource(row, *claimed.resource);
      } catch (const std::exception& e) {
        claimed.damage = fmt::format("what is stored cannot be read: {}", e.what());
      }
    }
  };
  const auto call = std::make_shared<ClaimCall>();
  call->members = with_claim(key, claim);
  call->deadline = deadline;
  ask(call);
  return std::move(call->claimed);
}

// ---- finishes

std::string members_of(const Key& key, const std::string& claim, const Finish& finish) {
  std::string members =
      fmt::format("{},\"verdict\":{}", with_claim(key, claim), json_text(finish.verdict));
  if (!finish.error.empty()) members += ",\"error\":" + json_text(finish.error);
  if (!finish.trace.empty()) members += ",\"trace\":" + json_text(finish.trace);
  if (finish.delay.count() > 0) members += fmt::format(",\"delay_ms\":{}", finish.delay.count());
  return members;
}

Finishes::Finishes(std::string connection, Logger log)
    : ExchangeBase(std::move(connection),
                   {"SELECT n, answer, state FROM dmm.resource_finish($1::json, $2::boolean)", true,
                    "dmm resource finish", "", kFinishes},
                   std::move(log)) {}

Finished Finishes::finish(const Key& key, const std::string& claim, const Finish& finish,
                          Clock::time_point deadline) {
  struct FinishCall final : Call {
    Finished finished;
    void answer(const pqxx::row& row) override {
      finished = {row[1].as<std::string>(), row[2].as<std::string>()};
    }
  };
  const auto call = std::make_shared<FinishCall>();
  call->members = members_of(key, claim, finish);
  call->deadline = deadline;
  ask(call);
  return std::move(call->finished);
}

}  // namespace dmm::resource::internal
