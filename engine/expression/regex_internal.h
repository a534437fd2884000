#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dmm::engine::internal {

/// A regular expression matched in time linear in the text (a set of states walks over it, as in
/// Thompson's construction): no pattern can make a document expensive.
///
/// Syntax: that of RE2 without captures' contents, Unicode classes and named groups: literals, `.`,
/// classes with ranges and \d \w \s \D \W \S, anchors ^ $ \A \z, \b \B, groups, `|`, `* + ? {n,m}`,
/// lazy forms, and the flag (?i) in front. Characters are code points of UTF-8.
class Regex {
 public:
  /// throws Error when the pattern is malformed or too large.
  explicit Regex(std::string_view pattern);
  /// True when the pattern matches somewhere in `text`. O(text * pattern).
  bool search(std::string_view text) const;

 private:
  friend class RegexParser;
  enum class Op : std::uint8_t {
    character,
    set,
    any,
    split,
    jump,
    begin,
    end,
    word,
    not_word,
    match
  };
  struct Range {
    std::uint32_t low;
    std::uint32_t high;
  };
  struct Instruction {
    Op op;
    bool negated = false;
    std::uint32_t a = 0;  // character, or first target
    std::uint32_t b = 0;  // second target
    std::vector<Range> ranges = {};
  };
  bool takes(const Instruction& instruction, std::uint32_t c) const;
  void add(std::vector<std::uint32_t>& list, std::vector<std::uint32_t>& seen, std::uint32_t mark,
           std::uint32_t start, std::string_view text, std::size_t at) const;

  std::vector<Instruction> program_;
  bool fold_case_ = false;
};

}  // namespace dmm::engine::internal
