#include "dmm/worker/run.h"

#include <cxxabi.h>

#include <cstdlib>
#include <typeinfo>

#include "dmm/json.h"

namespace dmm::worker {

namespace {

class RunContext final : public Context {
 public:
  RunContext(const RunInput& input, Matters& matters, std::stop_token stop, const Logger& log)
      : input_(input),
        matters_(matters),
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

 private:
  const RunInput& input_;
  Matters& matters_;
  const std::stop_token stop_;
  const Logger log_;
};

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

}  // namespace

RunResult run_once(const AnyMaterializer& materializer, const RunInput& input, Matters& matters,
                   const std::stop_token& stop, const Logger& log) {
  RunResult result;
  nlohmann::json cache;
  if (!read_cache(input, cache, result)) return result;
  RunContext context(input, matters, stop, log);
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
  return result;
}

}  // namespace dmm::worker
