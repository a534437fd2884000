#include "dmm/worker/entry_store.h"

#include "dmm/internal/streams.h"

namespace dmm::worker {

Entry Entry::from(std::optional<transport::Message> message) {
  Entry entry;
  if (!message) return entry;
  entry.revision = message->sequence;
  entry.stored_at = message->stored_at;
  if (const auto error = internal::newer(*message, "the entry")) entry.newer = error->message();
  if (const auto header = message->header(wire::kDone)) entry.done = wire::parse_done(*header);
  if (wire::is_removed(*message)) return entry;
  if (const auto view = message->header(wire::kView)) entry.view = *view;
  entry.value = std::move(message->payload);
  return entry;
}

std::size_t EntryStore::bytes_of(const Slot& slot) {
  constexpr std::size_t kOverhead = 200;  // nodes of the list and the map, the Done
  return kOverhead + slot.key.size() + (slot.entry.value ? slot.entry.value->size() : 0);
}

const Entry* EntryStore::find(const std::string& key) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return complete_ ? &missing_ : nullptr;
  slots_.splice(slots_.begin(), slots_, found->second);
  return &slots_.front().entry;
}

void EntryStore::put(const std::string& key, Entry entry) {
  if (const auto found = by_key_.find(key); found != by_key_.end()) take_out(found->second);
  slots_.push_front(Slot{key, std::move(entry)});
  by_key_.emplace(slots_.front().key, slots_.begin());
  bytes_ += bytes_of(slots_.front());
  while (bytes_ > bytes_max_ && slots_.size() > 1) {
    take_out(std::prev(slots_.end()));
    complete_ = false;
  }
}

void EntryStore::drop(const std::string& key) {
  if (const auto found = by_key_.find(key); found != by_key_.end()) take_out(found->second);
  complete_ = false;
}

void EntryStore::take_out(std::list<Slot>::iterator slot) {
  bytes_ -= bytes_of(*slot);
  by_key_.erase(slot->key);
  slots_.erase(slot);
}

void EntryStore::clear() {
  by_key_.clear();
  slots_.clear();
  bytes_ = 0;
  complete_ = false;
}

}  // namespace dmm::worker
