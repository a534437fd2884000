#include "dmm/nats/nats_transport.h"

#include <fmt/format.h>

#include <atomic>
#include <mutex>

#include "dmm/internal/runtime.h"
#include "dmm/limits.h"
#include "dmm/nats/answer.h"
#include "dmm/nats/connection.h"
#include "dmm/nats/messenger.h"
#include "dmm/nats/reader.h"
#include "dmm/nats/server_info.h"
#include "dmm/wire.h"

namespace dmm::nats {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using transport::Completion;
using transport::Message;
using transport::Publication;
using transport::StreamConfig;
using transport::StreamState;

nlohmann::json stream_request(const StreamConfig& config) {
  using nanoseconds = std::chrono::nanoseconds;
  nlohmann::json request{{"name", config.name},
                         {"subjects", config.subjects},
                         {"description", config.description},
                         {"retention", "limits"},
                         {"storage", "file"},
                         {"max_msgs_per_subject", 1},
                         {"max_msgs", config.messages_max > 0 ? config.messages_max : -1},
                         {"max_bytes", -1},
                         {"max_age", nanoseconds(config.age).count()},
                         {"max_consumers", -1},
                         {"max_msg_size", -1},
                         {"num_replicas", config.replicas},
                         {"discard", config.key_value ? "new" : "old"},
                         {"allow_direct", true},
                         {"duplicate_window", nanoseconds(limits::dedupe_window).count()}};
  // What NATS clients look for in a bucket. Deleting stays allowed: markers of forgotten keys go.
  if (config.key_value) request["allow_rollup_hdrs"] = true;
  return request;
}

class NatsStream;

/// A publish under way: tried again under one message id until it is answered.
class PublishOperation : public std::enable_shared_from_this<PublishOperation> {
 public:
  PublishOperation(std::shared_ptr<NatsStream> stream, Publication publication,
                   milliseconds deadline, Completion<Sequence> done);
  void attempt();

 private:
  void on_answer(Result<Incoming> answer);
  void try_again(Error error);
  /// A conflict after a repeat may be our own first attempt, whose answer was lost.
  void check_whether_ours(Error conflict);

  const std::shared_ptr<NatsStream> stream_;
  const Publication publication_;
  const steady_clock::time_point deadline_;
  const Completion<Sequence> done_;
  std::string message_id_;
  transport::Headers headers_;
  milliseconds delay_ = limits::retry_delay_first;
  bool sent_before_ = false;
};

class NatsStream final : public transport::Stream, public std::enable_shared_from_this<NatsStream> {
 public:
  NatsStream(std::shared_ptr<Connection> connection, StreamConfig config, bool may_create,
             Logger log)
      : connection_(std::move(connection)),
        config_(std::move(config)),
        may_create_(may_create),
        log_(std::move(log)) {}

  void publish(Publication publication, milliseconds deadline, Completion<Sequence> done) override {
    const std::size_t bytes_max =
        std::min(limits::payload_bytes_max, connection_->payload_bytes_max());
    if (publication.payload.size() > bytes_max) {
      return done(Error(code::too_large,
                        fmt::format("the value for {} has {} bytes, more than {}",
                                    publication.subject, publication.payload.size(), bytes_max)));
    }
    std::make_shared<PublishOperation>(shared_from_this(), std::move(publication), deadline,
                                       std::move(done))
        ->attempt();
  }

  void last(std::string subject, Completion<std::optional<Message>> done) override {
    // A direct get may be answered by any replica, so on a cluster the leader is asked instead.
    if (config_.replicas > 1) return last_from_leader(subject, std::move(done));
    connection_->request(
        Channel::urgent, fmt::format("$JS.API.DIRECT.GET.{}.{}", config_.name, subject), {}, "",
        limits::request_timeout,
        [self = shared_from_this(), done = std::move(done), subject](Result<Incoming> answer) {
          done(self->noted(parse_direct(std::move(answer), subject)));
        });
  }

  void erase(Sequence sequence, Completion<bool> done) override {
    if (config_.replicas == 1) return erase_now(sequence, std::move(done));
    // All replicas of nats-server 2.9.10 give up their state of the stream when they are told to
    // delete what lies behind its end; and a sequence that was read before the stream went back
    // may lie there.
    connection_->request(Channel::bulk, "$JS.API.STREAM.MSG.GET." + config_.name, {},
                         fmt::format(R"({{"seq":{}}})", sequence.value), limits::request_timeout,
                         [self = shared_from_this(), done = std::move(done),
                          sequence](const Result<Incoming>& answer) mutable {
                           const auto found = self->noted(parse_stored(
                               answer, fmt::format("looking for message {}", sequence.value)));
                           if (!found.ok()) return done(found.error());
                           if (!found.value()) return done(false);
                           self->erase_now(sequence, std::move(done));
                         });
  }

  std::unique_ptr<transport::Reader> read(transport::ReadOptions options,
                                          transport::ReaderSink& sink) override {
    return make_reader({connection_, config_.name, config_.replicas > 1,
                        [weak = weak_from_this()] {
                          if (const auto self = weak.lock()) self->recreate();
                        },
                        log_},
                       std::move(options), sink);
  }

  StreamState state() override {
    StreamState state = known(parse_stream_info(
        connection_->request("$JS.API.STREAM.INFO." + config_.name, "", limits::request_timeout),
        "reading the state of stream " + config_.name));
    set_created(state.created);
    return state;
  }

  std::vector<std::string> subjects(std::string_view filter) override {
    StreamSubjects found = known(
        parse_subjects(connection_->request("$JS.API.STREAM.INFO." + config_.name,
                                            nlohmann::json{{"subjects_filter", filter}}.dump(),
                                            limits::request_timeout),
                       "listing the subjects of stream " + config_.name));
    set_created(std::move(found.created));
    return std::move(found.subjects);
  }

  std::string created() const override {
    const std::lock_guard lock(mutex_);
    return created_;
  }

  /// Opens or creates; see Transport::open.
  void open() {
    try {
      const StreamState found = state();
      config_.replicas = found.replicas;
    } catch (const Error& error) {
      if (&error.code() != &code::stream_missing || !may_create_) throw;
      create();
    }
    opened_ = true;
  }

  void set_created(std::string created) {
    const std::lock_guard lock(mutex_);
    created_ = std::move(created);
  }

  Connection& connection() noexcept { return *connection_; }

  /// `result`, after an answer without sense was noted.
  template <class T>
  Result<T> noted(Result<T> result) {
    if (!result.ok()) connection_->note(result.error());
    return result;
  }

 private:
  /// The value, or throws its error; a stream that was there and is gone is created again, if that
  /// is allowed.
  template <class T>
  T known(Result<T> result) {
    if (opened_ && !result.ok() && &result.error().code() == &code::stream_missing) recreate();
    return noted(std::move(result)).value();
  }

  void create() {
    const auto answer =
        connection_->request("$JS.API.STREAM.CREATE." + config_.name,
                             stream_request(config_).dump(), 3 * limits::request_timeout);
    set_created(
        noted(parse_stream_info(answer, "creating stream " + config_.name)).value().created);
  }

  /// The stream was lost while it was in use. On a cluster a name must not be used twice: its
  /// replicas may diverge (nats-server 2.9), so there only `dmm init --generation` helps.
  void recreate() {
    if (!may_create_ || config_.replicas > 1) {
      log_.error("a stream is gone",
                 {{"stream", config_.name},
                  {"remedy", "dmm init, with the next --generation on a cluster"}});
      return;
    }
    if (recreating_.exchange(true)) return;
    log_.error("a stream is gone and is created again, empty", {{"stream", config_.name}});
    // A server that is still deleting the files of the old one would break the new one (seen with
    // nats-server 2.9.10).
    connection_->call_later(limits::recreate_delay, [weak = weak_from_this()] {
      const auto self = weak.lock();
      if (!self) return;
      self->recreating_ = false;
      self->connection_->request(Channel::bulk, "$JS.API.STREAM.CREATE." + self->config_.name, {},
                                 stream_request(self->config_).dump(), limits::request_timeout,
                                 [](const Result<Incoming>&) {});
    });
  }

  void erase_now(Sequence sequence, Completion<bool> done) {
    connection_->request(
        Channel::bulk, "$JS.API.STREAM.MSG.DELETE." + config_.name, {},
        fmt::format(R"({{"seq":{},"no_erase":true}})", sequence.value), limits::request_timeout,
        [self = shared_from_this(), done = std::move(done), sequence](
            const Result<Incoming>& answer) { done(self->noted(parse_erased(answer, sequence))); });
  }

  void last_from_leader(const std::string& subject, Completion<std::optional<Message>> done) {
    connection_->request(Channel::urgent, "$JS.API.STREAM.MSG.GET." + config_.name, {},
                         nlohmann::json{{"last_by_subj", subject}}.dump(), limits::request_timeout,
                         [self = shared_from_this(), done = std::move(done),
                          subject](const Result<Incoming>& answer) {
                           done(self->noted(parse_stored(answer, "reading " + subject)));
                         });
  }

  const std::shared_ptr<Connection> connection_;
  StreamConfig config_;
  const bool may_create_;
  std::atomic<bool> opened_{false};
  std::atomic<bool> recreating_{false};
  const Logger log_;
  mutable std::mutex mutex_;
  std::string created_;
};

PublishOperation::PublishOperation(std::shared_ptr<NatsStream> stream, Publication publication,
                                   milliseconds deadline, Completion<Sequence> done)
    : stream_(std::move(stream)),
      publication_(std::move(publication)),
      deadline_(steady_clock::now() + deadline),
      done_(std::move(done)),
      message_id_(wire::unique_id()),
      headers_(publication_.headers) {
  headers_.emplace_back("Nats-Msg-Id", message_id_);
  if (publication_.expected_last) {
    headers_.emplace_back("Nats-Expected-Last-Subject-Sequence",
                          fmt::format("{}", publication_.expected_last->value));
  }
}

void PublishOperation::attempt() {
  stream_->connection().request(
      publication_.urgent ? Channel::urgent : Channel::bulk, publication_.subject, headers_,
      publication_.payload, limits::request_timeout,
      [self = shared_from_this()](Result<Incoming> answer) { self->on_answer(std::move(answer)); });
}

void PublishOperation::on_answer(Result<Incoming> answer) {
  if (!answer.ok()) {
    // Refused for what it is: again would not help.
    if (answer.error().kind() == Kind::invalid || answer.error().kind() == Kind::cancelled) {
      return done_(answer.error());
    }
    if (&answer.error().code() == &code::timed_out) sent_before_ = true;
    return try_again(answer.error());
  }
  if (const auto sequence = find_acknowledged(answer.value().payload)) return done_(*sequence);
  const auto stored =
      stream_->noted(parse_acknowledgement(answer.value(), "publishing " + publication_.subject));
  if (stored.ok()) return done_(stored.value());
  const Error& error = stored.error();
  if (error.kind() == Kind::conflict && sent_before_) return check_whether_ours(error);
  if (&error.code() == &code::bad_answer) {
    sent_before_ = true;  // the message may be stored
    return try_again(error);
  }
  if (error.kind() == Kind::retry || &error.code() == &code::stream_missing) {
    return try_again(error);
  }
  done_(error);
}

void PublishOperation::try_again(Error error) {
  // Without a connection nothing is sent, so asking often burdens no server; and a beat that backed
  // off could cost a lease that the cut alone had left.
  if (publication_.urgent && &error.code() == &code::unreachable) {
    delay_ = limits::retry_delay_first;
  }
  if (steady_clock::now() + delay_ >= deadline_) {
    if (sent_before_) {
      return done_(Error(code::in_doubt,
                         fmt::format("publishing {}: {}", publication_.subject, error.message())));
    }
    return done_(error.with_context("publishing " + publication_.subject));
  }
  const auto once_more = [self = shared_from_this(), error] {
    // A process that stood still meanwhile does not send what is too late.
    if (steady_clock::now() >= self->deadline_) return self->try_again(error);
    self->attempt();
  };
  if (!stream_->connection().call_later(delay_, once_more)) {
    return done_(Error(code::closed, "the connection was closed while publishing"));
  }
  delay_ = std::min<milliseconds>(delay_ * 2, limits::retry_delay_max);
}

void PublishOperation::check_whether_ours(Error conflict) {
  stream_->last(publication_.subject, [self = shared_from_this(), conflict = std::move(conflict)](
                                          const Result<std::optional<Message>>& found) {
    if (!found.ok()) {
      return self->done_(Error(
          code::in_doubt,
          fmt::format("publishing {}: {}", self->publication_.subject, found.error().message())));
    }
    const std::optional<Message>& message = found.value();
    if (message && message->header("Nats-Msg-Id") == self->message_id_) {
      return self->done_(message->sequence);
    }
    self->done_(conflict);
  });
}

class NatsTransport final : public transport::Transport {
 public:
  NatsTransport(const ConnectionOptions& options, Logger log)
      : log_(log),
        messenger_(make_messenger(options, log)),
        connection_(std::make_shared<Connection>(options, std::move(log))) {
    // Fails early and clearly where there is no JetStream.
    ask_account({});
  }

  ~NatsTransport() override { NatsTransport::close(); }

  std::shared_ptr<transport::Stream> open(const StreamConfig& config, bool create) override {
    auto stream = std::make_shared<NatsStream>(connection_, config, create, log_);
    stream->open();
    return stream;
  }

  bool remove(std::string_view stream_name) override {
    const auto answer = connection_->request(fmt::format("$JS.API.STREAM.DELETE.{}", stream_name),
                                             "", 3 * limits::request_timeout);
    try {
      static_cast<void>(
          parse_answer(answer, fmt::format("removing stream {}", stream_name)).value());
    } catch (const Error& error) {
      if (&error.code() == &code::stream_missing) return false;
      throw;
    }
    return true;
  }

  transport::ServerFacts facts() override {
    transport::ServerFacts facts;
    facts.url = connection_->url();
    facts.name = connection_->server_id();
    read_server_info(ask_server_info(facts.url), facts);
    facts.payload_bytes_max = connection_->payload_bytes_max();
    facts.round_trip = connection_->round_trip();
    return ask_account(std::move(facts));
  }

  std::vector<transport::ConsumerState> consumers(std::string_view stream_name) override {
    const auto answer = connection_->request(fmt::format("$JS.API.CONSUMER.LIST.{}", stream_name),
                                             "", limits::request_timeout);
    return parse_consumers(answer, fmt::format("listing the readers of {}", stream_name)).value();
  }

  /// A consumer that is made says when: no other answer of old servers holds their time. It reads
  /// nothing, and the server forgets it after a second: who only looks may not delete any.
  std::optional<milliseconds> clock_ahead(std::string_view stream_name) override {
    const nlohmann::json request{
        {"stream_name", stream_name},
        {"config",
         {{"deliver_policy", "new"},
          {"ack_policy", "none"},
          {"replay_policy", "instant"},
          {"mem_storage", true},
          {"num_replicas", 1},
          {"inactive_threshold", std::chrono::nanoseconds(std::chrono::seconds(1)).count()}}}};
    const auto asked = internal::SystemClock::now();
    const auto answer = connection_->request(fmt::format("$JS.API.CONSUMER.CREATE.{}", stream_name),
                                             request.dump(), limits::request_timeout);
    const auto answered = internal::SystemClock::now();
    const ConsumerInfo made = parse_consumer_info(answer, "asking for the server's clock").value();
    return std::chrono::duration_cast<milliseconds>(made.created -
                                                    (asked + (answered - asked) / 2));
  }

  bool connected() const override { return connection_->connected(); }
  std::string trouble() const override { return connection_->trouble(); }
  std::uint64_t reconnects() const override { return connection_->reconnects(); }
  std::shared_ptr<transport::Messenger> messenger() override { return messenger_; }
  void close() override {
    messenger_->close();
    connection_->close();
  }

 private:
  transport::ServerFacts ask_account(transport::ServerFacts facts) {
    return parse_account(connection_->request("$JS.API.INFO", "", limits::request_timeout),
                         std::move(facts), "asking for JetStream")
        .value();
  }

  const Logger log_;
  const std::shared_ptr<transport::Messenger> messenger_;  ///< connects when it is first used
  const std::shared_ptr<Connection> connection_;
};

}  // namespace

std::shared_ptr<transport::Transport> connect(const ConnectionOptions& options, Logger log) {
  return std::make_shared<NatsTransport>(options, std::move(log));
}

}  // namespace dmm::nats
