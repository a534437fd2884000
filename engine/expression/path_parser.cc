#include <charconv>
#include <cstdlib>

#include "engine/error.h"
#include "engine/expression/path_parser_internal.h"
#include "engine/limits.h"

namespace dmm::engine::internal {
namespace {

bool ends_name(char c, bool in_filter) {
  if (c == '.' || c == '[' || c == '\0') return true;
  return in_filter && (c == ' ' || c == ')' || c == '=' || c == '!' || c == '<' || c == '>' ||
                       c == '&' || c == '|' || c == ']' || c == ',');
}

}  // namespace

void PathParser::fail(const std::string& why) const {
  throw Error("invalid JSONPath \"" + std::string(whole_.substr(0, 200)) + "\" at byte " +
              std::to_string(at_) + " behind the root: " + why);
}

void PathParser::space() {
  while (peek() == ' ') ++at_;
}

bool PathParser::eat(std::string_view token) {
  if (text_.substr(at_).starts_with(token)) {
    at_ += token.size();
    return true;
  }
  return false;
}

void PathParser::expect(char c) {
  space();
  if (peek() != c) fail(std::string("expected '") + c + "'");
  ++at_;
}

std::vector<PathSegment> PathParser::parse_all() {
  auto result = segments();
  if (at_ != text_.size()) fail("unexpected text");
  return result;
}

std::vector<PathSegment> PathParser::segments() {
  std::vector<PathSegment> result;
  while (at_ < text_.size()) {
    PathSegment segment;
    if (eat("..")) {
      segment.descend = true;
      if (peek() == '[') {
        segment.selectors = bracket().selectors;
        result.push_back(std::move(segment));
        continue;
      }
    } else if (peek() == '[') {
      result.push_back(bracket());
      continue;
    } else if (!eat(".")) {
      break;
    }
    PathSelector selector;
    if (eat("*"))
      selector.type = PathSelector::Type::wildcard;
    else
      selector.name = bare_name();
    segment.selectors.push_back(std::move(selector));
    result.push_back(std::move(segment));
  }
  return result;
}

std::string PathParser::bare_name() {
  const std::size_t from = at_;
  while (at_ < text_.size() && !ends_name(text_[at_], in_filter_)) ++at_;
  if (at_ == from) fail("a member name is missing");
  return std::string(text_.substr(from, at_ - from));
}

PathSegment PathParser::bracket() {
  PathSegment segment;
  expect('[');
  do {
    segment.selectors.push_back(selector());
    space();
  } while (eat(","));
  expect(']');
  return segment;
}

bool PathParser::at_number() const {
  return peek() == '-' || (peek() >= '0' && peek() <= '9');
}

std::int64_t PathParser::number() {
  std::int64_t value = 0;
  const char* first = text_.data() + at_;
  const auto result = std::from_chars(first, text_.data() + text_.size(), value);
  if (result.ec != std::errc()) fail("bad number");
  at_ += static_cast<std::size_t>(result.ptr - first);
  constexpr std::int64_t kFar = std::int64_t{1} << 40;
  if (value > kFar || value < -kFar) fail("number out of range");
  return value;
}

PathSelector PathParser::selector() {
  PathSelector result;
  space();
  if (peek() == '\'' || peek() == '"') {
    result.name = quoted();
    return result;
  }
  if (eat("*")) {
    result.type = PathSelector::Type::wildcard;
    return result;
  }
  if (eat("?")) {
    result.type = PathSelector::Type::filter;
    const bool outer = in_filter_;
    in_filter_ = true;
    result.filter = either();
    in_filter_ = outer;
    return result;
  }
  if (!at_number() && peek() != ':')
    fail("expected a quoted name, an index, *, a slice or a filter");
  if (at_number()) result.start = number();
  space();
  if (!eat(":")) {
    result.type = PathSelector::Type::index;
    result.index = *result.start;
    return result;
  }
  result.type = PathSelector::Type::slice;
  space();
  if (at_number()) result.end = number();
  space();
  if (eat(":")) {
    space();
    if (at_number()) result.step = number();
    if (result.step == 0) fail("a slice cannot step by 0");
  }
  return result;
}

std::string PathParser::quoted() {
  const char quote = peek();
  ++at_;
  std::string result;
  while (at_ < text_.size() && text_[at_] != quote) {
    if (text_[at_] == '\\' && at_ + 1 < text_.size()) ++at_;
    result += text_[at_++];
  }
  if (at_ >= text_.size()) fail("unterminated quote");
  ++at_;
  return result;
}

std::shared_ptr<const PathFilter> PathParser::either() {
  if (++depth_ > limits::kDepthMax) fail("filter nested too deeply");
  auto result = std::make_shared<PathFilter>();
  result->type = PathFilter::Type::either;
  do {
    result->parts.push_back(both());
    space();
  } while (eat("||"));
  --depth_;
  return result;
}

std::shared_ptr<const PathFilter> PathParser::both() {
  auto result = std::make_shared<PathFilter>();
  result->type = PathFilter::Type::both;
  do {
    result->parts.push_back(term());
    space();
  } while (eat("&&"));
  return result;
}

std::shared_ptr<const PathFilter> PathParser::term() {
  space();
  auto result = std::make_shared<PathFilter>();
  if (peek() == '!' && !text_.substr(at_).starts_with("!=")) {
    ++at_;
    if (++depth_ > limits::kDepthMax) fail("filter nested too deeply");
    result->type = PathFilter::Type::negation;
    result->parts.push_back(term());
    --depth_;
    return result;
  }
  if (eat("(")) {
    auto inner = either();
    expect(')');
    return inner;
  }
  result->left = operand();
  space();
  using Order = PathFilter::Order;
  static constexpr std::pair<std::string_view, Order> kOrders[] = {
      {"==", Order::eq}, {"!=", Order::ne}, {"<=", Order::le},
      {">=", Order::ge}, {"<", Order::lt},  {">", Order::gt}};
  for (const auto& [token, order] : kOrders) {
    if (!eat(token)) continue;
    result->type = PathFilter::Type::compare;
    result->order = order;
    result->right = operand();
    return result;
  }
  return result;
}

PathFilter::Operand PathParser::operand() {
  space();
  PathFilter::Operand result;
  if (peek() == '@' || peek() == '$') {
    result.from_root = peek() == '$';
    ++at_;
    Path path;
    path.text_ = whole_;
    path.segments_ = segments();
    path.plain_ = false;
    result.path = std::make_shared<const Path>(std::move(path));
    return result;
  }
  if (peek() == '\'' || peek() == '"') {
    result.literal = Value::string(quoted());
  } else if (eat("true")) {
    result.literal = Value::boolean(true);
  } else if (eat("false")) {
    result.literal = Value::boolean(false);
  } else if (!eat("null")) {
    double value = 0;
    const char* first = text_.data() + at_;
    const auto parsed = std::from_chars(first, text_.data() + text_.size(), value);
    if (parsed.ec != std::errc()) fail("expected @, $, a string, a number, true, false or null");
    at_ += static_cast<std::size_t>(parsed.ptr - first);
    result.literal = Value::number(value);
  }
  return result;
}

}  // namespace dmm::engine::internal
