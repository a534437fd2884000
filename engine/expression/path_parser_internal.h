#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/expression/path.h"

namespace dmm::engine::internal {

/// Recursive descent over the text behind the root of a path.
class PathParser {
 public:
  PathParser(std::string_view rest, std::string_view whole) : text_(rest), whole_(whole) {}
  std::vector<PathSegment> parse_all();

 private:
  std::vector<PathSegment> segments();
  PathSegment bracket();
  PathSelector selector();
  std::string quoted();
  std::string bare_name();
  std::int64_t number();
  bool at_number() const;
  std::shared_ptr<const PathFilter> either();
  std::shared_ptr<const PathFilter> both();
  std::shared_ptr<const PathFilter> term();
  PathFilter::Operand operand();
  void space();
  bool eat(std::string_view token);
  void expect(char c);
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  [[noreturn]] void fail(const std::string& why) const;

  std::string_view text_;
  std::string_view whole_;
  std::size_t at_ = 0;
  std::size_t depth_ = 0;
  bool in_filter_ = false;
};

}  // namespace dmm::engine::internal
