// What the processes under measurement do.

#include <fmt/format.h>
#include <signal.h>

#include <atomic>
#include <stop_token>
#include <thread>

#include "dmm/bucket.h"
#include "dmm/wire.h"
#include "tests/bench/loop/fleet.h"
#include "tests/bench/loop/subjects.h"
#include "tests/bench/support/nats_link.h"
#include "tests/bench/support/pace.h"

namespace dmm::bench {

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kSample = std::chrono::milliseconds(1);
constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;
constexpr std::size_t kPullBatch = 1'000;

/// SIGTERM as something to wait for. Made before any thread, which all inherit the mask.
class Ending final {
 public:
  Ending() {
    ::sigemptyset(&signals_);
    ::sigaddset(&signals_, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  }
  /// True if it came within `time`.
  bool wait(std::chrono::nanoseconds time) const {
    const timespec pause{time.count() / kNanosecondsPerSecond,
                         time.count() % kNanosecondsPerSecond};
    return ::sigtimedwait(&signals_, nullptr, &pause) == SIGTERM;
  }

 private:
  sigset_t signals_{};
};

void note(const ViewStats& stats, Board& board) {
  board.taken = stats.changes;
  board.notified = stats.notified;
  board.sending = stats.sending;
  board.rows = stats.rows;
  board.rebuilds = stats.rebuilds;
  board.restored = stats.restored;
  board.stall_us = static_cast<std::uint64_t>(stats.snapshot_stall.count());
  if (stats.loaded && board.loaded_ns == 0) board.loaded_ns = monotonic_ns();
}

View view_of_fleet() {
  View view;
  view.name = kViewName;
  view.type = kRowType;
  view.inputs = {ViewInput::reports(kReportKind), ViewInput::bucket("zones")};
  view.pipeline = nlohmann::json::parse(kPipeline);
  return view;
}

/// The public interface as a user writes against it, with its defaults.
void keep_view(const Role& role, Board& board, const Ending& ending) {
  BucketOptions options;
  options.connection.servers = {role.server};
  options.snapshots.directory = role.snapshots;
  Bucket bucket = Bucket::open(role.ns, std::move(options));
  ViewStream& view = bucket.view(view_of_fleet());
  board.begun_ns = monotonic_ns();
  std::exception_ptr failed;
  std::atomic<bool> over = false;
  {
    std::jthread work([&](std::stop_token stop) {
      try {
        view.work(stop);
      } catch (...) {
        failed = std::current_exception();
      }
      over = true;
    });
    while (!over && !ending.wait(kSample)) note(view.stats(), board);
  }
  if (failed) std::rethrow_exception(failed);
  note(view.stats(), board);
}

/// Reads a stream from its start and goes on: pulls of 1,000 without acks, one always behind the
/// one being served.
class BareReader final {
 public:
  BareReader(natsConnection* connection, const std::string& stream, const std::string& filter,
             Board& board)
      : connection_(connection),
        board_(board),
        inbox_(new_inbox()),
        next_(create(connection, stream, filter)),
        messages_(connection, inbox_, [this](natsMsg* message) { on_message(message); }) {
    pull();
    pull();
  }

 private:
  static std::string create(natsConnection* connection, const std::string& stream,
                            const std::string& filter) {
    const auto answer = api(connection, "CONSUMER.CREATE." + stream,
                            {{"stream_name", stream},
                             {"config",
                              {{"deliver_policy", "all"},
                               {"ack_policy", "none"},
                               {"filter_subject", filter},
                               {"max_waiting", 16},
                               {"mem_storage", true},
                               {"inactive_threshold", 30 * kNanosecondsPerSecond}}}});
    return "$JS.API.CONSUMER.MSG.NEXT." + stream + "." + answer["name"].get<std::string>();
  }

  void pull() {
    static const std::string request =
        nlohmann::json{{"batch", kPullBatch}, {"expires", 3'600 * kNanosecondsPerSecond}}.dump();
    check(natsConnection_PublishRequest(connection_, next_.c_str(), inbox_.c_str(), request.data(),
                                        static_cast<int>(request.size())),
          "pull");
  }

  void on_message(natsMsg* message) {
    const char* status = nullptr;
    if (natsMsg_GetDataLength(message) == 0 &&
        natsMsgHeader_Get(message, "Status", &status) == NATS_OK) {
      throw std::runtime_error(std::string("pull ended with status ") + status);
    }
    if (++received_ % kPullBatch == 0) pull();
    board_.taken.fetch_add(1, std::memory_order_relaxed);
  }

  natsConnection* connection_;
  Board& board_;
  std::string inbox_;
  std::string next_;
  std::size_t received_ = 0;  // by the thread of messages_ only
  Subscription messages_;
};

void read_bare(const Role& role, Board& board, const Ending& ending) {
  const Connection connection = connect(role.server, true);
  const wire::Names names(role.ns);
  const std::string reports = names.reports(1).name;
  const std::string cache = names.cache(1).name;
  board.begun_ns = monotonic_ns();
  const BareReader reader(connection.get(), reports, names.report_filter(kReportKind), board);
  if (!role.and_cache) {
    while (!ending.wait(std::chrono::seconds(1))) {
    }
    return;
  }
  const std::uint64_t count =
      api(connection.get(), "STREAM.INFO." + reports, nullptr)["state"]["messages"];
  while (board.taken < count) {
    if (ending.wait(kSample)) return;
  }
  const BareReader entries(connection.get(), cache, names.entry_filter(kRowType), board);
  while (!ending.wait(std::chrono::seconds(1))) {
  }
}

}  // namespace

int play(const Role& role) {
  const Ending ending;
  const SharedBoard board(role.board);
  if (role.name == "view") {
    keep_view(role, *board.operator->(), ending);
  } else {
    read_bare(role, *board.operator->(), ending);
  }
  return 0;
}

}  // namespace dmm::bench
