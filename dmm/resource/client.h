#pragma once

// A Client informs resources and looks at them: in the database alone, without NATS and without
// controllers. Hosts (dmm/resource/host.h), here or in other processes, do the work.
//
//     dmm::resource::Client client("postgresql://app@db/shop");
//     pqxx::work transaction(connection);
//     transaction.exec("INSERT INTO orders ...");
//     client.inform_tx(transaction, Customer{"c1", "Ada"});
//     transaction.commit();              // now, and not before, a worker takes it

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/resource/resource.h"

namespace pqxx {
class transaction_base;
}

namespace dmm::resource {

/// What became of an object that was brought.
struct Informed {
  enum class Result : std::uint8_t {
    created,     ///< there was no such resource; it is worked
    updated,     ///< newer content, or forced; it is worked
    unchanged,   ///< the same content: nothing was done
    relabelled,  ///< the same content, but other tags, metadata or attempts, which were stored
    stale,       ///< older than what is stored: refused
    deleted,     ///< its controller said that it is gone, and this content is not newer: refused
  };
  Result result = Result::created;
  std::int64_t number = 0;
  std::int64_t generation = 0;
  State state = State::scheduled;

  /// There was such a resource before.
  bool already_exists() const noexcept { return result != Result::created; }
  /// A work follows.
  bool worked() const noexcept { return result == Result::created || result == Result::updated; }
};
std::string_view to_string(Informed::Result result) noexcept;

/// Which resources; all that is set must hold.
struct Filter {
  std::optional<std::string> ns = {};
  std::optional<std::string> kind = {};
  std::vector<State> states = {};          ///< one of them; empty: any
  std::vector<std::string> tags = {};      ///< all of them
  std::optional<std::string> prefix = {};  ///< of the id
  nlohmann::json metadata = {};            ///< a JSON object that is contained in it; null: any
  bool missing = false;                    ///< only those that a full list left out
};

/// A part of a list, ordered by namespace, kind and id.
struct Page {
  std::vector<AnyResource> resources;
  std::string next;  ///< for the next page; empty: this is the last
};

/// Settings of a namespace of resources, in force within a second everywhere.
struct NamespaceOptions {
  std::optional<int> max_workers = {};  ///< works at a time in the whole fleet
  /// How long a synced resource is believed, until it is worked again.
  std::optional<std::chrono::milliseconds> expiry = {};
  /// How long resources stay in these states until they are removed; nothing: for ever. With an
  /// expiry, synced ones stay.
  std::optional<std::chrono::milliseconds> synced_retention = {};
  std::optional<std::chrono::milliseconds> deleted_retention = std::chrono::hours(24);
  std::optional<std::chrono::milliseconds> degraded_retention = {};

  friend bool operator==(const NamespaceOptions&, const NamespaceOptions&) = default;
};

/// What an informer is asked for. Labels, `after`, `limit` and `order_by` are its own to
/// understand.
struct InformRequest {
  std::map<std::string, std::string> labels = {};
  std::optional<Time> after = {};
  std::size_t limit = 0;  ///< 0: none
  std::string order_by = {};
  bool full = false;  ///< list everything: what is not named is missing
  /// Work also what is unchanged; the cursor stays.
  bool process_existing = false;
  bool accept_missing = false;  ///< however many are
};

/// A kind as the database knows it.
struct KindInfo {
  std::string name;
  std::optional<Time> paused_at;
  std::string paused_because;
  bool informs = false;  ///< it has an informer
  std::string schedule;
  std::string full_schedule;
  std::optional<Time> next_inform_at;
  std::optional<Time> next_full_at;
  std::optional<Time> cursor;
  nlohmann::json last_run;  ///< null if there was none
  std::map<State, std::int64_t> counts;
};

/// A run of an informer that is not over.
struct InformInfo {
  std::int64_t id = 0;
  std::string kind;
  std::string origin;  ///< "schedule", "full" or "request"
  Time requested_at;
  Time next_try_at;
  int tries = 0;      ///< since one of them got ahead
  std::string error;  ///< of the last try
  bool running = false;
  nlohmann::json checkpoint;
  nlohmann::json counts;
};

struct ClientOptions {
  /// Calls that go on at a time; more wait. Calls of inform() share four more, however many they
  /// are.
  std::size_t connections_max = 8;
  std::chrono::milliseconds statement_timeout = std::chrono::seconds(60);
};

/// Thread-safe. Calls open connections as needed, keep them, and block. All of them throw
/// Error{retry} DMM-0110 PostgreSQL not reachable, DMM-0112; {invalid} DMM-0111 access denied,
/// DMM-0804 not migrated; {unsupported} DMM-0113, DMM-0805. Forms that end in _tx use the
/// transaction of the caller, begin and commit nothing, and throw what libpqxx throws if the
/// database refuses.
class Client final {
 public:
  /// connection   for libpq; what it leaves out comes from PGHOST and the like. Nothing is
  /// connected
  ///              yet. Throws Error{invalid} DMM-0404.
  explicit Client(std::string connection, ClientOptions options = {});
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  // ---- informing ----

  /// Brings an object: stores it, and has it worked if it is new or newer. Calls of several threads
  /// at the same time share statements and commits, and nothing else: an error is that of one call.
  /// Throws Error{invalid} DMM-0803 before anything is written; {in_doubt} DMM-0105 if the database
  /// did not answer: then it may be repeated, and is unchanged if it was done; what compare()
  /// throws.
  template <Object T>
  Informed inform(const T& object, InformOptions options = {}) {
    return inform(erase(object, std::move(options)));
  }
  Informed inform(const AnyObject& object);

  /// The same within the transaction of the caller: nobody sees it, and nothing is worked, before
  /// that commits; after a rollback it was never there. Wakes a worker at commit.
  template <Object T>
  Informed inform_tx(pqxx::transaction_base& transaction, const T& object,
                     InformOptions options = {}) {
    return inform_tx(transaction, erase(object, std::move(options)));
  }
  Informed inform_tx(pqxx::transaction_base& transaction, const AnyObject& object);

  /// Brings many, in few statements and one transaction. The answers are in the order of the
  /// objects.
  template <Object T>
  std::vector<Informed> inform_many(std::span<const T> objects, const InformOptions& options = {}) {
    return inform_many(erase_all(objects, options));
  }
  std::vector<Informed> inform_many(std::span<const AnyObject> objects);
  template <Object T>
  std::vector<Informed> inform_many_tx(pqxx::transaction_base& transaction,
                                       std::span<const T> objects,
                                       const InformOptions& options = {}) {
    return inform_many_tx(transaction, erase_all(objects, options));
  }
  std::vector<Informed> inform_many_tx(pqxx::transaction_base& transaction,
                                       std::span<const AnyObject> objects);

  // ---- single resources ----

  /// The resource; nothing if there is none.
  std::optional<AnyResource> get(const Key& key);
  template <Object T>
  std::optional<Resource<T>> get(std::string id, std::string ns = kDefaultNamespace) {
    auto any = get(Key{kind_of<T>(), std::move(id), std::move(ns)});
    if (!any) return std::nullopt;
    return Resource<T>(std::move(*any));
  }

  /// Believes a synced resource no more: it is worked again now. Throws Error{not_found} DMM-0801,
  /// {conflict} DMM-0802 that names the state if it is not synced; nothing is changed then.
  void invalidate(const Key& key);
  template <Object T>
  void invalidate(const T& object) {
    invalidate(key_of(object));
  }
  void invalidate_tx(pqxx::transaction_base& transaction, const Key& key);

  /// Tries a failing, degraded or deleted resource again now, with all its attempts. Throws as
  /// invalidate().
  void retry(const Key& key);
  /// All degraded and failing ones that the filter names. Returns how many.
  std::size_t retry_all(const Filter& filter);

  /// Removes a resource and all that is known of it; nothing is worked any more. False if there was
  /// none.
  bool forget(const Key& key);
  bool forget_tx(pqxx::transaction_base& transaction, const Key& key);

  // ---- many ----

  /// after   `next` of the page before; empty: from the start.
  /// limit   1 to 10,000.
  Page list(const Filter& filter, const std::string& after = {}, std::size_t limit = 100);

  // ---- kinds, namespaces, informers ----

  std::vector<KindInfo> kinds();
  /// No work of the kind begins until it is resumed; what runs ends. Throws {not_found} DMM-0812.
  void pause(std::string_view kind, std::string_view reason = {});
  /// False if it was not paused.
  bool resume(std::string_view kind);

  /// Replaces the settings of a namespace.
  void set_namespace(std::string_view name, const NamespaceOptions& options);
  /// Those that were set.
  std::map<std::string, NamespaceOptions> namespaces();

  /// Asks for a run of an informer, now. Each request is a run of its own. Returns its number.
  /// Throws {not_found} DMM-0812 if the kind has no informer.
  std::int64_t schedule_inform(std::string_view kind, const InformRequest& request = {});
  /// The runs that are not over.
  std::vector<InformInfo> informs();

 private:
  template <Object T>
  static std::vector<AnyObject> erase_all(std::span<const T> objects,
                                          const InformOptions& options) {
    std::vector<AnyObject> all;
    all.reserve(objects.size());
    for (const T& object : objects) all.push_back(erase(object, options));
    return all;
  }
  struct State_;
  std::unique_ptr<State_> state_;
};

}  // namespace dmm::resource
