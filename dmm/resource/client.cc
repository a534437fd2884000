#include "dmm/resource/client.h"

#include <fmt/format.h>

#include <algorithm>

#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/resource/check_internal.h"
#include "dmm/resource/rows.h"
#include "dmm/resource/sessions.h"
#include "dmm/resource/singles.h"

namespace dmm::resource {

using internal::time_of;

namespace {

std::string shown(const Key& key) {
  return fmt::format("{} {} of namespace {}", key.kind, printable(key.id, 100), key.ns);
}

[[noreturn]] void missing(const Key& key) {
  throw Error(code::resource_missing, fmt::format("there is no {}", shown(key)));
}

/// The states in which something may be done, as an array for SQL and for people.
struct Wanted {
  const char* array;
  const char* people;
};
constexpr Wanted kSynced{"{synced}", "synced"};
constexpr Wanted kUnwell{"{failing,degraded,deleted}", "failing, degraded or deleted"};

void work_again(pqxx::transaction_base& transaction, const Key& key, const Wanted& wanted,
                const char* next, const char* event) {
  const pqxx::result rows =
      transaction.exec_params("SELECT before FROM dmm.resource_again($1, $2, $3, $4, $5, $6)",
                              key.ns, key.kind, key.id, wanted.array, next, event);
  if (rows.empty()) missing(key);
  const std::string state = rows[0][0].as<std::string>();
  if (std::string_view(wanted.array).find(state) == std::string_view::npos) {
    throw Error(code::resource_state,
                fmt::format("{} is {}, not {}", shown(key), state, wanted.people));
  }
}

/// The conditions of a filter, of a table called r.
std::string condition_of(const pqxx::transaction_base& transaction, const Filter& filter) {
  std::string sql = "true";
  const auto quote = [&](const std::string& text) {
    require(!find_bad_byte(text), code::bad_option, "a filter holds a text that is not UTF-8");
    return transaction.quote(text);
  };
  if (filter.ns) sql += " AND r.namespace = " + quote(*filter.ns);
  if (filter.kind) sql += " AND r.kind = " + quote(*filter.kind);
  if (!filter.states.empty()) {
    std::vector<std::string> states;
    for (const State state : filter.states)
      states.push_back("'" + std::string(to_string(state)) + "'");
    sql += fmt::format(" AND r.state IN ({})", fmt::join(states, ","));
  }
  if (filter.prefix) sql += " AND starts_with(r.id, " + quote(*filter.prefix) + ")";
  for (const std::string& tag : filter.tags) sql += " AND r.tags @> ARRAY[" + quote(tag) + "]";
  if (!filter.metadata.is_null()) {
    sql += " AND r.metadata @> " + quote(dump_json(filter.metadata)) + "::jsonb";
  }
  if (filter.missing) sql += " AND r.missing_since IS NOT NULL";
  return sql;
}

nlohmann::json milliseconds_of(const std::optional<std::chrono::milliseconds>& time) {
  return time ? nlohmann::json(time->count()) : nlohmann::json();
}

std::optional<std::chrono::milliseconds> milliseconds_of(const pqxx::field& field) {
  if (field.is_null()) return std::nullopt;
  return std::chrono::milliseconds(field.as<std::int64_t>());
}

void check(const NamespaceOptions& options) {
  require(!options.max_workers || *options.max_workers >= 0, code::bad_option,
          "max_workers is below zero");
  for (const auto& time : {options.expiry, options.synced_retention, options.deleted_retention,
                           options.degraded_retention}) {
    require(!time || time->count() > 0, code::bad_option,
            "an expiry or a retention is not above zero");
  }
}

}  // namespace

struct Client::State_ {
  internal::Sessions sessions;
  internal::Singles singles;
};

Client::Client(std::string connection, ClientOptions options) {
  postgres::internal::check_connection_string(connection);
  require(options.connections_max > 0, code::bad_option, "connections_max is zero");
  require(options.statement_timeout.count() > 0, code::bad_option,
          "statement_timeout is not above zero");
  state_ = std::unique_ptr<State_>(
      new State_{{connection, options.connections_max, options.statement_timeout},
                 {connection, options.statement_timeout}});
}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

// ---- informing

Informed Client::inform(const AnyObject& object) {
  if (const auto informed = state_->singles.inform(object)) return *informed;
  return inform_many(std::span<const AnyObject>(&object, 1)).front();
}

Informed Client::inform_tx(pqxx::transaction_base& transaction, const AnyObject& object) {
  return inform_many_tx(transaction, std::span<const AnyObject>(&object, 1)).front();
}

std::vector<Informed> Client::inform_many(std::span<const AnyObject> objects) {
  return state_->sessions.transact(
      "informing", [&](pqxx::work& transaction) { return internal::inform(transaction, objects); });
}

std::vector<Informed> Client::inform_many_tx(pqxx::transaction_base& transaction,
                                             std::span<const AnyObject> objects) {
  return internal::inform(transaction, objects);
}

// ---- single resources

std::optional<AnyResource> Client::get(const Key& key) {
  internal::check_key(key);
  return state_->sessions.transact("reading a resource", [&](pqxx::work& transaction) {
    const pqxx::result rows = transaction.exec_params(
        fmt::format("SELECT {} FROM dmm.resource AS r WHERE r.namespace = $1 AND r.kind = $2 AND "
                    "r.id = $3",
                    internal::kResourceColumns),
        key.ns, key.kind, key.id);
    return rows.empty() ? std::nullopt : std::optional(internal::resource_of(rows[0]));
  });
}

void Client::invalidate(const Key& key) {
  internal::check_key(key);
  state_->sessions.transact("invalidating a resource",
                            [&](pqxx::work& transaction) { invalidate_tx(transaction, key); });
}

void Client::invalidate_tx(pqxx::transaction_base& transaction, const Key& key) {
  internal::check_key(key);
  work_again(transaction, key, kSynced, "expired", "expired");
}

void Client::retry(const Key& key) {
  internal::check_key(key);
  state_->sessions.transact("retrying a resource", [&](pqxx::work& transaction) {
    work_again(transaction, key, kUnwell, "scheduled", "");
  });
}

std::size_t Client::retry_all(const Filter& filter) {
  Filter unwell = filter;
  if (unwell.states.empty()) unwell.states = {resource::State::failing, resource::State::degraded};
  std::size_t count = 0;
  std::string after;
  do {
    const Page page = list(unwell, after, 500);
    state_->sessions.transact("retrying resources", [&](pqxx::work& transaction) {
      for (const AnyResource& found : page.resources) {
        const pqxx::result rows = transaction.exec_params(
            "SELECT before = ANY ($4) FROM dmm.resource_again($1, $2, $3, $4, 'scheduled', '')",
            found.key.ns, found.key.kind, found.key.id, kUnwell.array);
        if (!rows.empty() && rows[0][0].as<bool>()) ++count;
      }
    });
    after = page.next;
  } while (!after.empty());
  return count;
}

bool Client::forget(const Key& key) {
  return state_->sessions.transact("forgetting a resource", [&](pqxx::work& transaction) {
    return forget_tx(transaction, key);
  });
}

bool Client::forget_tx(pqxx::transaction_base& transaction, const Key& key) {
  internal::check_key(key);
  return transaction
             .exec_params("DELETE FROM dmm.resource WHERE namespace = $1 AND kind = $2 AND id = $3",
                          key.ns, key.kind, key.id)
             .affected_rows() > 0;
}

// ---- many

Page Client::list(const Filter& filter, const std::string& after, std::size_t limit) {
  require(limit > 0 && limit <= limits::resource_list_max, code::bad_option,
          fmt::format("a page of {} resources is not 1 to {}", limit, limits::resource_list_max));
  nlohmann::json last;
  if (!after.empty()) {
    last = nlohmann::json::parse(after, nullptr, false);
    const auto is_text = [](const nlohmann::json& part) {
      return part.is_string() && !find_bad_byte(part.get_ref<const std::string&>());
    };
    require(last.is_array() && last.size() == 3 && std::all_of(last.begin(), last.end(), is_text),
            code::bad_option,
            "what is given as the end of the page before is not what a page said");
  }
  return state_->sessions.transact("listing resources", [&](pqxx::work& transaction) {
    std::string condition = condition_of(transaction, filter);
    if (!last.is_null()) {
      condition += fmt::format(" AND (r.namespace, r.kind, r.id) > ({}, {}, {})",
                               transaction.quote(last[0].get<std::string>()),
                               transaction.quote(last[1].get<std::string>()),
                               transaction.quote(last[2].get<std::string>()));
    }
    const pqxx::result rows = transaction.exec(fmt::format(
        "SELECT {} FROM dmm.resource AS r WHERE {} ORDER BY r.namespace, r.kind, r.id LIMIT {}",
        internal::kResourceColumns, condition, limit + 1));
    Page page;
    for (const auto& row : rows) {
      if (page.resources.size() == limit) {
        const Key& key = page.resources.back().key;
        page.next = dump_json(nlohmann::json{key.ns, key.kind, key.id});
        break;
      }
      page.resources.push_back(internal::resource_of(row));
    }
    return page;
  });
}

// ---- kinds, namespaces, informers

std::vector<KindInfo> Client::kinds() {
  return state_->sessions.transact("listing kinds", [&](pqxx::work& transaction) {
    std::map<std::string, KindInfo> kinds;
    for (const auto& row : transaction.exec(
             "SELECT k.name, dmm.microseconds(k.paused_at), coalesce(k.paused_because, ''),"
             "  k.informs, k.schedule, k.full_schedule, dmm.microseconds(k.next_inform_at),"
             "  dmm.microseconds(k.next_full_at), dmm.microseconds(k.cursor), k.last_run::text"
             " FROM dmm.resource_kind AS k")) {
      KindInfo& kind = kinds[row[0].as<std::string>()];
      kind.paused_at = time_of(row[1]);
      kind.paused_because = row[2].as<std::string>();
      kind.informs = row[3].as<bool>();
      kind.schedule = row[4].as<std::string>();
      kind.full_schedule = row[5].as<std::string>();
      kind.next_inform_at = time_of(row[6]);
      kind.next_full_at = time_of(row[7]);
      kind.cursor = time_of(row[8]);
      if (!row[9].is_null()) kind.last_run = nlohmann::json::parse(row[9].c_str());
    }
    for (const auto& row :
         transaction.exec("SELECT kind, state, count(*) FROM dmm.resource GROUP BY kind, state")) {
      const auto state = parse_state(row[1].c_str());
      if (state) kinds[row[0].as<std::string>()].counts[*state] = row[2].as<std::int64_t>();
    }
    std::vector<KindInfo> all;
    for (auto& [name, kind] : kinds) {
      kind.name = name;
      all.push_back(std::move(kind));
    }
    return all;
  });
}

void Client::pause(std::string_view kind, std::string_view reason) {
  check_kind(kind);
  require(!find_bad_byte(reason), code::bad_option, "the reason is not UTF-8 without NUL");
  state_->sessions.transact("pausing a kind", [&](pqxx::work& transaction) {
    const auto changed = transaction.exec_params(
        "UPDATE dmm.resource_kind SET paused_at = coalesce(paused_at, clock_timestamp()),"
        " paused_because = $2 WHERE name = $1",
        std::string(kind), std::string(reason));
    if (changed.affected_rows() == 0) {
      throw Error(code::kind_unknown, fmt::format("kind {} has had no host yet", kind));
    }
  });
}

bool Client::resume(std::string_view kind) {
  check_kind(kind);
  return state_->sessions.transact("resuming a kind", [&](pqxx::work& transaction) {
    const auto changed = transaction.exec_params(
        "UPDATE dmm.resource_kind SET paused_at = NULL, paused_because = NULL"
        " WHERE name = $1 AND paused_at IS NOT NULL",
        std::string(kind));
    transaction.exec("SELECT pg_notify('dmm_resource', '')");
    return changed.affected_rows() > 0;
  });
}

void Client::set_namespace(std::string_view name, const NamespaceOptions& options) {
  internal::check_namespace(name);
  check(options);
  const nlohmann::json values{
      {"name", name},
      {"max_workers",
       options.max_workers ? nlohmann::json(*options.max_workers) : nlohmann::json()},
      {"expiry", milliseconds_of(options.expiry)},
      {"synced", milliseconds_of(options.synced_retention)},
      {"deleted", milliseconds_of(options.deleted_retention)},
      {"degraded", milliseconds_of(options.degraded_retention)}};
  state_->sessions.transact("setting up a namespace", [&](pqxx::work& transaction) {
    transaction.exec_params(
        "INSERT INTO dmm.resource_namespace AS s (name, max_workers, expiry, synced_retention,"
        "  deleted_retention, degraded_retention)"
        " SELECT v.name, v.max_workers, v.expiry * interval '1 ms', v.synced * interval '1 ms',"
        "  v.deleted * interval '1 ms', v.degraded * interval '1 ms'"
        " FROM json_to_record($1::json) AS v (name text, max_workers integer, expiry bigint,"
        "  synced bigint, deleted bigint, degraded bigint)"
        " ON CONFLICT (name) DO UPDATE SET max_workers = excluded.max_workers,"
        "  expiry = excluded.expiry, synced_retention = excluded.synced_retention,"
        "  deleted_retention = excluded.deleted_retention,"
        "  degraded_retention = excluded.degraded_retention, updated_at = now()",
        dump_json(values));
    transaction.exec("SELECT pg_notify('dmm_resource', '')");
  });
}

std::map<std::string, NamespaceOptions> Client::namespaces() {
  return state_->sessions.transact("listing namespaces", [&](pqxx::work& transaction) {
    std::map<std::string, NamespaceOptions> all;
    for (const auto& row : transaction.exec(
             "SELECT name, max_workers, dmm.microseconds('epoch'::timestamptz + expiry) / 1000,"
             "  dmm.microseconds('epoch'::timestamptz + synced_retention) / 1000,"
             "  dmm.microseconds('epoch'::timestamptz + deleted_retention) / 1000,"
             "  dmm.microseconds('epoch'::timestamptz + degraded_retention) / 1000"
             " FROM dmm.resource_namespace")) {
      NamespaceOptions& options = all[row[0].as<std::string>()];
      if (!row[1].is_null()) options.max_workers = row[1].as<int>();
      options.expiry = milliseconds_of(row[2]);
      options.synced_retention = milliseconds_of(row[3]);
      options.deleted_retention = milliseconds_of(row[4]);
      options.degraded_retention = milliseconds_of(row[5]);
    }
    return all;
  });
}

std::int64_t Client::schedule_inform(std::string_view kind, const InformRequest& request) {
  check_kind(kind);
  const std::string options = internal::stored_text(
      internal::to_json(request), limits::resource_metadata_bytes_max, "the request");
  return state_->sessions.transact("asking for an inform", [&](pqxx::work& transaction) {
    const pqxx::result rows = transaction.exec_params(
        "INSERT INTO dmm.resource_inform (kind, origin, options)"
        " SELECT name, 'request', $2::jsonb FROM dmm.resource_kind WHERE name = $1 AND informs"
        " RETURNING id",
        std::string(kind), options);
    if (rows.empty()) {
      throw Error(code::kind_unknown,
                  fmt::format("kind {} has had no host with an informer yet", kind));
    }
    transaction.exec_params("INSERT INTO dmm.resource_outbox (what, kind) VALUES ('inform', $1)",
                            std::string(kind));
    transaction.exec("SELECT pg_notify('dmm_resource', '')");
    return rows[0][0].as<std::int64_t>();
  });
}

std::vector<InformInfo> Client::informs() {
  return state_->sessions.transact("listing informs", [&](pqxx::work& transaction) {
    std::vector<InformInfo> all;
    for (const auto& row : transaction.exec(
             "SELECT id, kind, origin, dmm.microseconds(requested_at),"
             "  dmm.microseconds(next_try_at), tries, coalesce(error, ''), runner IS NOT NULL,"
             "  checkpoint::text, counts::text FROM dmm.resource_inform ORDER BY kind, id")) {
      InformInfo info;
      info.id = row[0].as<std::int64_t>();
      info.kind = row[1].as<std::string>();
      info.origin = row[2].as<std::string>();
      info.requested_at = time_of(row[3].as<std::int64_t>());
      info.next_try_at = time_of(row[4].as<std::int64_t>());
      info.tries = row[5].as<int>();
      info.error = row[6].as<std::string>();
      info.running = row[7].as<bool>();
      if (!row[8].is_null()) info.checkpoint = nlohmann::json::parse(row[8].c_str());
      info.counts = nlohmann::json::parse(row[9].c_str());
      all.push_back(std::move(info));
    }
    return all;
  });
}

}  // namespace dmm::resource
