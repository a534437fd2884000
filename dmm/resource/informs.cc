#include "dmm/resource/informs.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <set>

#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/resource/check_internal.h"
#include "dmm/resource/rows.h"
#include "dmm/wire.h"

namespace dmm::resource::internal {

namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr int kPage = 10'000;  ///< resources that one statement compares with a full list
constexpr int kSeenBatch = 20'000;

double draw_share() {
  thread_local std::minstd_rand random{std::random_device{}()};
  return std::uniform_real_distribution<double>(0, 1)(random);
}

nlohmann::json microseconds_of(const std::optional<Time>& time) {
  return time ? nlohmann::json(microseconds(*time)) : nlohmann::json();
}

/// A run that was taken from the table dmm.resource_inform.
struct InformRun {
  std::int64_t id = 0;
  std::string origin;
  std::string runner;  ///< names this try: another one that takes the run has another name
  InformRequest request;
  nlohmann::json checkpoint;
  nlohmann::json began_at;  ///< the checkpoint at which this try began
  bool got_ahead = false;   ///< another one was stored since
  nlohmann::json counts;
  Time started_at;
  std::optional<Time> newest;
  std::optional<Time> cursor;
  int tries = 0;  ///< since one of them got ahead, this one included

  /// It lists what the schedule would: so the cursor may follow.
  bool whole() const {
    return !request.process_existing && request.limit == 0 && request.labels.empty() &&
           (origin != "request" || !request.after);
  }
};

/// Locks a run against another runner. Throws Error{cancelled} DMM-0810.
void hold(pqxx::transaction_base& transaction, const InformRun& run) {
  const pqxx::result rows = transaction.exec_params(
      "SELECT FROM dmm.resource_inform WHERE id = $1 AND runner = $2 FOR UPDATE", run.id,
      run.runner);
  if (!rows.empty()) return;
  throw Error(code::resource_taken_over, "another runner took this inform over");
}

class RunSink final : public AnySink {
 public:
  RunSink(HostParts& parts, InformRun& run, std::string kind)
      : parts_(parts), run_(run), kind_(std::move(kind)) {
    skipped_left_ = static_cast<int>(limits::skipped_events_max) - count("unchanged");
  }

  void put(AnyObject object) override {
    require(object.kind == kind_, code::bad_resource,
            fmt::format("the informer of {} put an object of kind {}", kind_,
                        printable(object.kind, 100)));
    check_object(object);
    if (run_.request.process_existing) object.options.force = true;
    if (object.created_at && (!run_.newest || *object.created_at > *run_.newest)) {
      run_.newest = object.created_at;
    }
    objects_.push_back(std::move(object));
    if (objects_.size() >= limits::resource_batch) flush();
  }

  void checkpoint(nlohmann::json position) override {
    run_.checkpoint = std::move(position);
    flush();
  }

  void flush() {
    parts_.sessions.transact("storing what an informer put", [&](pqxx::work& transaction) {
      hold(transaction, run_);
      const auto answers =
          inform(transaction, objects_, {.listing = true, .skipped = std::max(skipped_left_, 0)});
      if (run_.request.full) note_seen(transaction);
      nlohmann::json counts = run_.counts;
      for (const Informed& answer : answers) {
        const std::string result(to_string(answer.result));
        counts[result] = counts.value(result, 0) + 1;
      }
      counts["objects"] = counts.value("objects", 0) + static_cast<int>(objects_.size());
      if (run_.request.full) note_spaces(counts);
      transaction.exec_params(
          "UPDATE dmm.resource_inform SET checkpoint = nullif($2, 'null')::jsonb,"
          " counts = $3::jsonb, newest = to_timestamp(nullif($4, 'null')::bigint / 1000000.0),"
          " tries = $5 WHERE id = $1",
          run_.id, dump_json(run_.checkpoint), dump_json(counts),
          dump_json(microseconds_of(run_.newest)),
          run_.checkpoint == run_.began_at ? run_.tries : 1);
      counts_ = std::move(counts);
    });
    run_.counts = std::move(counts_);
    run_.got_ahead = run_.checkpoint != run_.began_at;
    skipped_left_ = static_cast<int>(limits::skipped_events_max) - count("unchanged");
    parts_.counters->informed.fetch_add(objects_.size(), std::memory_order_relaxed);
    objects_.clear();
  }

 private:
  int count(const char* what) const { return run_.counts.value(what, 0); }

  void note_seen(pqxx::transaction_base& transaction) {
    if (objects_.empty()) return;
    std::string seen;
    for (const AnyObject& object : objects_) {
      seen += fmt::format("{}{{\"ns\":{},\"id\":{}}}", seen.empty() ? "[" : ",",
                          json_text(object.options.ns.value_or(kDefaultNamespace)),
                          json_text(object.id));
    }
    transaction.exec_params(
        "INSERT INTO dmm.resource_seen (inform, namespace, id)"
        " SELECT $1, s.ns, s.id FROM json_to_recordset($2::json) AS s (ns text, id text)"
        " ON CONFLICT DO NOTHING",
        run_.id, seen + "]");
  }

  /// Which namespaces the list names: of others it says nothing.
  void note_spaces(nlohmann::json& counts) const {
    std::set<std::string> spaces;
    if (counts.contains("namespaces")) spaces = counts["namespaces"].get<std::set<std::string>>();
    for (const AnyObject& object : objects_) {
      spaces.insert(object.options.ns.value_or(kDefaultNamespace));
    }
    counts["namespaces"] = spaces;
  }

  HostParts& parts_;
  InformRun& run_;
  const std::string kind_;
  int skipped_left_ = 0;
  std::vector<AnyObject> objects_;
  nlohmann::json counts_;
};

class Informs {
 public:
  Informs(HostParts& parts, AnyController controller, KindOptions options)
      : parts_(parts), controller_(std::move(controller)), options_(std::move(options)) {}

  Outcome run(Context& context);

 private:
  std::optional<InformRun> take(milliseconds& wait);
  void plan(pqxx::transaction_base& transaction, const char* column, const char* origin,
            const Schedule& schedule);
  void list(Context& context, InformRun& run);
  int mark_missing(InformRun& run);
  int look_for_missing(const InformRun& run, bool mark, int& looked);
  void complete(InformRun& run, int missing);
  void fail(const InformRun& run, const std::string& error, bool interrupted);
  void forget_seen(const InformRun& run);
  const std::string& kind() const noexcept { return controller_.kind; }

  HostParts& parts_;
  const AnyController controller_;
  const KindOptions options_;
};

Outcome Informs::run(Context& context) {
  if (parts_.stopping) return Outcome::requeue_after(0ms);  // the token stays
  milliseconds wait(0);
  std::optional<InformRun> taken = take(wait);
  if (!taken) return Outcome::requeue_after(wait);
  InformRun& run = *taken;
  try {
    list(context, run);
  } catch (const Error& error) {
    if (&error.code() == &code::resource_taken_over) return Outcome::requeue_after(1s);
    const bool interrupted =
        context.stop_token().stop_requested() && Clock::now() < context.deadline();
    fail(run, error.what(), interrupted);
    if (interrupted) throw;
  } catch (const std::exception& error) {
    const bool interrupted =
        context.stop_token().stop_requested() && Clock::now() < context.deadline();
    fail(run, fmt::format("{}: {}", code::inform_failed.id, error.what()), interrupted);
    if (interrupted) throw;
  } catch (...) {
    fail(run, fmt::format("{}: threw something that is no exception", code::inform_failed.id),
         false);
  }
  return Outcome::requeue_after(0ms);  // looks for what is due next
}

/// Puts a run into the table if one is due, and says when the next one is.
void Informs::plan(pqxx::transaction_base& transaction, const char* column, const char* origin,
                   const Schedule& schedule) {
  if (schedule.is_never()) return;
  const pqxx::row due = transaction.exec_params1(
      fmt::format("SELECT dmm.microseconds({}), dmm.microseconds(clock_timestamp())"
                  " FROM dmm.resource_kind WHERE name = $1 FOR UPDATE",
                  column),
      kind());
  const std::optional<Time> planned = time_of(due[0]);
  const Time now = time_of(due[1].as<std::int64_t>());
  const auto set = [&](Time next) {
    transaction.exec_params(
        fmt::format("UPDATE dmm.resource_kind SET {} = to_timestamp($2 / 1000000.0)"
                    " WHERE name = $1",
                    column),
        kind(), microseconds(next));
  };
  if (planned && *planned > now) {
    // Later than it could be planned now: the clock was set back meanwhile.
    const Time latest = *schedule.next(now, now, 1);
    if (*planned > latest) set(latest);
    return;
  }
  transaction.exec_params(
      "INSERT INTO dmm.resource_inform (kind, origin, options) VALUES ($1, $2, $3::jsonb)"
      " ON CONFLICT DO NOTHING",
      kind(), origin, std::string_view(origin) == "full" ? R"({"full":true})" : "{}");
  set(*schedule.next(now, now, draw_share()));
}

/// wait   until something is due, if nothing is. There always is a next time, so that a token that
/// is not there is one that was lost.
std::optional<InformRun> Informs::take(milliseconds& wait) {
  const std::string runner = wire::unique_id();
  return parts_.sessions.transact("looking for an inform", [&](pqxx::work& transaction) {
    plan(transaction, "next_inform_at", "schedule", options_.inform);
    plan(transaction, "next_full_at", "full", options_.full);
    const pqxx::result rows = transaction.exec_params(
        "UPDATE dmm.resource_inform AS i SET runner = $2, tries = i.tries + 1,"
        "  started_at = coalesce(i.started_at, clock_timestamp())"
        " FROM dmm.resource_kind AS k WHERE k.name = i.kind AND i.id = ("
        "  SELECT d.id FROM dmm.resource_inform AS d"
        "  WHERE d.kind = $1 AND d.next_try_at <= clock_timestamp() AND NOT EXISTS ("
        "   SELECT FROM dmm.resource_kind AS p WHERE p.name = d.kind AND p.paused_at IS NOT NULL)"
        "  ORDER BY d.tries, d.id LIMIT 1)"
        " RETURNING i.id, i.origin, i.options::text, i.checkpoint::text, i.counts::text,"
        "  dmm.microseconds(i.started_at), dmm.microseconds(i.newest),"
        "  dmm.microseconds(k.cursor), i.tries",
        kind(), runner);
    if (rows.empty()) {
      const pqxx::row next = transaction.exec_params1(
          "SELECT (dmm.microseconds(least(k.next_inform_at, k.next_full_at, ("
          "   SELECT min(i.next_try_at) FROM dmm.resource_inform AS i WHERE i.kind = k.name)))"
          "  - dmm.microseconds(clock_timestamp())) / 1000, k.paused_at IS NOT NULL"
          " FROM dmm.resource_kind AS k WHERE k.name = $1",
          kind());
      wait = next[0].is_null() ? milliseconds(1h)
                               : std::max(milliseconds(next[0].as<std::int64_t>()), 10ms);
      if (next[1].as<bool>()) wait = 1s;
      return std::optional<InformRun>();
    }
    const pqxx::row row = rows[0];
    InformRun run;
    run.id = row[0].as<std::int64_t>();
    run.origin = row[1].as<std::string>();
    run.runner = runner;
    run.request = request_of(nlohmann::json::parse(row[2].c_str()));
    if (!row[3].is_null()) run.checkpoint = nlohmann::json::parse(row[3].c_str());
    run.began_at = run.checkpoint;
    run.counts = nlohmann::json::parse(row[4].c_str());
    run.started_at = time_of(row[5].as<std::int64_t>());
    run.newest = time_of(row[6]);
    run.cursor = time_of(row[7]);
    run.tries = row[8].as<int>();
    return std::optional<InformRun>(std::move(run));
  });
}

void Informs::list(Context& context, InformRun& run) {
  InformRequest request = run.request;
  if (!request.full && !request.after && run.cursor && !request.process_existing) {
    request.after = *run.cursor - options_.overlap;
  }
  InformContext given(request, run.checkpoint, context.stop_token(), parts_.client, context.log());
  RunSink sink(parts_, run, kind());
  const Listed listed = controller_.inform(given, sink);
  sink.flush();
  if (listed.reason()) throw Error(code::inform_incomplete, *listed.reason());
  complete(run, run.request.full ? mark_missing(run) : 0);
}

int Informs::look_for_missing(const InformRun& run, bool mark, int& looked) {
  std::set<std::string> spaces;
  if (run.counts.contains("namespaces")) {
    spaces = run.counts["namespaces"].get<std::set<std::string>>();
  }
  if (spaces.empty()) spaces.insert(kDefaultNamespace);  // an empty list
  // Names of namespaces need no quotes in an array.
  const std::string array = fmt::format("{{{}}}", fmt::join(spaces, ","));
  std::string last_ns;
  std::string last_id;
  int missing = 0;
  looked = 0;
  while (true) {
    const bool more =
        parts_.sessions.transact("comparing with a full list", [&](pqxx::work& transaction) {
          hold(transaction, run);
          const pqxx::result rows = transaction.exec_params(
              "SELECT looked, missing, last_ns, last_id FROM dmm.resource_missing("
              "$1, $2, $3, to_timestamp($4 / 1000000.0), $5, $6, $7, $8)",
              run.id, kind(), array, microseconds(run.started_at), last_ns, last_id, kPage, mark);
          if (rows.empty()) return false;
          looked += rows[0][0].as<int>();
          missing += rows[0][1].as<int>();
          last_ns = rows[0][2].as<std::string>();
          last_id = rows[0][3].as<std::string>();
          return rows[0][0].as<int>() == kPage;
        });
    if (!more) return missing;
  }
}

/// Looks first how many there are: an answer that is cut short must not look like the end of all.
int Informs::mark_missing(InformRun& run) {
  int looked = 0;
  const int missing = look_for_missing(run, false, looked);
  const auto share = static_cast<std::size_t>(looked) * limits::removals_percent / 100;
  const std::size_t most = std::max(options_.missing_free, share);
  if (static_cast<std::size_t>(missing) > most && !run.request.accept_missing) {
    throw Error(code::too_many_missing,
                fmt::format("the list leaves out {} of {} resources of kind {}, more than {}",
                            missing, looked, kind(), most));
  }
  if (missing > 0) look_for_missing(run, true, looked);
  run.counts["missing"] = missing;
  return missing;
}

void Informs::complete(InformRun& run, int missing) {
  forget_seen(run);
  // The other side's clock tells where it stands, if it says when things were made; never beyond
  // when this run began.
  std::optional<Time> cursor = run.started_at;
  if (run.newest)
    cursor = std::min(run.started_at, std::max(*run.newest, run.cursor.value_or(Time())));
  if (!run.whole()) cursor = run.cursor;
  nlohmann::json last = run.counts;
  last.erase("namespaces");
  last["origin"] = run.origin;
  last["started_at"] = microseconds(run.started_at);
  last["tries"] = run.tries;
  if (missing > 0) last["missing"] = missing;
  parts_.sessions.transact("ending an inform", [&](pqxx::work& transaction) {
    hold(transaction, run);
    transaction.exec_params("DELETE FROM dmm.resource_inform WHERE id = $1", run.id);
    transaction.exec_params(
        "UPDATE dmm.resource_kind SET last_run = $2::jsonb || jsonb_build_object('ended_at',"
        "  dmm.microseconds(clock_timestamp())),"
        " cursor = to_timestamp(nullif($3, 'null')::bigint / 1000000.0) WHERE name = $1",
        kind(), dump_json(last), dump_json(microseconds_of(cursor)));
  });
}

void Informs::fail(const InformRun& run, const std::string& error, bool interrupted) {
  // What failed before this try says nothing of where it came to.
  const int tries = run.got_ahead ? 1 : run.tries;
  const bool given_up = !interrupted && run.origin == "request" && tries >= limits::inform_attempts;
  parts_.log.warn(given_up ? "an inform that was asked for is given up" : "an inform failed",
                  {{"kind", kind()}, {"try", tries}, {"error", error}});
  milliseconds delay = limits::inform_backoff_first;
  for (int i = 1; i < tries && delay < limits::inform_backoff_max; ++i) delay *= 2;
  delay = std::min<milliseconds>(delay, limits::inform_backoff_max);
  if (interrupted) delay = 0ms;
  if (given_up) forget_seen(run);
  parts_.sessions.transact("noting a failed inform", [&](pqxx::work& transaction) {
    hold(transaction, run);
    transaction.exec_params(
        "UPDATE dmm.resource_inform SET runner = NULL, error = $2, tries = $3,"
        " next_try_at = clock_timestamp() + $4 * interval '1 ms' WHERE id = $1",
        run.id, printable(error, limits::error_text_bytes_max), interrupted ? tries - 1 : tries,
        delay.count());
    if (!given_up) return;
    transaction.exec_params("DELETE FROM dmm.resource_inform WHERE id = $1", run.id);
    transaction.exec_params(
        "UPDATE dmm.resource_kind SET last_run = jsonb_build_object('origin', 'request',"
        " 'error', $2::text, 'ended_at', dmm.microseconds(clock_timestamp())) WHERE name = $1",
        kind(), printable(error, limits::error_text_bytes_max));
  });
}

void Informs::forget_seen(const InformRun& run) {
  if (!run.request.full) return;
  bool more = true;
  while (more) {
    more = parts_.sessions.transact("forgetting a full list", [&](pqxx::work& transaction) {
      const auto gone = transaction.exec_params(
          "DELETE FROM dmm.resource_seen WHERE ctid = ANY (ARRAY("
          " SELECT ctid FROM dmm.resource_seen WHERE inform = $1 LIMIT $2))",
          run.id, kSeenBatch);
      return gone.affected_rows() == static_cast<std::size_t>(kSeenBatch);
    });
  }
}

}  // namespace

AnyMaterializer make_informs(HostParts& parts, AnyController controller, KindOptions options) {
  const auto informs = std::make_shared<Informs>(parts, std::move(controller), std::move(options));
  return AnyMaterializer{[informs](Context& context, nlohmann::json& cache) {
    cache = nullptr;
    return informs->run(context);
  }};
}

void register_kind(HostParts& parts, const AnyController& controller, const KindOptions& options) {
  const bool informs = controller.inform != nullptr;
  const std::string schedule = informs ? options.inform.text() : "never";
  const std::string full = informs ? options.full.text() : "never";
  parts.sessions.transact("noting a kind", [&](pqxx::work& transaction) {
    transaction.exec_params(
        "INSERT INTO dmm.resource_kind (name) VALUES ($1)"
        " ON CONFLICT (name) DO UPDATE SET hosted_at = now()",
        controller.kind);
    if (!informs) return;  // another host may have its informer
    const pqxx::row row = transaction.exec_params1(
        "SELECT schedule, full_schedule, dmm.microseconds(clock_timestamp()),"
        " (last_run ->> 'started_at')::bigint FROM dmm.resource_kind WHERE name = $1 FOR UPDATE",
        controller.kind);
    const Time now = time_of(row[2].as<std::int64_t>());
    const std::optional<Time> last = time_of(row[3]);
    const auto set = [&](const char* column, const char* next, const Schedule& when,
                         const std::string& text, const std::string& before) {
      if (text == before) return;  // when it is due next is known
      transaction.exec_params(
          fmt::format("UPDATE dmm.resource_kind SET {} = $2,"
                      " {} = to_timestamp(nullif($3, 'null')::bigint / 1000000.0) WHERE name = $1",
                      column, next),
          controller.kind, text, dump_json(microseconds_of(when.next(last, now, draw_share()))));
    };
    transaction.exec_params("UPDATE dmm.resource_kind SET informs = true WHERE name = $1",
                            controller.kind);
    set("schedule", "next_inform_at", options.inform, schedule, row[0].as<std::string>());
    set("full_schedule", "next_full_at", options.full, full, row[1].as<std::string>());
  });
}

}  // namespace dmm::resource::internal
