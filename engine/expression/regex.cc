#include "engine/expression/regex_internal.h"

#include <algorithm>

#include "engine/error.h"
#include "engine/limits.h"

namespace dmm::engine::internal {
namespace {

std::uint32_t fold(std::uint32_t c) {
  return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

bool word_char(std::uint32_t c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

// The code point at `at`, which is moved behind it; a stray byte stands for itself.
std::uint32_t next_code_point(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) {
    return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i]));
  };
  const std::uint32_t lead = byte(at++);
  int more = lead >= 0xF0 ? 3 : (lead >= 0xE0 ? 2 : (lead >= 0xC0 ? 1 : 0));
  std::uint32_t c = more == 3 ? lead & 7 : (more == 2 ? lead & 15 : (more == 1 ? lead & 31 : lead));
  for (; more > 0 && at < text.size() && (byte(at) & 0xC0) == 0x80; --more)
    c = (c << 6) | (byte(at++) & 0x3F);
  return c;
}

}  // namespace

class RegexParser {
 public:
  RegexParser(Regex& regex, std::string_view text) : regex_(regex), text_(text) {}

  void parse() {
    if (text_.starts_with("(?i)")) {
      regex_.fold_case_ = true;
      at_ = 4;
    }
    alternatives();
    if (at_ != text_.size()) fail("unmatched )");
    emit({Regex::Op::match});
  }

 private:
  using Op = Regex::Op;
  using Code = std::vector<Regex::Instruction>;

  [[noreturn]] void fail(const std::string& why) const {
    throw Error("bad regular expression at byte " + std::to_string(at_) + ": " + why);
  }
  Code& code() { return regex_.program_; }
  std::uint32_t here() { return static_cast<std::uint32_t>(code().size()); }
  std::uint32_t emit(Regex::Instruction instruction) {
    if (code().size() >= limits::kRegexProgramMax) fail("too large");
    code().push_back(std::move(instruction));
    return here() - 1;
  }
  bool more() const { return at_ < text_.size(); }
  bool eat(char c) {
    if (!more() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  // Makes room for one instruction at `start` and moves the targets behind it.
  void insert(std::uint32_t start, Regex::Instruction instruction) {
    if (code().size() >= limits::kRegexProgramMax) fail("too large");
    for (std::uint32_t i = start; i < here(); ++i) shift(code()[i], start, 1);
    code().insert(code().begin() + start, std::move(instruction));
  }
  static void shift(Regex::Instruction& instruction, std::uint32_t from, std::uint32_t by) {
    if (instruction.op != Op::split && instruction.op != Op::jump) return;
    if (instruction.a >= from) instruction.a += by;
    if (instruction.op == Op::split && instruction.b >= from) instruction.b += by;
  }

  void alternatives() {
    if (++depth_ > 100) fail("nested too deeply");
    const std::uint32_t start = here();
    sequence();
    if (eat('|')) {
      insert(start, {Op::split, false, start + 1, 0});
      const std::uint32_t jump = emit({Op::jump});
      code()[start].b = here();
      alternatives();
      code()[jump].a = here();
    }
    --depth_;
  }

  void sequence() {
    while (more() && text_[at_] != '|' && text_[at_] != ')') {
      const std::uint32_t start = here();
      atom();
      repeats(start);
    }
  }

  void repeats(std::uint32_t start) {
    if (!more()) return;
    if (eat('*')) {
      star(start);
    } else if (eat('+')) {
      emit({Op::split, false, start, here() + 1});
    } else if (eat('?')) {
      insert(start, {Op::split, false, start + 1, here() + 1});
    } else if (text_[at_] != '{' || !counted(start)) {
      return;
    }
    eat('?');  // laziness does not change whether something matches
    if (more() && (text_[at_] == '*' || text_[at_] == '+')) fail("nothing to repeat");
  }

  void star(std::uint32_t start) {
    insert(start, {Op::split, false, start + 1, here() + 2});
    emit({Op::jump, false, start});
  }

  bool counted(std::uint32_t start) {
    const std::size_t from = at_;
    std::size_t i = at_ + 1;
    const auto digits = [&](std::uint32_t& out) {
      const std::size_t first = i;
      out = 0;
      while (i < text_.size() && text_[i] >= '0' && text_[i] <= '9' && i - first < 5)
        out = out * 10 + static_cast<std::uint32_t>(text_[i++] - '0');
      return i > first;
    };
    std::uint32_t low = 0;
    if (!digits(low)) return false;  // a brace that starts no count is itself
    std::uint32_t high = low;
    bool unbounded = false;
    if (i < text_.size() && text_[i] == ',') {
      ++i;
      unbounded = !digits(high);
    }
    if (i >= text_.size() || text_[i] != '}') return false;
    at_ = i + 1;
    if (low > 1000 || (!unbounded && (high > 1000 || high < low))) {
      at_ = from;
      fail("bad repeat count");
    }
    const Code unit(code().begin() + start, code().end());
    code().resize(start);
    const auto copy = [&] {
      const std::uint32_t base = here();
      for (Regex::Instruction instruction : unit) {
        if (instruction.op == Op::split || instruction.op == Op::jump) {
          instruction.a = instruction.a - start + base;
          instruction.b = instruction.b - start + base;
        }
        emit(std::move(instruction));
      }
      return base;
    };
    for (std::uint32_t n = 0; n < low; ++n) copy();
    if (unbounded) {
      star(copy());
      return true;
    }
    std::vector<std::uint32_t> exits;
    for (std::uint32_t n = low; n < high; ++n) {
      exits.push_back(emit({Op::split, false, here() + 1, 0}));
      copy();
    }
    for (const std::uint32_t exit : exits) code()[exit].b = here();
    return true;
  }

  void atom() {
    const char c = text_[at_];
    if (c == '(') {
      ++at_;
      if (eat('?') && !eat(':')) fail("unsupported group");
      alternatives();
      if (!eat(')')) fail("missing )");
    } else if (c == '[') {
      ++at_;
      bracket();
    } else if (c == '.') {
      ++at_;
      emit({Op::any});
    } else if (c == '^') {
      ++at_;
      emit({Op::begin});
    } else if (c == '$') {
      ++at_;
      emit({Op::end});
    } else if (c == '*' || c == '+' || c == '?') {
      fail("nothing to repeat");
    } else if (c == '\\') {
      ++at_;
      escape();
    } else {
      character(next_code_point(text_, at_));
    }
  }

  void character(std::uint32_t c) { emit({Op::character, false, regex_.fold_case_ ? fold(c) : c}); }

  void escape() {
    if (!more()) fail("trailing backslash");
    const char c = text_[at_];
    if (c == 'b' || c == 'B' || c == 'A' || c == 'z') {
      ++at_;
      emit({c == 'b' ? Op::word : c == 'B' ? Op::not_word : c == 'A' ? Op::begin : Op::end});
      return;
    }
    Regex::Instruction set{Op::set};
    if (class_escape(c, set.ranges, set.negated)) {
      ++at_;
      emit(std::move(set));
      return;
    }
    character(escaped_character());
  }

  static bool class_escape(char c, std::vector<Regex::Range>& ranges, bool& negated) {
    switch (c | 32) {
      case 'd':
        ranges.push_back({'0', '9'});
        break;
      case 'w':
        ranges.insert(ranges.end(), {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}});
        break;
      case 's':
        ranges.insert(ranges.end(), {{9, 10}, {12, 13}, {' ', ' '}});
        break;
      default:
        return false;
    }
    negated = (c & 32) == 0;
    return true;
  }

  std::uint32_t escaped_character() {
    const char c = text_[at_++];
    switch (c) {
      case 'n':
        return '\n';
      case 't':
        return '\t';
      case 'r':
        return '\r';
      case 'f':
        return '\f';
      case 'v':
        return '\v';
      default:
        break;
    }
    if (word_char(static_cast<unsigned char>(c))) fail("unknown escape");
    --at_;
    return next_code_point(text_, at_);
  }

  void bracket() {
    Regex::Instruction set{Op::set};
    set.negated = eat('^');
    bool first = true;
    while (first || !(more() && text_[at_] == ']')) {
      if (!more()) fail("missing ]");
      first = false;
      std::uint32_t low;
      if (eat('\\')) {
        if (!more()) fail("trailing backslash");
        bool negated = false;
        std::vector<Regex::Range> ranges;
        if (class_escape(text_[at_], ranges, negated)) {
          ++at_;
          if (negated) complement(ranges);
          set.ranges.insert(set.ranges.end(), ranges.begin(), ranges.end());
          continue;
        }
        low = escaped_character();
      } else {
        low = next_code_point(text_, at_);
      }
      std::uint32_t high = low;
      if (at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
        ++at_;
        high = eat('\\') ? (more() ? escaped_character() : low) : next_code_point(text_, at_);
        if (high < low) fail("bad range");
      }
      set.ranges.push_back({low, high});
    }
    ++at_;
    emit(std::move(set));
  }

  static void complement(std::vector<Regex::Range>& ranges) {
    std::vector<Regex::Range> result;
    std::uint32_t from = 0;
    for (const Regex::Range& range : ranges) {
      if (range.low > from) result.push_back({from, range.low - 1});
      from = range.high + 1;
    }
    result.push_back({from, 0x10FFFF});
    ranges = std::move(result);
  }

  Regex& regex_;
  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

Regex::Regex(std::string_view pattern) {
  if (pattern.size() > limits::kRegexBytesMax)
    throw Error("bad regular expression: longer than the limit");
  RegexParser(*this, pattern).parse();
}

bool Regex::takes(const Instruction& instruction, std::uint32_t c) const {
  if (instruction.op == Op::any) return c != '\n';
  if (instruction.op == Op::character) return (fold_case_ ? fold(c) : c) == instruction.a;
  const auto within = [&](std::uint32_t x) {
    return std::any_of(instruction.ranges.begin(), instruction.ranges.end(),
                       [x](const Range& range) { return x >= range.low && x <= range.high; });
  };
  bool in = within(c);
  if (fold_case_ && !in && c < 128 && word_char(c)) in = within(c ^ 32);
  return in != instruction.negated;
}

// Follows all moves that take no character. Depth is bounded by the program, the stack is explicit.
void Regex::add(std::vector<std::uint32_t>& list, std::vector<std::uint32_t>& seen,
                std::uint32_t mark, std::uint32_t start, std::string_view text,
                std::size_t at) const {
  std::vector<std::uint32_t> open{start};
  const auto is_word = [&](std::size_t i) {
    return i < text.size() && word_char(static_cast<unsigned char>(text[i]));
  };
  while (!open.empty()) {
    const std::uint32_t pc = open.back();
    open.pop_back();
    if (seen[pc] == mark) continue;
    seen[pc] = mark;
    const Instruction& instruction = program_[pc];
    const bool boundary = (at > 0 && is_word(at - 1)) != is_word(at);
    switch (instruction.op) {
      case Op::jump:
        open.push_back(instruction.a);
        break;
      case Op::split:
        open.push_back(instruction.b);
        open.push_back(instruction.a);
        break;
      case Op::begin:
        if (at == 0) open.push_back(pc + 1);
        break;
      case Op::end:
        if (at == text.size()) open.push_back(pc + 1);
        break;
      case Op::word:
        if (boundary) open.push_back(pc + 1);
        break;
      case Op::not_word:
        if (!boundary) open.push_back(pc + 1);
        break;
      default:
        list.push_back(pc);
    }
  }
}

bool Regex::search(std::string_view text) const {
  std::vector<std::uint32_t> now;
  std::vector<std::uint32_t> next;
  std::vector<std::uint32_t> seen(program_.size(), 0);
  std::uint32_t mark = 1;
  add(now, seen, mark, 0, text, 0);
  for (std::size_t at = 0;;) {
    for (const std::uint32_t pc : now)
      if (program_[pc].op == Op::match) return true;
    if (at >= text.size()) return false;
    const std::uint32_t c = next_code_point(text, at);
    next.clear();
    ++mark;
    for (const std::uint32_t pc : now)
      if (takes(program_[pc], c)) add(next, seen, mark, pc + 1, text, at);
    add(next, seen, mark, 0, text, at);
    now.swap(next);
  }
}

}  // namespace dmm::engine::internal
