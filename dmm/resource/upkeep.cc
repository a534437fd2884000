#include "dmm/resource/upkeep.h"

#include <fmt/format.h>

#include <map>

#include "dmm/internal/streams.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/resource/rows.h"

namespace dmm::resource::internal {

namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr int kBatch = static_cast<int>(limits::resource_upkeep_batch);
/// A server that has much else to do gets smaller batches, so that each statement stays short.
constexpr int kBatchFirst = kBatch / 4;
constexpr int kBatchLeast = kBatch / 40;
constexpr auto kBatchLong = 200ms;
constexpr auto kBatchShort = 50ms;

class Upkeep {
 public:
  explicit Upkeep(HostParts& parts) : parts_(parts) {}

  Outcome run(Context& context) {
    const std::string& what = context.identity().id;
    if (what == "expire") {
      expire(context.stop_token());
    } else if (what == "clean") {
      clean(context.stop_token());
    } else if (what == "rescue") {
      rescue(context.stop_token());
    } else {
      return Outcome::forget();
    }
    return Outcome::requeue_after(parts_.options.upkeep);
  }

 private:
  std::map<std::string, NamespaceOptions> namespaces();
  void expire(const std::stop_token& stop);
  void clean(const std::stop_token& stop);
  void rescue(const std::stop_token& stop);
  bool history_lost();
  void tell_all(const std::stop_token& stop);
  void tell_lost(const std::stop_token& stop);
  struct Candidate {
    Key key;
    std::int64_t generation;
    std::int64_t state_at;
  };
  std::vector<Candidate> candidates_of(const std::string& ns, const char* state, std::size_t most);
  void look_at(const Key& key, std::int64_t generation);
  /// Runs a batch again and again until one is not full. Each is a transaction of its own, so what
  /// was done stays done.
  /// batch   of a transaction and how many it may change; returns how many it did.
  template <class Batch>
  void repeat(const std::stop_token& stop, std::atomic<std::uint64_t>& count, Batch batch) {
    int most = kBatchFirst;
    bool more = true;
    while (more && !stop.stop_requested()) {
      const auto begun = std::chrono::steady_clock::now();
      const int done = parts_.sessions.transact(
          "keeping resources up",
          [&](pqxx::work& transaction) { return batch(transaction, most); });
      count.fetch_add(static_cast<std::uint64_t>(done), std::memory_order_relaxed);
      more = done == most;
      const auto took = std::chrono::steady_clock::now() - begun;
      if (took > kBatchLong) most = std::max(most / 2, kBatchLeast);
      if (took < kBatchShort) most = std::min(most * 2, kBatch);
    }
  }

  HostParts& parts_;
  /// Up to when those of a namespace and state were looked at, in microseconds; 0: from the start.
  std::map<std::pair<std::string, std::string>, std::int64_t> looked_;
};

/// Those that have resources, with their settings or the defaults.
std::map<std::string, NamespaceOptions> Upkeep::namespaces() {
  std::map<std::string, NamespaceOptions> set = parts_.client.namespaces();
  std::map<std::string, NamespaceOptions> all;
  parts_.sessions.transact("listing namespaces", [&](pqxx::work& transaction) {
    // A skip from one to the next, in the index.
    for (const auto& row : transaction.exec(
             "WITH RECURSIVE n (name) AS ("
             " (SELECT namespace FROM dmm.resource ORDER BY namespace LIMIT 1)"
             " UNION ALL SELECT (SELECT r.namespace FROM dmm.resource AS r"
             "  WHERE r.namespace > n.name ORDER BY r.namespace LIMIT 1)"
             " FROM n WHERE n.name IS NOT NULL) SELECT name FROM n WHERE name IS NOT NULL")) {
      const std::string name = row[0].as<std::string>();
      const auto found = set.find(name);
      all[name] = found == set.end() ? NamespaceOptions{} : found->second;
    }
  });
  return all;
}

void Upkeep::expire(const std::stop_token& stop) {
  for (const auto& [name, options] : namespaces()) {
    if (!options.expiry) continue;
    repeat(stop, parts_.counters->expired, [&](pqxx::work& transaction, int most) {
      return transaction
          .exec_params1("SELECT dmm.resource_expire($1, $2 * interval '1 ms', $3)", name,
                        options.expiry->count(), most)[0]
          .as<int>();
    });
  }
}

void Upkeep::clean(const std::stop_token& stop) {
  for (const auto& [name, options] : namespaces()) {
    const auto remove = [&](const char* state, const std::optional<milliseconds>& retention) {
      if (!retention) return;
      repeat(stop, parts_.counters->cleaned, [&](pqxx::work& transaction, int most) {
        return transaction
            .exec_params1("SELECT dmm.resource_clean($1, $2, $3 * interval '1 ms', $4)", name,
                          state, retention->count(), most)[0]
            .as<int>();
      });
    };
    remove("deleted", options.deleted_retention);
    remove("degraded", options.degraded_retention);
    // What expires is worked again, so it must still be there then.
    if (!options.expiry) remove("synced", options.synced_retention);
  }
}

void Upkeep::rescue(const std::stop_token& stop) {
  if (history_lost()) {
    parts_.log.warn("the work stream lost its history; every resource that waits is told again",
                    {});
    tell_all(stop);
  }
  tell_lost(stop);
}

/// Compares the work stream with how it was at the last look, and notes how it is.
bool Upkeep::history_lost() {
  const auto& streams = dmm::internal::streams_of(parts_.bucket);
  const transport::StreamState now = streams.work->state();
  return parts_.sessions.transact("looking at the work stream", [&](pqxx::work& transaction) {
    const pqxx::result rows = transaction.exec(
        "SELECT coalesce(work_created, ''), coalesce(work_last, 0) FROM dmm.resource_home"
        " FOR UPDATE");
    if (rows.empty()) return false;
    const std::string created = rows[0][0].as<std::string>();
    const auto last = rows[0][1].as<std::int64_t>();
    const auto position = static_cast<std::int64_t>(now.last.value);
    if (created == now.created && last == position) return false;
    transaction.exec_params("UPDATE dmm.resource_home SET work_created = $1, work_last = $2",
                            now.created, position);
    return !created.empty() && (created != now.created || position < last);
  });
}

void Upkeep::tell_all(const std::stop_token& stop) {
  Key after;
  after.ns.clear();
  bool more = true;
  while (more && !stop.stop_requested()) {
    more = parts_.sessions.transact("telling resources again", [&](pqxx::work& transaction) {
      const pqxx::result rows = transaction.exec_params(
          "WITH page AS MATERIALIZED (SELECT r.namespace, r.kind, r.id, r.state"
          "  FROM dmm.resource AS r WHERE (r.namespace, r.kind, r.id) > ($1, $2, $3)"
          "  ORDER BY r.namespace, r.kind, r.id LIMIT $4), told AS ("
          "  INSERT INTO dmm.resource_outbox (what, namespace, kind, id)"
          "  SELECT 'work', p.namespace, p.kind, p.id FROM page AS p"
          "  WHERE p.state IN ('scheduled', 'running', 'expired', 'failing') RETURNING 1)"
          " SELECT p.namespace, p.kind, p.id, (SELECT count(*) FROM told),"
          "  (SELECT count(*) FROM page) FROM page AS p"
          " ORDER BY p.namespace DESC, p.kind DESC, p.id DESC LIMIT 1",
          after.ns, after.kind, after.id, kBatch);
      if (rows.empty()) return false;
      after = {rows[0][1].as<std::string>(), rows[0][2].as<std::string>(),
               rows[0][0].as<std::string>()};
      parts_.counters->rescued.fetch_add(rows[0][3].as<std::uint64_t>(), std::memory_order_relaxed);
      transaction.exec("SELECT pg_notify('dmm_resource', '')");
      return rows[0][4].as<int>() == kBatch;
    });
  }
}

/// Resources that should have been worked by now: their token is looked for. A part of them each
/// time, round and round.
void Upkeep::tell_lost(const std::stop_token& stop) {
  std::size_t left = limits::resource_lost_batch;
  for (const auto& [ns, options] : namespaces()) {
    for (const char* state : {"scheduled", "running", "expired", "failing"}) {
      std::vector<Candidate> candidates = candidates_of(ns, state, left);
      std::int64_t& looked = looked_[{ns, state}];
      looked = candidates.size() < left ? 0 : candidates.back().state_at;
      left -= candidates.size();
      for (const Candidate& candidate : candidates) {
        if (stop.stop_requested()) return;
        look_at(candidate.key, candidate.generation);
      }
      if (left == 0) return;
    }
  }
}

std::vector<Upkeep::Candidate> Upkeep::candidates_of(const std::string& ns, const char* state,
                                                     std::size_t most) {
  return parts_.sessions.transact("looking for lost tokens", [&](pqxx::work& transaction) {
    std::vector<Candidate> candidates;
    for (const auto& row : transaction.exec_params(
             "SELECT r.kind, r.id, r.generation, dmm.microseconds(r.state_at)"
             " FROM dmm.resource AS r WHERE r.namespace = $1 AND r.state = $2"
             " AND r.state_at < clock_timestamp() - $3 * interval '1 ms'"
             " AND r.state_at >= to_timestamp($4 / 1000000.0)"
             " AND coalesce(r.retry_at, r.state_at) < clock_timestamp() - $3 * interval '1 ms'"
             " AND NOT EXISTS (SELECT FROM dmm.resource_outbox AS o WHERE o.held"
             "   AND o.namespace = r.namespace AND o.kind = r.kind)"
             " ORDER BY r.state_at LIMIT $5",
             ns, state, parts_.options.lost_after.count(), looked_[{ns, state}], most)) {
      candidates.push_back({{row[0].as<std::string>(), row[1].as<std::string>(), ns},
                            row[2].as<std::int64_t>(),
                            row[3].as<std::int64_t>()});
    }
    return candidates;
  });
}

void Upkeep::look_at(const Key& key, std::int64_t generation) {
  const auto matter = parts_.bucket.inspect().get(identity_of(key));
  if (matter && matter->token && matter->phase != Phase::parked) return;  // it waits its turn
  if (matter && matter->phase == Phase::parked) {
    // Given up by a limit of the worker, for example because worker after worker ended in it.
    const std::string error = fmt::format("{} {}", matter->error_code, matter->error);
    parts_.sessions.transact("noting a parked resource", [&](pqxx::work& transaction) {
      transaction.exec_params(
          "WITH parked AS (UPDATE dmm.resource AS r SET state = 'degraded',"
          "   state_at = clock_timestamp(), claim = NULL, unwell = true,"
          "   errors = dmm.resource_errors(r.errors, r.attempt, $5, '')"
          "  WHERE r.namespace = $1 AND r.kind = $2 AND r.id = $3 AND r.generation = $4"
          "   AND r.state IN ('scheduled', 'running', 'expired', 'failing')"
          "  RETURNING r.generation, r.attempt)"
          " INSERT INTO dmm.resource_outbox (what, namespace, kind, id, event)"
          " SELECT 'event', $1, $2, $3, jsonb_build_object('event', 'degraded', 'generation',"
          "  p.generation, 'state', 'degraded', 'attempt', p.attempt, 'reason', $5::text)"
          " FROM parked AS p",
          key.ns, key.kind, key.id, generation, error);
    });
    return;
  }
  parts_.sessions.transact("telling a resource again", [&](pqxx::work& transaction) {
    transaction.exec_params(
        "INSERT INTO dmm.resource_outbox (what, namespace, kind, id) VALUES ('work', $1, $2, $3)",
        key.ns, key.kind, key.id);
    transaction.exec("SELECT pg_notify('dmm_resource', '')");
  });
  parts_.counters->rescued.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

AnyMaterializer make_upkeep(HostParts& parts) {
  const auto upkeep = std::make_shared<Upkeep>(parts);
  return AnyMaterializer{[upkeep](Context& context, nlohmann::json& cache) {
    cache = nullptr;
    return upkeep->run(context);
  }};
}

}  // namespace dmm::resource::internal
