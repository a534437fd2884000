#include "dmm/view/rows.h"

#include <algorithm>
#include <utility>

#include "dmm/view/memory.h"

namespace dmm::view {

using engine::Value;
using engine::ValueRef;

namespace {

/// Makes sums of hashes as good as the hashes (the finalizer of splitmix64).
std::uint64_t spread(std::uint64_t hash) noexcept {
  hash = (hash ^ (hash >> 30)) * 0xBF58476D1CE4E5B9u;
  hash = (hash ^ (hash >> 27)) * 0x94D049BB133111EBu;
  return hash ^ (hash >> 31);
}

}  // namespace

std::string id_of(ValueRef row, std::string_view key) {
  ValueRef id;
  if (row.kind != engine::Kind::object || !row.find(key, id)) return {};
  if (id.kind == engine::Kind::string) return std::string(id.as_string());
  if (id.kind == engine::Kind::integer) return std::to_string(id.as_integer());
  return {};
}

std::string news_of(ValueRef row, ValueRef told) {
  std::string text = engine::to_text(row);
  if (told.kind != engine::Kind::object) return text;
  text.pop_back();
  for (std::size_t i = 0; i < told.size(); ++i) {
    ValueRef present;
    if (row.find(told.key(i), present)) continue;
    if (text.size() > 1) text += ',';
    engine::append_text(Value::string(told.key(i)), text);
    text += ":null";
  }
  return text + '}';
}

Value united(const Value& first, const Value& second) {
  if (first.kind() != engine::Kind::object) return second;
  if (second.kind() != engine::Kind::object) return first;
  engine::ObjectBuilder builder;
  for (const ValueRef part : {first.ref(), second.ref()}) {
    for (std::size_t i = 0; i < part.size(); ++i) builder.set(part.key(i), Value(part.at(i)));
  }
  return builder.build();
}

bool covers(ValueRef entry, ValueRef row) {
  if (entry.kind != engine::Kind::object) return false;
  for (std::size_t i = 0; i < row.size(); ++i) {
    ValueRef field;
    if (!entry.find(row.key(i), field) || !engine::equal(field, row.at(i))) return false;
  }
  return true;
}

std::vector<std::string> Rows::apply(const engine::Batch& changes) {
  std::vector<std::string> touched;
  for (const engine::Row& change : changes) {
    std::string id;
    Slot* slot = take(change, id);
    if (slot == nullptr || std::exchange(slot->queued, true)) continue;
    touched.push_back(std::move(id));
  }
  return touched;
}

void Rows::absorb(const engine::Batch& changes) {
  std::string id;
  for (const engine::Row& change : changes) static_cast<void>(take(change, id));
}

Rows::Slot* Rows::take(const engine::Row& change, std::string& id) {
  digest_ += spread(engine::hash(change.value)) * static_cast<std::uint64_t>(change.weight);
  id = id_of(change.value, key_);
  if (id.empty()) {
    // Its disappearance is told as its appearance was, so the count comes back to zero.
    without_key_ = static_cast<std::size_t>(static_cast<std::int64_t>(without_key_) +
                                            (change.weight > 0 ? 1 : -1));
    return nullptr;
  }
  Slot& slot = slots_[id];
  apply(slot, change);
  return &slot;
}

void Rows::apply(Slot& slot, const engine::Row& change) {
  const bool had_one = slot.row.kind() != engine::Kind::null;
  const bool was_twice = slot.twice;
  if (!was_twice && slot.all.empty() && had_one && change.weight == -1 &&
      slot.row == change.value) {
    slot.row = Value();
    --rows_;
    return;
  }
  if (!was_twice && slot.all.empty() && !had_one && change.weight == 1) {
    slot.row = change.value;
    ++rows_;
    return;
  }
  // More than one row, or changes in an order in which the new row comes before the old one goes.
  if (had_one && slot.all.empty()) static_cast<void>(slot.all.add(slot.row, 1));
  static_cast<void>(slot.all.add(change.value, change.weight));
  std::size_t present = 0;
  slot.row = Value();
  bool pending = false;
  for (std::size_t i = 0; i < slot.all.size(); ++i) {
    const engine::Row& row = slot.all.row(i);
    if (row.weight > 0) {
      ++present;
      slot.row = row.value;
    } else {
      pending = true;
    }
  }
  slot.twice = present > 1;
  if (slot.twice) slot.row = Value();
  const bool has_one = present == 1;
  rows_ += static_cast<std::size_t>(has_one) - static_cast<std::size_t>(had_one);
  twice_ += static_cast<std::size_t>(slot.twice) - static_cast<std::size_t>(was_twice);
  const bool plain = present == 0 || (has_one && slot.all.weight(slot.row) == 1);
  if (!pending && plain) slot.all.clear();
}

Rows::Slot* Rows::find(const std::string& id) {
  const auto found = slots_.find(id);
  return found == slots_.end() ? nullptr : &found->second;
}

void Rows::drop_if_empty(const std::string& id) {
  const auto found = slots_.find(id);
  if (found != slots_.end() && found->second.is_empty()) slots_.erase(found);
}

std::size_t Rows::memory() const {
  return memory_of_map(slots_, [](const std::string& id, const Slot& slot) {
    std::size_t bytes = text_memory(id) + engine::memory_of(slot.row);
    // Most often they are the same object.
    if (slot.told->bits != slot.row->bits) bytes += engine::memory_of(slot.told);
    return bytes;
  });
}

void Rows::drop_empty() {
  std::erase_if(slots_, [](const auto& item) { return item.second.is_empty(); });
}

}  // namespace dmm::view
