#include "dmm/view/difference.h"

#include <fmt/format.h>

#include <unordered_map>
#include <utility>

#include "dmm/identity.h"
#include "dmm/internal/done.h"
#include "dmm/limits.h"
#include "dmm/view/stream_mark.h"
#include "engine/decode.h"

namespace dmm::view {

using engine::Value;
using engine::ValueRef;

std::string view_header(std::string_view name, std::string_view pipeline_hash) {
  return fmt::format("{};{}", name, pipeline_hash);
}

namespace {

/// A token that waits, as it was read before the entries.
struct Waiting {
  Sequence sequence;
  std::chrono::system_clock::time_point stored_at;
  Value news;  ///< null: a poke, or unreadable
  std::string view;
  bool deleted = false;
};

class Comparison {
 public:
  Comparison(const internal::Streams& streams, const std::string& view, Rows& rows,
             const Differs& differs)
      : streams_(streams), view_(view), rows_(rows), differs_(differs) {}

  /// Tokens before entries: an entry is stored before its token goes.
  KnownEntries run(const std::string& type) {
    CacheMark mark = begin(type);
    read_entries(type, {});
    for (const auto& [id, token] : waiting_) compare(id, {}, Value(), token.view, &token);
    return {std::move(mark), std::move(going_)};
  }

  std::optional<KnownEntries> run_behind(const std::string& type, const KnownEntries& known) {
    if (!loss_since(known.mark.work, streams_.work->state()).empty()) return std::nullopt;
    CacheMark mark = begin(type);
    if (!loss_since(known.mark.cache, streams_.cache->state()).empty()) return std::nullopt;
    open_.insert(known.open.begin(), known.open.end());
    // What a token adds to its entry is only known with the entry.
    for (const auto& [id, token] : waiting_) open_.insert(id);
    // A row that is new may be of an identity that had one before, or that is another view's.
    rows_.each([this](const std::string& id, const Rows::Slot& slot) {
      if (slot.proven || open_.size() > limits::view_snapshot_open_max) return;
      open_.insert(id);
    });
    if (open_.size() > limits::view_snapshot_open_max) return std::nullopt;
    read_entries(type, last_of(known.mark.cache));
    for (const std::string& id : std::exchange(open_, {})) {
      if (const auto message = entry_of({type, id})) {
        take_entry(*message);
        continue;
      }
      const auto token = waiting_.find(id);
      if (token == waiting_.end()) {
        compare(id, {}, Value(), {}, nullptr);
      } else {
        compare(id, {}, Value(), token->second.view, &token->second);
      }
    }
    return KnownEntries{std::move(mark), std::move(going_)};
  }

 private:
  CacheMark begin(const std::string& type) {
    const transport::StreamState work = streams_.work->state();
    created_ = work.created;
    transport::scan(*streams_.work, streams_.names.token_filter(type),
                    [this](const transport::Message& message) { take_token(message); });
    return {mark_without_count(work), mark_of(streams_.cache->state())};
  }

  /// Nothing, too, for an id that none can have: whoever tells it says so.
  std::optional<transport::Message> entry_of(const Identity& identity) {
    try {
      check(identity);
    } catch (const Error&) {
      return std::nullopt;
    }
    return transport::last(*streams_.cache, streams_.names.entry_subject(key_of(identity)));
  }

  void read_entries(const std::string& type, Sequence after) {
    transport::scan(*streams_.cache, {.filter = streams_.names.entry_filter(type), .after = after},
                    [this](const transport::Message& message) { take_entry(message); });
  }

  void take_token(const transport::Message& message) {
    const auto parts = wire::split_token(message.subject);
    const auto id = parts ? decode_id(parts->id) : std::nullopt;
    if (!id) return;  // the worker parks it
    Waiting token;
    token.sequence = message.sequence;
    token.stored_at = message.stored_at;
    token.deleted = message.header(wire::kDeleted).has_value();
    if (const auto header = message.header(wire::kView)) token.view = wire::view_of(*header);
    token.news = decode(message.payload);
    waiting_.insert_or_assign(*id, std::move(token));
  }

  void take_entry(const transport::Message& message) {
    const auto identity = parse_key(streams_.names.entry_key(message.subject));
    if (!identity) return;
    const std::string& id = identity->id;
    open_.erase(id);
    const bool removed = wire::is_removed(message);
    const auto header = message.header(wire::kView);
    std::string view(header && !removed ? wire::view_of(*header) : std::string_view());
    const bool ours = view == view_;
    const auto token = waiting_.find(id);
    const Waiting* news = nullptr;
    Waiting taken;
    if (token != waiting_.end()) {
      const auto done_text = message.header(wire::kDone);
      const auto done = done_text ? wire::parse_done(*done_text) : std::nullopt;
      taken = std::move(token->second);
      waiting_.erase(token);
      if (!done ||
          !internal::is_done(*done, created_, taken.sequence, taken.stored_at, message.stored_at)) {
        news = &taken;
      }
    }
    if (news != nullptr && !news->view.empty()) view = news->view;
    compare(id, message.sequence, removed ? Value() : decode(message.payload), view, news);
    const Rows::Slot* slot = rows_.find(id);
    if (ours && (slot == nullptr || slot->is_empty())) going_.push_back(id);
  }

  /// Someone's rubbish counts as missing, as everywhere.
  Value decode(const std::string& text) {
    Value value;
    std::string reason;
    if (text.empty() || !decoder_.decode(text, value, reason)) return {};
    return value;
  }

  void compare(const std::string& id, Sequence revision, const Value& entry,
               const std::string& view, const Waiting* token) {
    Rows::Slot* slot = rows_.find(id);
    const bool other = !view.empty() && view != view_;
    const bool absent = entry.kind() == engine::Kind::null && token == nullptr;
    if (slot != nullptr) {
      slot->told = Value();
      slot->proven = false;
    }
    if (slot == nullptr || slot->row.kind() == engine::Kind::null) {
      const bool ours = view == view_;
      const bool going = token != nullptr && token->deleted;
      if (!ours || going || absent) return;
      Rows::Slot& gone = rows_.at(id);
      gone.told = merged(entry, token);
      gone.entry = revision;
      return;
    }
    slot->foreign = other;
    slot->entry = revision;
    if (other) return;
    if (says(entry, token, slot->row)) {
      slot->told = slot->row;
      slot->proven = token == nullptr && view == view_;
    } else if (differs_ && !absent) {
      differs_(id, merged(entry, token));
    }
  }

  /// True if the effective cache has all fields of the row.
  static bool says(const Value& entry, const Waiting* token, const Value& row) {
    if (token == nullptr || (token->news.kind() == engine::Kind::null && !token->deleted)) {
      return covers(entry, row);
    }
    if (token->deleted) return false;
    if (token->view.empty()) return covers(token->news, row);
    return covers(token->news, row) || covers(merged(entry, token), row);
  }

  static Value merged(const Value& entry, const Waiting* token) {
    if (token == nullptr || token->news.kind() != engine::Kind::object) {
      return entry.kind() == engine::Kind::null ? engine::from_json(nlohmann::json::object())
                                                : entry;
    }
    if (token->view.empty() || entry.kind() != engine::Kind::object) return token->news;
    engine::ObjectBuilder builder;
    for (const ValueRef part : {entry.ref(), token->news.ref()}) {
      for (std::size_t i = 0; i < part.size(); ++i) builder.set(part.key(i), Value(part.at(i)));
    }
    return builder.build();
  }

  const internal::Streams& streams_;
  const std::string& view_;
  Rows& rows_;
  const Differs& differs_;
  std::string created_;
  engine::Decoder decoder_;
  std::unordered_map<std::string, Waiting> waiting_;
  std::unordered_set<std::string> open_;  ///< ids whose entry is needed and was not read yet
  std::vector<std::string> going_;        ///< see compare_with_cache()
};

}  // namespace

KnownEntries compare_with_cache(const internal::Streams& streams, const std::string& view,
                                const std::string& type, Rows& rows, const Differs& differs) {
  return Comparison(streams, view, rows, differs).run(type);
}

std::optional<KnownEntries> compare_behind(const internal::Streams& streams,
                                           const std::string& view, const std::string& type,
                                           Rows& rows, const KnownEntries& known) {
  return Comparison(streams, view, rows, {}).run_behind(type, known);
}

std::optional<CacheMark> prove_entries(const internal::Streams& streams, const std::string& view,
                                       const std::string& type, Rows& rows, const CacheMark& mark,
                                       std::size_t entries_max,
                                       std::unordered_set<std::string>& removed) {
  const transport::StreamState work = streams.work->state();
  const transport::StreamState cache = streams.cache->state();
  if (!loss_since(mark.work, work).empty() || !loss_since(mark.cache, cache).empty()) {
    return std::nullopt;
  }
  const Sequence read = last_of(mark.cache);
  if (cache.last.value - read.value > entries_max) return mark;
  engine::Decoder decoder;
  std::string reason;
  transport::scan(
      *streams.cache, {.filter = streams.names.entry_filter(type), .after = read},
      [&](const transport::Message& message) {
        const auto identity = parse_key(streams.names.entry_key(message.subject));
        if (!identity) return;
        const std::string& id = identity->id;
        Rows::Slot* slot = rows.find(id);
        if (wire::is_removed(message)) {
          removed.erase(id);
          if (slot != nullptr) slot->proven = false;
          return;
        }
        const std::string_view owner = wire::view_of(message.header(wire::kView).value_or(""));
        if (slot == nullptr) {
          if (owner == view) removed.insert(id);
          return;
        }
        Value entry;
        slot->proven = owner == view && slot->told.kind() == engine::Kind::object &&
                       decoder.decode(message.payload, entry, reason) && covers(entry, slot->told);
      });
  return CacheMark{mark_without_count(work), mark_of(cache)};
}

}  // namespace dmm::view
