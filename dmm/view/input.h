#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "dmm/internal/runtime.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/view/inputs.h"
#include "dmm/view/memory.h"
#include "dmm/view/server_clock.h"

namespace dmm::view {

/// Adds the member that holds the key. Documents of one make stay of one make, or else the engine
/// would meet each as if it had never seen its like.
class KeyMember {
 public:
  explicit KeyMember(std::string name) : name_(std::move(name)) {}

  engine::Value add(const engine::Value& document, engine::Value key) {
    if (document.kind() != engine::Kind::object || from_.get() != &document->shape()) {
      const engine::Value made = engine::with_member(document, name_, key);
      if (document.kind() != engine::Kind::object) return made;
      from_ = engine::ShapePtr::share(document->shape());
      to_ = engine::ShapePtr::share(made->shape());
      at_ = static_cast<std::size_t>(to_->find(name_));
      return made;
    }
    const std::size_t behind = to_->size() - from_->size();  // none if it had the member
    return engine::Value::object_of(*to_, [&](std::size_t i) {
      if (i == at_) return key;
      return engine::Value(document->at(i < at_ ? i : i - behind));
    });
  }

 private:
  const std::string name_;
  engine::ShapePtr from_;  ///< of the last document
  engine::ShapePtr to_;
  std::size_t at_ = 0;
};

/// One input: what its source told and was not taken yet, and the documents it has now.
class Input final : public SourceSink {
 public:
  /// clock   of the server that keeps the streams.
  Input(const internal::Streams& streams, const ViewInput& spec, engine::Program& program,
        ServerClock& clock, const std::function<void()>& wake, Inputs::Keep keep)
      : spec_(spec),
        name_(spec.called()),
        keep_(keep),
        source_(spec.source ? spec.source : stream_source(streams, spec)),
        fields_(fields_of(program)),
        key_wanted_(!spec.key_field.empty() &&
                    (fields_.whole() || fields_.member(spec_.key_field))),
        keyed_(spec.key_field),
        decoder_({}, decoded(fields_)),
        clock_(spec.source ? own_clock_ : clock),
        wake_(wake) {}

  // ---- the source's thread
  void on_row(SourceRow row) noexcept override {
    tell([&] { told_.push_back(std::move(row)); });
  }
  void on_loaded() noexcept override {
    tell([&] { told_.emplace_back(Loaded{}); });
  }
  void on_complete() noexcept override {
    tell([&] { told_.emplace_back(Complete{}); });
  }
  void on_doubt(std::string reason) noexcept override {
    tell([&] { doubt_ = std::move(reason); });
  }
  void on_restart(std::string reason) noexcept override {
    tell([&] { restart_ = std::move(reason); });
  }

  // ---- the owner's thread
  void open(const nlohmann::json& baseline) {
    reading_ = source_->read(baseline, *this);
    reading_->grant(kGranted);
  }
  void open(const nlohmann::json& baseline, const SourceMark& mark) {
    whole_ = source_->can_resume(mark) == Resume::whole;
    reading_ = source_->resume(mark, baseline, *this);
    reading_->grant(kGranted);
    unverified_ = !whole_;
  }
  /// The baseline of the last owner may be of later than the mark, and know of a loss since.
  bool lost(const nlohmann::json& baseline, const SourceMark& mark) const {
    return source_->can_resume(mark) == Resume::lost ||
           (!baseline.is_null() && source_->can_resume({{}, baseline}) == Resume::lost);
  }
  std::string decoded_fields() const { return decoded(fields_).text(); }
  SourceMark mark() const { return {position_, reading_->baseline()}; }
  bool sound() const {
    // The next program may read what this one refuses: a snapshot would have it begin behind that.
    for (const auto& [key, one] : unreadable_) {
      if (&one.error.code() == &code::newer_format) return false;
    }
    const std::lock_guard lock(mutex_);
    return !doubt_ && !restart_;
  }

  bool waiting() const {
    const std::lock_guard lock(mutex_);
    return !told_.empty() || !taken_.empty() || !listed_.empty() || doubt_ || restart_;
  }

  void take(std::size_t changes_max, engine::Batch& batch, InputEvents& events, InputCounts& counts,
            const std::function<void(const Unreadable&)>& unreadable) {
    {
      const std::lock_guard lock(mutex_);
      if (taken_.empty()) taken_.swap(told_);
      if (doubt_) events.doubt = name_ + ": " + *std::exchange(doubt_, std::nullopt);
      if (restart_) events.restart = name_ + ": " + *std::exchange(restart_, std::nullopt);
    }
    std::size_t rows = 0;
    const auto now = spec_.age.count() > 0 && loaded_ ? clock_.now() : std::nullopt;
    if (now) told_since_ = *now - kToldLate;
    ServerClock::Time newest;
    while (!taken_.empty() && batch.size() < changes_max) {
      if (auto* row = std::get_if<SourceRow>(&taken_.front())) {
        ++rows;
        ++counts.changes;
        // A stream's clock was read when the view began. What lay in it then may have been stored
        // before that clock was put right.
        if (loaded_ || spec_.source) newest = std::max(newest, row->changed_at);
        note(*row, events);
        apply(std::move(*row), batch, counts, unreadable);
      } else {
        loaded_ = true;
        if (std::holds_alternative<Complete>(taken_.front())) complete(batch, unreadable);
      }
      taken_.pop_front();
    }
    if (rows > 0) reading_->grant(rows);
    if (newest != ServerClock::Time()) clock_.note(newest);
    expire(batch, counts);
    if (unverified_ && loaded_ && !events.restart) verify(events, unreadable);
  }

  void save(SnapshotWriter& writer) const {
    writer.text(position_);
    writer.time(changed_at_);
    writer.number(documents_.size());
    for (const auto* at : in_order()) {
      const auto& [key, document] = *at;
      writer.text(key);
      writer.time(document.at);
      writer.value(document.value);
      writer.number(document.seq ? 1 : 0);
      if (!document.seq) continue;
      writer.fixed(static_cast<std::uint64_t>(*document.seq));
      writer.value(document.boot);
    }
    writer.number(unreadable_.size());
    for (const auto& [key, one] : unreadable_) {
      writer.text(key);
      writer.number(&one.error.code() == &code::wrong_shape ? 1 : 0);
      writer.text(one.error.message());
    }
  }

  bool restore(SnapshotReader& reader, engine::Batch& batch, InputCounts& counts,
               const std::function<void()>& take,
               const std::function<void(const Unreadable&)>& unreadable) {
    position_ = reader.text();
    changed_at_ = reader.time();
    if (!whole_) own_clock_.note(changed_at_);  // it may have nothing more to tell
    const std::size_t count = reader.count();
    documents_.reserve(count);
    for (std::size_t done = 0; reader.ok() && done < count;) {
      const std::size_t end = std::min(count, done + limits::view_step_changes);
      for (; reader.ok() && done < end; ++done) restore_document(reader, batch);
      take();
      batch.clear();
    }
    counts.restored += documents_.size();
    for (std::size_t left = reader.count(); reader.ok() && left > 0; --left) {
      const std::string key(reader.text());
      const auto& code = reader.number() == 1 ? code::wrong_shape : code::not_evaluated;
      const Error error(code, std::string(reader.text()));
      unreadable_.insert_or_assign(key, Unsound{error, true});
      unreadable({name_, key, error});
    }
    // Few, and as long as they are there nothing is removed: so it is asked at once.
    if (unreadable_.size() <= limits::view_snapshot_open_max) forget_untold(unreadable);
    return reader.ok() && documents_.size() == count;
  }

  bool loaded() const noexcept { return loaded_; }
  bool complete() const noexcept { return complete_; }
  std::string unread() const {
    std::size_t count = 0;
    const std::string* some = nullptr;
    for (const auto& [key, one] : unreadable_) {
      if (documents_.contains(key)) continue;
      ++count;
      if (some == nullptr || key < *some) some = &key;
    }
    if (count == 0) return {};
    return fmt::format("{}: {} documents could not be read while loading, for example of {}", name_,
                       count, printable(*some, 100));
  }
  std::size_t rows() const noexcept { return documents_.size(); }
  std::size_t memory() const {
    return memory_of_map(documents_, [](const std::string& key, const Document& document) {
      return text_memory(key) + engine::memory_of(document.value);
    });
  }
  const std::string& name() const noexcept { return name_; }
  std::string description() const { return source_->description(); }
  void each(const Inputs::Visit& visit) const {
    static const std::string kUnknown;
    for (const auto& [key, document] : documents_) {
      const auto position = positions_.find(key);
      visit(name_, key,
            key_wanted_
                ? engine::with_member(document.value, spec_.key_field, engine::Value::string(key))
                : document.value,
            position == positions_.end() ? kUnknown : position->second, document.at);
    }
  }
  ViewInputInfo info() const {
    const auto changed_at =
        std::chrono::duration_cast<std::chrono::milliseconds>(changed_at_.time_since_epoch());
    return {name_,
            source_->description(),
            rows(),
            loaded_,
            position_,
            changed_at.count(),
            reading_ && loaded_ ? reading_->baseline() : nlohmann::json()};
  }

 private:
  struct Loaded {};
  struct Complete {};
  using Told = std::variant<SourceRow, Loaded, Complete>;
  /// A row as it is now. `seq` and `boot` order the reports of a device.
  struct Document {
    engine::Value value;
    std::optional<std::int64_t> seq;
    engine::Value boot;
    std::chrono::system_clock::time_point at;
    bool aging = false;   ///< stands in ages_
    bool untold = false;  ///< of a snapshot, and its source did not tell yet that it is there
  };
  /// A last document that is none.
  struct Unsound {
    Error error;
    bool untold = false;  ///< as above
  };
  static constexpr std::size_t kGranted = 4 * limits::read_batch;
  static constexpr std::size_t kVerified = 4096;  ///< keys in a turn
  /// What is told once all is loaded was stored this long before at most, whatever the clock says
  /// by which it was stored: that may have been put back.
  static constexpr std::chrono::seconds kToldLate{1};

  static constexpr std::size_t kTracesMax = 32;  ///< of a step

  static void note(SourceRow& row, InputEvents& events) {
    if (!events.oldest || row.changed_at < *events.oldest) events.oldest = row.changed_at;
    if (row.traceparent.empty() || events.traces.size() >= kTracesMax) return;
    if (std::ranges::find(events.traces, row.traceparent) == events.traces.end()) {
      events.traces.push_back(std::move(row.traceparent));
    }
  }

  template <class Put>
  void tell(Put put) noexcept {
    bool first = false;
    {
      const std::lock_guard lock(mutex_);
      first = told_.empty() && !doubt_ && !restart_;
      put();
    }
    if (first) wake_();
  }

  engine::Fields fields_of(const engine::Program& program) const {
    if (!program.plan()) return engine::Fields::all();
    const auto found = program.plan()->fields.find(name_);
    return found == program.plan()->fields.end() ? engine::Fields::all() : found->second;
  }
  /// What is decoded: what the pipeline reads, and what orders reports.
  engine::Fields decoded(const engine::Fields& fields) const {
    engine::Fields all = fields;
    if (spec_.from == ViewInput::From::reports && !fields.whole()) {
      all.add(std::vector<std::string>{"seq"});
      all.add(std::vector<std::string>{"boot"});
    }
    return all;
  }

  void apply(SourceRow row, engine::Batch& batch, InputCounts& counts,
             const std::function<void(const Unreadable&)>& unreadable) {
    position_ = std::move(row.position);
    changed_at_ = std::max(changed_at_, row.changed_at);
    if (keep_ == Inputs::Keep::positions) positions_[row.key] = position_;
    const auto found = documents_.find(row.key);
    if (!row.document && !row.refused) {
      if (unreadable_.erase(row.key) > 0) unreadable({name_, row.key, std::nullopt});
      if (found == documents_.end()) return;
      batch.push_back({with_key(found->second.value, row.key), -1});
      documents_.erase(found);
      return;
    }
    Document next;
    next.at = std::max(row.changed_at, told_since_);
    std::optional<Error> error = std::move(row.refused);
    if (error && found != documents_.end()) found->second.at = next.at;  // whoever told it lives
    if (!error) error = decode(*row.document, next.value);
    if (found != documents_.end()) found->second.untold = false;
    if (error) {
      unreadable_.insert_or_assign(row.key, Unsound{*error});
      return unreadable({name_, row.key, std::move(error)});
    }
    if (unreadable_.erase(row.key) > 0) unreadable({name_, row.key, std::nullopt});
    if (spec_.from == ViewInput::From::reports) read_order(next);
    if (found == documents_.end()) {
      batch.push_back({with_key(next.value, row.key), 1});
      age(documents_.emplace(std::move(row.key), std::move(next)).first);
      return;
    }
    Document& present = found->second;
    if (next.seq && present.seq && next.boot == present.boot && *next.seq <= *present.seq) {
      // The same report read again after a restart of its source is no news either.
      ++(*next.seq == *present.seq && next.value == present.value ? counts.unchanged
                                                                  : counts.stale);
      return;
    }
    present.at = next.at;
    present.seq = next.seq;
    present.boot = std::move(next.boot);
    age(found);
    if (next.value == present.value) {
      ++counts.unchanged;
      return;
    }
    batch.push_back({with_key(present.value, row.key), -1});
    batch.push_back({with_key(next.value, row.key), 1});
    present.value = std::move(next.value);
  }

  /// Why it cannot be read, if it cannot.
  std::optional<Error> decode(const std::string& document, engine::Value& value) {
    std::string reason;
    if (!decoder_.decode(document, value, reason)) return Error(code::not_evaluated, reason);
    if (value.kind() == engine::Kind::object) return std::nullopt;
    return Error(code::wrong_shape, "it is not a JSON object");
  }

  /// The document as the pipeline sees it. Most are told again as they were, so it is made only of
  /// those that changed.
  engine::Value with_key(const engine::Value& document, const std::string& key) {
    if (!key_wanted_) return document;
    return keyed_.add(document, engine::Value::string(key));
  }

  /// Takes `seq` and `boot` out of the document, unless the pipeline reads them.
  void read_order(Document& document) {
    engine::ValueRef seq;
    engine::ValueRef boot;
    const bool has_seq = document.value->find("seq", seq);
    const bool has_boot = document.value->find("boot", boot);
    if (has_seq && seq.kind == engine::Kind::integer) {
      document.seq = seq.as_integer();
      if (has_boot) document.boot = engine::Value(boot);
    }
    if ((has_seq || has_boot) && !fields_.whole()) document.value = fields_.pick(document.value);
  }

  using Documents = std::unordered_map<std::string, Document>;

  void age(Documents::iterator at) {
    if (spec_.age.count() == 0 || at->second.aging) return;
    at->second.aging = true;
    await(at->second.at, at->first);
  }
  void await(ServerClock::Time at, std::string key) {
    ages_.emplace_back(at, std::move(key));
    std::ranges::push_heap(ages_, std::greater<>());
  }

  /// By key: what is put back in order finds its place in the engine at once.
  std::vector<const Documents::value_type*> in_order() const {
    std::vector<std::pair<std::uint64_t, const Documents::value_type*>> order;
    order.reserve(documents_.size());
    for (const auto& document : documents_) {
      std::uint64_t first = 0;  // bytes, so that few keys are looked at again
      for (std::size_t i = 0; i < 8; ++i) {
        const std::string& key = document.first;
        first = first << 8 | (i < key.size() ? static_cast<unsigned char>(key[i]) : 0u);
      }
      order.emplace_back(first, &document);
    }
    std::ranges::sort(order, [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first < b.first : a.second->first < b.second->first;
    });
    std::vector<const Documents::value_type*> documents;
    documents.reserve(order.size());
    for (const auto& [first, document] : order) documents.push_back(document);
    return documents;
  }

  void restore_document(SnapshotReader& reader, engine::Batch& batch) {
    std::string key(reader.text());
    Document document;
    document.at = reader.time();
    document.value = reader.value();
    if (reader.number() == 1) {
      document.seq = static_cast<std::int64_t>(reader.fixed());
      document.boot = reader.value();
    }
    if (!reader.ok()) return;
    document.untold = true;
    batch.push_back({with_key(document.value, key), 1});
    age(documents_.emplace(std::move(key), std::move(document)).first);
  }

  /// The source may have lost rows in any way, and got as many others since: so each that was put
  /// back has to be there. An owner that had lived would not know of it either: so nobody waits for
  /// that, and the keys are listed beside the work, and looked at a few in each turn.
  void verify(InputEvents& events, const std::function<void(const Unreadable&)>& unreadable) {
    try {
      if (listed_.empty()) {
        if (!keys_.valid()) return list_keys();
        if (!keys_.ready()) return;
        listed_ = keys_.get();
      }
      const std::size_t end = listed_.size() - std::min(listed_.size(), kVerified);
      for (; listed_.size() > end; listed_.pop_back()) found(listed_.back());
      if (!listed_.empty()) return;
      std::string why = vanished();
      if (!why.empty()) {
        events.restart = std::move(why);
        return;
      }
      forget_untold(unreadable);
      unverified_ = false;
    } catch (const Error& error) {
      // The source cannot be asked now: the next turn asks again.
      if (error.kind() != dmm::Kind::retry) events.restart = name_ + ": " + error.what();
    }
  }
  void list_keys() {
    keys_ = internal::Async<std::vector<std::string>>([this] {
      std::vector<std::string> keys = source_->keys();
      wake_();
      return keys;
    });
  }
  void found(const std::string& key) {
    if (const auto at = documents_.find(key); at != documents_.end()) at->second.untold = false;
    if (const auto at = unreadable_.find(key); at != unreadable_.end()) at->second.untold = false;
  }
  /// Which document is not there; empty if all are. Those that change all the time may have escaped
  /// the list, and are asked for.
  std::string vanished() {
    std::size_t asked = 0;
    for (auto& [key, document] : documents_) {
      if (!document.untold) continue;
      if (++asked > limits::view_snapshot_open_max) {
        return name_ + ": too much of it changed while its keys were listed";
      }
      if (!source_->holds(key)) {
        return fmt::format("{}: {} went without a word", name_, printable(key, 100));
      }
      document.untold = false;
    }
    return {};
  }

  /// All there is was told: what was not is not there.
  void complete(engine::Batch& batch, const std::function<void(const Unreadable&)>& unreadable) {
    if (std::exchange(complete_, true) || !whole_) return;
    forget_untold(unreadable);
    for (auto at = documents_.begin(); at != documents_.end();) {
      if (!at->second.untold) {
        ++at;
        continue;
      }
      batch.push_back({with_key(at->second.value, at->first), -1});
      at = documents_.erase(at);
    }
  }

  /// Forgets what could not be read once and is not there any more: was not told, where all is, or
  /// is not held.
  void forget_untold(const std::function<void(const Unreadable&)>& unreadable) {
    std::erase_if(unreadable_, [&](const auto& one) {
      if (!one.second.untold || (whole_ ? !complete_ : source_->holds(one.first))) return false;
      unreadable({name_, one.first, std::nullopt});
      return true;
    });
  }

  /// Rows that were not told again for longer than the declared age are deleted. The clock that
  /// says when they were told says what time it is now.
  void expire(engine::Batch& batch, InputCounts& counts) {
    if (spec_.age.count() == 0 || !loaded_) return;
    const auto now = clock_.now();
    if (!now) return;
    const auto limit = *now - spec_.age;
    while (!ages_.empty() && ages_.front().first <= limit) {
      std::ranges::pop_heap(ages_, std::greater<>());
      std::string key = std::move(ages_.back().second);
      ages_.pop_back();
      const auto found = documents_.find(key);
      if (found == documents_.end()) continue;
      if (found->second.at > limit) {  // it was told again since
        await(found->second.at, std::move(key));
        continue;
      }
      ++counts.expired;
      batch.push_back({with_key(found->second.value, key), -1});
      documents_.erase(found);
    }
  }

  const ViewInput spec_;
  const std::string name_;
  const Inputs::Keep keep_;
  const std::shared_ptr<Source> source_;
  const engine::Fields fields_;
  const bool key_wanted_;
  KeyMember keyed_;
  engine::Decoder decoder_;
  ServerClock own_clock_;  ///< of a source that is no stream
  ServerClock& clock_;     ///< of where the rows are stored
  ServerClock::Time told_since_{ServerClock::Time::min()};
  const std::function<void()>& wake_;

  Documents documents_;
  std::unordered_map<std::string, std::string> positions_;  ///< of rows, if they are kept
  /// When rows were told that may expire, or earlier, and their keys: a heap, the oldest in front.
  std::vector<std::pair<ServerClock::Time, std::string>> ages_;
  std::unordered_map<std::string, Unsound> unreadable_;  ///< by key
  std::deque<Told> taken_;
  bool loaded_ = false;
  bool complete_ = false;
  bool whole_ = false;       ///< the source tells again what a snapshot had
  bool unverified_ = false;  ///< it does not, and whether it still holds that was not seen yet
  std::vector<std::string> listed_;  ///< keys that it holds, to be looked at
  std::string position_;
  std::chrono::system_clock::time_point changed_at_;

  mutable std::mutex mutex_;
  std::deque<Told> told_;  ///< guarded by mutex_, as are the next two
  std::optional<std::string> doubt_;
  std::optional<std::string> restart_;
  std::unique_ptr<SourceReading> reading_;          ///< it ends before what it tells
  internal::Async<std::vector<std::string>> keys_;  ///< that the source holds; last: it ends first
};

}  // namespace dmm::view
