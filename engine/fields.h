#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/value.h"

namespace dmm::engine {

/// The set of fields of a document that something uses: a tree of member names, whose leaves stand
/// for everything below them.
class Fields {
 public:
  /// Everything: the root itself is a leaf.
  static Fields all() { return Fields(true); }
  /// Nothing, to be added to.
  static Fields none() { return Fields(false); }

  /// Adds the field at `path` with all below it; an empty path means the whole document.
  void add(const std::vector<std::string>& path);
  void add(const Fields& other);
  bool whole() const noexcept { return whole_; }
  /// The fields below member `name`, or nullptr when nothing of it is used.
  const Fields* member(std::string_view name) const;
  const std::map<std::string, Fields, std::less<>>& members() const noexcept { return members_; }
  /// "a.b, c" or "*".
  std::string text() const;

  /// The document with all else left out. A field that the document lacks stays absent; where the
  /// document has something other than an object, it is kept as it is. Not for two threads at once.
  Value pick(ValueRef document) const;

 private:
  explicit Fields(bool whole) : whole_(whole) {}
  void append_paths(const std::string& prefix, std::string& out) const;
  bool whole_;
  std::map<std::string, Fields, std::less<>> members_;
  // The last shape met and what remains of it, so that documents of one make share a shape.
  struct Plan {
    ShapePtr from;
    ShapePtr to;
    std::vector<std::pair<std::size_t, const Fields*>> kept;
    bool everything = false;  // nothing is left out, at any depth
  };
  // It names members of this object by their address, so a copy begins without one.
  struct Memo {
    Memo() = default;
    Memo(const Memo&) noexcept {}
    Memo(Memo&&) noexcept = default;
    Memo& operator=(Memo other) noexcept {
      plan = std::move(other.plan);
      return *this;
    }
    ~Memo() = default;
    std::shared_ptr<Plan> plan;
  };
  mutable Memo memo_;
};

}  // namespace dmm::engine
