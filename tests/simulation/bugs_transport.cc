// The bugs of a transport: what a worker says to the server, and hears of it, is not what it was.

#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <utility>

#include "dmm/error.h"
#include "dmm/json.h"
#include "dmm/transport/messenger.h"
#include "dmm/wire.h"
#include "tests/simulation/bugs.h"

namespace dmm::simulation {

namespace {

using nlohmann::json;
using transport::Completion;
using transport::Message;
using transport::Publication;
using transport::Reader;
using transport::ReaderSink;
using transport::ReadOptions;
using transport::Stream;
using transport::StreamConfig;
using transport::StreamState;

constexpr std::uint64_t kSome = 5;  // one of so many

/// The subjects of the messages that were read. Thread-safe.
class Subjects final {
 public:
  void note(const Message& message) {
    const std::lock_guard lock(mutex_);
    subjects_[message.sequence] = message.subject;
  }
  std::string of(Sequence sequence) const {
    const std::lock_guard lock(mutex_);
    const auto found = subjects_.find(sequence);
    return found == subjects_.end() ? std::string() : found->second;
  }

 private:
  mutable std::mutex mutex_;
  std::map<Sequence, std::string> subjects_;
};

json object_in(const std::string& payload) {
  auto value = parse_json(payload);
  if (!value.ok() || !value.value().is_object()) return json::object();
  return std::move(value).value();
}

bool has_phase(const Message& message, std::string_view phase) {
  return object_in(message.payload).value("phase", "") == phase;
}

/// The token that a status says is parked; 0: it says something else.
Sequence parked_token(const std::string& payload) {
  const json status = object_in(payload);
  if (status.value("phase", "") != "parked") return {};
  return Sequence{status.value("token", std::uint64_t{0})};
}

/// What is failing, and when it is due, in Unix milliseconds. Thread-safe.
class Ailing final {
 public:
  void note(const std::string& subject, const json& status) {
    const std::lock_guard lock(mutex_);
    const bool failing = status.value("phase", "") == "failing";
    due_[subject] = failing ? status.value("next_retry_at", std::int64_t{0}) : 0;
  }
  /// Of one.
  std::int64_t due(const std::string& subject) const {
    const std::lock_guard lock(mutex_);
    const auto found = due_.find(subject);
    return found == due_.end() ? 0 : found->second;
  }
  /// Of all.
  std::int64_t last_due() const {
    const std::lock_guard lock(mutex_);
    std::int64_t last = 0;
    for (const auto& [subject, due] : due_) last = std::max(last, due);
    return last;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::int64_t> due_;
};

/// What becomes of a message that is read. False: it is not given.
using Change = std::function<bool(Message&)>;

/// Passes on what a reader says, but for some of it.
class LossySink final : public ReaderSink {
 public:
  struct Habits {
    Change change = {};
    bool hides_losses = false;
    bool hasty = false;  ///< says that all was given before anything is
  };

  LossySink(ReaderSink& sink, Subjects& subjects, Habits habits)
      : sink_(sink), subjects_(subjects), habits_(std::move(habits)) {}
  void on_message(Message message) noexcept override {
    if (habits_.hasty) say_complete();
    if (habits_.change && !habits_.change(message)) return;
    subjects_.note(message);
    sink_.on_message(std::move(message));
  }
  void on_caught_up() noexcept override {
    if (!said_complete_) sink_.on_caught_up();
  }
  void on_complete() noexcept override {
    if (!said_complete_) sink_.on_complete();
  }
  void on_history_lost(std::string reason) noexcept override {
    if (!habits_.hides_losses) sink_.on_history_lost(std::move(reason));
  }

 private:
  void say_complete() {
    if (std::exchange(said_complete_, true)) return;
    sink_.on_caught_up();
    sink_.on_complete();
  }

  ReaderSink& sink_;
  Subjects& subjects_;
  const Habits habits_;
  bool said_complete_ = false;
};

class DeafSink final : public ReaderSink {
  void on_message(Message) noexcept override {}
  void on_caught_up() noexcept override {}
  void on_history_lost(std::string) noexcept override {}
};

struct LossyReader final : Reader {
  LossyReader(Stream& stream, ReadOptions options, ReaderSink& given, Subjects& subjects,
              LossySink::Habits habits)
      : sink(given, subjects, std::move(habits)), reader(stream.read(std::move(options), sink)) {}
  void grant(std::size_t count) override { reader->grant(count); }

  LossySink sink;
  std::unique_ptr<Reader> reader;
};

/// What the streams of a transport know of each other.
struct Shared {
  std::shared_ptr<Stream> work;
  std::shared_ptr<Stream> reports;
  Ailing ailing;
};

class BuggyStream final : public Stream {
 public:
  BuggyStream(std::shared_ptr<Stream> inner, std::shared_ptr<Shared> shared,
              const StreamConfig& config, Bug bug)
      : inner_(std::move(inner)), shared_(std::move(shared)), bug_(bug) {
    work_ = config.name.ends_with("_WORK");
    cache_ = config.name.starts_with("KV_dmm_") && !config.name.ends_with("_status");
    leases_ = config.name.ends_with("_LEASE");
    status_ = config.name.ends_with("_status");
    desired_ = config.name == "KV_desired";
  }

  void publish(Publication publication, std::chrono::milliseconds deadline,
               Completion<Sequence> done) override {
    const bool of_view = work_ && transport::find_header(publication.headers, wire::kView);
    if (bug_ == Bug::mute) return done(Error(code::timed_out, "nobody hears it"));
    if (bug_ == Bug::unseeded && by_chance()) {
      return done(Error(code::timed_out, "not this time"));
    }
    if (bug_ == Bug::view_silent && of_view && some()) {
      return done(inner_->state().last);
    }
    if (bug_ == Bug::view_chatty && of_view && some()) {
      const Publication again = publication;
      inner_->publish(std::move(publication), deadline,
                      [inner = inner_, again, deadline, done](const Result<Sequence>& result) {
                        if (!result.ok()) return done(result);
                        inner->publish(again, deadline, done);
                      });
      return;
    }
    if (bug_ == Bug::no_lease && leases_) publication.expected_last.reset();
    if (bug_ == Bug::no_fence && cache_) publication.expected_last.reset();
    if (status_) change_status(publication);
    inner_->publish(std::move(publication), deadline, std::move(done));
  }

  void last(std::string subject, Completion<std::optional<Message>> done) override {
    const bool release = status_ && subject.find(".view.release.") != std::string::npos;
    if (bug_ == Bug::remove_freely && release) {
      return inner_->last(std::move(subject), [done](Result<std::optional<Message>> found) {
        if (found.ok() && found.value()) free_removals(*found.value());
        done(std::move(found));
      });
    }
    inner_->last(std::move(subject), std::move(done));
  }

  void erase(Sequence sequence, Completion<bool> done) override {
    const std::string subject = work_ ? subjects_.of(sequence) : std::string();
    if (bug_ == Bug::erase_newest && !subject.empty()) {
      inner_->last(subject, [inner = inner_, done](const Result<std::optional<Message>>& found) {
        if (!found.ok()) return done(found.error());
        if (!found.value()) return done(false);
        inner->erase(found.value()->sequence, done);
      });
      return;
    }
    if (bug_ == Bug::run_twice && !subject.empty() && some()) {
      inner_->erase(sequence, [inner = inner_, subject, done](const Result<bool>& result) {
        if (result.ok()) {
          inner->publish({.subject = subject, .expected_last = Sequence{}}, std::chrono::seconds(1),
                         [](const Result<Sequence>&) {});
        }
        done(result);
      });
      return;
    }
    inner_->erase(sequence, std::move(done));
  }

  std::unique_ptr<Reader> read(ReadOptions options, ReaderSink& sink) override {
    if (bug_ == Bug::leak_readers) leaked_.push_back(inner_->read(options, deaf_));
    if (bug_ == Bug::ignore_losses) options.created.clear();
    LossySink::Habits habits{.change = change_of(options),
                             .hides_losses = bug_ == Bug::ignore_losses,
                             .hasty = bug_ == Bug::half_loaded && desired_ && !options.after};
    if (!work_ && !habits.change && !habits.hides_losses && !habits.hasty) {
      return inner_->read(std::move(options), sink);
    }
    return std::make_unique<LossyReader>(*inner_, std::move(options), sink, subjects_,
                                         std::move(habits));
  }

  StreamState state() override {
    StreamState state = inner_->state();
    if (bug_ == Bug::ignore_losses) {
      state.created = kAlways;
      state.last = furthest_ = std::max(furthest_, state.last);
    }
    return state;
  }
  std::vector<std::string> subjects(std::string_view filter) override {
    if (bug_ == Bug::give_up && leases_ && ++calls_ % kMany == 0) {
      throw Error(code::bad_option, "this should not end a worker");
    }
    return inner_->subjects(filter);
  }
  std::string created() const override {
    return bug_ == Bug::ignore_losses ? kAlways : inner_->created();
  }

 private:
  static constexpr const char* kAlways = "2026-01-01T00:00:00Z";
  static constexpr std::uint64_t kMany = 300;

  bool some() { return ++calls_ % kSome == 0; }
  /// Of the world outside.
  static bool by_chance() { return std::random_device()() % 100 == 0; }

  static void free_removals(Message& message) {
    json release = object_in(message.payload);
    if (!release.contains("view")) return;
    release["view"]["removals_free"] = 1'000'000;
    message.payload = dump_json(release);
  }

  /// What a worker writes down of itself.
  void change_status(Publication& publication) {
    const bool cursor = publication.subject.find("observer.cursor.") != std::string::npos;
    json status = object_in(publication.payload);
    if (bug_ == Bug::cursor_first && cursor) {
      status["sequence"] = shared_->reports->state().last.value;
      publication.payload = dump_json(status);
    }
    if (bug_ == Bug::lose_parked) {
      if (const Sequence token = parked_token(publication.payload)) {
        shared_->work->erase(token, [](const Result<bool>&) {});
      }
    }
    if (bug_ == Bug::forget_crashes && status.contains("crashes")) {
      status["crashes"] = 0;
      publication.payload = dump_json(status);
    }
    if (status.contains("phase")) shared_->ailing.note(key_in(publication.subject), status);
  }

  /// "<type>.<id>" of a status or a token.
  static std::string key_in(const std::string& subject) {
    if (const auto token = wire::split_token(subject)) {
      return std::string(token->type) + '.' + std::string(token->id);
    }
    const std::size_t id = subject.rfind('.');
    const std::size_t type = id == std::string::npos || id == 0 ? id : subject.rfind('.', id - 1);
    return type == std::string::npos ? subject : subject.substr(type + 1);
  }

  /// What becomes of messages that are read; nothing: they are as they were.
  Change change_of(const ReadOptions& options) {
    if (work_) return change_of_work(options);
    if (status_) return change_of_status();
    if (!desired_) return {};
    if (bug_ == Bug::snapshot_gap && options.after) {
      return [next = Sequence{options.after.value + 1}](const Message& message) {
        return message.sequence != next;
      };
    }
    if (bug_ == Bug::round_numbers) {
      return [this](Message& message) {
        if (some()) round_numbers(message);
        return true;
      };
    }
    return {};
  }

  Change change_of_work(const ReadOptions& options) {
    if (bug_ == Bug::drop_news && !options.only_new) {
      return [](const Message& message) { return message.sequence.value % kSome != 0; };
    }
    if (bug_ == Bug::backoff_first || bug_ == Bug::shared_backoff) {
      return [this](Message& message) {
        const std::string key = key_in(message.subject);
        const std::int64_t own = shared_->ailing.due(key);
        const std::int64_t due = bug_ == Bug::backoff_first ? own : shared_->ailing.last_due();
        if (due > 0) message.headers.emplace_back(wire::kNotBefore, std::to_string(due));
        return true;
      };
    }
    return {};
  }

  Change change_of_status() const {
    const auto speaks_of = [](std::string_view what) {
      return [what](const Message& message) {
        return message.subject.find(what) == std::string::npos;
      };
    };
    switch (bug_) {
      case Bug::forget_parked:
        return [](const Message& message) { return !has_phase(message, "parked"); };
      case Bug::forget_attempts:
        return [](const Message& message) { return !has_phase(message, "failing"); };
      case Bug::hasty:
        return [](Message& message) {
          json status = object_in(message.payload);
          if (status.value("phase", "") == "failing") {
            status["next_retry_at"] = 0;
            message.payload = dump_json(status);
          }
          return true;
        };
      case Bug::ignore_pauses:
        return speaks_of(".work.pause.");
      case Bug::ignore_policies:
        return speaks_of(".work.policy.");
      default:
        return {};
    }
  }

  static void round_numbers(Message& message) {
    json document = object_in(message.payload);
    if (!document.contains("levels")) return;
    for (json& level : document["levels"]) {
      level = static_cast<double>(static_cast<float>(level.get<double>()));
    }
    message.payload = dump_json(document);
  }

  const std::shared_ptr<Stream> inner_;
  const std::shared_ptr<Shared> shared_;
  const Bug bug_;
  bool work_ = false;
  bool status_ = false;
  bool desired_ = false;
  bool cache_ = false;
  bool leases_ = false;
  std::uint64_t calls_ = 0;
  Sequence furthest_;
  Subjects subjects_;
  DeafSink deaf_;
  std::vector<std::unique_ptr<Reader>> leaked_;
};

class BuggyTransport final : public transport::Transport {
 public:
  BuggyTransport(std::shared_ptr<transport::Transport> inner, Bug bug)
      : inner_(std::move(inner)), bug_(bug) {}

  std::shared_ptr<Stream> open(const StreamConfig& config, bool create) override {
    auto stream = inner_->open(config, create);
    if (config.name.ends_with("_WORK")) shared_->work = stream;
    if (config.name.ends_with("_REPORTS")) shared_->reports = stream;
    return std::make_shared<BuggyStream>(std::move(stream), shared_, config, bug_);
  }
  bool remove(std::string_view stream_name) override { return inner_->remove(stream_name); }
  std::shared_ptr<transport::Messenger> messenger() override { return inner_->messenger(); }
  transport::ServerFacts facts() override { return inner_->facts(); }
  bool connected() const override { return inner_->connected(); }
  std::uint64_t reconnects() const override { return inner_->reconnects(); }
  void close() override { inner_->close(); }

 private:
  const std::shared_ptr<transport::Transport> inner_;
  const Bug bug_;
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

}  // namespace

std::shared_ptr<transport::Transport> with_bug(std::shared_ptr<transport::Transport> inner,
                                               Bug bug) {
  if (bug == Bug::none || bug == Bug::mute) return inner;
  return std::make_shared<BuggyTransport>(std::move(inner), bug);
}

std::shared_ptr<transport::Transport> with_bug_of_users(std::shared_ptr<transport::Transport> inner,
                                                        Bug bug) {
  if (bug != Bug::mute) return inner;
  return std::make_shared<BuggyTransport>(std::move(inner), bug);
}

}  // namespace dmm::simulation
