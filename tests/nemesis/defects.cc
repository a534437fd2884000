#include "tests/nemesis/defects.h"

#include "dmm/identity.h"
#include "dmm/json.h"
#include "dmm/nats/nats_transport.h"
#include "dmm/wire.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

#include "tests/nemesis/history.h"

namespace dmm::nemesis {

namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kDroppedOneOf = 5;
constexpr std::uint64_t kRunAnywayOneOf = 10;
constexpr std::uint64_t kWrittenLateOneOf = 3;
constexpr auto kLate = 1s;

std::shared_ptr<transport::Transport> connect(const Role& role) {
  ConnectionOptions options;
  options.servers = role.servers;
  return nats::connect(options, Logger());
}

}  // namespace

/// Reads tokens without having asked for a lease, and runs some of them.
class Defects::Rogue final : private transport::ReaderSink {
 public:
  using RunIt = std::function<void(std::uint32_t, std::uint64_t)>;

  Rogue(const Role& role, RunIt run)
      : run_(std::move(run)),
        transport_(connect(role)),
        work_(transport_->open(wire::Names(kNamespace).work(1), false)),
        reader_(work_->read(
            {.filter = wire::Names(kNamespace).token_filter(kType), .after = {}, .only_new = true},
            *this)) {
    reader_->grant(kTokens);
    thread_ = std::jthread([this](const std::stop_token& stop) { run_all(stop); });
  }

 private:
  static constexpr std::size_t kTokens = 10'000'000;

  void on_message(transport::Message message) noexcept override {
    if (message.sequence.value % kRunAnywayOneOf != 0) return;
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(std::move(message));
    }
    changed_.notify_one();
  }
  void on_caught_up() noexcept override {}
  void on_history_lost(std::string) noexcept override {}

  void run_all(const std::stop_token& stop) {
    for (;;) {
      std::unique_lock lock(mutex_);
      if (!changed_.wait(lock, stop, [this] { return !waiting_.empty(); })) return;
      const transport::Message message = std::move(waiting_.back());
      waiting_.clear();
      lock.unlock();
      const auto parts = wire::split_token(message.subject);
      const auto id = parts ? decode_id(parts->id) : std::nullopt;
      const auto news = parse_json(message.payload);
      if (!id || !news.ok() || !news.value().is_object()) continue;
      run_(static_cast<std::uint32_t>(number_of(*id)),
           news.value().value("news", std::uint64_t{0}));
    }
  }

  const RunIt run_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<transport::Message> waiting_;
  std::shared_ptr<transport::Transport> transport_;
  std::shared_ptr<transport::Stream> work_;
  std::unique_ptr<transport::Reader> reader_;
  std::jthread thread_;
};

/// Writes entries a while after their runs, without saying which revision it expects.
class Defects::LateWriter final {
 public:
  explicit LateWriter(const Role& role)
      : transport_(connect(role)),
        cache_(transport_->open(wire::Names(kNamespace).cache(1), false)),
        thread_([this](const std::stop_token& stop) { write_all(stop); }) {}

  void write_later(transport::Publication publication) {
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back({std::chrono::steady_clock::now() + kLate, std::move(publication)});
    }
    changed_.notify_one();
  }

 private:
  struct Late {
    std::chrono::steady_clock::time_point due;
    transport::Publication publication;
  };

  void write_all(const std::stop_token& stop) {
    for (;;) {
      std::unique_lock lock(mutex_);
      if (!changed_.wait(lock, stop, [this] { return !waiting_.empty(); })) return;
      const auto due = waiting_.front().due;
      changed_.wait_until(lock, stop, due, [] { return false; });
      if (stop.stop_requested()) return;
      Late late = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      cache_->publish(std::move(late.publication), 5s, [](const Result<Sequence>&) {});
    }
  }

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Late> waiting_;
  std::shared_ptr<transport::Transport> transport_;
  std::shared_ptr<transport::Stream> cache_;
  std::jthread thread_;
};

Defects::Defects(const Role& role) : role_(role) {}

Defects::~Defects() = default;

void Defects::start(std::function<void(std::uint32_t, std::uint64_t)> run) {
  if (role_.bug == Bug::no_lease) rogue_ = std::make_unique<Rogue>(role_, std::move(run));
  if (role_.bug == Bug::no_fence) late_writer_ = std::make_unique<LateWriter>(role_);
}

void Defects::stop() {
  rogue_.reset();
  late_writer_.reset();
}

bool Defects::drops(std::uint32_t identity, std::uint64_t news) const noexcept {
  return role_.bug == Bug::drop_news && (identity + news) % kDroppedOneOf == 0;
}

void Defects::ran(const Context& context, const nlohmann::json& cache) {
  if (!late_writer_ || cache.value("news", std::uint64_t{0}) % kWrittenLateOneOf != 0) return;
  const wire::Names names(kNamespace);
  late_writer_->write_later(
      {.subject = names.entry_subject(key_of(context.identity())),
       .headers = {{std::string(wire::kEpoch), std::to_string(context.epoch().value)}},
       .payload = dump_json(cache)});
}

}  // namespace dmm::nemesis
