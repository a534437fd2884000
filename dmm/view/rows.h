#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "dmm/types.h"
#include "engine/value.h"
#include "engine/zset.h"

namespace dmm::view {

/// The rows of a view by identity: what the engine's changes add up to.
///
/// A sound view has one row for each id. Two rows with one id, and rows without an id, are kept and
/// counted, but nobody is notified of them: which one is right is not for a machine to say.
/// One thread.
class Rows {
 public:
  struct Slot {
    engine::Value row;     ///< the one row; null when there is none, or more than one
    engine::Value told;    ///< as it was last notified or found in the cache; null: nothing
    engine::Zset all;      ///< used only while there was more than one row
    engine::Value sent;    ///< what the notify under way says
    Sequence overtaken;    ///< the newest token of an owner of the past; 0: none
    Sequence entry;        ///< revision of the entry that was found to differ; 0: none was
    bool twice = false;    ///< there is more than one row: `all` has them
    bool sending = false;  ///< a notify is under way
    bool queued = false;   ///< waits to be compared with what was told
    bool waiting = false;  ///< waits to be told
    bool held = false;     ///< its removal waits for approval
    bool foreign = false;  ///< the cache entry belongs to another view
    bool proven = false;   ///< the entry, as far as entries were read, says what was told
    bool doubt = false;    ///< a notify was not answered: `told` is what may have been told, at most

    /// There is neither a row nor anything told, now or soon.
    bool is_empty() const noexcept {
      return row.kind() == engine::Kind::null && told.kind() == engine::Kind::null && all.empty() &&
             !sending && !queued && !waiting && !held && !doubt;
    }
    /// The row is what was told.
    bool is_told() const noexcept { return !doubt && row == told; }
  };

  explicit Rows(std::string key) : key_(std::move(key)) {}

  /// Takes the changes of a step. Returns the ids whose row may have changed, each once, in the
  /// order of their first change. Rows without a sound key are counted.
  std::vector<std::string> apply(const engine::Batch& changes);
  /// The same for one who will look at all of them.
  void absorb(const engine::Batch& changes);
  /// Forgets all ids whose row came and went: nothing is known of them.
  void drop_empty();
  /// Memory for so many ids, if there will be as many.
  void reserve(std::size_t ids) { slots_.reserve(ids); }

  /// The slot of an id, or nullptr. Valid until the next call that is not const.
  Slot* find(const std::string& id);
  Slot& at(const std::string& id) { return slots_[id]; }
  /// Forgets an id that has neither a row nor anything told.
  void drop_if_empty(const std::string& id);
  template <class Visit>
  void each(Visit visit) {
    for (auto& [id, slot] : slots_) visit(id, slot);
  }

  /// Bytes that all slots need, estimated from the first of them.
  std::size_t memory() const;
  std::size_t size() const noexcept { return rows_; }
  std::size_t without_key() const noexcept { return without_key_; }
  std::size_t twice() const noexcept { return twice_; }
  const std::string& key() const noexcept { return key_; }
  /// Of all rows, with and without a key: the same for the same rows, whatever their order.
  std::uint64_t digest() const noexcept { return digest_; }

 private:
  /// Takes one change. Returns the slot of its id; null if it has no sound one.
  Slot* take(const engine::Row& change, std::string& id);
  void apply(Slot& slot, const engine::Row& change);

  const std::string key_;
  std::unordered_map<std::string, Slot> slots_;
  std::size_t rows_ = 0;  ///< ids with exactly one row
  std::size_t twice_ = 0;
  std::size_t without_key_ = 0;
  std::uint64_t digest_ = 0;
};

/// The id that a row names in its field `key`: a text as it is, an integer in decimal. Empty if the
/// field is missing or anything else.
std::string id_of(engine::ValueRef row, std::string_view key);

/// The row as news: its members, and null for each member that `told` had and the row has not, so
/// that laying it over the entry leaves nothing behind.
std::string news_of(engine::ValueRef row, engine::ValueRef told);

/// All members of both, with the values of the second; one that is no object counts as empty.
engine::Value united(const engine::Value& first, const engine::Value& second);

/// True if all fields of the row stand in the entry as they are in the row.
bool covers(engine::ValueRef entry, engine::ValueRef row);

}  // namespace dmm::view
