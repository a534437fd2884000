#include "engine/packed/packed_table_internal.h"

#include <cstdlib>
#include <new>

namespace dmm::engine::internal {

BucketList::~BucketList() {
  for (Chunk** segment : segments_) std::free(segment);
}

void BucketList::push() {
  const auto segment = static_cast<std::size_t>(std::bit_width(size_ / kFirst));
  if (segments_[segment] == nullptr) {
    const std::size_t slots = segment == 0 ? kFirst : std::size_t{kFirst} << (segment - 1);
    segments_[segment] = static_cast<Chunk**>(std::calloc(slots, sizeof(Chunk*)));
    if (segments_[segment] == nullptr) throw std::bad_alloc();
  }
  mask_ = mask_for(++size_);
}

void BucketList::pop() noexcept {
  mask_ = mask_for(--size_);
  const auto segment = static_cast<std::size_t>(std::bit_width(size_ / kFirst));
  // The segment above stays until it is far, so that a bucket that comes and goes costs no malloc.
  if (segment + 1 < segments_.size() && segments_[segment + 1] != nullptr &&
      size_ < (kFirst << segment) / 4 * 3) {
    std::free(segments_[segment + 1]);
    segments_[segment + 1] = nullptr;
  }
}

PackedTable::Place PackedTable::find(ValueRef row, std::uint32_t hash) {
  store_.look(row);
  last_make_ = store_.tree();
  if (last_make_ >= makes_.size() || !makes_[last_make_]) return {};
  const Make& make = *makes_[last_make_];
  if (make.rows == 0) return {};
  Chunk*& bucket = make.buckets.of(hash);
  if (bucket == nullptr) return {};
  const RowStore::Place place = store_.find(*bucket);
  return place.found ? Place{&bucket, place.at} : Place{};
}

PackedTable::Place PackedTable::insert(std::uint32_t hash, Weight weight) {
  if (last_make_ >= makes_.size()) makes_.resize(std::size_t{last_make_} + 1);
  if (!makes_[last_make_]) makes_[last_make_] = std::make_unique<Make>();
  Make& make = *makes_[last_make_];
  if (make.rows + 1 > make.buckets.size() * rows_per_bucket(make.row_bytes)) grow(make);
  Chunk*& bucket = make.buckets.of(hash);
  Place place{&bucket, 0};
  if (bucket == nullptr)
    bucket = store_.make(weight);
  else
    place.at = store_.insert(bucket, store_.find(*bucket), weight);
  make.row_bytes = store_.at(*bucket, 0).layout->stride();
  ++make.rows;
  ++size_;
  return place;
}

void PackedTable::grow(Make& make) {
  BucketList& buckets = make.buckets;
  buckets.push();
  const std::uint32_t last = buckets.size() - 1;
  if (last == 0) return;
  Chunk*& from = buckets[buckets.origin_of_last()];
  if (from == nullptr) return;
  try {
    store_.partition(from, buckets[last], [&](const PackedRow& row) {
      return &buckets.of(row.layout->hash(row.record)) == &buckets[last];
    });
  } catch (...) {
    buckets.pop();
    throw;
  }
}

void PackedTable::erase(const Place& place) noexcept {
  const PackedRow row = store_.at(**place.bucket, place.at);
  Make& make = *makes_[row.layout->tree_number()];
  store_.erase(*place.bucket, place.at);
  --make.rows;
  --size_;
  if (make.buckets.size() > 1 &&
      make.rows < (make.buckets.size() / 3) * rows_per_bucket(make.row_bytes))
    shrink(make);
}

// Puts the rows of the last bucket back to where they were split from.
void PackedTable::shrink(Make& make) noexcept {
  BucketList& buckets = make.buckets;
  Chunk*& last = buckets[buckets.size() - 1];
  Chunk*& origin = buckets[buckets.origin_of_last()];
  try {
    if (origin == nullptr)
      std::swap(origin, last);
    else if (last != nullptr)
      store_.merge(origin, last);
  } catch (const std::bad_alloc&) {
    return;  // The bucket stays.
  }
  buckets.pop();
}

bool PackedTable::add(ValueRef row, Weight weight, Weight& before) {
  before = 0;
  if (const Place place = find(row)) {
    before = store_.at(**place.bucket, place.at).weight();
    Weight sum;
    if (!add_weights(before, weight, sum)) return false;
    if (sum == 0)
      erase(place);
    else
      store_.set_weight(*place.bucket, place.at, sum);
    return true;
  }
  if (weight == 0) return true;
  insert(hash(row), weight);
  return true;
}

void PackedTable::prefetch_bucket(std::uint32_t hash) const noexcept {
  if (last_make_ >= makes_.size() || !makes_[last_make_] || makes_[last_make_]->rows == 0) return;
  __builtin_prefetch(&makes_[last_make_]->buckets.of(hash));
}

void PackedTable::prefetch_rows(std::uint32_t hash) const noexcept {
  if (last_make_ >= makes_.size() || !makes_[last_make_] || makes_[last_make_]->rows == 0) return;
  const auto* lines = reinterpret_cast<const std::byte*>(makes_[last_make_]->buckets.of(hash));
  if (lines == nullptr) return;
  for (int line = 0; line < 4; ++line) __builtin_prefetch(lines + 64 * line);
}

void PackedTable::clear() noexcept {
  for (auto& make : makes_)
    for (std::uint32_t bucket = 0; make && bucket < make->buckets.size(); ++bucket)
      store_.clear(make->buckets[bucket]);
  makes_.clear();
  size_ = 0;
}

}  // namespace dmm::engine::internal
