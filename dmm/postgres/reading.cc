#include "dmm/postgres/reading.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <system_error>
#include <utility>

#include "dmm/postgres/queries_internal.h"
#include "dmm/worker/backoff.h"

namespace dmm::postgres::internal {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kFetchRowsMax = 1'000;
constexpr std::size_t kFetchBytes = 4u << 20;  // aimed at, by the size of the rows before
constexpr int kCleanBatch = 10'000;
constexpr int kCleanBatchesMax = 100;
constexpr auto kBackoffFirst = 100ms;
constexpr auto kBackoffMax = 5s;

std::chrono::system_clock::time_point time_of(std::int64_t microseconds) {
  return std::chrono::system_clock::time_point(std::chrono::microseconds(microseconds));
}

int make_eventfd() {
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  return fd;
}

}  // namespace

std::unique_ptr<Session> open_table(const TableOptions& options) {
  auto session = std::make_unique<Session>(
      options.connection, SessionOptions{.application = "dmm " + options.reader,
                                         .statement_timeout = options.statement_timeout,
                                         .lock_timeout = {}});
  const std::string name = shown(options.schema, options.table);
  guarded(fmt::format("opening table {}", name), [&] {
    pqxx::nontransaction transaction(session->connection());
    require_outbox(transaction);
    if (transaction.exec1("SELECT dmm.adopt()")[0].as<bool>()) {
      options.logger.warn("the outbox was filled in another cluster and has been emptied",
                          {{"table", name}});
    }
    const TableFacts facts = find_table(transaction, options.schema, options.table);
    if (facts.watched == 0 || !facts.told) {
      throw Error(code::table_not_watched,
                  facts.watched == 0
                      ? fmt::format("table {} is not watched", name)
                      : fmt::format("the triggers of table {} are missing or off", name));
    }
    require(options.key.empty() || options.key == facts.key, code::bad_option,
            fmt::format("table {} is watched with the key {}, not {}", name, json_of(facts.key),
                        json_of(options.key)));
  });
  session->listen("dmm_change");
  return session;
}

Reading::Reading(const TableOptions& options, std::unique_ptr<Session> session,
                 nlohmann::json baseline, SourceSink& sink)
    : options_(options),
      name_(shown(options.schema, options.table)),
      sink_(sink),
      logger_(options.logger.with({{"table", name_}, {"reader", options.reader}})),
      remembered_(std::move(baseline)),
      tidied_(std::chrono::steady_clock::now()),
      wake_(make_eventfd()) {
  thread_ = std::thread([this, owned = std::move(session)]() mutable { run(std::move(owned)); });
}

Reading::~Reading() {
  stop_ = true;
  wake();
  thread_.join();
  ::close(wake_);
}

void Reading::grant(std::size_t rows) {
  granted_ += rows;
  wake();
}

nlohmann::json Reading::baseline() const {
  const std::lock_guard lock(mutex_);
  return baseline_;
}

void Reading::run(std::unique_ptr<Session> session) noexcept {
  read_until_stopped(session);
  if (!options_.passing || session == nullptr) return;
  try {
    pqxx::work transaction(session->connection());
    transaction.exec_params(kForget, options_.reader, watched_);
    transaction.commit();
  } catch (const std::exception& error) {  // it is forgotten with those that were not seen for long
    logger_.warn("the reader could not be forgotten", {{"error", error.what()}});
  }
}

void Reading::read_until_stopped(std::unique_ptr<Session>& session) noexcept {
  while (!stop_) {
    try {
      try {
        work(session);
      } catch (const Restart& restart) {
        note(restart);
        session.reset();
      } catch (const Stopped&) {
        return;
      } catch (...) {
        const Error error = current_error(fmt::format("reading table {}", name_));
        session.reset();
        recover(error);
      }
    } catch (const std::exception& error) {  // no memory left to say more
      logger_.error("reading failed", {{"error", error.what()}});
    }
  }
}

void Reading::work(std::unique_ptr<Session>& session) {
  if (session == nullptr) session = open_table(options_);
  guarded(fmt::format("reading table {}", name_), [&] {
    if (!loaded_) load(*session);
    follow(*session);
  });
}

// What cannot heal by itself may still be healed by a person while this waits.
void Reading::recover(const Error& error) {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  const bool gone = &error.code() == &code::table_missing ||
                    &error.code() == &code::table_not_watched ||
                    &error.code() == &code::outbox_missing;
  if (gone && loaded_) note({.reason = error.message(), .doubt = true});
  const auto wait = worker::backoff(++failures_, kBackoffFirst, kBackoffMax, random) + 1ms;
  logger_.warn("reading is interrupted",
               {{"code", error.code().id}, {"error", error.message()}, {"retry_ms", wait.count()}});
  const auto until = std::chrono::steady_clock::now() + wait;
  while (!stop_) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    if (left <= 0ms) return;
    wait_readable(wake_, left);
    drain_wake();
  }
}

// The doubt is told at once, for the table may be away for long; and again when the rows are told
// anew, for a person may have approved meanwhile what was held.
void Reading::note(Restart restart) {
  logger_.warn("the table is read anew", {{"reason", restart.reason}, {"doubt", restart.doubt}});
  if (restart.doubt) sink_.on_doubt(restart.reason);
  if (void_ && void_->doubt) restart.doubt = true;
  void_ = std::move(restart);
  loaded_ = false;
}

void Reading::follow(Session& session) {
  for (;;) {
    check_stop();
    const bool due = std::chrono::steady_clock::now() - tidied_ >= options_.clean;
    bool changed = false;
    {
      pqxx::nontransaction transaction(session.connection());
      changed = look(transaction);
    }
    if (changed || due || !cursor_.target.empty()) {
      if (cursor_.target.empty()) mark(session, cursor_.told);
      read_batch(session);
      if (due) tidy(session);
      failures_ = 0;
      continue;
    }
    session.wait(wake_, std::min(options_.poll, options_.clean));
    drain_wake();
    failures_ = 0;
  }
}

// Whether there are changes to read. Throws Restart if it cannot be known what changed.
bool Reading::look(pqxx::transaction_base& transaction) {
  const pqxx::row row = transaction.exec_params1(kLook, watched_, options_.reader, cursor_.told,
                                                 options_.schema, options_.table);
  if (!row[0].as<bool>()) {
    throw Restart{"the table was dropped, renamed or is no longer watched", true};
  }
  if (row[1].is_null()) throw Restart{"this reader was forgotten", true};
  if (row[1].as<std::int64_t>() < cursor_.marks) {
    throw Restart{"the database went back to an earlier state", true};
  }
  if (row[2].as<bool>()) throw Restart{"changes were removed before they were read", true};
  if (row[3].as<std::string>() != shape_) {
    throw Restart{"the columns of the table changed", false};
  }
  return row[4].as<bool>();
}

// Commits the mark of a new target.
void Reading::mark(Session& session, const std::string& snapshot) {
  pqxx::nontransaction transaction(session.connection());
  const pqxx::result marked =
      transaction.exec_params(kMark, options_.reader, watched_, snapshot, cursor_.rows);
  if (marked.empty()) throw Restart{"this reader was forgotten", true};
  cursor_.target = marked[0][0].as<std::string>();
  cursor_.marks = marked[0][1].as<std::int64_t>();
  cursor_.last_id = 0;
}

void Reading::read_batch(Session& session) {
  pqxx::transaction<pqxx::repeatable_read, pqxx::read_only> transaction(session.connection());
  look(transaction);  // in the same snapshot as the changes
  transaction.exec(fmt::format(kDeclareChanges, watched_, transaction.quote(cursor_.told),
                               transaction.quote(cursor_.target), cursor_.last_id));
  for (;;) {
    const std::size_t size = fetch_size();
    const pqxx::result rows = transaction.exec(fmt::format("FETCH {} FROM dmm_changes", size));
    for (const auto& row : rows) tell(row);
    if (rows.size() < size) break;
  }
  transaction.commit();
  cursor_.told = std::exchange(cursor_.target, {});
  const std::lock_guard lock(mutex_);
  baseline_["snapshot"] = cursor_.told;
  baseline_["rows"] = cursor_.rows;
  baseline_["marks"] = cursor_.marks;
}

void Reading::tell(const pqxx::row& row) {
  const std::string operation = row[1].as<std::string>();
  if (operation == "truncate") throw Restart{"the table was truncated", true};
  if (operation == "lost") throw Restart{"a trigger could not tell a change", true};
  SourceRow told{.key = row[3].as<std::string>(),
                 .document = {},
                 .position = fmt::format("{}#{}", cursor_.target, row[0].c_str()),
                 .changed_at = time_of(row[5].as<std::int64_t>())};
  if (operation == "put") told.document = row[4].as<std::string>();
  row_bytes_ = (row_bytes_ * 15 + told.key.size() + row[4].size()) / 16;
  wait_for_grant();
  sink_.on_row(std::move(told));
  use_grant();
  told_anything_ = true;
  cursor_.rows += row[2].as<int>();
  cursor_.last_id = row[0].as<std::int64_t>();
}

void Reading::tidy(Session& session) {
  tidied_ = std::chrono::steady_clock::now();
  std::int64_t gone = kCleanBatch;
  for (int batch = 0; gone >= kCleanBatch && batch < kCleanBatchesMax && !stop_; ++batch) {
    pqxx::nontransaction transaction(session.connection());
    gone = transaction
               .exec_params1("SELECT dmm.clean($1, make_interval(hours => $2))", kCleanBatch,
                             options_.forget_readers.count())[0]
               .as<std::int64_t>();
  }
}

std::size_t Reading::fetch_size() const {
  const std::size_t fitting = kFetchBytes / (row_bytes_ + 1);
  return std::max<std::size_t>(1, std::min({granted_.load(), fitting, kFetchRowsMax}));
}

void Reading::wait_for_grant() {
  while (granted_ == 0) {
    check_stop();
    wait_readable(wake_, 10s);
    drain_wake();
  }
  check_stop();
}

void Reading::use_grant() {
  --granted_;  // nobody else makes it smaller
}

void Reading::check_stop() const {
  if (stop_) throw Stopped{};
}

void Reading::wake() {
  const std::uint64_t one = 1;
  // It can only fail because it was woken very often and will wake anyway.
  [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof one);
}

void Reading::drain_wake() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(wake_, &count, sizeof count);
}

}  // namespace dmm::postgres::internal
