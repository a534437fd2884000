#include "tests/simulation/bugs.h"

#include <array>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "dmm/json.h"
#include "dmm/transport/messenger.h"
#include "dmm/wire.h"

namespace dmm::simulation {

namespace {

using transport::Completion;
using transport::Message;
using transport::Publication;
using transport::Reader;
using transport::ReaderSink;
using transport::ReadOptions;
using transport::Stream;
using transport::StreamConfig;
using transport::StreamState;

struct Known {
  Bug bug;
  std::string_view name;
  std::string_view promise;
};
constexpr std::array kKnown = {
    Known{Bug::drop_news, "drop-news", "lost"},
    Known{Bug::erase_newest, "erase-newest", "lost"},
    Known{Bug::no_lease, "no-lease", "overlap"},
    Known{Bug::no_fence, "no-fence", "stale"},
    Known{Bug::run_twice, "run-twice", "coalescing"},
    Known{Bug::cursor_first, "cursor-first", "cursor"},
    Known{Bug::view_silent, "view-silent", "lost"},
    Known{Bug::view_chatty, "view-chatty", "exactness"},
    Known{Bug::leak_readers, "leak-readers", "bounded"},
    Known{Bug::forget_parked, "forget-parked", "parked"},
    Known{Bug::lose_parked, "lose-parked", "lost"},
    Known{Bug::ignore_pauses, "ignore-pauses", "paused"},
    Known{Bug::ignore_policies, "ignore-policies", "pace"},
    Known{Bug::snapshot_gap, "snapshot-gap", "lost"},
};

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

/// The token that a status says is parked; 0: it says something else.
Sequence parked_token(const std::string& payload) {
  const auto status = parse_json(payload);
  if (!status.ok() || !status.value().is_object()) return {};
  if (status.value().value("phase", "") != "parked") return {};
  return Sequence{status.value().value("token", std::uint64_t{0})};
}

/// Passes on what a reader says, but for some of it.
class LossySink final : public ReaderSink {
 public:
  using Drops = std::function<bool(const Message&)>;

  LossySink(ReaderSink& sink, Subjects& subjects, Drops drops)
      : sink_(sink), subjects_(subjects), drops_(std::move(drops)) {}
  void on_message(Message message) noexcept override {
    if (drops_ && drops_(message)) return;
    subjects_.note(message);
    sink_.on_message(std::move(message));
  }
  void on_caught_up() noexcept override { sink_.on_caught_up(); }
  void on_complete() noexcept override { sink_.on_complete(); }
  void on_history_lost(std::string reason) noexcept override {
    sink_.on_history_lost(std::move(reason));
  }

 private:
  ReaderSink& sink_;
  Subjects& subjects_;
  const Drops drops_;
};

class DeafSink final : public ReaderSink {
  void on_message(Message) noexcept override {}
  void on_caught_up() noexcept override {}
  void on_history_lost(std::string) noexcept override {}
};

struct LossyReader final : Reader {
  LossyReader(Stream& stream, ReadOptions options, ReaderSink& given, Subjects& subjects,
              LossySink::Drops drops)
      : sink(given, subjects, std::move(drops)), reader(stream.read(std::move(options), sink)) {}
  void grant(std::size_t count) override { reader->grant(count); }

  LossySink sink;
  std::unique_ptr<Reader> reader;
};

class BuggyStream final : public Stream {
 public:
  BuggyStream(std::shared_ptr<Stream> inner, std::shared_ptr<Stream> work,
              std::shared_ptr<Stream> reports, const StreamConfig& config, Bug bug)
      : inner_(std::move(inner)),
        work_stream_(std::move(work)),
        reports_(std::move(reports)),
        bug_(bug) {
    work_ = config.name.ends_with("_WORK");
    cache_ = config.name.starts_with("KV_dmm_") && !config.name.ends_with("_status");
    leases_ = config.name.ends_with("_LEASE");
    status_ = config.name.ends_with("_status");
    desired_ = config.name == "KV_desired";
  }

  void publish(Publication publication, std::chrono::milliseconds deadline,
               Completion<Sequence> done) override {
    const bool of_view = work_ && transport::find_header(publication.headers, wire::kView);
    if (bug_ == Bug::no_lease && leases_) publication.expected_last.reset();
    if (bug_ == Bug::no_fence && cache_) publication.expected_last.reset();
    if (bug_ == Bug::cursor_first &&
        publication.subject.find("observer.cursor.") != std::string::npos) {
      nlohmann::json cursor = parse_json(publication.payload).value();
      cursor["sequence"] = reports_->state().last.value;
      publication.payload = dump_json(cursor);
    }
    if (bug_ == Bug::lose_parked && status_) {
      if (const Sequence token = parked_token(publication.payload)) {
        work_stream_->erase(token, [](const Result<bool>&) {});
      }
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
    inner_->publish(std::move(publication), deadline, std::move(done));
  }

  void last(std::string subject, Completion<std::optional<Message>> done) override {
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
    auto drops = dropped_by(options);
    if (!work_ && !drops) return inner_->read(std::move(options), sink);
    return std::make_unique<LossyReader>(*inner_, std::move(options), sink, subjects_,
                                         std::move(drops));
  }

  StreamState state() override { return inner_->state(); }
  std::vector<std::string> subjects(std::string_view filter) override {
    return inner_->subjects(filter);
  }
  std::string created() const override { return inner_->created(); }

 private:
  bool some() { return ++calls_ % kSome == 0; }

  /// What a reader is not given; nothing: it is given all.
  LossySink::Drops dropped_by(const ReadOptions& options) const {
    const auto speaks_of = [](std::string_view what) {
      return [what](const Message& message) {
        return message.subject.find(what) != std::string::npos;
      };
    };
    if (bug_ == Bug::drop_news && work_ && !options.only_new) {
      return [](const Message& message) { return message.sequence.value % kSome == 0; };
    }
    if (bug_ == Bug::forget_parked && status_) {
      return [](const Message& message) { return bool(parked_token(message.payload)); };
    }
    if (bug_ == Bug::ignore_pauses && status_) return speaks_of(".work.pause.");
    if (bug_ == Bug::ignore_policies && status_) return speaks_of(".work.policy.");
    if (bug_ == Bug::snapshot_gap && desired_ && options.after) {
      return [next = Sequence{options.after.value + 1}](const Message& message) {
        return message.sequence == next;
      };
    }
    return {};
  }

  const std::shared_ptr<Stream> inner_;
  const std::shared_ptr<Stream> work_stream_;
  const std::shared_ptr<Stream> reports_;
  const Bug bug_;
  bool work_ = false;
  bool status_ = false;
  bool desired_ = false;
  bool cache_ = false;
  bool leases_ = false;
  std::uint64_t calls_ = 0;
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
    if (config.name.ends_with("_WORK")) work_ = stream;
    if (config.name.ends_with("_REPORTS")) reports_ = stream;
    return std::make_shared<BuggyStream>(std::move(stream), work_, reports_, config, bug_);
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
  std::shared_ptr<Stream> work_;
  std::shared_ptr<Stream> reports_;
};

}  // namespace

std::string_view to_string(Bug bug) noexcept {
  for (const Known& known : kKnown) {
    if (known.bug == bug) return known.name;
  }
  return "none";
}

std::optional<Bug> bug_called(std::string_view name) noexcept {
  for (const Known& known : kKnown) {
    if (known.name == name) return known.bug;
  }
  return std::nullopt;
}

const std::vector<Bug>& all_bugs() {
  static const std::vector<Bug> bugs = [] {
    std::vector<Bug> all;
    for (const Known& known : kKnown) all.push_back(known.bug);
    return all;
  }();
  return bugs;
}

std::string_view broken_by(Bug bug) noexcept {
  for (const Known& known : kKnown) {
    if (known.bug == bug) return known.promise;
  }
  return "none";
}

std::shared_ptr<transport::Transport> with_bug(std::shared_ptr<transport::Transport> inner,
                                               Bug bug) {
  if (bug == Bug::none) return inner;
  return std::make_shared<BuggyTransport>(std::move(inner), bug);
}

}  // namespace dmm::simulation
