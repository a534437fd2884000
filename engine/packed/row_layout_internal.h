/// RowLayout: how rows of one make lie in memory, packed.
///
/// Nobody declares types. What a row consists of is told by the row itself: the tree of its
/// objects, whose leaves are the columns. A column is as wide as the values need that were put into
/// the rows beside it; a value that does not fit leads to another, wider layout
/// (LayoutSet::widened).
///
/// Invariants:
///  1. Equal rows have equal bytes in one layout, unless it holds references (`flat()` is false).
///  2. In a flat layout the order of the bytes is the canonical order of the rows.
///  3. A row fits into a layout or it does not; what fits comes out again as the same value.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "engine/value.h"
#include "engine/weight.h"

namespace dmm::engine::internal {

/// Leaves of a row that is taken apart; larger rows are one leaf.
inline constexpr std::size_t kLeavesMax = 64;
/// Bytes that may be read and written behind the end of a record.
inline constexpr std::size_t kRecordSlack = 8;

/// What a column holds, one bit for each class of values.
using ColumnClasses = std::uint16_t;

/// One leaf of a row.
struct Column {
  enum class Type : std::uint8_t { none, boolean, natural, integer, real, string, any };
  Type type = Type::none;
  std::uint8_t width = 0;  ///< bytes of the content
  bool nullable = false;   ///< a byte before the content says whether it is there
  ColumnClasses accepts = 0;
  std::uint32_t offset = 0;

  /// The class that only a column of anything holds.
  static constexpr ColumnClasses kOther = 1 << 11;

  /// The narrowest column that holds all of these classes.
  static Column of(ColumnClasses classes) noexcept;
  /// The class of a value: one bit.
  static ColumnClasses class_of(ValueRef value) noexcept;
};

/// The make of a row: a value on its own, an object by members, or a short list by elements.
struct RowTree {
  enum class Make : std::uint8_t { leaf, object, tuple };
  Make make = Make::leaf;
  ShapePtr shape;          // of an object
  mutable ShapePtr alias;  // an equal shape of another maker, met last
  std::vector<RowTree> parts;

  /// Writes the leaves of `value` and moves `to` behind them. returns false when it is of another
  /// make.
  bool flatten(ValueRef value, ValueRef*& to) const;
  /// The make of `value`; a single leaf when it is too large or too deep to be taken apart.
  static RowTree of(ValueRef value);
  std::size_t leaves() const noexcept;
};

class RowLayout {
 public:
  struct Name {
    std::uint16_t id;    ///< within the set
    std::uint16_t tree;  ///< number of the make within the set
  };
  RowLayout(Name name, const RowTree& tree, std::span<const ColumnClasses> classes,
            std::uint8_t weight_bytes, std::size_t payload_bytes);

  std::uint16_t id() const noexcept { return name_.id; }
  std::uint16_t tree_number() const noexcept { return name_.tree; }
  const RowTree& tree() const noexcept { return *tree_; }
  std::span<const Column> columns() const noexcept { return columns_; }
  /// Bytes that say which row it is; behind them the weight, then the payload.
  std::size_t row_bytes() const noexcept { return row_bytes_; }
  std::size_t stride() const noexcept { return stride_; }
  std::uint8_t weight_bytes() const noexcept { return weight_bytes_; }
  bool flat() const noexcept { return references_.empty(); }

  bool fits(std::span<const ColumnClasses> classes) const noexcept {
    for (std::size_t i = 0; i < classes.size(); ++i)
      if ((classes[i] & ~columns_[i].accepts) != 0) return false;
    return true;
  }
  /// Writes the bytes of a row that fits; references are borrowed.
  void encode(std::span<const ValueRef> leaves, std::uint8_t* out) const noexcept;
  ValueRef leaf(const std::uint8_t* record, std::size_t index) const noexcept {
    return decode(columns_[index], record);
  }
  Value value(const std::uint8_t* record) const;
  /// The hash of value(record), without making it.
  std::uint32_t hash(const std::uint8_t* record) const noexcept;
  /// Canonical order of two records of this layout.
  int compare(const std::uint8_t* a, const std::uint8_t* b) const noexcept {
    return flat() ? std::memcmp(a, b, row_bytes_) : compare_leaves(a, b);
  }

  /// Whether a weight can be stored; 1 needs no bytes.
  static std::uint8_t bytes_of(Weight weight) noexcept {
    return weight == 1 ? 0 : (weight >= -128 && weight <= 127 ? 1 : 8);
  }
  Weight weight(const std::uint8_t* record) const noexcept;
  void set_weight(std::uint8_t* record, Weight weight) const noexcept;
  std::uint8_t* payload(std::uint8_t* record) const noexcept {
    return record + row_bytes_ + weight_bytes_;
  }

  /// Takes, or gives back, a reference to each shared value of a record.
  void retain(const std::uint8_t* record) const noexcept {
    if (!flat()) count(record, true);
  }
  void release(const std::uint8_t* record) const noexcept {
    if (!flat()) count(record, false);
  }

 private:
  static ValueRef decode(const Column& column, const std::uint8_t* record) noexcept;
  Value value_of(const RowTree& tree, const std::uint8_t* record, std::size_t& leaf) const;
  std::uint32_t hash_of(const RowTree& tree, const std::uint8_t* record,
                        std::size_t& leaf) const noexcept;
  int compare_leaves(const std::uint8_t* a, const std::uint8_t* b) const noexcept;
  void count(const std::uint8_t* record, bool retain) const noexcept;

  const RowTree* tree_;
  std::vector<Column> columns_;
  std::vector<std::uint32_t> references_;  // those of strings and of anything
  std::size_t row_bytes_ = 0;
  std::size_t stride_ = 0;
  Name name_;
  std::uint8_t weight_bytes_;
};

/// All makes and layouts that the rows of one store have shown.
class LayoutSet {
 public:
  /// payload_bytes   of each record, behind its row and weight.
  explicit LayoutSet(std::size_t payload_bytes);
  LayoutSet(const LayoutSet&) = delete;
  LayoutSet& operator=(const LayoutSet&) = delete;

  /// The number of the make of `value`, the same for equal values, always. Writes its leaves, at
  /// most kLeavesMax, and sets `count` to their number.
  std::uint16_t tree_of(ValueRef value, ValueRef* leaves, std::size_t& count);
  const RowTree& tree(std::uint16_t number) const noexcept { return trees_[number]->tree; }
  /// The make of a value on its own, which any value has when it is not taken apart.
  static constexpr std::uint16_t kWhole = 0;
  const RowLayout& layout(std::uint16_t id) const noexcept { return *layouts_[id]; }
  /// The layout for new rows of these classes.
  const RowLayout& narrowest(std::uint16_t tree, std::span<const ColumnClasses> classes,
                             std::uint8_t weight_bytes);
  /// A layout that holds what `layout` holds and these classes too; `classes` empty: only the
  /// weight.
  const RowLayout& widened(const RowLayout& layout, std::span<const ColumnClasses> classes,
                           std::uint8_t weight_bytes);

 private:
  struct Known {
    RowTree tree;
    std::vector<ColumnClasses> widest;                             // of all layouts made so far
    std::vector<std::pair<std::uint64_t, std::uint16_t>> layouts;  // by sum of what they hold
  };
  static constexpr std::size_t kTreesMax = 64;
  static constexpr std::size_t kLayoutsMax = 256;  // of a tree, before new ones are made wide

  const RowLayout& find_or_make(std::uint16_t tree, std::uint8_t weight_bytes);
  const RowLayout* find(const Known& known, std::uint64_t sum, std::uint8_t weight_bytes) const;

  std::size_t payload_bytes_;
  std::vector<std::unique_ptr<Known>> trees_;
  std::vector<std::unique_ptr<RowLayout>> layouts_;
  std::vector<ColumnClasses> wanted_;
  std::uint16_t last_ = 0;
  // The layouts that narrowest() gave last, by a sum of what was asked; few are in use at a time.
  struct Narrow {
    std::uint16_t tree = 0;
    std::uint8_t weight_bytes = 0;
    std::vector<ColumnClasses> classes;
    const RowLayout* layout = nullptr;
  };
  std::array<Narrow, 64> narrow_{};
};

}  // namespace dmm::engine::internal
