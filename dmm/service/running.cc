#include "dmm/service/running.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>

#include "dmm/json.h"
#include "dmm/limits.h"
#include "engine/version.h"

namespace dmm::service {

using std::chrono::milliseconds;

namespace {

constexpr milliseconds kTick{500};

std::string joined(const std::vector<std::string>& reasons) {
  return fmt::format("{}", fmt::join(reasons, "; "));
}

}  // namespace

Running::Running(std::string name, ServiceConfig config, Hooks hooks, bool http_optional)
    : name_(std::move(name)),
      config_(std::move(config)),
      hooks_(std::move(hooks)),
      log_(config_.log) {
  if (!config_.traces.empty()) {
    spans_ = std::make_shared<OtlpExporter>(config_.traces, config_.traces_sampled, name_,
                                            config_.ns, log_);
  }
  ticked_at_ = Clock::now().time_since_epoch().count();
  if (!config_.http.empty()) serve(http_optional);
}

Running::~Running() = default;

// ---- the thread of the work

void Running::work() noexcept {
  try {
    if (std::optional<Bucket> opened = open()) {
      const auto bucket = std::make_shared<Bucket>(std::move(*opened));
      {
        const std::lock_guard lock(mutex_);
        bucket_ = bucket;
      }
      hooks_.setup(*bucket, config_);
      work_on(*bucket);
    }
  } catch (...) {
    fail(std::current_exception());
  }
  ended_ = true;
  Signals::wake();
}

/// Nothing: it was told to stop meanwhile.
std::optional<Bucket> Running::open() {
  const auto give_up_at = Clock::now() + config_.connect_timeout;
  std::mutex mutex;
  std::condition_variable_any stopped;
  for (milliseconds delay = limits::retry_delay_first; !stop_.stop_requested();
       delay = std::min<milliseconds>(delay * 2, limits::retry_delay_max)) {
    try {
      BucketOptions options;
      options.connection = config_.connection;
      if (options.connection.name.empty()) options.connection.name = name_;
      options.create = config_.create;
      options.generation = config_.generation;
      options.logger = log_;
      options.snapshots.directory = config_.snapshots;
      options.run_directory = config_.run_directory;
      options.program = name_;
      options.spans = spans_;
      options.describe = [this]() -> nlohmann::json {
        nlohmann::json more = {{"http", address_}};
        if (stopping_) more["not_ready"] = nlohmann::json::array({"stopping"});
        return more;
      };
      return Bucket::open(config_.ns, std::move(options));
    } catch (const Error& error) {
      if (error.kind() != Kind::retry || Clock::now() >= give_up_at) throw;
      log_.warn("the server cannot be reached; tried again",
                {{"code", std::string(error.code().id)}, {"error", error.message()}});
      std::unique_lock lock(mutex);
      stopped.wait_for(lock, stop_.get_token(), delay, [] { return false; });
    }
  }
  return std::nullopt;
}

void Running::work_on(Bucket& bucket) {
  {
    std::vector<std::jthread> beside;  // joined at the end of this block
    std::stop_source end;
    for (const Service::Beside& one : hooks_.beside) {
      beside.emplace_back([this, &bucket, &one, stop = end.get_token()] {
        try {
          one(bucket, stop);
        } catch (...) {
          fail(std::current_exception());
          stop_.request_stop();
        }
      });
    }
    log_.info("working", {{"namespace", config_.ns}});
    working_ = true;
    Signals::wake();
    try {
      bucket.work(stop_.get_token());
    } catch (...) {
      fail(std::current_exception());
    }
    working_ = false;
    end.request_stop();
  }
  const auto failed = [this] {
    const std::lock_guard lock(mutex_);
    return failure_ != nullptr;
  };
  if (hooks_.at_end && !failed()) hooks_.at_end(bucket);
}

void Running::fail(std::exception_ptr failure) noexcept {
  const std::lock_guard lock(mutex_);
  if (!failure_) failure_ = std::move(failure);
}

int Running::code_of(const std::exception_ptr& failure) const noexcept {
  if (!failure) return exit_code::ok;
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    log_.error("failed", {{"code", std::string(error.code().id)},
                          {"error", error.message()},
                          {"remedy", std::string(error.remedy())}});
    const Code* const code = &error.code();
    if (code == &code::bad_option || code == &code::bad_namespace) return exit_code::usage;
    const bool access = code == &code::unreachable || code == &code::access_denied ||
                        code == &code::no_jetstream || code == &code::stream_missing;
    return access ? exit_code::no_access : exit_code::failed;
  } catch (const std::exception& e) {
    log_.error("failed", {{"error", e.what()}});
  } catch (...) {
    log_.error("failed", {{"error", "something that is no std::exception"}});
  }
  return exit_code::failed;
}

// ---- the main thread

int Running::run() {
  log_.info("started", {{"service", name_},
                        {"namespace", config_.ns},
                        {"version", std::string(engine::version())},
                        {"pid", static_cast<std::int64_t>(::getpid())},
                        {"http", address_.empty() ? "off" : address_},
                        {"file", config_.file}});
  thread_ = std::thread([this] { work(); });
  while (!ended_) {
    milliseconds timeout = kTick;
    if (systemd_.watchdog().count() > 0) timeout = std::min(timeout, systemd_.watchdog() / 3);
    follow(signals_.wait(std::max(timeout, milliseconds(1))));
    tick();
  }
  thread_.join();
  server_.reset();
  const std::lock_guard lock(mutex_);
  const int code = code_of(failure_);
  bucket_.reset();
  spans_.reset();
  if (code == exit_code::ok) log_.info("ended");
  return code;
}

void Running::follow(const Wakes& wakes) {
  if (wakes.reload && !stopping_) reload();
  int ends = wakes.ends;
  if (ends > 0 && !stopping_) {
    --ends;
    stopping_ = true;
    force_at_ = Clock::now() + config_.grace;
    systemd_.stopping(config_.grace + kTick);
    log_.info("stopping: no new runs, those in flight are waited for",
              {{"grace_ms", config_.grace.count()}});
    stop_.request_stop();
  }
  if (ended_) return;
  if (ends > 0) end_by_force("a second signal");
  if (force_at_ && Clock::now() >= *force_at_) end_by_force("the grace time is over");
}

void Running::tick() {
  const auto now = Clock::now();
  ticked_at_ = now.time_since_epoch().count();
  const std::shared_ptr<Bucket> bucket = this->bucket();
  if (working_ && bucket) {
    if (!std::exchange(told_ready_, true)) systemd_.ready("working");
    look_for_stuck_loops(*bucket, now);
  }
  const std::vector<std::string> reasons = not_ready();
  std::string status = reasons.empty() ? "ready" : joined(reasons);
  if (status != told_status_) {
    log_.debug("status", {{"status", status}});
    systemd_.status(status);
    told_status_ = std::move(status);
  }
  const std::lock_guard lock(mutex_);
  if (systemd_.watchdog().count() == 0 || !stuck_.empty()) return;
  if (now - alive_at_ < systemd_.watchdog() / 3) return;
  alive_at_ = now;
  systemd_.alive();
}

void Running::look_for_stuck_loops(const Bucket& bucket, Clock::time_point now) {
  std::string stuck;
  for (const WorkStream* stream : bucket.work_streams()) {
    const std::uint64_t turns = stream->stats().turns;
    const auto [at, first] = turns_.try_emplace(stream->type(), Turns{turns, now});
    if (at->second.turns != turns || !working_) at->second = {turns, now};
    if (now - at->second.since < limits::service_alive) continue;
    stuck = fmt::format("the loop of type {} does not turn", stream->type());
  }
  const std::lock_guard lock(mutex_);
  if (!stuck.empty() && stuck_.empty()) log_.error("stuck", {{"error", stuck}});
  stuck_ = std::move(stuck);
}

void Running::reload() {
  systemd_.reloading();
  try {
    const ServiceConfig config = hooks_.reload();
    log_.info("options read again", {{"file", config.file}});
    Logger(log_).set_level(config.log_level);
    if (hooks_.reloaded) hooks_.reloaded(config);
    ++reloads_;
  } catch (const std::exception& e) {
    ++reloads_failed_;
    log_.error("the options could not be read again: what was in force stays",
               {{"error", e.what()}});
  }
  systemd_.ready(told_status_);
}

/// Nothing is lost by that: what was not finished lies in the work stream, and the lanes are taken
/// over when the leases are over.
void Running::end_by_force(std::string_view why) {
  std::size_t running = 0;
  if (const auto bucket = this->bucket()) {
    for (const WorkStream* stream : bucket->work_streams()) running += stream->stats().running;
  }
  log_.error("ended by force", {{"reason", std::string(why)}, {"runs_in_flight", running}});
  std::_Exit(exit_code::forced);
}

// ---- threads of the server

std::shared_ptr<Bucket> Running::bucket() const {
  const std::lock_guard lock(mutex_);
  return bucket_;
}

void Running::serve(bool http_optional) {
  const std::size_t colon = config_.http.rfind(':');
  const std::string host = config_.http.substr(0, colon);
  const int port = std::stoi(config_.http.substr(colon + 1));
  const auto handler = [this](const HttpRequest& request) { return answer(request); };
  try {
    server_ = std::make_unique<HttpServer>(host, port, handler);
  } catch (const Error& error) {
    if (!http_optional) throw;
    server_ = std::make_unique<HttpServer>(host, 0, handler);
    log_.info("the usual port for metrics and health is taken, so another one serves them",
              {{"error", error.message()}, {"port", server_->port()}});
  }
  address_ = fmt::format("{}:{}", host, server_->port());
}

std::vector<std::string> Running::not_ready() const {
  if (stopping_) return {"stopping"};
  const std::shared_ptr<Bucket> bucket = this->bucket();
  if (!bucket) return {"connecting to the NATS server"};
  return bucket->not_ready();
}

ServiceFacts Running::facts() const {
  ServiceFacts facts;
  facts.name = name_;
  facts.ns = config_.ns;
  facts.ready = not_ready().empty();
  facts.log_level = log_.level();
  facts.reloads = reloads_;
  facts.reloads_failed = reloads_failed_;
  facts.traces = spans_ != nullptr;
  if (spans_) {
    facts.spans_sent = spans_->sent();
    facts.spans_dropped = spans_->dropped();
  }
  return facts;
}

std::string Running::status() const {
  nlohmann::json status = {
      {"name", name_},     {"namespace", config_.ns}, {"version", engine::version()},
      {"pid", ::getpid()}, {"file", config_.file},    {"stopping", stopping_.load()}};
  if (const std::shared_ptr<Bucket> bucket = this->bucket()) status.update(bucket->describe());
  status["not_ready"] = not_ready();
  return status.dump(2, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
}

/// A page in a browser must not change anything here: it can reach this port only under a name
/// that its server chose, and no such name is taken.
HttpAnswer Running::set_level(const HttpRequest& request) const {
  const bool address = request.host.find_first_not_of("0123456789.") == std::string::npos ||
                       request.host.find(':') != std::string::npos;
  if (!address && request.host != "localhost") return {403, "by address, please\n"};
  std::string wanted = request.body;
  while (!wanted.empty() && static_cast<unsigned char>(wanted.back()) <= ' ') wanted.pop_back();
  for (const Level level : {Level::debug, Level::info, Level::warn, Level::error}) {
    if (wanted != to_string(level)) continue;
    Logger(log_).set_level(level);
    log_.info("the log level was set", {{"log_level", wanted}});
    return {200, wanted + "\n"};
  }
  return {400, "debug, info, warn or error\n"};
}

HttpAnswer Running::answer(const HttpRequest& request) const {
  if (request.path == "/log-level" && request.method == "PUT") return set_level(request);
  if (request.method != "GET" && request.method != "HEAD") return {405, "only GET\n"};
  if (request.path == "/metrics") {
    return {200, scrape(bucket().get(), facts()), "text/plain; version=0.0.4; charset=utf-8"};
  }
  if (request.path == "/livez") {
    const Clock::time_point ticked{Clock::duration(ticked_at_)};
    const std::lock_guard lock(mutex_);
    if (!stuck_.empty()) return {503, stuck_ + "\n"};
    const bool alive = Clock::now() - ticked < limits::service_alive;
    return alive ? HttpAnswer{200, "alive\n"} : HttpAnswer{503, "the main thread is stuck\n"};
  }
  if (request.path == "/readyz") {
    const std::vector<std::string> reasons = not_ready();
    if (reasons.empty()) return {200, "ready\n"};
    return {503, fmt::format("not ready\n- {}\n", fmt::join(reasons, "\n- "))};
  }
  if (request.path == "/statusz") return {200, status(), "application/json"};
  if (request.path == "/log-level") {
    for (const Level level : {Level::debug, Level::info, Level::warn, Level::error}) {
      if (log_.enabled(level)) return {200, std::string(to_string(level)) + "\n"};
    }
  }
  if (request.path == "/") {
    return {200, "/metrics\n/livez\n/readyz\n/statusz\n/log-level (GET, PUT)\n"};
  }
  return {404, "there is /metrics, /livez, /readyz, /statusz, /log-level\n"};
}

}  // namespace dmm::service
