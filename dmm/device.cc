#include "dmm/device.h"

#include <fmt/format.h>

#include <atomic>
#include <charconv>
#include <deque>
#include <map>
#include <mutex>

#include "dmm/downlink/calls.h"
#include "dmm/downlink/notes.h"
#include "dmm/identity.h"
#include "dmm/internal/runtime.h"
#include "dmm/json.h"
#include "dmm/nats/answer.h"
#include "dmm/nats/messenger.h"
#include "dmm/wire.h"
#include "dmm/worker/run_pool.h"

namespace dmm {

namespace {

using std::chrono::steady_clock;
using transport::Note;

/// What arrives for one device, one at a time on the pool.
class Service final : public std::enable_shared_from_this<Service> {
 public:
  using Work = std::function<void(const Note&)>;

  Service(worker::RunPool& pool, Work work) : pool_(pool), work_(std::move(work)) {}

  /// Returns what has to make way because too much waits.
  std::optional<Note> take(Note note) {
    const std::lock_guard lock(mutex_);
    if (ended_) return std::nullopt;
    std::optional<Note> displaced;
    if (waiting_.size() >= limits::commands_waiting_max) {
      displaced = std::move(waiting_.front());
      waiting_.pop_front();
    }
    waiting_.push_back(std::move(note));
    if (!running_) {
      running_ = true;
      pool_.submit([self = shared_from_this()] { self->run(); });
    }
    return displaced;
  }

  /// What waits is dropped; returns when nothing runs.
  void end() {
    std::unique_lock lock(mutex_);
    ended_ = true;
    waiting_.clear();
    lock.unlock();
    pool_.run_here();
    lock.lock();
    changed_.wait(lock, [this] { return !running_; });
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (!waiting_.empty()) {
      const Note note = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      work_(note);
      lock.lock();
    }
    running_ = false;
    changed_.notify_all();
  }

  worker::RunPool& pool_;
  const Work work_;
  std::mutex mutex_;
  internal::Condition changed_;
  std::deque<Note> waiting_;
  bool running_ = false;
  bool ended_ = false;
};

template <class Number>
Number number_in(const Note& note, std::string_view header) {
  Number number = 0;
  if (const auto text = note.header(header)) {
    std::from_chars(text->data(), text->data() + text->size(), number);
  }
  return number;
}

/// A header ends with its line.
std::string one_line(std::string_view text) {
  return printable(text, limits::error_text_bytes_max);
}

}  // namespace

struct DeviceHost::Impl {
  /// What is there for a device and a purpose.
  struct Line {
    std::shared_ptr<Service> service;
    std::unique_ptr<transport::Subscription> subscription;

    void end() {
      subscription.reset();
      if (service) service->end();
    }
  };

  /// What the handler of a shadow was given last.
  struct Known {
    std::uint64_t revision;
    std::string document;
  };

  Impl(std::string_view ns, std::string kind_of_devices, const DeviceHostOptions& options)
      : names(std::string(ns), options.generation),
        kind(std::move(kind_of_devices)),
        log(options.logger.with({{"namespace", std::string(ns)}, {"kind", kind}})),
        pool(options.concurrency) {}
  ~Impl() {
    {
      const std::lock_guard lock(mutex);
      ending = true;
    }
    changed.notify_all();
    reconnects.reset();
    for (auto& [key, line] : lines) line.end();
    calls.reset();
    if (messenger) messenger->close();
  }

  std::shared_ptr<Service> open(std::string_view device, const std::string& purpose,
                                const std::string& subject, Service::Work work);
  Note kept(std::string_view device);
  Note kept_at_last(std::string_view device);
  void take_shadow(const std::string& device, const Note& told, std::optional<Known>& known,
                   const ShadowHandler& handler);
  void look_again();
  void answer(const CommandHandler& handler, const std::string& device, const Note& note);
  void refuse(const Note& note, std::string_view why);
  void reply(const Note& note, std::string payload, transport::Headers headers);
  Note ask(std::string subject, std::string payload, const Code& unanswered);

  const wire::Names names;
  const std::string kind;
  const Logger log;
  std::shared_ptr<transport::Transport> transport;  ///< of the messenger; null with NATS
  std::shared_ptr<transport::Messenger> messenger;
  std::string inbox = "_INBOX." + wire::unique_id();
  std::unique_ptr<downlink::Calls> calls;
  std::shared_ptr<void> reconnects;
  std::atomic<std::uint64_t> number{0};
  std::mutex mutex;  ///< guards lines and ending
  internal::Condition changed;
  bool ending = false;
  std::map<std::pair<std::string, std::string>, Line> lines;  ///< by device and purpose
  worker::RunPool pool;                                       ///< last: its threads end first
};

std::shared_ptr<Service> DeviceHost::Impl::open(std::string_view device, const std::string& purpose,
                                                const std::string& subject, Service::Work work) {
  Line line;
  line.service = std::make_shared<Service>(pool, std::move(work));
  auto service = line.service;
  line.subscription = messenger->subscribe(subject, {}, [this, service](Note note) {
    // The oldest has waited longest, and its caller the least patience left. (Of a shadow, which
    // expects no answer, the newest counts anyway.)
    const std::optional<Note> displaced = service->take(std::move(note));
    if (displaced) refuse(*displaced, "too many commands wait");
  });
  {
    const std::lock_guard lock(mutex);
    std::swap(line, lines[{std::string(device), purpose}]);
  }
  line.end();  // the one before
  return service;
}

/// What is kept for a device, from the stream itself: no worker has to be there. With the revision
/// of what is told; empty if there is nothing.
Note DeviceHost::Impl::kept(std::string_view device) {
  Note answer = ask(fmt::format("$JS.API.DIRECT.GET.{}.{}", names.shadows(1).name,
                                names.shadow_subject(kind, device)),
                    {}, code::timed_out);
  const auto status = answer.header("Status");
  require(!status || *status == "404", code::timed_out, "the shadow could not be read");
  if (const auto sequence = answer.header("Nats-Sequence")) {
    answer.headers = {{std::string(wire::kRevision), std::string(*sequence)}};
  }
  return answer;
}

/// The same, with some patience.
Note DeviceHost::Impl::kept_at_last(std::string_view device) {
  constexpr int kAttempts = 5;
  for (int attempt = 1;; ++attempt) {
    try {
      return kept(device);
    } catch (const Error& error) {
      // A cluster that has just come back may have no leader of the stream yet.
      const bool passing = error.kind() == Kind::retry || error.kind() == Kind::not_found;
      if (!passing || attempt == kAttempts) throw;
    }
    std::unique_lock lock(mutex);
    if (changed.wait_for(lock, limits::retry_delay_max, [this] { return ending; })) {
      throw Error(code::closed, "the host ends");
    }
  }
}

/// known   none: the handler was not called yet.
void DeviceHost::Impl::take_shadow(const std::string& device, const Note& told,
                                   std::optional<Known>& known, const ShadowHandler& handler) {
  try {
    auto revision = number_in<std::uint64_t>(told, wire::kRevision);
    Note note = told;
    if (told.subject.empty() || (known && revision < known->revision)) {
      // Told in another order than stored, or the stream is another one: what is kept counts.
      note = kept_at_last(device);
      revision = number_in<std::uint64_t>(note, wire::kRevision);
    }
    if (known && note.payload == known->document) {
      known->revision = revision;
      return;
    }
    if (note.payload.empty()) {
      handler(std::nullopt);
    } else {
      handler(parse_json(note.payload).value());
    }
    known = Known{revision, note.payload};
  } catch (const std::exception& e) {
    log.warn("a shadow was not taken", {{"device", device}, {"error", e.what()}});
  }
}

/// What was told while the connection was lost nobody has heard. A note without a subject says so.
void DeviceHost::Impl::look_again() {
  const std::lock_guard lock(mutex);
  for (const auto& [key, line] : lines) {
    if (key.second == "shadow" && line.service) line.service->take({});
  }
}

void DeviceHost::Impl::answer(const CommandHandler& handler, const std::string& device,
                              const Note& note) {
  try {
    const nlohmann::json answer = handler(downlink::read_command(device, note));
    check_depth(answer);
    std::string text = dump_json(answer);
    require(text.size() <= limits::payload_bytes_max, code::too_large, "the answer is too large");
    reply(note, std::move(text), {});
  } catch (const Error& error) {
    refuse(note, error.what());
  } catch (const std::exception& error) {
    refuse(note, error.what());
  } catch (...) {
    refuse(note, "the handler threw something that is no std::exception");
  }
}

void DeviceHost::Impl::refuse(const Note& note, std::string_view why) {
  reply(note, {},
        {{std::string(wire::kServiceError), one_line(why.empty() ? "refused" : why)},
         {"Nats-Service-Error-Code", "500"}});
}

void DeviceHost::Impl::reply(const Note& note, std::string payload, transport::Headers headers) {
  if (note.reply.empty()) return;
  try {
    messenger->send({note.reply, {}, std::move(headers), std::move(payload)});
  } catch (const Error& error) {
    log.warn("an answer could not be sent", {{"error", error.what()}});
  }
}

Note DeviceHost::Impl::ask(std::string subject, std::string payload, const Code& unanswered) {
  const Note note{.subject = std::move(subject),
                  .reply = fmt::format("{}.{}", inbox, ++number),
                  .payload = std::move(payload)};
  auto answer = calls->call(note, internal::SteadyClock::now() + limits::request_timeout, {});
  if (!answer) throw Error(unanswered, "no answer on " + note.subject);
  if (answer->unheard) throw Error(code::stream_missing, "nobody answers on " + note.subject);
  return std::move(*answer);
}

DeviceHost::DeviceHost(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DeviceHost::DeviceHost(DeviceHost&&) noexcept = default;
DeviceHost& DeviceHost::operator=(DeviceHost&&) noexcept = default;
DeviceHost::~DeviceHost() = default;

DeviceHost DeviceHost::connect(std::string_view ns, std::string_view kind,
                               DeviceHostOptions options) {
  check_name(kind, "kind");
  require(options.concurrency >= 1 && options.concurrency <= 1'024, code::bad_option,
          "concurrency is not from 1 to 1024");
  auto impl = std::make_unique<Impl>(ns, std::string(kind), options);
  if (options.transport) {
    impl->transport = options.transport;
    impl->messenger = options.transport->messenger();
    require(impl->messenger != nullptr, code::no_downlink, "this transport has no messenger");
  } else {
    options.connection.fill_from(ConnectionOptions::load());
    impl->messenger = nats::make_messenger(options.connection, impl->log);
  }
  impl->calls = std::make_unique<downlink::Calls>(impl->messenger, impl->inbox + ".>");
  impl->reconnects = impl->messenger->on_reconnect([raw = impl.get()] { raw->look_again(); });
  return DeviceHost(std::move(impl));
}

void DeviceHost::serve_commands(std::string_view device, CommandHandler handler) {
  check(Identity{impl_->kind, std::string(device)});
  require(handler != nullptr, code::bad_option, "the handler is empty");
  impl_->open(device, "command", impl_->names.command_subject(impl_->kind, device, ">"),
              [impl = impl_.get(), name = std::string(device), handler = std::move(handler)](
                  const Note& note) { impl->answer(handler, name, note); });
}

void DeviceHost::follow_shadow(std::string_view device, ShadowHandler handler) {
  check(Identity{impl_->kind, std::string(device)});
  require(handler != nullptr, code::bad_option, "the handler is empty");
  Impl* const impl = impl_.get();
  // Called one at a time, so this needs no lock.
  auto known = std::make_shared<std::optional<Impl::Known>>();
  auto take = [impl, known, name = std::string(device), handler = std::move(handler)](
                  const Note& told) { impl->take_shadow(name, told, *known, handler); };
  const auto service = impl->open(device, "shadow", impl->names.desired_subject(impl->kind, device),
                                  std::move(take));
  // What is kept, behind what has been told since; the same after each reconnect.
  service->take(impl->kept(device));
}

std::optional<nlohmann::json> DeviceHost::shadow(std::string_view device) {
  check(Identity{impl_->kind, std::string(device)});
  const Note kept = impl_->kept(device);
  if (kept.payload.empty()) return std::nullopt;
  return parse_json(kept.payload).value();
}

void DeviceHost::report(std::string_view device, const nlohmann::json& state) {
  check(Identity{impl_->kind, std::string(device)});
  check_depth(state);
  std::string text = dump_json(state);
  require(
      text.size() <= limits::payload_bytes_max, code::too_large,
      fmt::format("the report has {} bytes, more than {}", text.size(), limits::payload_bytes_max));
  nats::Incoming ack;
  ack.payload =
      impl_->ask(impl_->names.report_subject(impl_->kind, device), std::move(text), code::in_doubt)
          .payload;
  static_cast<void>(nats::parse_acknowledgement(ack, "publishing a report").value());
}

void DeviceHost::stop(std::string_view device) {
  std::vector<Impl::Line> ended;
  {
    const std::lock_guard lock(impl_->mutex);
    for (const char* purpose : {"command", "shadow"}) {
      const auto found = impl_->lines.find({std::string(device), purpose});
      if (found == impl_->lines.end()) continue;
      ended.push_back(std::move(found->second));
      impl_->lines.erase(found);
    }
  }
  for (Impl::Line& line : ended) line.end();
}

}  // namespace dmm
