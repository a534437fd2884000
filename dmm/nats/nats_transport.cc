#include "dmm/nats/nats_transport.h"

#include <fmt/format.h>

#include <atomic>
#include <charconv>
#include <mutex>

#include "dmm/limits.h"
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

StreamState parse_state(const nlohmann::json& info) {
  StreamState state;
  state.name = info.value("/config/name"_json_pointer, "");
  state.created = info.value("created", "");
  state.first = Sequence{info.value("/state/first_seq"_json_pointer, std::uint64_t{0})};
  state.last = Sequence{info.value("/state/last_seq"_json_pointer, std::uint64_t{0})};
  state.messages = info.value("/state/messages"_json_pointer, std::uint64_t{0});
  state.bytes = info.value("/state/bytes"_json_pointer, std::uint64_t{0});
  state.consumers = info.value("/state/consumer_count"_json_pointer, std::uint64_t{0});
  state.replicas = info.value("/config/num_replicas"_json_pointer, 1);
  return state;
}

/// The sequence in the acknowledgement of a publish, without parsing all of it.
std::optional<Sequence> acknowledged(std::string_view answer) {
  constexpr std::string_view kField = "\"seq\":";
  const std::size_t at = answer.find(kField);
  if (at == std::string_view::npos || answer.find("\"error\"") != std::string_view::npos) {
    return std::nullopt;
  }
  std::string_view digits = answer.substr(at + kField.size());
  while (!digits.empty() && digits.front() == ' ') digits.remove_prefix(1);
  Sequence sequence;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), sequence.value);
  if (error != std::errc()) return std::nullopt;
  return sequence;
}

/// A stored message as the direct-get answer gives it.
Message from_direct_answer(Incoming answer) {
  Message message;
  for (auto& [name, value] : answer.headers) {
    if (name == "Nats-Subject") {
      message.subject = std::move(value);
    } else if (name == "Nats-Sequence") {
      std::from_chars(value.data(), value.data() + value.size(), message.sequence.value);
    } else if (name == "Nats-Time-Stamp") {
      message.stored_at = parse_time(value);
    } else if (name != "Nats-Stream" && name != "Nats-Last-Sequence") {
      message.headers.emplace_back(std::move(name), std::move(value));
    }
  }
  message.payload = std::move(answer.payload);
  return message;
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
        limits::request_timeout, [done = std::move(done), subject](Result<Incoming> answer) {
          if (!answer.ok()) return done(answer.error().with_context("reading " + subject));
          if (answer.value().status == 404) return done(std::optional<Message>());
          if (answer.value().status != 0) {
            return done(Error(code::timed_out,
                              fmt::format("reading {}: {} {}", subject, answer.value().status,
                                          answer.value().description)));
          }
          done(std::optional<Message>(from_direct_answer(std::move(answer).value())));
        });
  }

  void erase(Sequence sequence, Completion<bool> done) override {
    connection_->request(
        Channel::bulk, "$JS.API.STREAM.MSG.DELETE." + config_.name, {},
        fmt::format(R"({{"seq":{},"no_erase":true}})", sequence.value), limits::request_timeout,
        [done = std::move(done), sequence](Result<Incoming> answer) {
          if (!answer.ok()) return done(answer.error().with_context("deleting a message"));
          const std::string& text = answer.value().payload;
          if (text.find("\"success\":true") != std::string::npos) return done(true);
          const int number = api_error_code(text);
          if (number == js::kSequenceNotFound || number == js::kMessageDeleteFailed ||
              number == js::kNoMessage) {
            return done(false);
          }
          const std::string what = fmt::format("deleting message {}", sequence.value);
          if (auto error = api_error(text, what)) return done(*error);
          done(Error(code::timed_out, what + ": nobody answers for the stream"));
        });
  }

  std::unique_ptr<transport::Reader> read(transport::ReadOptions options,
                                          transport::ReaderSink& sink) override {
    return make_reader({connection_, config_.name,
                        [weak = weak_from_this()] {
                          if (const auto self = weak.lock()) self->recreate();
                        },
                        log_},
                       std::move(options), sink);
  }

  StreamState state() override {
    const std::string what = "reading the state of stream " + config_.name;
    StreamState state = parse_state(parse_info(
        connection_->request("$JS.API.STREAM.INFO." + config_.name, "", limits::request_timeout),
        what));
    set_created(state.created);
    return state;
  }

  std::vector<std::string> subjects(std::string_view filter) override {
    const nlohmann::json info =
        parse_info(connection_->request("$JS.API.STREAM.INFO." + config_.name,
                                        nlohmann::json{{"subjects_filter", filter}}.dump(),
                                        limits::request_timeout),
                   "listing the subjects of stream " + config_.name);
    set_created(info.value("created", ""));
    std::vector<std::string> names;
    const auto found = info.find("state");
    if (found == info.end() || !found->contains("subjects")) return names;
    for (const auto& [subject, count] : (*found)["subjects"].items()) names.push_back(subject);
    return names;
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
  const Logger& log() const noexcept { return log_; }

 private:
  /// As parse_answer; a stream that was there and is gone is created again, if that is allowed.
  nlohmann::json parse_info(const Result<Incoming>& answer, std::string_view what) {
    try {
      return parse_answer(answer, what);
    } catch (const Error& error) {
      if (opened_ && &error.code() == &code::stream_missing) recreate();
      throw;
    }
  }

  void create() {
    const auto answer =
        connection_->request("$JS.API.STREAM.CREATE." + config_.name,
                             stream_request(config_).dump(), 3 * limits::request_timeout);
    const nlohmann::json info = parse_answer(answer, "creating stream " + config_.name);
    set_created(info.value("created", ""));
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

  void last_from_leader(const std::string& subject, Completion<std::optional<Message>> done) {
    connection_->request(
        Channel::urgent, "$JS.API.STREAM.MSG.GET." + config_.name, {},
        nlohmann::json{{"last_by_subj", subject}}.dump(), limits::request_timeout,
        [done = std::move(done), subject](const Result<Incoming>& answer) {
          try {
            if (answer.ok() && api_error_code(answer.value().payload) == js::kNoMessage) {
              return done(std::optional<Message>());
            }
            const nlohmann::json stored = parse_answer(answer, "reading " + subject).at("message");
            Message message;
            message.subject = stored.value("subject", subject);
            message.sequence = Sequence{stored.value("seq", std::uint64_t{0})};
            message.headers = parse_header_block(decode_base64(stored.value("hdrs", "")));
            message.payload = decode_base64(stored.value("data", ""));
            message.stored_at = parse_time(stored.value("time", ""));
            done(std::optional<Message>(std::move(message)));
          } catch (const Error& error) {
            done(error);
          } catch (const std::exception& e) {
            done(Error(code::bad_answer, fmt::format("reading {}: {}", subject, e.what())));
          }
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
  const Incoming& message = answer.value();
  if (message.status == 503) {
    return try_again(
        Error(code::stream_missing, fmt::format("no stream takes {}", publication_.subject)));
  }
  if (const auto sequence = acknowledged(message.payload)) return done_(*sequence);
  auto error = api_error(message.payload, "publishing " + publication_.subject);
  if (!error) {
    return done_(Error(
        code::bad_answer,
        fmt::format("publishing {}: the answer is no acknowledgement", publication_.subject)));
  }
  if (error->kind() == Kind::conflict && sent_before_) return check_whether_ours(*error);
  if (error->kind() == Kind::retry) return try_again(*error);
  done_(*error);
}

void PublishOperation::try_again(Error error) {
  if (steady_clock::now() + delay_ >= deadline_) {
    if (sent_before_) {
      return done_(Error(code::in_doubt,
                         fmt::format("publishing {}: {}", publication_.subject, error.message())));
    }
    return done_(error.with_context("publishing " + publication_.subject));
  }
  if (!stream_->connection().call_later(delay_, [self = shared_from_this()] { self->attempt(); })) {
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
    account_info();
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
      parse_answer(answer, fmt::format("removing stream {}", stream_name));
    } catch (const Error& error) {
      if (&error.code() == &code::stream_missing) return false;
      throw;
    }
    return true;
  }

  transport::ServerFacts facts() override {
    transport::ServerFacts facts;
    facts.url = connection_->url();
    const nlohmann::json info = ask_server_info(facts.url);
    if (info.is_object()) {
      facts.version = info.value("version", "");
      facts.cluster = info.value("cluster", "");
      facts.name = info.value("server_name", connection_->server_id());
    }
    facts.payload_bytes_max = connection_->payload_bytes_max();
    facts.round_trip = connection_->round_trip();
    const nlohmann::json account = account_info();
    facts.jetstream = true;
    facts.memory_bytes_max = account.value("/limits/max_memory"_json_pointer, std::int64_t{-1});
    facts.storage_bytes_max = account.value("/limits/max_storage"_json_pointer, std::int64_t{-1});
    facts.storage_bytes = account.value("storage", std::uint64_t{0});
    facts.streams = account.value("streams", std::uint64_t{0});
    facts.consumers = account.value("consumers", std::uint64_t{0});
    return facts;
  }

  bool connected() const override { return connection_->connected(); }
  std::uint64_t reconnects() const override { return connection_->reconnects(); }
  std::shared_ptr<transport::Messenger> messenger() override { return messenger_; }
  void close() override {
    messenger_->close();
    connection_->close();
  }

 private:
  nlohmann::json account_info() {
    return parse_answer(connection_->request("$JS.API.INFO", "", limits::request_timeout),
                        "asking for JetStream");
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
