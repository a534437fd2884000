#include "dmm/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace dmm {

namespace {

constexpr std::size_t kDetailBytesMax = 200;  // of what a message quotes from a bad text

struct Glyph {
  char32_t value;
  std::size_t bytes;  // 0: not valid UTF-8
};

// The code point that begins at `text[at]`; shortest form only, no surrogates.
Glyph glyph_at(std::string_view text, std::size_t at) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  if (lead < 0x80) return {lead, 1};
  const std::size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() - at < bytes) return {0, 0};
  char32_t value = lead & (0xFFu >> (bytes + 1));
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return {0, 0};
    value = (value << 6) | (byte(at + i) & 0x3Fu);
  }
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
  if (value < kSmallest[bytes] || value > 0x10FFFF || surrogate) return {0, 0};
  return {value, bytes};
}

// What moves the cursor, reorders a line or breaks it: not to be shown as it is.
constexpr bool is_control(char32_t c) noexcept {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) ||  // C0, DEL, C1
         (c >= 0x2028 && c <= 0x202E) ||         // line separators, direction overrides
         (c >= 0x2066 && c <= 0x2069);           // direction isolates
}

// Builds the value with a stack of its own. Refuses depth, keys and numbers before they are stored,
// so that a hostile text never becomes a deep value, whose destructor or dump could recurse.
class Builder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Builder(std::size_t depth_max) : depth_max_(depth_max) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }

  bool number_float(number_float_t value, const string_t& digits) override {
    // The parser turns integers that fit no 64-bit type into a double, which loses digits.
    if (digits.find_first_of(".eE") == string_t::npos) {
      return refuse(code::bad_number, fmt::format("the integer {} does not fit 64 bits",
                                                  printable(digits, kDetailBytesMax)));
    }
    return add(value);
  }

  bool string(string_t& value) override { return check_text(value) && add(std::move(value)); }
  bool binary(binary_t&) override { return refuse(code::not_json, "binary is not JSON"); }

  bool start_object(std::size_t) override { return open(nlohmann::json::value_t::object); }
  bool start_array(std::size_t) override { return open(nlohmann::json::value_t::array); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (!check_text(name)) return false;
    auto& object = open_.back()->get_ref<nlohmann::json::object_t&>();
    const auto [slot, inserted] = object.try_emplace(name);
    if (!inserted) {
      return refuse(code::duplicate_key, fmt::format("the key \"{}\" stands twice in one object",
                                                     printable(name, kDetailBytesMax)));
    }
    slot_ = &slot->second;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& e) override {
    if (dynamic_cast<const nlohmann::json::out_of_range*>(&e) != nullptr) {
      return refuse(code::bad_number, fmt::format("a number before byte {} is not finite in a "
                                                  "double: {}",
                                                  position, reason(e)));
    }
    return refuse(code::not_json, fmt::format("at byte {}: {}", position, reason(e)));
  }

  /// The value, or why it was refused. Called once, after the parser has returned.
  Result<nlohmann::json> take() {
    if (error_) return std::move(*error_);
    return std::move(root_);
  }

 private:
  // The parser's own words without its prefix, "[json.exception...] parse error at ...: ".
  static std::string reason(const std::exception& e) {
    std::string_view text = e.what();
    const std::size_t colon = text.find(": ");
    if (text.starts_with('[') && colon != std::string_view::npos) text.remove_prefix(colon + 2);
    return printable(text, kDetailBytesMax);
  }

  bool refuse(const Code& code, std::string message) {
    if (!error_) error_.emplace(code, std::move(message));
    return false;  // ends the parse
  }

  bool check_text(const std::string& text) {
    if (text.find('\0') == std::string::npos) return true;
    return refuse(code::bad_text,
                  fmt::format("the text \"{}\" holds U+0000", printable(text, kDetailBytesMax)));
  }

  // Puts a value where the parser stands and returns its place, which stays until its parent is
  // closed: an open array does not grow before its last element is complete.
  nlohmann::json* place(nlohmann::json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      auto& array = open_.back()->get_ref<nlohmann::json::array_t&>();
      return &array.emplace_back(std::move(value));
    }
    *slot_ = std::move(value);
    return slot_;
  }

  bool add(nlohmann::json value) {
    place(std::move(value));
    return true;
  }

  bool open(nlohmann::json::value_t type) {
    if (open_.size() >= depth_max_) {
      return refuse(code::too_deep, fmt::format("more than {} levels of nesting", depth_max_));
    }
    open_.push_back(place(nlohmann::json(type)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::size_t depth_max_;
  nlohmann::json root_;
  std::vector<nlohmann::json*> open_;  // objects and arrays that are not closed, outermost first
  nlohmann::json* slot_ = nullptr;     // of the key that was read last
  std::optional<Error> error_;
};

}  // namespace

std::optional<std::size_t> find_bad_byte(std::string_view text) noexcept {
  for (std::size_t i = 0; i < text.size();) {
    const Glyph glyph = glyph_at(text, i);
    if (glyph.bytes == 0 || glyph.value == 0) return i;
    i += glyph.bytes;
  }
  return std::nullopt;
}

Result<nlohmann::json> parse_json(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.bytes_max) {
    return Error(code::too_large,
                 fmt::format("{} bytes, more than {}", text.size(), limits.bytes_max));
  }
  if (text.empty()) return Error(code::not_json, "the text is empty");
  if (text.starts_with("\xEF\xBB\xBF")) {
    return Error(code::not_json, "the text begins with a byte order mark");
  }
  if (const auto at = find_bad_byte(text)) {
    return Error(code::bad_text,
                 text[*at] == '\0'
                     ? fmt::format("NUL at byte {}", *at)
                     : fmt::format("invalid UTF-8 at byte {}: 0x{:02X}", *at,
                                   static_cast<unsigned>(static_cast<unsigned char>(text[*at]))));
  }
  Builder builder(limits.depth_max);
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

void check_depth(const nlohmann::json& value, std::size_t depth_max) {
  if (!value.is_structured()) return;
  if (depth_max == 0) {
    throw Error(code::too_deep,
                fmt::format("the value is nested deeper than {}", limits::json_depth_max));
  }
  for (const nlohmann::json& child : value) check_depth(child, depth_max - 1);
}

std::string dump_json(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string printable(std::string_view text, std::size_t bytes_max) {
  constexpr std::string_view kMark = "...";
  const std::size_t mark_bytes = std::min(kMark.size(), bytes_max);
  std::string out;
  std::size_t cut = 0;  // the longest prefix of `out` that leaves room for the mark
  for (std::size_t i = 0; i < text.size();) {
    const Glyph glyph = glyph_at(text, i);
    const std::size_t bytes = std::max<std::size_t>(glyph.bytes, 1);
    if (glyph.bytes != 0 && !is_control(glyph.value)) {
      out += text.substr(i, bytes);
    } else {
      for (const char c : text.substr(i, bytes)) {
        fmt::format_to(std::back_inserter(out), "\\x{:02X}",
                       static_cast<unsigned>(static_cast<unsigned char>(c)));
      }
    }
    if (out.size() > bytes_max) {
      out.resize(cut);
      return out.append(kMark.substr(0, mark_bytes));
    }
    if (out.size() + mark_bytes <= bytes_max) cut = out.size();
    i += bytes;
  }
  return out;
}

}  // namespace dmm
