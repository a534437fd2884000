// Reports, KV buckets and caches as sources of rows.

#include <fmt/format.h>

#include <charconv>
#include <mutex>
#include <utility>

#include "dmm/identity.h"
#include "dmm/internal/active_span.h"
#include "dmm/internal/runtime.h"
#include "dmm/transport/loss_doubt.h"
#include "dmm/view/inputs.h"
#include "dmm/view/stream_mark.h"

namespace dmm::view {

namespace {

/// Where the rows of a source lie, and how a message names its row.
struct Place {
  std::shared_ptr<transport::Stream> stream;
  std::string filter;
  /// The key of a row by its subject; nothing for a subject that names none.
  std::function<std::optional<std::string>(std::string_view)> key_of;
  std::function<std::string(const std::string&)> subject_of;  ///< of a key
  /// Whether dmm writes the messages, and so says of which format they are.
  bool of_dmm = true;
};

/// Passes over the keys: what one does not meet, because it was told anew meanwhile, the next does.
constexpr int kKeyPasses = 3;

/// The sequence that a position names; zero for the empty one.
std::optional<std::uint64_t> sequence_of(const std::string& position) {
  std::uint64_t sequence = 0;
  const char* end = position.data() + position.size();
  if (!position.empty() && std::from_chars(position.data(), end, sequence).ptr != end) {
    return std::nullopt;
  }
  return sequence;
}

class StreamReading final : public SourceReading, private transport::ReaderSink {
 public:
  /// after   what is known already; null: nothing.
  StreamReading(const Place& place, const nlohmann::json& baseline, SourceSink& sink,
                const SourceMark* after)
      : place_(place), sink_(sink) {
    const transport::StreamState state = place_.stream->state();
    baseline_ = mark_of(state);
    if (std::string loss = loss_since(baseline, state); !loss.empty()) {
      sink_.on_doubt(std::move(loss));
    }
    transport::ReadOptions options{.filter = place_.filter, .after = {}};
    if (after != nullptr) {
      options.after = Sequence{sequence_of(after->position).value_or(0)};
      options.created = after->baseline.value("created", "");
    }
    reader_ = place_.stream->read(std::move(options), *this);
  }
  void grant(std::size_t rows) override { reader_->grant(rows); }

  nlohmann::json baseline() const override {
    const transport::StreamState state = place_.stream->state();
    const std::lock_guard lock(mutex_);
    if (std::string loss = loss_since(baseline_, state); loss.empty()) {
      baseline_ = mark_of(state);
      loss_doubt_.clear();
    } else if (!in_doubt_ &&
               loss_doubt_.believed(state.replicas > 1, internal::SteadyClock::now())) {
      in_doubt_ = true;
      sink_.on_doubt(std::move(loss));
    }
    return baseline_;
  }

 private:
  void on_message(transport::Message message) noexcept override {
    std::optional<std::string> key = place_.key_of(message.subject);
    if (!key) return reader_->grant(1);
    SourceRow row;
    row.key = std::move(*key);
    row.position = std::to_string(message.sequence.value);
    row.changed_at = message.stored_at;
    row.traceparent = internal::trace_of(message);
    if (place_.of_dmm) row.refused = internal::newer(message, "the document");
    if (!wire::is_removed(message) && !message.payload.empty()) {
      row.document = std::move(message.payload);
    }
    sink_.on_row(std::move(row));
  }
  void on_caught_up() noexcept override { sink_.on_loaded(); }
  void on_complete() noexcept override { sink_.on_complete(); }
  void on_history_lost(std::string reason) noexcept override {
    sink_.on_doubt(reason);
    sink_.on_restart(std::move(reason));
  }

  const Place place_;
  SourceSink& sink_;
  mutable std::mutex mutex_;
  mutable nlohmann::json baseline_;  ///< the last state in which nothing was lost
  mutable transport::LossDoubt loss_doubt_;
  mutable bool in_doubt_ = false;
  std::unique_ptr<transport::Reader> reader_;  ///< last: it ends first
};

Place place_of(const internal::Streams& streams, const ViewInput& input) {
  switch (input.from) {
    case ViewInput::From::reports:
      return {streams.reports, streams.names.report_filter(input.of),
              [](std::string_view subject) {
                const auto parts = wire::split_report(subject);
                return parts ? decode_id(parts->device) : std::nullopt;
              },
              [&names = streams.names, kind = input.of](const std::string& key) {
                return names.report_subject(kind, key);
              }};
    case ViewInput::From::cache:
      return {streams.cache, streams.names.entry_filter(input.of),
              [&names = streams.names](std::string_view subject) -> std::optional<std::string> {
                auto identity = parse_key(names.entry_key(subject));
                if (!identity) return std::nullopt;
                return std::move(identity->id);
              },
              [&names = streams.names, type = input.of](const std::string& key) {
                return names.entry_subject(key_of({type, key}));
              }};
    case ViewInput::From::bucket: {
      const transport::StreamConfig config{
          .name = "KV_" + input.of, .subjects = {}, .key_value = true, .description = {}};
      const std::string prefix = fmt::format("$KV.{}.", input.of);
      return {streams.transport->open(config, false), prefix + ">",
              [prefix](std::string_view subject) -> std::optional<std::string> {
                if (!subject.starts_with(prefix)) return std::nullopt;
                return std::string(subject.substr(prefix.size()));
              },
              [prefix](const std::string& key) { return prefix + key; }, false};
    }
    case ViewInput::From::source:
      break;
  }
  throw Error(code::bad_view, fmt::format("input {} has no source", input.name));
}

/// Opened when it is first read, so that a view can be declared before its bucket exists.
class StreamSource final : public Source {
 public:
  StreamSource(const internal::Streams& streams, ViewInput input)
      : streams_(streams), input_(std::move(input)) {}
  std::string description() const override {
    switch (input_.from) {
      case ViewInput::From::reports:
        return "reports of " + input_.of;
      case ViewInput::From::cache:
        return "cache of " + input_.of;
      default:
        return "bucket " + input_.of;
    }
  }
  std::unique_ptr<SourceReading> read(const nlohmann::json& baseline, SourceSink& sink) override {
    return std::make_unique<StreamReading>(place_of(streams_, input_), baseline, sink, nullptr);
  }
  Resume can_resume(const SourceMark& mark) override {
    const auto after = sequence_of(mark.position);
    const transport::StreamState state = place_of(streams_, input_).stream->state();
    const bool sound = after && is_mark(mark.baseline) && *after <= state.last.value &&
                       loss_since(mark.baseline, state).empty();
    return sound ? Resume::behind : Resume::lost;
  }
  std::vector<std::string> keys() override {
    const Place place = place_of(streams_, input_);
    std::vector<std::string> keys;
    Sequence after;
    for (int pass = 0; pass < kKeyPasses; ++pass) {
      const Sequence last = place.stream->state().last;
      if (pass > 0 && last == after) break;
      transport::scan(*place.stream, {.filter = place.filter, .after = after, .headers_only = true},
                      [&](const transport::Message& message) {
                        if (auto key = place.key_of(message.subject)) {
                          keys.push_back(std::move(*key));
                        }
                      });
      after = last;
    }
    return keys;
  }
  bool holds(const std::string& key) override {
    const Place place = place_of(streams_, input_);
    return transport::last(*place.stream, place.subject_of(key)).has_value();
  }
  std::unique_ptr<SourceReading> resume(const SourceMark& mark, const nlohmann::json& baseline,
                                        SourceSink& sink) override {
    return std::make_unique<StreamReading>(place_of(streams_, input_), baseline, sink, &mark);
  }
  std::optional<Backlog> backlog(const std::string& position) override {
    const auto after = sequence_of(position);
    if (!after) return std::nullopt;
    const Place place = place_of(streams_, input_);
    Backlog backlog;
    backlog.rows = transport::scan(
        *place.stream, {.filter = place.filter, .after = Sequence{*after}, .headers_only = true},
        [&](const transport::Message& message) {
          if (!backlog.oldest) backlog.oldest = message.stored_at;
        });
    return backlog;
  }

 private:
  const internal::Streams& streams_;
  const ViewInput input_;
};

}  // namespace

std::shared_ptr<Source> stream_source(const internal::Streams& streams, const ViewInput& input) {
  return std::make_shared<StreamSource>(streams, input);
}

}  // namespace dmm::view
