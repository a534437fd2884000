#include "dmm/resource/works.h"

#include <cxxabi.h>
#include <fmt/format.h>

#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <random>

#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/resource/alarm.h"
#include "dmm/resource/places.h"
#include "dmm/wire.h"

namespace dmm::resource {

std::chrono::milliseconds retry_delay(int failures) {
  thread_local std::minstd_rand random{std::random_device{}()};
  const double share = std::uniform_real_distribution<double>(0.9, 1.1)(random);
  const double seconds = std::pow(std::max(failures, 1), 4) * share;
  const double most = std::chrono::duration<double>(limits::resource_retry_max).count();
  return std::chrono::milliseconds(static_cast<std::int64_t>(std::min(seconds, most) * 1000));
}

namespace internal {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kLongest = 24h;  ///< that a resource may have for itself
/// A run that waited so long to be admitted is given back, and comes again with all its time.
constexpr auto kAdmitted = 1s;
/// How long a resource that an open transaction holds is left alone.
constexpr auto kBusy = 200ms;
constexpr auto kBusyFinish = 20ms;

/// Waits, and returns early at a stop.
void pause(const std::stop_token& stop, std::chrono::milliseconds time) {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::unique_lock lock(mutex);
  changed.wait_for(lock, stop, time, [] { return false; });
}

void add_nested(const std::exception& exception, std::string& trace) {
  try {
    std::rethrow_if_nested(exception);
  } catch (const std::exception& nested) {
    trace += fmt::format("\nbecause of: {}", nested.what());
    add_nested(nested, trace);
  } catch (...) {
    trace += "\nbecause of an unknown exception";
  }
}

std::string type_of_current() {
  const std::type_info* type = abi::__cxa_current_exception_type();
  if (type == nullptr) return "an unknown exception";
  int status = 0;
  char* name = abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
  std::string text = status == 0 && name != nullptr ? name : type->name();
  std::free(name);
  return text;
}

/// The exception that is being handled, as an attempt that failed.
Finish failure_of_current() {
  Finish finish{"failed", "", type_of_current(), 0ms};
  try {
    throw;
  } catch (const std::exception& exception) {
    finish.error = exception.what();
    add_nested(exception, finish.trace);
  } catch (const std::string& text) {
    finish.error = text;
  } catch (const char* text) {
    finish.error = text;
  } catch (...) {
    finish.error = "threw a value of type " + finish.trace;
  }
  finish.error = printable(finish.error, limits::error_text_bytes_max);
  finish.trace = printable(finish.trace, limits::error_text_bytes_max);
  if (finish.error.empty()) finish.error = "failed without a message";
  return finish;
}

/// Thrown within the user's transaction when the claim is not in force any more.
struct Superseded {};

class Works {
 public:
  Works(HostParts& parts, AnyController controller, KindOptions options)
      : parts_(parts),
        controller_(std::move(controller)),
        options_(std::move(options)),
        places_(options_.work.concurrency, options_.ahead) {}

  Outcome run(Context& context);

 private:
  Outcome work(Context& context, const Key& key, AnyResource resource, const std::string& claim);
  Finish attempt(Context& context, AnyResource resource, Verdict& verdict);
  Finished store(Context& context, const Key& key, const std::string& claim, const Finish& finish);
  Finished store_with(Context& context, const Key& key, const std::string& claim,
                      const Finish& finish, const UserWrites& writes);
  std::chrono::milliseconds delay_of(int tries, int max_attempts) const;
  static Clock::time_point answer_by() { return Clock::now() + limits::resource_answer; }

  HostParts& parts_;
  const AnyController controller_;
  const KindOptions options_;
  Places places_;
  Alarm alarm_;
};

Outcome Works::run(Context& context) {
  if (parts_.stopping) return Outcome::requeue_after(0ms);  // the token stays
  const Places::Admission admission(places_, context.stop_token());
  if (!admission.admitted()) throw Error(code::run_cancelled, "stopped before there was a place");
  if (admission.waited() > kAdmitted || parts_.stopping) return Outcome::requeue_after(0ms);
  const Key key = key_of_identity(context.identity());
  const std::string claim = wire::unique_id();
  Claimed claimed;
  try {
    check_kind(key.kind);
    identity_of(key);
    claimed = parts_.claims->claim(key, claim, answer_by());
  } catch (const Error& error) {
    if (error.kind() != Kind::invalid || &error.code() != &code::bad_resource) throw;
    return Outcome::park(error.message());
  }
  if (claimed.verdict == "claimed") {
    claimed.resource->key = key;
    if (!claimed.damage.empty()) {
      store(context, key, claim, {"degraded", claimed.damage, "", 0ms});
      return Outcome::park(claimed.damage);
    }
    return work(context, key, std::move(*claimed.resource), claim);
  }
  if (claimed.verdict == "missing") return Outcome::forget();
  if (claimed.verdict == "busy") return Outcome::requeue_after(kBusy);
  if (claimed.verdict == "later") return Outcome::requeue_after(claimed.delay);
  if (claimed.verdict == "degraded") {
    return Outcome::park("degraded; `dmm resource retry` tries it again");
  }
  return Outcome::done();  // nothing to do, or put aside until there is place
}

Outcome Works::work(Context& context, const Key& key, AnyResource resource,
                    const std::string& claim) {
  const int tries = resource.tries;
  const int max_attempts = resource.max_attempts;
  Verdict verdict = Verdict::synced();
  Finish finish = attempt(context, std::move(resource), verdict);
  if (finish.verdict == "failed") {
    // Told to stop although there was time left: it is the program that ends, not the work that
    // fails.
    if (context.stop_token().stop_requested() && Clock::now() < context.deadline()) {
      finish.verdict = "released";
    } else {
      finish.delay = delay_of(tries, max_attempts);
    }
  }
  Finished finished;
  if (verdict.writes() && (finish.verdict == "synced" || finish.verdict == "deleted" ||
                           finish.verdict == "degraded" || finish.verdict == "snoozed")) {
    try {
      finished = store_with(context, key, claim, finish, verdict.writes());
    } catch (const Error& error) {
      if (error.kind() == Kind::in_doubt) throw;
      finish = failure_of_current();
    } catch (...) {
      finish = failure_of_current();
    }
    if (finish.verdict == "failed") finish.delay = delay_of(tries, max_attempts);
  }
  if (finished.answer.empty()) finished = store(context, key, claim, finish);

  parts_.counters->worked.fetch_add(1, std::memory_order_relaxed);
  if (finish.verdict == "failed") parts_.counters->failed.fetch_add(1, std::memory_order_relaxed);
  if (finished.answer != "done") {
    // Informed anew, or taken over: the database says what is to be done now.
    parts_.counters->superseded.fetch_add(1, std::memory_order_relaxed);
    return Outcome::requeue_after(0ms);
  }
  if (finish.verdict == "released") {
    if (!context.stop_token().stop_requested()) return Outcome::requeue_after(0ms);
    throw Error(code::run_cancelled, "the work was interrupted by a shutdown");
  }
  if (finished.state == "degraded") return Outcome::park("degraded: " + finish.error);
  if (finished.state == "failing" || finish.verdict == "snoozed") {
    return Outcome::requeue_after(finish.delay);
  }
  return Outcome::done();
}

/// Until the next attempt.
std::chrono::milliseconds Works::delay_of(int tries, int max_attempts) const {
  if (tries >= max_attempts) return 0ms;
  try {
    return std::clamp<std::chrono::milliseconds>(options_.retry(tries), 0ms,
                                                 limits::resource_retry_max);
  } catch (...) {
    parts_.log.error("the delay until a retry could not be had; it is as by default",
                     {{"kind", controller_.kind}, {"error", failure_of_current().error}});
    return retry_delay(tries);
  }
}

/// Has the controller work, and says how that ended.
Finish Works::attempt(Context& context, AnyResource resource, Verdict& verdict) {
  auto deadline = context.deadline();
  try {
    const Places::Place place(places_, context.stop_token());
    if (!place.taken() || parts_.stopping) return {"released", "", "", 0ms};
    const auto own = controller_.timeout ? controller_.timeout(resource) : 0ms;
    const auto attempt = resource.attempt;
    if (own <= 0ms) {
      WorkContext given(context, parts_.client, attempt);
      verdict = controller_.work(given, std::move(resource));
    } else {
      deadline =
          std::min(deadline, Clock::now() + std::min<std::chrono::milliseconds>(own, kLongest));
      std::stop_source stop;
      const std::stop_callback passing(context.stop_token(), [&stop] { stop.request_stop(); });
      const Alarm::Setting setting(alarm_, deadline, stop);
      WorkContext given(context, parts_.client, attempt, stop.get_token(), deadline);
      verdict = controller_.work(given, std::move(resource));
    }
  } catch (...) {
    Finish finish = failure_of_current();
    if (Clock::now() >= deadline) finish.error = "ran out of time: " + finish.error;
    context.log().info("the work on a resource failed", {{"error", finish.error}});
    return finish;
  }
  switch (verdict.action()) {
    case Verdict::Action::synced:
      return {"synced", "", "", 0ms};
    case Verdict::Action::deleted:
      return {"deleted", printable(verdict.reason(), limits::error_text_bytes_max), "", 0ms};
    case Verdict::Action::degraded:
      return {"degraded", printable(verdict.reason(), limits::error_text_bytes_max), "", 0ms};
    case Verdict::Action::snoozed:
      return {"snoozed", "", "", std::max(verdict.delay(), 1ms)};
  }
  return {"synced", "", "", 0ms};
}

/// An open transaction may hold the resource, and its end decides whether the result still counts.
Finished Works::store(Context& context, const Key& key, const std::string& claim,
                      const Finish& finish) {
  while (true) {
    const Finished finished = parts_.finishes->finish(key, claim, finish, answer_by());
    if (finished.answer != "busy") return finished;
    if (Clock::now() >= context.deadline()) {
      throw Error(code::timed_out, "a transaction holds the resource beyond the time of the run");
    }
    pause(context.stop_token(), kBusyFinish);
    if (context.stop_token().stop_requested()) {
      throw Error(code::run_cancelled, "stopped while a transaction held the resource");
    }
  }
}

Finished Works::store_with(Context& context, const Key& key, const std::string& claim,
                           const Finish& finish, const UserWrites& writes) {
  while (true) {
    Finished finished;
    try {
      parts_.sessions.transact("storing a work", [&](pqxx::work& transaction) {
        const pqxx::result rows = transaction.exec_params(
            "SELECT answer, state FROM dmm.resource_finish($1::json)",
            fmt::format("[{{\"n\":0,{}}}]", members_of(key, claim, finish)));
        finished = {rows[0][0].as<std::string>(), rows[0][1].as<std::string>()};
        if (finished.answer != "done") throw Superseded();
        writes(transaction);
      });
      return finished;
    } catch (const Superseded&) {
      if (finished.answer != "busy") return finished;
    }
    if (context.stop_token().stop_requested() || Clock::now() >= context.deadline()) {
      throw Error(code::run_cancelled, "stopped while a transaction held the resource");
    }
    pause(context.stop_token(), kBusyFinish);
  }
}

}  // namespace

AnyMaterializer make_works(HostParts& parts, AnyController controller, KindOptions options) {
  const auto works = std::make_shared<Works>(parts, std::move(controller), std::move(options));
  return AnyMaterializer{[works](Context& context, nlohmann::json& cache) {
    cache = nullptr;  // what is known of a resource is in the database
    return works->run(context);
  }};
}

}  // namespace internal

}  // namespace dmm::resource
