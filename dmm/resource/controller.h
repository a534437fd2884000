#pragma once

// A controller keeps one kind of objects in step. It is any type with one or both of
//
//   void work(WorkContext&, const Resource<T>&);   or   Verdict work(...)
//       makes reality equal to the object. Idempotent: it may be called again for the same content.
//       No transaction of dmm is open meanwhile. What it throws is a failed attempt.
//
//   Listed inform(InformContext&, Sink<T>&);
//       puts what the other side has into the sink.
//
// and beside work, if its time is not the same for all of the kind
//
//   std::chrono::milliseconds timeout(const Resource<T>&);
//       how long the work of this one may take: at most as long as those of the kind may (see
//       KindOptions::work); zero: so long.
//
// All are called from threads of the host; `work` never twice at a time for one resource, `inform`
// once at a time in the whole fleet, `work` of different resources side by side.

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "dmm/context.h"
#include "dmm/resource/client.h"

namespace dmm::resource {

/// Written in the transaction that stores the verdict.
using UserWrites = std::function<void(pqxx::transaction_base&)>;

/// What a work that did not throw says of its resource.
class Verdict {
 public:
  enum class Action : std::uint8_t { synced, deleted, snoozed, degraded };

  static Verdict synced() { return Verdict(Action::synced); }
  /// The object is gone on the other side: the resource is kept as deleted for a while, and lists
  /// that still name it do not bring it back.
  static Verdict deleted(std::string reason) { return {Action::deleted, std::move(reason)}; }
  /// Not yet: again after `delay`. Not a failure, costs no attempt.
  static Verdict snooze(std::chrono::milliseconds delay) {
    Verdict verdict(Action::snoozed);
    verdict.delay_ = delay;
    return verdict;
  }
  /// Trying again does not help: degraded at once.
  static Verdict give_up(std::string reason) { return {Action::degraded, std::move(reason)}; }

  /// Has `writes` write in the transaction that stores this verdict: both happen or neither. It is
  /// not called if the resource was informed anew meanwhile, or taken over. What it throws rolls
  /// the transaction back and is a failed attempt.
  Verdict and_commit(UserWrites writes) && {
    writes_ = std::move(writes);
    return std::move(*this);
  }

  Action action() const noexcept { return action_; }
  const std::string& reason() const noexcept { return reason_; }
  std::chrono::milliseconds delay() const noexcept { return delay_; }
  const UserWrites& writes() const noexcept { return writes_; }

 private:
  Verdict(Action action, std::string reason = {}) : action_(action), reason_(std::move(reason)) {}

  Action action_;
  std::string reason_;
  std::chrono::milliseconds delay_{0};
  UserWrites writes_;
};

/// What a work is given; lives as long as the call.
class WorkContext {
 public:
  WorkContext(Context& run, Client& client, std::int64_t attempt)
      : WorkContext(run, client, attempt, run.stop_token(), run.deadline()) {}
  WorkContext(Context& run, Client& client, std::int64_t attempt, std::stop_token stop,
              std::chrono::steady_clock::time_point deadline)
      : run_(run),
        client_(client),
        attempt_(attempt),
        stop_(std::move(stop)),
        deadline_(deadline) {}

  /// To inform other resources.
  Client& client() const noexcept { return client_; }
  /// Of the resource's life.
  std::int64_t attempt() const noexcept { return attempt_; }
  /// Asked to stop at the deadline, at the end of the grace time at shutdown, and when the lease is
  /// lost. A work that throws because of a shutdown costs no attempt.
  std::stop_token stop_token() const noexcept { return stop_; }
  std::chrono::steady_clock::time_point deadline() const noexcept { return deadline_; }
  /// The run of the materializer behind it: caches, pokes, devices, epoch, log.
  Context& run() const noexcept { return run_; }
  const Logger& log() const noexcept { return run_.log(); }

 private:
  Context& run_;
  Client& client_;
  std::int64_t attempt_;
  std::stop_token stop_;
  std::chrono::steady_clock::time_point deadline_;
};

/// How a list ended; it has to be said.
class Listed {
 public:
  /// Everything that was asked for has been put.
  static Listed complete() { return Listed({}); }
  /// Not everything; the run goes on behind its last checkpoint later.
  static Listed partly(std::string reason) { return Listed(std::move(reason)); }

  /// Why it is not complete; nothing: it is.
  const std::optional<std::string>& reason() const noexcept { return reason_; }

 private:
  explicit Listed(std::optional<std::string> reason) : reason_(std::move(reason)) {}
  std::optional<std::string> reason_;
};

/// What an inform is given; lives as long as the call.
class InformContext {
 public:
  InformContext(InformRequest request, nlohmann::json checkpoint, std::stop_token stop,
                Client& client, const Logger& log)
      : request_(std::move(request)),
        checkpoint_(std::move(checkpoint)),
        stop_(std::move(stop)),
        client_(client),
        log_(log) {}

  /// What was asked for. Of a scheduled run `after` is the cursor, less the overlap: what was made
  /// or changed from then on has to be put; nothing: everything.
  const InformRequest& request() const noexcept { return request_; }
  const std::optional<Time>& after() const noexcept { return request_.after; }
  /// Everything has to be named: what is not, is missing.
  bool full() const noexcept { return request_.full; }
  /// Of the last try of this run: what was put before it is stored. null: from the start.
  const nlohmann::json& checkpoint() const noexcept { return checkpoint_; }
  std::stop_token stop_token() const noexcept { return stop_; }
  Client& client() const noexcept { return client_; }
  const Logger& log() const noexcept { return log_; }

 private:
  InformRequest request_;
  nlohmann::json checkpoint_;
  std::stop_token stop_;
  Client& client_;
  const Logger& log_;
};

/// Takes the objects of an inform. Used by the thread of the call.
class AnySink {
 public:
  virtual ~AnySink() = default;
  /// Takes an object; stores what has gathered when it is enough for a batch. Throws Error{invalid}
  /// DMM-0803; {cancelled} DMM-0810 if another runner took over; what a Client throws.
  virtual void put(AnyObject object) = 0;
  /// Stores what was put so far, together with where the listing stands: the next try of this run
  /// begins with it.
  virtual void checkpoint(nlohmann::json position) = 0;
};

template <Object T>
class Sink {
 public:
  explicit Sink(AnySink& sink) : sink_(sink) {}
  void put(const T& object, InformOptions options = {}) {
    sink_.put(erase(object, std::move(options)));
  }
  void checkpoint(nlohmann::json position) { sink_.checkpoint(std::move(position)); }

 private:
  AnySink& sink_;
};

/// A controller whose type is learned at run time. Each function may be empty, but not all.
struct AnyController {
  std::string kind;
  std::function<Verdict(WorkContext&, AnyResource)> work;
  std::function<Listed(InformContext&, AnySink&)> inform;
  std::function<std::chrono::milliseconds(const AnyResource&)> timeout = {};
};

template <class C, class T>
concept WorksOn = requires(C& controller, WorkContext& context, const Resource<T>& resource) {
  controller.work(context, resource);
};
template <class C, class T>
concept TimesOut = requires(C& controller, const Resource<T>& resource) {
  { controller.timeout(resource) } -> std::convertible_to<std::chrono::milliseconds>;
};
template <class C, class T>
concept Informs = requires(C& controller, InformContext& context, Sink<T>& sink) {
  { controller.inform(context, sink) } -> std::same_as<Listed>;
};

/// The type-erased form of a controller.
/// controller   shared with what is returned.
template <Object T, class C>
AnyController erase_controller(std::shared_ptr<C> controller) {
  static_assert(WorksOn<C, T> || Informs<C, T>,
                "a controller has work(WorkContext&, const Resource<T>&) or "
                "Listed inform(InformContext&, Sink<T>&)");
  AnyController any;
  any.kind = kind_of<T>();
  if constexpr (WorksOn<C, T>) {
    any.work = [controller](WorkContext& context, AnyResource resource) {
      const Resource<T> typed(std::move(resource));
      if constexpr (std::is_void_v<decltype(controller->work(context, typed))>) {
        controller->work(context, typed);
        return Verdict::synced();
      } else {
        return Verdict(controller->work(context, typed));
      }
    };
  }
  if constexpr (WorksOn<C, T> && TimesOut<C, T>) {
    any.timeout = [controller](const AnyResource& resource) {
      return std::chrono::milliseconds(controller->timeout(Resource<T>(resource)));
    };
  }
  if constexpr (Informs<C, T>) {
    any.inform = [controller](InformContext& context, AnySink& sink) {
      Sink<T> typed(sink);
      return controller->inform(context, typed);
    };
  }
  return any;
}

}  // namespace dmm::resource
