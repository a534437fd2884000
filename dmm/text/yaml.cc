#include "dmm/text/yaml.h"

// The one place that sees yaml-cpp. Its events are used, not its nodes: they come with places, and
// limits act before something is built.

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "dmm/error.h"
#include "dmm/json.h"

namespace dmm::text {

namespace {

using nlohmann::json;
using YAML::anchor_t;
using YAML::Mark;

constexpr std::size_t kQuotedBytesMax = 60;
constexpr std::size_t kWordBytesMax = 64;  // longer texts are no numbers and no words

[[noreturn]] void refuse(const Mark& at, const Code& code, std::string_view why) {
  throw Error(code, fmt::format("line {}, column {}: {}", at.line + 1, at.column + 1, why));
}

[[noreturn]] void refuse(const Mark& at, std::string_view why) {
  refuse(at, code::bad_yaml, why);
}

std::string in_quotes(std::string_view text) {
  return fmt::format("\"{}\"", printable(text, kQuotedBytesMax));
}

bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}

// -? (0 | [1-9][0-9]*) (.[0-9]+)? ([eE][+-]?[0-9]+)?
bool is_json_number(std::string_view text) noexcept {
  std::size_t at = 0;
  const auto digits = [&] {
    const std::size_t from = at;
    while (at < text.size() && is_digit(text[at])) ++at;
    return at > from;
  };
  if (at < text.size() && text[at] == '-') ++at;
  if (at < text.size() && text[at] == '0') {
    ++at;
  } else if (!digits()) {
    return false;
  }
  if (at < text.size() && text[at] == '.') {
    ++at;
    if (!digits()) return false;
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
    if (!digits()) return false;
  }
  return at == text.size();
}

// What some reader of YAML takes for a number, and JSON does not: +1, 007, 1_000, .5, 1., 0x1F,
// .inf. Texts like 1.2.3, 12:30 or 2026-01-31 are texts everywhere but in YAML 1.1.
bool is_other_number(std::string_view text) {
  if (!text.empty() && (text.front() == '+' || text.front() == '-')) text.remove_prefix(1);
  if (text.empty() || text.size() > kWordBytesMax) return false;
  std::string word;
  for (const char c : text) {
    if (c != '_') word += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  if (word == ".inf" || word == ".nan") return true;
  if (text.front() != '.' && !is_digit(text.front())) return false;
  const std::string_view prefix = std::string_view(word).substr(0, 2);
  if (prefix == "0x" || prefix == "0o" || prefix == "0b") {
    return word.size() > 2 && word.find_first_not_of("0123456789abcdef", 2) == std::string::npos;
  }
  const std::size_t zeros = std::min(word.find_first_not_of('0'), word.size());
  word.erase(0, zeros);
  if (word.empty() || !is_digit(word.front())) word.insert(0, 1, '0');
  if (const std::size_t point = word.find('.'); point != std::string::npos) {
    if (point + 1 == word.size() || !is_digit(word[point + 1])) word.insert(point + 1, 1, '0');
  }
  return is_json_number(word);
}

bool is_other_boolean(std::string_view text) {
  if (text.size() > 5) return false;
  std::string word(text);
  for (char& c : word) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  constexpr std::array<std::string_view, 6> kWords = {"yes", "no", "on", "off", "true", "false"};
  return std::find(kWords.begin(), kWords.end(), word) != kWords.end();
}

json number_of(const Mark& at, const std::string& text) {
  if (text.find_first_of(".eE") == std::string::npos) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) {
      refuse(at, fmt::format("the integer {} does not fit 64 bits; quote it if it is a text",
                             printable(text, kQuotedBytesMax)));
    }
    return value;
  }
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) {
    refuse(at, fmt::format("the number {} is not finite in a double; quote it if it is a text",
                           printable(text, kQuotedBytesMax)));
  }
  return value;
}

// What a scalar without quotes stands for.
json plain(const Mark& at, const std::string& text) {
  if (text == "true") return true;
  if (text == "false") return false;
  if (is_json_number(text)) return number_of(at, text);
  if (is_other_boolean(text)) {
    refuse(at, fmt::format("{} is a boolean to some and a text to others; write true or false, or "
                           "quote it",
                           text));
  }
  if (is_other_number(text)) {
    refuse(at, fmt::format("{} is a number to some and a text to others; write it as JSON does, or "
                           "quote it",
                           printable(text, kQuotedBytesMax)));
  }
  return text;
}

/// A value with what it takes.
struct Sized {
  json value;
  std::size_t nodes = 1;
  std::size_t bytes = 0;   // of its strings and keys
  std::size_t height = 0;  // levels of nesting in it
};

// Builds one document from the events of the parser.
class Builder final : public YAML::EventHandler {
 public:
  explicit Builder(const YamlLimits& limits) : limits_(limits) {}

  std::optional<Sized>& root() noexcept { return root_; }

  void OnDocumentStart(const Mark& at) override {
    if (root_) refuse(at, "a second document begins; a file holds one pipeline");
  }
  void OnDocumentEnd() override {}

  void OnNull(const Mark& at, anchor_t anchor) override { add(at, anchor, Sized{nullptr}); }

  void OnScalar(const Mark& at, const std::string& tag, anchor_t anchor,
                const std::string& text) override {
    const bool bare = tag.empty() || tag == "?";
    if (!bare && tag != "!" && tag != "tag:yaml.org,2002:str") {
      refuse(at, fmt::format("the tag {} is not supported; leave it out", in_quotes(tag)));
    }
    if (bare && text == "<<" && expects_key()) {
      refuse(at, "merge keys are not supported; write the members out, or alias the whole value");
    }
    Sized scalar{bare ? plain(at, text) : json(text)};
    if (scalar.value.is_string()) scalar.bytes = text.size();
    add(at, anchor, std::move(scalar));
  }

  void OnAlias(const Mark& at, anchor_t anchor) override {
    const auto known = anchors_.find(anchor);
    if (known == anchors_.end()) refuse(at, "the alias stands within what it names");
    if (expects_key()) refuse(at, "an alias cannot be a key; write the key out");
    add(at, YAML::NullAnchor, known->second);
  }

  void OnSequenceStart(const Mark& at, const std::string& tag, anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(at, tag, anchor, json::array());
  }
  void OnMapStart(const Mark& at, const std::string& tag, anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(at, tag, anchor, json::object());
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    Mark at;
    anchor_t anchor;
    Sized made;
    std::optional<std::string> key;  // of the next member
  };

  bool expects_key() const noexcept {
    return !open_.empty() && open_.back().made.value.is_object() && !open_.back().key;
  }

  void open(const Mark& at, const std::string& tag, anchor_t anchor, json value) {
    if (!tag.empty() && tag != "?" && tag != "!") {
      refuse(at, fmt::format("the tag {} is not supported; leave it out", in_quotes(tag)));
    }
    if (expects_key())
      refuse(at, "a key is a text, not a list or an object; is a bracket left open?");
    check_depth(at, open_.size() + 1);
    open_.push_back(Open{at, anchor, Sized{std::move(value)}, std::nullopt});
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    ++done.made.height;
    add(done.at, done.anchor, std::move(done.made));
  }

  void check_depth(const Mark& at, std::size_t depth) const {
    if (depth <= limits_.depth_max) return;
    refuse(at, code::too_deep, fmt::format("more than {} levels of nesting", limits_.depth_max));
  }

  void check_size(const Mark& at, const Sized& sum) const {
    if (sum.nodes > limits_.nodes_max) {
      refuse(at, code::too_large,
             fmt::format("more than {} values, aliases written out", limits_.nodes_max));
    }
    if (sum.bytes > limits_.bytes_max) {
      refuse(at, code::too_large,
             fmt::format("more than {} bytes of text, aliases written out", limits_.bytes_max));
    }
  }

  void add(const Mark& at, anchor_t anchor, Sized item) {
    check_depth(at, open_.size() + item.height);
    if (anchor != YAML::NullAnchor) anchors_[anchor] = item;
    if (open_.empty()) {
      check_size(at, item);
      root_ = std::move(item);
      return;
    }
    Open& parent = open_.back();
    if (expects_key()) {
      take_key(at, parent, item);
      return;
    }
    parent.made.nodes += item.nodes;
    parent.made.bytes += item.bytes;
    parent.made.height = std::max(parent.made.height, item.height);
    // What is open is checked by itself; no more than depth_max are open at a time.
    check_size(at, parent.made);
    if (parent.made.value.is_array()) {
      parent.made.value.push_back(std::move(item.value));
    } else {
      parent.made.value[*parent.key] = std::move(item.value);
      parent.key.reset();
    }
  }

  static void take_key(const Mark& at, Open& parent, const Sized& item) {
    if (!item.value.is_string()) {
      refuse(at, fmt::format("the key {} is not a text; quote it", item.value.dump()));
    }
    const auto& key = item.value.get_ref<const std::string&>();
    if (parent.made.value.contains(key)) {
      refuse(at, fmt::format("the key {} stands twice in one object", in_quotes(key)));
    }
    parent.made.bytes += key.size();
    parent.key = key;
  }

  const YamlLimits& limits_;
  std::optional<Sized> root_;
  std::vector<Open> open_;  // outermost first
  std::map<anchor_t, Sized> anchors_;
};

// The line of an error, to explain the most frequent ones.
std::string_view line_at(std::string_view text, const Mark& at) noexcept {
  for (int line = 0; line < at.line; ++line) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  return text.substr(0, text.find('\n'));
}

std::string reason_of(std::string_view text, const YAML::Exception& error) {
  const std::string_view line = line_at(text, error.mark);
  const auto column = static_cast<std::size_t>(std::max(error.mark.column, 0));
  if (column < line.size() && (line[column] == '@' || line[column] == '`')) {
    return "a text that begins with @ stands in quotes: \"@select\"";
  }
  const std::string_view indent = line.substr(0, line.find_first_not_of(" \t"));
  if (indent.find('\t') != std::string_view::npos) return "a tab cannot indent; use spaces";
  return printable(error.msg, kQuotedBytesMax * 4);
}

// Texts that every reader takes for texts without quotes: words, and nothing that is a number, a
// date, or true or false to some of them.
bool is_plain(const std::string& text) {
  constexpr std::array kOthers = {"null", "true", "false", "yes", "no", "on",
                                  "off",  "y",    "n",     "nan", "inf"};
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto inner = [&](char c) {
    return letter(c) || (c >= '0' && c <= '9') ||
           std::string_view("_-./ ").find(c) != std::string_view::npos;
  };
  if (text.empty() || !letter(text.front()) || text.back() == ' ') return false;
  if (!std::ranges::all_of(text, inner)) return false;
  std::string low = text;
  std::ranges::transform(low, low.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return std::ranges::find(kOthers, low) == kOthers.end();
}

// What fits behind a key or a dash. What JSON quotes, YAML reads as it is meant.
std::string yaml_scalar(const json& value) {
  if (value.is_string() && is_plain(value.get_ref<const std::string&>())) return value;
  return value.dump(-1, ' ', true, json::error_handler_t::replace);
}

// `first` stands behind a dash on a line that has begun.
void write_yaml(const json& value, std::size_t indent, bool first, std::string& text) {
  const auto begin = [&] {
    if (!std::exchange(first, false)) text.append(indent, ' ');
  };
  const auto put = [&](const json& member, std::size_t deeper) {
    if (member.is_structured() && !member.empty()) {
      text += '\n';
      write_yaml(member, deeper, false, text);
    } else {
      text += ' ' + yaml_scalar(member) + '\n';
    }
  };
  if (value.is_object() && !value.empty()) {
    for (const auto& [key, member] : value.items()) {
      begin();
      text += yaml_scalar(key) + ':';
      put(member, indent + 2);
    }
  } else if (value.is_array() && !value.empty()) {
    for (const json& member : value) {
      begin();
      if (member.is_structured() && !member.empty()) {
        text += "- ";
        write_yaml(member, indent + 2, true, text);
      } else {
        text += "- " + yaml_scalar(member) + '\n';
      }
    }
  } else {
    begin();
    text += yaml_scalar(value) + '\n';
  }
}

}  // namespace

std::string yaml_text(const json& value) {
  std::string text;
  write_yaml(value, 0, false, text);
  return text;
}

json parse_yaml(std::string_view text, const YamlLimits& limits) {
  require(text.size() <= limits.bytes_max, code::too_large,
          fmt::format("{} bytes, more than {}", text.size(), limits.bytes_max));
  if (const auto at = find_bad_byte(text)) {
    throw Error(code::bad_text, fmt::format("invalid UTF-8 or NUL at byte {}", *at));
  }
  Builder builder(limits);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    refuse(error.mark, reason_of(text, error));
  }
  if (!builder.root()) throw Error(code::bad_yaml, "line 1, column 1: there is no document");
  return std::move(builder.root()->value);
}

}  // namespace dmm::text
