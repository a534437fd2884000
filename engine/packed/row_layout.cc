#include "engine/packed/row_layout_internal.h"

#include <algorithm>
#include <cmath>

namespace dmm::engine::internal {
namespace {

enum Class : ColumnClasses {
  kNull = 1 << 0,
  kBoolean = 1 << 1,
  kByte1 = 1 << 2,  // integers from 0 that need one byte, two …
  kByte2 = 1 << 3,
  kByte3 = 1 << 4,
  kByte4 = 1 << 5,
  kNegative = 1 << 6,  // -2^31 … -1
  kExact = 1 << 7,     // other integers that a double holds exactly: up to ±2^53
  kLong = 1 << 8,      // all other integers
  kReal = 1 << 9,
  kString = 1 << 10,
  kOther = Column::kOther,
  kNaturals = kByte1 | kByte2 | kByte3 | kByte4,
  kIntegers = kNaturals | kNegative | kExact | kLong,
  kNumbers = kIntegers | kReal,
  kAll = kNull | kBoolean | kNumbers | kString | kOther
};

constexpr std::size_t kTreeDepthMax = 4;
constexpr std::size_t kTupleMax = 8;

// Eight bytes whose first `width` are the big end of a number, so that bytes compare as numbers do.
std::uint64_t big_end(std::uint64_t bits) noexcept {
  return std::endian::native == std::endian::little ? __builtin_bswap64(bits) : bits;
}
std::uint64_t load(const std::uint8_t* at, unsigned width) noexcept {
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return big_end(word) >> (64 - 8 * width);
}
void store(std::uint8_t* at, std::uint64_t bits, unsigned width) noexcept {
  const std::uint64_t word = big_end(bits << (64 - 8 * width));
  std::memcpy(at, &word, sizeof word);
}

constexpr std::uint64_t kSign = std::uint64_t{1} << 63;
std::uint64_t ordered_bits(double value) noexcept {
  const auto bits = std::bit_cast<std::uint64_t>(value);
  return (bits & kSign) != 0 ? ~bits : bits | kSign;
}
double from_ordered_bits(std::uint64_t bits) noexcept {
  return std::bit_cast<double>((bits & kSign) != 0 ? bits ^ kSign : ~bits);
}
std::uint64_t bias(unsigned width) noexcept {
  return std::uint64_t{1} << (8 * width - 1);
}

Column naturals(ColumnClasses classes) noexcept {
  const auto width = static_cast<std::uint8_t>(std::bit_width(classes) - 2);
  return {Column::Type::natural, width, false,
          static_cast<ColumnClasses>(((1U << (width + 2)) - 1) & kNaturals), 0};
}

bool may_be_taken_apart(ValueRef value, std::size_t depth, std::size_t& leaves) noexcept {
  const bool root_list = depth == 0 && value.kind == Kind::list;
  if (value.kind != Kind::object && !root_list) return ++leaves <= kLeavesMax;
  if (depth >= kTreeDepthMax || (root_list && value.size() > kTupleMax)) return false;
  for (std::size_t i = 0, n = value.size(); i < n; ++i)
    if (!may_be_taken_apart(value.at(i), depth + 1, leaves)) return false;
  return true;
}

// What the column for these classes accepts; rows of many columns ask for each of them.
ColumnClasses rounded(ColumnClasses classes) noexcept {
  static const auto kAccepted = [] {
    std::array<ColumnClasses, kAll + 1> table{};
    for (unsigned i = 0; i <= kAll; ++i)
      table[i] = Column::of(static_cast<ColumnClasses>(i)).accepts;
    return table;
  }();
  return kAccepted[classes & kAll];
}

std::uint64_t sum_of(std::span<const ColumnClasses> classes, std::uint8_t weight_bytes) noexcept {
  const auto* bytes = reinterpret_cast<const char*>(classes.data());
  return mix(hash_bytes({bytes, classes.size_bytes()}), weight_bytes);
}

RowTree tree_at(ValueRef value, std::size_t depth) {
  RowTree tree;
  if (value.kind == Kind::object) {
    tree.make = RowTree::Make::object;
    tree.shape = ShapePtr::share(value.shape());
  } else if (depth == 0 && value.kind == Kind::list) {
    tree.make = RowTree::Make::tuple;
  } else {
    return tree;
  }
  for (std::size_t i = 0, n = value.size(); i < n; ++i)
    tree.parts.push_back(tree_at(value.at(i), depth + 1));
  return tree;
}

}  // namespace

Column Column::of(ColumnClasses classes) noexcept {
  const auto content = static_cast<ColumnClasses>(classes & ~kNull);
  Column column;
  if (content == 0) {
    column.accepts = kNull;
    return column;
  }
  if (content == kBoolean)
    column = {Type::boolean, 1, false, kBoolean, 0};
  else if ((content & ~kNaturals) == 0)
    column = naturals(content);
  else if ((content & ~(kNaturals | kNegative)) == 0)
    column = (content & kByte4) == 0
                 ? Column{Type::integer, 4, false, kByte1 | kByte2 | kByte3 | kNegative, 0}
                 : Column{Type::integer, 5, false, kNaturals | kNegative, 0};
  else if ((content & ~kIntegers) == 0)
    column = {Type::integer, 8, false, kIntegers, 0};
  else if ((content & ~kNumbers) == 0 && (content & kLong) == 0)
    column = {Type::real, 8, false, kNumbers & ~kLong, 0};
  else if (content == kString)
    column = {Type::string, 8, false, kString, 0};
  else
    return {Type::any, 9, false, kAll, 0};
  column.nullable = (classes & kNull) != 0;
  column.accepts = static_cast<ColumnClasses>(column.accepts | (classes & kNull));
  return column;
}

ColumnClasses Column::class_of(ValueRef value) noexcept {
  switch (value.kind) {
    case Kind::null:
      return kNull;
    case Kind::boolean:
      return kBoolean;
    case Kind::real:
      return kReal;
    case Kind::string:
      return kString;
    case Kind::list:
    case Kind::object:
      return kOther;
    case Kind::integer:
      break;
  }
  const std::int64_t number = value.as_integer();
  constexpr std::int64_t kExactMax = std::int64_t{1} << 53;
  if (number >= 0) {
    const auto bytes = (std::bit_width(static_cast<std::uint64_t>(number) | 1) + 7) / 8;
    if (bytes <= 4) return static_cast<ColumnClasses>(kByte1 << (bytes - 1));
    return number <= kExactMax ? kExact : kLong;
  }
  if (number >= INT32_MIN) return kNegative;
  return number >= -kExactMax ? kExact : kLong;
}

bool RowTree::flatten(ValueRef value, ValueRef*& to) const {
  if (make == Make::leaf) {
    *to++ = value;
    return value.kind != Kind::object;
  }
  if (make == Make::tuple) {
    if (value.kind != Kind::list || value.size() != parts.size()) return false;
  } else {
    if (value.kind != Kind::object) return false;
    const Shape* found = &value.shape();
    if (found != shape.get() && found != alias.get()) {
      if (!shape->same_keys(*found)) return false;
      alias = ShapePtr::share(*found);
    }
  }
  for (std::size_t i = 0; i < parts.size(); ++i)
    if (!parts[i].flatten(value.at(i), to)) return false;
  return true;
}

RowTree RowTree::of(ValueRef value) {
  std::size_t leaves = 0;
  return may_be_taken_apart(value, 0, leaves) ? tree_at(value, 0) : RowTree{};
}

std::size_t RowTree::leaves() const noexcept {
  if (make == Make::leaf) return 1;
  std::size_t sum = 0;
  for (const RowTree& part : parts) sum += part.leaves();
  return sum;
}

RowLayout::RowLayout(Name name, const RowTree& tree, std::span<const ColumnClasses> classes,
                     std::uint8_t weight_bytes, std::size_t payload_bytes)
    : tree_(&tree), name_(name), weight_bytes_(weight_bytes) {
  for (const ColumnClasses seen : classes) {
    Column column = Column::of(seen);
    column.offset = static_cast<std::uint32_t>(row_bytes_);
    row_bytes_ += column.width + (column.nullable ? 1U : 0U);
    if (column.type == Column::Type::string || column.type == Column::Type::any)
      references_.push_back(static_cast<std::uint32_t>(columns_.size()));
    columns_.push_back(column);
  }
  stride_ = row_bytes_ + weight_bytes + payload_bytes;
}

void RowLayout::encode(std::span<const ValueRef> leaves, std::uint8_t* out) const noexcept {
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    const Column& column = columns_[i];
    const ValueRef value = leaves[i];
    if (column.nullable) {
      *out++ = value.is_null() ? 0 : 1;
      if (value.is_null()) {
        std::memset(out, 0, column.width);
        out += column.width;
        continue;
      }
    }
    switch (column.type) {
      case Column::Type::none:
        break;
      case Column::Type::boolean:
        *out = value.as_bool() ? 1 : 0;
        break;
      case Column::Type::natural:
        store(out, value.bits, column.width);
        break;
      case Column::Type::integer:
        store(out, value.bits + bias(column.width), column.width);
        break;
      case Column::Type::real:
        store(out, ordered_bits(value.as_double()), 8);
        break;
      case Column::Type::any:
        out[8] = static_cast<std::uint8_t>(value.kind);
        [[fallthrough]];
      case Column::Type::string:
        std::memcpy(out, &value.bits, 8);
    }
    out += column.width;
  }
}

ValueRef RowLayout::decode(const Column& column, const std::uint8_t* record) noexcept {
  const std::uint8_t* at = record + column.offset;
  if (column.nullable && *at++ == 0) return {};
  ValueRef result;
  switch (column.type) {
    case Column::Type::none:
      break;
    case Column::Type::boolean:
      return {*at, Kind::boolean};
    case Column::Type::natural:
      return {load(at, column.width), Kind::integer};
    case Column::Type::integer: {
      const std::uint64_t bits = load(at, column.width) - bias(column.width);
      return {bits, Kind::integer};
    }
    case Column::Type::real:
      return Value::number(from_ordered_bits(load(at, 8))).ref();
    case Column::Type::any:
      result.kind = static_cast<Kind>(at[8]);
      std::memcpy(&result.bits, at, 8);
      break;
    case Column::Type::string:
      result.kind = Kind::string;
      std::memcpy(&result.bits, at, 8);
  }
  return result;
}

Value RowLayout::value_of(const RowTree& tree, const std::uint8_t* record,
                          std::size_t& leaf) const {
  if (tree.make == RowTree::Make::leaf) return Value(decode(columns_[leaf++], record));
  const auto part = [&](std::size_t i) { return value_of(tree.parts[i], record, leaf); };
  if (tree.make == RowTree::Make::object) return Value::object_of(*tree.shape, part);
  std::array<Value, kTupleMax> parts;
  for (std::size_t i = 0; i < tree.parts.size(); ++i) parts[i] = part(i);
  return Value::list({parts.data(), tree.parts.size()});
}

Value RowLayout::value(const std::uint8_t* record) const {
  std::size_t leaf = 0;
  return value_of(*tree_, record, leaf);
}

std::uint32_t RowLayout::hash_of(const RowTree& tree, const std::uint8_t* record,
                                 std::size_t& leaf) const noexcept {
  if (tree.make == RowTree::Make::leaf) return engine::hash(decode(columns_[leaf++], record));
  PartsHash hash(tree.shape.get());
  for (const RowTree& part : tree.parts) hash.add(hash_of(part, record, leaf));
  return hash.result();
}

std::uint32_t RowLayout::hash(const std::uint8_t* record) const noexcept {
  std::size_t leaf = 0;
  return hash_of(*tree_, record, leaf);
}

// Bytes between references compare as the leaves do.
int RowLayout::compare_leaves(const std::uint8_t* a, const std::uint8_t* b) const noexcept {
  std::size_t from = 0;
  for (const std::uint32_t index : references_) {
    const Column& column = columns_[index];
    if (const int order = std::memcmp(a + from, b + from, column.offset - from); order != 0)
      return order;
    if (const int order = engine::compare(decode(column, a), decode(column, b)); order != 0)
      return order;
    from = column.offset + column.width + (column.nullable ? 1U : 0U);
  }
  return std::memcmp(a + from, b + from, row_bytes_ - from);
}

void RowLayout::count(const std::uint8_t* record, bool retain) const noexcept {
  for (const std::uint32_t index : references_) {
    const ValueRef held = decode(columns_[index], record);
    if (retain)
      Value(held).release_ref();
    else
      Value::adopt(held);
  }
}

Weight RowLayout::weight(const std::uint8_t* record) const noexcept {
  if (weight_bytes_ == 0) return 1;
  if (weight_bytes_ == 1) return static_cast<std::int8_t>(record[row_bytes_]);
  Weight weight;
  std::memcpy(&weight, record + row_bytes_, sizeof weight);
  return weight;
}

void RowLayout::set_weight(std::uint8_t* record, Weight weight) const noexcept {
  if (weight_bytes_ == 1) record[row_bytes_] = static_cast<std::uint8_t>(weight);
  if (weight_bytes_ == 8) std::memcpy(record + row_bytes_, &weight, sizeof weight);
}

LayoutSet::LayoutSet(std::size_t payload_bytes) : payload_bytes_(payload_bytes) {
  trees_.push_back(std::make_unique<Known>());
  trees_.front()->widest.resize(1);
}

std::uint16_t LayoutSet::tree_of(ValueRef value, ValueRef* leaves, std::size_t& count) {
  const auto is = [&](std::uint16_t number) {
    ValueRef* end = leaves;
    if (!trees_[number]->tree.flatten(value, end)) return false;
    count = static_cast<std::size_t>(end - leaves);
    return true;
  };
  if (value.kind == Kind::object || value.kind == Kind::list) {
    if (last_ != kWhole && is(last_)) return last_;
    for (std::uint16_t number = 1; number < trees_.size(); ++number)
      if (is(number)) return last_ = number;
    RowTree tree = trees_.size() < kTreesMax ? RowTree::of(value) : RowTree{};
    if (tree.make != RowTree::Make::leaf) {
      auto made = std::make_unique<Known>();
      made->tree = std::move(tree);
      made->widest.resize(made->tree.leaves());
      trees_.push_back(std::move(made));
      last_ = static_cast<std::uint16_t>(trees_.size() - 1);
      static_cast<void>(is(last_));
      return last_;
    }
  }
  *leaves = value.kind == Kind::real ? Value(value).canonical().ref() : value;
  count = 1;
  return kWhole;
}

const RowLayout* LayoutSet::find(const Known& known, std::uint64_t sum,
                                 std::uint8_t weight_bytes) const {
  for (const auto& [other_sum, id] : known.layouts) {
    if (other_sum != sum) continue;
    const RowLayout& layout = *layouts_[id];
    const auto same = [](const Column& column, ColumnClasses wanted) {
      return column.accepts == wanted;
    };
    if (layout.weight_bytes() == weight_bytes &&
        std::equal(layout.columns().begin(), layout.columns().end(), wanted_.begin(), same))
      return &layout;
  }
  return nullptr;
}

// wanted_ says what the columns are to hold; it is rounded up to what some column does hold, so
// that equal columns are found again.
const RowLayout& LayoutSet::find_or_make(std::uint16_t tree, std::uint8_t weight_bytes) {
  Known& known = *trees_[tree];
  for (std::size_t i = 0; i < wanted_.size(); ++i) {
    wanted_[i] = rounded(wanted_[i]);
    known.widest[i] |= wanted_[i];
  }
  std::uint64_t sum = sum_of(wanted_, weight_bytes);
  if (const RowLayout* found = find(known, sum, weight_bytes)) return *found;
  if (known.layouts.size() >= kLayoutsMax) {
    for (std::size_t i = 0; i < wanted_.size(); ++i)
      wanted_[i] = known.widest[i] = rounded(known.widest[i]);
    if (known.layouts.size() >= 2 * kLayoutsMax) {
      std::fill(wanted_.begin(), wanted_.end(), kAll);
      weight_bytes = 8;
    }
    sum = sum_of(wanted_, weight_bytes);
    if (const RowLayout* found = find(known, sum, weight_bytes)) return *found;
  }
  const RowLayout::Name name{static_cast<std::uint16_t>(layouts_.size()), tree};
  layouts_.push_back(
      std::make_unique<RowLayout>(name, known.tree, wanted_, weight_bytes, payload_bytes_));
  known.layouts.emplace_back(sum, name.id);
  return *layouts_.back();
}

const RowLayout& LayoutSet::narrowest(std::uint16_t tree, std::span<const ColumnClasses> classes,
                                      std::uint8_t weight_bytes) {
  Narrow& known = narrow_[mix(sum_of(classes, weight_bytes), tree) % narrow_.size()];
  if (known.layout != nullptr && known.tree == tree && known.weight_bytes == weight_bytes &&
      std::equal(classes.begin(), classes.end(), known.classes.begin(), known.classes.end()))
    return *known.layout;
  wanted_.assign(classes.begin(), classes.end());
  const RowLayout& found = find_or_make(tree, weight_bytes);
  known = {tree, weight_bytes, {classes.begin(), classes.end()}, &found};
  return found;
}

const RowLayout& LayoutSet::widened(const RowLayout& layout, std::span<const ColumnClasses> classes,
                                    std::uint8_t weight_bytes) {
  wanted_.resize(layout.columns().size());
  for (std::size_t i = 0; i < wanted_.size(); ++i) {
    wanted_[i] = layout.columns()[i].accepts;
    if (!classes.empty()) wanted_[i] |= classes[i];
  }
  return find_or_make(layout.tree_number(), std::max(weight_bytes, layout.weight_bytes()));
}

}  // namespace dmm::engine::internal
