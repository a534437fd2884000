#include "tests/dmm/memory_stream.h"

#include <algorithm>
#include <utility>

#include "dmm/error.h"

namespace dmm::testing {

namespace {

// NATS: "*" is any one token, ">" is one or more at the end.
bool matches(std::string_view filter, std::string_view subject) {
  while (true) {
    const std::size_t filter_dot = filter.find('.');
    const std::size_t subject_dot = subject.find('.');
    const std::string_view token = filter.substr(0, filter_dot);
    if (token == ">") return !subject.empty();
    if (token != "*" && token != subject.substr(0, subject_dot)) return false;
    const bool filter_ends = filter_dot == std::string_view::npos;
    const bool subject_ends = subject_dot == std::string_view::npos;
    if (filter_ends || subject_ends) return filter_ends && subject_ends;
    filter.remove_prefix(filter_dot + 1);
    subject.remove_prefix(subject_dot + 1);
  }
}

}  // namespace

class MemoryStream::MemoryReader final : public transport::Reader {
 public:
  MemoryReader(MemoryStream& stream, transport::ReadOptions options, transport::ReaderSink& sink)
      : stream_(stream), options_(std::move(options)), sink_(sink) {
    const std::lock_guard lock(stream_.mutex_);
    cursor_ = options_.only_new ? stream_.last_ : options_.after.value;
    caught_up_at_ = stream_.last_;
    stream_.readers_.push_back(this);
    ++stream_.scans_;
  }
  /// Nothing is given after this returns.
  ~MemoryReader() override {
    std::unique_lock lock(stream_.mutex_);
    std::erase(stream_.readers_, this);
    const bool inside = std::this_thread::get_id() == stream_.thread_.get_id();
    if (!inside) stream_.changed_.wait(lock, [this] { return !stream_.at_work_; });
  }
  MemoryReader(const MemoryReader&) = delete;
  MemoryReader& operator=(const MemoryReader&) = delete;

  void grant(std::size_t count) override {
    const std::lock_guard lock(stream_.mutex_);
    granted_ += count;
    stream_.notice();
  }

  /// What is to be told next, if anything. Under the stream's mutex; the result is called without.
  Task next() {
    if (lost_) {
      return
          [this, reason = *std::exchange(lost_, std::nullopt)] { sink_.on_history_lost(reason); };
    }
    if (granted_ == 0) return {};
    auto next = stream_.messages_.upper_bound(cursor_);
    const auto end = stream_.messages_.end();
    while (next != end && !matches(options_.filter, next->second.subject)) ++next;
    if (!caught_up_ && (next == end || next->first > caught_up_at_)) {
      caught_up_ = true;
      return [this] {
        sink_.on_caught_up();
        sink_.on_complete();
      };
    }
    if (next == end) return {};
    cursor_ = next->first;
    --granted_;
    transport::Message message = next->second;
    if (options_.headers_only) message.payload.clear();
    return [this, message] { sink_.on_message(message); };
  }

  /// Under the stream's mutex.
  void lose_history(std::string reason) {
    cursor_ = 0;
    caught_up_ = false;
    caught_up_at_ = 0;
    lost_ = std::move(reason);
  }

 private:
  MemoryStream& stream_;
  const transport::ReadOptions options_;
  transport::ReaderSink& sink_;
  std::size_t granted_ = 0;
  std::uint64_t cursor_ = 0;
  std::uint64_t caught_up_at_ = 0;
  bool caught_up_ = false;
  std::optional<std::string> lost_;
};

MemoryStream::MemoryStream(std::string name, std::string created)
    : name_(std::move(name)),
      created_(std::move(created)),
      thread_([this](const std::stop_token& stop) { serve(stop); }) {}

MemoryStream::~MemoryStream() = default;

void MemoryStream::serve(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    Task task;
    if (!tasks_.empty()) {
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    for (auto reader = readers_.begin(); !task && reader != readers_.end(); ++reader) {
      task = (*reader)->next();
    }
    if (!task) {
      const std::uint64_t seen = events_;
      changed_.wait(lock, stop, [&] { return events_ != seen; });
      continue;
    }
    at_work_ = true;
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
    at_work_ = false;
    changed_.notify_all();
  }
}

/// There may be something to do. Under the mutex.
void MemoryStream::notice() {
  ++events_;
  changed_.notify_all();
}

/// Under the mutex.
void MemoryStream::answer(Call call, Task task) {
  if (const auto held = held_.find(call); held != held_.end()) {
    held->second.push_back(std::move(task));
    return;
  }
  tasks_.push_back(std::move(task));
  notice();
}

void MemoryStream::hold(Call call) {
  const std::lock_guard lock(mutex_);
  held_[call];
}

void MemoryStream::let_go(Call call) {
  const std::lock_guard lock(mutex_);
  for (Task& task : held_[call]) tasks_.push_back(std::move(task));
  held_.erase(call);
  notice();
}

std::size_t MemoryStream::held(Call call) const {
  const std::lock_guard lock(mutex_);
  const auto held = held_.find(call);
  return held == held_.end() ? 0 : held->second.size();
}

void MemoryStream::lose_history(std::string created) {
  const std::lock_guard lock(mutex_);
  created_ = std::move(created);
  messages_.clear();
  last_ = 0;
  for (MemoryReader* reader : readers_) reader->lose_history("it was created again");
  notice();
}

/// Under the mutex.
Sequence MemoryStream::store(std::string subject, std::string payload, transport::Headers headers,
                             std::chrono::system_clock::time_point at) {
  std::erase_if(messages_, [&](const auto& item) { return item.second.subject == subject; });
  transport::Message message;
  message.subject = std::move(subject);
  message.headers = std::move(headers);
  message.payload = std::move(payload);
  message.sequence = Sequence{++last_};
  message.stored_at = at;
  messages_.emplace(last_, std::move(message));
  notice();
  return Sequence{last_};
}

/// Under the mutex.
Sequence MemoryStream::last_on(const std::string& subject) const {
  for (const auto& [sequence, message] : messages_) {
    if (message.subject == subject) return message.sequence;
  }
  return {};
}

Sequence MemoryStream::put(std::string subject, std::string payload, transport::Headers headers,
                           std::chrono::system_clock::time_point at) {
  const std::lock_guard lock(mutex_);
  return store(std::move(subject), std::move(payload), std::move(headers), at);
}

std::optional<transport::Message> MemoryStream::look(const std::string& subject) const {
  const std::lock_guard lock(mutex_);
  const Sequence found = last_on(subject);
  if (!found) return std::nullopt;
  return messages_.at(found.value);
}

int MemoryStream::single_reads() const {
  const std::lock_guard lock(mutex_);
  return single_reads_;
}

int MemoryStream::scans() const {
  const std::lock_guard lock(mutex_);
  return scans_;
}

std::size_t MemoryStream::readers() const {
  const std::lock_guard lock(mutex_);
  return readers_.size();
}

void MemoryStream::go_missing() {
  const std::lock_guard lock(mutex_);
  missing_ = true;
}

void MemoryStream::publish(transport::Publication publication, std::chrono::milliseconds,
                           transport::Completion<Sequence> done) {
  const std::lock_guard lock(mutex_);
  if (publication.expected_last && *publication.expected_last != last_on(publication.subject)) {
    const std::string subject = publication.subject;
    return answer(Call::publish, [done = std::move(done), subject] {
      done(Error(code::write_conflict, subject));
    });
  }
  const Sequence sequence = store(std::move(publication.subject), std::move(publication.payload),
                                  std::move(publication.headers), std::chrono::system_clock::now());
  answer(Call::publish, [done = std::move(done), sequence] { done(sequence); });
}

void MemoryStream::last(std::string subject,
                        transport::Completion<std::optional<transport::Message>> done) {
  const std::lock_guard lock(mutex_);
  ++single_reads_;
  std::optional<transport::Message> found;
  if (const Sequence sequence = last_on(subject)) found = messages_.at(sequence.value);
  answer(Call::last, [done = std::move(done), found = std::move(found)] { done(found); });
}

void MemoryStream::erase(Sequence sequence, transport::Completion<bool> done) {
  const std::lock_guard lock(mutex_);
  const bool erased = messages_.erase(sequence.value) == 1;
  answer(Call::erase, [done = std::move(done), erased] { done(erased); });
}

std::unique_ptr<transport::Reader> MemoryStream::read(transport::ReadOptions options,
                                                      transport::ReaderSink& sink) {
  return std::make_unique<MemoryReader>(*this, std::move(options), sink);
}

transport::StreamState MemoryStream::state() {
  const std::lock_guard lock(mutex_);
  if (missing_) throw Error(code::stream_missing, name_);
  transport::StreamState state;
  state.name = name_;
  state.created = created_;
  state.last = Sequence{last_};
  state.messages = messages_.size();
  return state;
}

std::vector<std::string> MemoryStream::subjects(std::string_view filter) {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> all;
  for (const auto& [sequence, message] : messages_) {
    if (matches(filter, message.subject)) all.push_back(message.subject);
  }
  return all;
}

std::string MemoryStream::created() const {
  const std::lock_guard lock(mutex_);
  return created_;
}

MemoryNamespace::MemoryNamespace(const std::string& ns)
    : transport(std::make_shared<MemoryTransport>()),
      streams{wire::Names(ns), {}, {}, {}, {}, {}, {}, Logger(), {}, {}} {
  const auto make = [](const transport::StreamConfig& config) {
    return std::make_shared<MemoryStream>(config.name, "2024-01-01T00:00:00Z");
  };
  streams.transport = transport;
  streams.work = work = make(streams.names.work(1));
  streams.cache = cache = make(streams.names.cache(1));
  streams.reports = reports = make(streams.names.reports(1));
  streams.status = status = make(streams.names.status(1));
  streams.leases = leases = make(streams.names.leases(1));
}

}  // namespace dmm::testing
