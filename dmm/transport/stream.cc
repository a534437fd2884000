#include "dmm/transport/stream.h"

#include <mutex>

#include "dmm/internal/runtime.h"
#include "dmm/limits.h"

namespace dmm::transport {

namespace {

/// Starts an asynchronous call and waits for its completion, which always comes.
template <class T, class Start>
T await(Start start) {
  const auto answer = std::make_shared<internal::Promised<Result<T>>>();
  start([answer](Result<T> result) { answer->put(std::move(result)); });
  return std::move(answer->take()).value();
}

/// Visits messages on the transport's thread while the caller waits.
class ScanSink final : public ReaderSink {
 public:
  explicit ScanSink(const std::function<void(Message)>& visit) : visit_(visit) {}

  void on_message(Message message) noexcept override {
    const std::lock_guard lock(mutex_);
    ++heard_;
    if (finished_ || failure_) return;
    try {
      visit_(std::move(message));
      ++count_;
    } catch (...) {
      failure_ = std::current_exception();
      changed_.notify_all();
    }
  }

  void on_caught_up() noexcept override {
    const std::lock_guard lock(mutex_);
    finished_ = true;
    changed_.notify_all();
  }

  // What was visited before belongs to a stream that is gone; the caller sees the union, which is
  // what a scan of a changing stream is anyway.
  void on_history_lost(std::string) noexcept override {}

  std::size_t wait() {
    std::unique_lock lock(mutex_);
    std::uint64_t heard_before = heard_;
    while (!finished_ && !failure_) {
      if (changed_.wait_for(lock, limits::publish_deadline) == std::cv_status::timeout &&
          heard_ == heard_before && !finished_ && !failure_) {
        throw Error(code::timed_out, "reading a stream came to a halt");
      }
      heard_before = heard_;
    }
    if (failure_) std::rethrow_exception(failure_);
    return count_;
  }

 private:
  const std::function<void(Message)>& visit_;
  std::mutex mutex_;
  internal::Condition changed_;
  std::size_t count_ = 0;
  std::uint64_t heard_ = 0;
  bool finished_ = false;
  std::exception_ptr failure_;
};

}  // namespace

std::optional<std::string_view> find_header(const Headers& headers,
                                            std::string_view name) noexcept {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return std::nullopt;
}

Sequence publish(Stream& stream, Publication publication, std::chrono::milliseconds deadline) {
  publication.urgent = true;
  return await<Sequence>([&](Completion<Sequence> done) {
    stream.publish(std::move(publication), deadline, std::move(done));
  });
}

std::optional<Message> last(Stream& stream, std::string subject) {
  return await<std::optional<Message>>([&](Completion<std::optional<Message>> done) {
    stream.last(std::move(subject), std::move(done));
  });
}

bool erase(Stream& stream, Sequence sequence) {
  return await<bool>([&](Completion<bool> done) { stream.erase(sequence, std::move(done)); });
}

std::size_t scan(Stream& stream, ReadOptions options, const std::function<void(Message)>& visit) {
  ScanSink sink(visit);
  const std::unique_ptr<Reader> reader = stream.read(std::move(options), sink);
  reader->grant(std::size_t{1} << 40);
  return sink.wait();
}

std::size_t scan(Stream& stream, std::string filter, const std::function<void(Message)>& visit,
                 bool headers_only) {
  return scan(
      stream,
      {.filter = std::move(filter), .after = {}, .only_new = false, .headers_only = headers_only},
      visit);
}

}  // namespace dmm::transport
