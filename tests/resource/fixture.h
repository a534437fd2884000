#pragma once

// What the tests of dmm::resource share: a database with the tables, a server of NATS, hosts, and
// controllers that do what a test says.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <pqxx/pqxx>

#include "dmm/resource/events.h"
#include "dmm/resource/host.h"
#include "dmm/resource/migrations.h"
#include "dmm/testing/nats_server.h"
#include "dmm/testing/postgres_server.h"
#include "dmm/testing/wait_for.h"

namespace dmm::resource {

using namespace std::chrono_literals;
using json = nlohmann::json;
using testing::becomes_true;
using testing::wait_for;

/// An object without comparison.
struct Note {
  std::string name;
  std::string text;

  std::string id() const { return name; }
  static std::string kind() { return "note"; }
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Note, name, text)

/// An object that says which of two is newer.
struct User {
  std::string email;
  std::string name;
  std::int64_t updated_at = 0;

  std::string id() const { return email; }
  static std::string kind() { return "user"; }
  std::int64_t compare(const User& stored) const { return updated_at - stored.updated_at; }
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(User, email, name, updated_at)

/// A connection of the user.
class Database final {
 public:
  explicit Database(const testing::PostgresServer& server);
  /// Runs statements outside of a transaction that this object would begin.
  pqxx::result exec(const std::string& sql);
  std::int64_t number(const std::string& sql);
  std::string text(const std::string& sql);
  pqxx::connection& connection() noexcept { return connection_; }

 private:
  pqxx::connection connection_;
};

/// A database with the tables of resources. The cluster is shared by the tests of a program, the
/// tables are made anew.
struct Store {
  Store();

  std::string connection() const;
  testing::PostgresServer& server;
  Database db;
  Client client;
};

/// The code of the Error that a call throws ("DMM-0801"), "none" if it does not throw.
std::string code_of(const std::function<void()>& call);

/// Counts calls by name. Thread-safe.
class Tally final {
 public:
  int add(const std::string& name);
  int count(const std::string& name) const;
  int total() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, int> counts_;
};

/// A door that works wait at; also opened by a stop. Thread-safe.
class Gate final {
 public:
  void open();
  /// False if stopped.
  bool pass(const std::stop_token& stop);

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  bool open_ = false;
};

/// Controllers made of functions.
template <class T>
struct Working {
  std::function<Verdict(WorkContext&, const Resource<T>&)> function;
  Verdict work(WorkContext& context, const Resource<T>& resource) {
    return function(context, resource);
  }
};
template <class T>
struct Informing {
  std::function<Verdict(WorkContext&, const Resource<T>&)> function;
  std::function<Listed(InformContext&, Sink<T>&)> list;
  Verdict work(WorkContext& context, const Resource<T>& resource) {
    return function ? function(context, resource) : Verdict::synced();
  }
  Listed inform(InformContext& context, Sink<T>& sink) { return list(context, sink); }
};

/// A store with a server of NATS.
struct Scene : Store {
  Scene();
  testing::NatsServer nats;
};

/// A host that runs until this object ends. DMM_TEST_LOG=1 shows what it logs.
class Running final {
 public:
  using Add = std::function<void(Host&)>;
  Running(Scene& scene, const Add& add, HostOptions options = quick());
  ~Running();
  /// Upkeep every 200 ms, lost tokens looked for after 1 s.
  static HostOptions quick();
  Host& host() noexcept { return *host_; }
  Bucket& bucket() noexcept { return bucket_; }

 private:
  Bucket bucket_;
  std::unique_ptr<Host> host_;
};

Bucket open_bucket(const testing::NatsServer& server);

/// The state of a resource; nothing if there is none.
std::optional<State> state_of(Client& client, const Key& key);
void wait_state(Client& client, const Key& key, State state,
                std::chrono::milliseconds deadline = 15s);
/// Options with retries after milliseconds.
KindOptions quick_retries();
/// No informs by schedule.
KindOptions on_demand();

}  // namespace dmm::resource

namespace Catch {
template <>
struct StringMaker<dmm::resource::State> {
  static std::string convert(dmm::resource::State state) {
    return std::string(dmm::resource::to_string(state));
  }
};
template <>
struct StringMaker<dmm::resource::Informed::Result> {
  static std::string convert(dmm::resource::Informed::Result result) {
    return std::string(dmm::resource::to_string(result));
  }
};
}  // namespace Catch
