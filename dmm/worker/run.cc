#include "dmm/worker/run.h"

#include <cxxabi.h>

#include <cstdlib>
#include <map>
#include <typeinfo>

#include "dmm/downlink/downlink.h"
#include "dmm/internal/active_span.h"
#include "dmm/internal/runtime.h"
#include "dmm/json.h"

namespace dmm::worker {

namespace {

class RunContext final : public Context {
 public:
  RunContext(const RunInput& input, Matters& matters, std::stop_token stop, const Logger& log,
             downlink::Downlink* downlink)
      : input_(input),
        matters_(matters),
        downlink_(downlink),
        stop_(std::move(stop)),
        log_(log.with({{"type", input.identity.type},
                       {"id", input.identity.id},
                       {"attempt", input.attempt}})) {}

  nlohmann::json matter(const Identity& identity) override { return matters_.matter(identity); }
  void notify(const Identity& identity, const nlohmann::json& cache) override {
    matters_.notify(identity, cache);
  }
  void poke(const Identity& identity) override { matters_.poke(identity); }
  const std::string& type_name(std::type_index type) const override {
    return matters_.type_name(type);
  }

  const Identity& identity() const noexcept override { return input_.identity; }
  int attempt() const noexcept override { return input_.attempt; }
  std::chrono::steady_clock::time_point deadline() const noexcept override {
    return input_.deadline;
  }
  std::stop_token stop_token() const noexcept override { return stop_; }
  Epoch epoch() const noexcept override { return input_.epoch; }
  bool deleted() const noexcept override { return input_.deleted; }
  const Logger& log() const noexcept override { return log_; }
  std::string traceparent() const override { return traceparent_; }

  CommandReply command(std::string_view kind, std::string_view device,
                       const nlohmann::json& payload, std::chrono::milliseconds timeout) override;
  std::optional<nlohmann::json> shadow(std::string_view kind, std::string_view device) override {
    return way_down().shadow(kind, device);
  }
  bool set_shadow(std::string_view kind, std::string_view device,
                  const nlohmann::json& document) override {
    return way_down().set_shadow(kind, device, document, sender());
  }
  bool clear_shadow(std::string_view kind, std::string_view device) override {
    return way_down().clear_shadow(kind, device, sender());
  }

  /// The last report of all when this device was found offline; else as of now.
  Sequence reported_before(const std::string& kind, const std::string& device) {
    const auto found = offline_.find(key_of({kind, device}));
    return found != offline_.end() ? found->second : way_down().last_report();
  }

 private:
  downlink::Downlink& way_down() const {
    require(downlink_ != nullptr, code::no_downlink, "this worker has no way to devices");
    return *downlink_;
  }
  downlink::Sender sender() const { return {key_of(input_.identity), input_.epoch}; }

  const RunInput& input_;
  Matters& matters_;
  downlink::Downlink* const downlink_;
  std::map<std::string, Sequence> offline_;  ///< devices that were found offline
  const std::stop_token stop_;
  const std::string traceparent_ = internal::current_trace();
  const Logger log_;
};

CommandReply RunContext::command(std::string_view kind, std::string_view device,
                                 const nlohmann::json& payload, std::chrono::milliseconds timeout) {
  require(timeout.count() > 0, code::bad_option, "the time for a command is not positive");
  const auto left = input_.deadline - internal::SteadyClock::now();
  const auto deadline = internal::SteadyClock::now() + std::min<decltype(left)>(timeout, left);
  const auto send = [&] {
    return way_down().command(kind, device, payload, sender(), deadline, stop_);
  };
  CommandReply reply = send();
  if (!reply.offline()) return reply;
  // It may have come online and reported by now, and that report would be missed. A device listens
  // before it reports, so if nobody hears the command once more, its report is still to come.
  const Sequence reported = way_down().last_report();
  reply = send();
  if (reply.offline()) {
    offline_[key_of({std::string(kind), std::string(device)})] = reported;
  }
  return reply;
}

/// The name of the exception that is being handled, when it is no std::exception.
std::string current_exception_type() {
  const std::type_info* type = abi::__cxa_current_exception_type();
  if (type == nullptr) return "an unknown exception";
  int status = 0;
  char* name = abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
  std::string text = status == 0 && name != nullptr ? name : type->name();
  std::free(name);
  return text;
}

void set_error(RunResult& result, const Code& code, std::string_view text) {
  result.error_code = code.id;
  result.error = printable(text, limits::error_text_bytes_max);
}

/// Fills `cache` from the text. False: the news cannot be read, and the result says why.
bool read_cache(const RunInput& input, nlohmann::json& cache, RunResult& result) {
  if (!input.value) return true;
  Result<nlohmann::json> parsed = parse_json(*input.value);
  if (parsed.ok()) {
    cache = std::move(parsed).value();
    return true;
  }
  if (input.is_news) {
    result.end = RunResult::End::refused;
    set_error(result, parsed.error().code(), parsed.error().message());
    return false;
  }
  result.healed = parsed.error().message();
  return true;
}

/// Writes the cache as text, if it can be read back.
void store_cache(const nlohmann::json& cache, RunResult& result) {
  if (cache.is_null()) return;
  try {
    check_depth(cache);
    result.value = dump_json(cache);
  } catch (const Error& error) {
    result.end = RunResult::End::refused;
    set_error(result, error.code(), error.message());
  }
}

/// The run wants to wait for a report: from where on is known here, or it cannot wait.
void prepare_wait(RunContext& context, RunResult& result) {
  try {
    const Outcome& outcome = result.outcome;
    check_name(outcome.kind(), "kind");
    check(Identity{outcome.kind(), outcome.device()});
    result.reported = context.reported_before(outcome.kind(), outcome.device());
  } catch (const Error& error) {
    result.end = RunResult::End::failed;
    set_error(result, error.code(), error.message());
  }
}

/// Runs materialize, and contains whatever it throws.
RunResult run_contained(const AnyMaterializer& materializer, const RunInput& input,
                        Matters& matters, const std::stop_token& stop, const Logger& log,
                        downlink::Downlink* downlink) {
  RunResult result;
  nlohmann::json cache;
  if (!read_cache(input, cache, result)) return result;
  RunContext context(input, matters, stop, log, downlink);
  try {
    try {
      result.outcome = materializer.materialize(context, cache);
    } catch (const Error& error) {
      // An entry that does not fit is as good as none: whoever wrote it, materialize starts anew.
      if (&error.code() != &code::wrong_shape || cache.is_null() || input.is_news) throw;
      result.healed = error.message();
      cache = nullptr;
      result.outcome = materializer.materialize(context, cache);
    }
    result.end = RunResult::End::succeeded;
    store_cache(cache, result);
  } catch (const DeviceOffline& offline) {
    result.end = RunResult::End::succeeded;
    result.outcome = Outcome::wait_for_report(offline.kind_of_device(), offline.device());
  } catch (const Error& error) {
    const bool unreadable = &error.code() == &code::wrong_shape && input.is_news;
    result.end = unreadable ? RunResult::End::refused : RunResult::End::failed;
    set_error(result, unreadable ? error.code() : code::materialize_failed, error.what());
  } catch (const std::exception& e) {
    set_error(result, code::materialize_failed, e.what());
  } catch (const char* text) {
    set_error(result, code::materialize_failed, text);
  } catch (const std::string& text) {
    set_error(result, code::materialize_failed, text);
  } catch (...) {
    set_error(result, code::materialize_failed,
              "threw a value of type " + current_exception_type());
  }
  const bool succeeded = result.end == RunResult::End::succeeded;
  if (succeeded && result.outcome.action() == Outcome::Action::wait) prepare_wait(context, result);
  return result;
}

void describe(internal::ActiveSpan& span, const RunInput& input, const RunResult& result) {
  if (!span.recording()) return;
  span.attribute("dmm.type", input.identity.type);
  span.attribute("dmm.id", printable(input.identity.id, 300));
  span.attribute("dmm.attempt", std::to_string(input.attempt));
  if (!result.error.empty()) span.fail(result.error_code + ": " + result.error);
}

}  // namespace

RunResult run_once(const AnyMaterializer& materializer, const RunInput& input, Matters& matters,
                   const std::stop_token& stop, const Logger& log, downlink::Downlink* downlink,
                   SpanSink* spans) {
  internal::ActiveSpan span(spans, input.traceparent, Span::Role::consumer, "materialize",
                            input.identity.type);
  RunResult result = run_contained(materializer, input, matters, stop, log, downlink);
  describe(span, input, result);
  return result;
}

}  // namespace dmm::worker
