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
  ~MemoryReader() override {
    const std::lock_guard lock(stream_.mutex_);
    std::erase(stream_.readers_, this);
  }
  MemoryReader(const MemoryReader&) = delete;
  MemoryReader& operator=(const MemoryReader&) = delete;

  void grant(std::size_t count) override {
    const std::lock_guard lock(stream_.mutex_);
    granted_ += count;
    give();
  }

  // Under the stream's mutex.
  void give() {
    for (auto next = stream_.messages_.upper_bound(cursor_);
         next != stream_.messages_.end() && granted_ > 0; ++next) {
      cursor_ = next->first;
      if (!matches(options_.filter, next->second.subject)) continue;
      transport::Message message = next->second;
      if (options_.headers_only) message.payload.clear();
      --granted_;
      sink_.on_message(std::move(message));
    }
    const bool all = stream_.messages_.upper_bound(cursor_) == stream_.messages_.end();
    if (!caught_up_ && (all || cursor_ >= caught_up_at_)) {
      caught_up_ = true;
      sink_.on_caught_up();
    }
  }

 private:
  MemoryStream& stream_;
  const transport::ReadOptions options_;
  transport::ReaderSink& sink_;
  std::size_t granted_ = 0;
  std::uint64_t cursor_ = 0;
  std::uint64_t caught_up_at_ = 0;
  bool caught_up_ = false;
};

MemoryStream::MemoryStream(std::string name, std::string created)
    : name_(std::move(name)), created_(std::move(created)) {}

Sequence MemoryStream::put(std::string subject, std::string payload, transport::Headers headers,
                           std::chrono::system_clock::time_point at) {
  const std::lock_guard lock(mutex_);
  std::erase_if(messages_, [&](const auto& item) { return item.second.subject == subject; });
  transport::Message message;
  message.subject = std::move(subject);
  message.headers = std::move(headers);
  message.payload = std::move(payload);
  message.sequence = Sequence{++last_};
  message.stored_at = at;
  messages_.emplace(last_, std::move(message));
  for (MemoryReader* reader : readers_) reader->give();
  return Sequence{last_};
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
  done(put(std::move(publication.subject), std::move(publication.payload),
           std::move(publication.headers)));
}

void MemoryStream::last(std::string subject,
                        transport::Completion<std::optional<transport::Message>> done) {
  std::optional<transport::Message> found;
  {
    const std::lock_guard lock(mutex_);
    ++single_reads_;
    for (const auto& [sequence, message] : messages_) {
      if (message.subject == subject) found = message;
    }
  }
  done(std::move(found));
}

void MemoryStream::erase(Sequence sequence, transport::Completion<bool> done) {
  bool erased = false;
  {
    const std::lock_guard lock(mutex_);
    erased = messages_.erase(sequence.value) == 1;
  }
  done(erased);
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

MemoryNamespace::MemoryNamespace(const std::string& ns)
    : transport(std::make_shared<MemoryTransport>()),
      streams{wire::Names(ns), {}, {}, {}, {}, {}, {}, Logger()} {
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
