#pragma once

// A Host is the program in which controllers live. Several hosts, of the same kinds or others,
// share one database and one namespace of NATS; each works the kinds that it has.
//
//     dmm::Bucket bucket = dmm::Bucket::open("shop");
//     dmm::resource::Host host(bucket, "postgresql://app@db/shop");
//     host.add<Customer>(CustomerController());
//     host.work(stop);
//
// Lifecycle: construct, add, then work() or start() and stop(). The bucket outlives the host; the
// types that were registered with it besides are worked, too.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>

#include "dmm/bucket.h"
#include "dmm/resource/controller.h"
#include "dmm/resource/schedule.h"

namespace dmm::resource {

/// How long until the next attempt after `failures` failed ones, from 1.
using RetryDelay = std::function<std::chrono::milliseconds(int failures)>;

/// failures^4 seconds, give or take a tenth: 1 s, 16 s, 81 s, ...; at most a day.
std::chrono::milliseconds retry_delay(int failures);

struct KindOptions {
  /// Of the works: concurrency in this process (16), time for one (15 min), grace at shutdown,
  /// rate.
  WorkOptions work = {};
  /// How many more resources may be claimed, or have their results stored, beside those that are
  /// worked, so that the database is not waited for between two short works. Nothing: four times as
  /// many as are worked at a time (8 to 64) while works take less than 20 ms on average, and else
  /// none. A number holds however long they take: what is claimed waits for its place then, and its
  /// time runs.
  std::optional<std::size_t> ahead = {};
  RetryDelay retry = retry_delay;
  Schedule inform = Schedule::every(limits::inform_interval);
  /// Lists everything, to find what is missing.
  Schedule full = Schedule::never();
  std::chrono::milliseconds inform_timeout = limits::inform_timeout;  ///< of one try
  /// How far behind the cursor a scheduled run begins: for objects that show up late.
  std::chrono::milliseconds overlap = limits::inform_overlap;
  /// Resources that a full list may leave out; more than these and than 5 % is held to be an error.
  std::size_t missing_free = limits::removals_free;
};

struct HostOptions {
  /// Stored as Client::set_namespace() does when work begins.
  std::map<std::string, NamespaceOptions> namespaces = {};
  /// How often expiry, cleaning and rescue look.
  std::chrono::milliseconds upkeep = limits::resource_upkeep_interval;
  /// How long a resource that should be worked is left alone until its token is looked for.
  std::chrono::milliseconds lost_after = limits::resource_lost_after;
  Logger logger = Logger::standard(Level::warn);
};

/// What a host has done since it was made.
struct HostStats {
  std::uint64_t relayed = 0;     ///< tokens and events told to NATS
  std::uint64_t worked = 0;      ///< works that ended, however
  std::uint64_t failed = 0;      ///< of them failed attempts
  std::uint64_t superseded = 0;  ///< results that were dropped: informed anew, or taken over
  std::uint64_t informed = 0;    ///< objects that informers put
  std::uint64_t expired = 0;
  std::uint64_t cleaned = 0;
  std::uint64_t rescued = 0;  ///< resources whose token was lost and told again
};

class Host final {
 public:
  /// Nothing is connected yet but the bucket. Throws Error{invalid} DMM-0404.
  Host(Bucket& bucket, std::string connection, HostOptions options = {});
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  /// Adds a controller. Throws Error{invalid} DMM-0803 for a bad kind, DMM-0402 for one that is
  /// there already, or that is a type of the bucket; DMM-0404 for options.
  template <Object T, class C>
  void add(C controller, KindOptions options = {}) {
    add(erase_controller<T>(std::make_shared<C>(std::move(controller))), std::move(options));
  }
  void add(AnyController controller, KindOptions options = {});

  /// For this database.
  Client& client() noexcept;

  /// Works until `stop`: then no new work begins, what runs has the grace time. Blocks. Throws
  /// Error for what cannot heal by itself: DMM-0811, DMM-0804, DMM-0805, DMM-0111.
  void work(std::stop_token stop);

  /// The same on a thread of its own.
  void start();
  /// Ends it: no new work, and waits for what runs. Throws Error{retry} DMM-0103 if that has not
  /// ended by `deadline`; it then goes on ending. Throws what work() threw.
  void stop(std::chrono::milliseconds deadline = std::chrono::minutes(1));

  /// Any thread.
  HostStats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dmm::resource
