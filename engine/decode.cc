#include "engine/decode.h"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <unordered_map>

#include "engine/hash.h"

namespace dmm::engine {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;

// What is known of an object with these keys in this order below this part of the wanted fields.
struct Layout {
  std::vector<std::string> keys;
  const Fields* fields = nullptr;
  ShapePtr shape;
  std::vector<std::int32_t> slots;  // where member i goes; -1: not kept
  std::vector<const Fields*> below;
};

bool acceptable(std::string_view text) noexcept {
  if (text.find('\0') != std::string_view::npos) return false;
  // A surrogate that an escape smuggled in: ED A0..BF is not UTF-8.
  for (std::size_t at = text.find('\xED'); at != std::string_view::npos;
       at = text.find('\xED', at + 1))
    if (at + 1 < text.size() && static_cast<unsigned char>(text[at + 1]) >= 0xA0) return false;
  return true;
}

}  // namespace

struct Decoder::State {
  explicit State(DecodeLimits l, Fields f) : limits(l), fields(std::move(f)) {}

  DecodeLimits limits;
  Fields fields;
  simdjson::dom::parser parser;
  std::string buffer;
  std::string reason;
  std::unordered_multimap<std::uint64_t, std::unique_ptr<Layout>> layouts;
  std::vector<std::string_view> keys;
  // The layout met last for objects of this size in this place: most likely that of the next one.
  struct Guess {
    const Fields* fields = nullptr;
    std::size_t size = 0;
    const Layout* layout = nullptr;
  };
  std::array<Guess, 16> guesses;
  std::vector<Value> members;  // of the objects in hand, an inner one behind the outer ones

  Guess& guess(const Fields* wanted, std::size_t size) {
    return guesses[mix(reinterpret_cast<std::uint64_t>(wanted), size) % guesses.size()];
  }

  bool fail(std::string_view why) {
    reason = why;
    return false;
  }

  bool build(element from, const Fields* wanted, Value& out);
  bool build_list(const simdjson::dom::array& from, const Fields* wanted, Value& out);
  bool build_object(const simdjson::dom::object& from, const Fields* wanted, Value& out);
  bool build_members(const simdjson::dom::object& from, const Layout& layout, Value& out,
                     bool& fits);
  const Layout* layout_of(const simdjson::dom::object& from, const Fields* wanted);
};

bool Decoder::State::build(element from, const Fields* wanted, Value& out) {
  switch (from.type()) {
    case element_type::ARRAY:
      return build_list(from.get_array().value_unsafe(), wanted, out);
    case element_type::OBJECT:
      return build_object(from.get_object().value_unsafe(), wanted, out);
    case element_type::INT64:
      out = Value::integer(from.get_int64().value_unsafe());
      return true;
    case element_type::UINT64:
      return fail("integer out of range: it must fit into 64 bits with sign");
    case element_type::DOUBLE:
      out = Value::number(from.get_double().value_unsafe());
      return true;
    case element_type::STRING: {
      const std::string_view text = from.get_string().value_unsafe();
      if (!acceptable(text)) return fail("string with U+0000 or a lone surrogate");
      out = Value::string(text);
      return true;
    }
    case element_type::BOOL:
      out = Value::boolean(from.get_bool().value_unsafe());
      return true;
    case element_type::NULL_VALUE:
      out = Value();
      return true;
  }
  return fail("unknown JSON type");
}

bool Decoder::State::build_list(const simdjson::dom::array& from, const Fields*, Value& out) {
  // A list in the way of a wanted field is kept whole: a path may index it.
  static const Fields kAll = Fields::all();
  std::vector<Value> items;
  items.reserve(from.size());
  for (const element item : from) {
    Value value;
    if (!build(item, &kAll, value)) return false;
    items.push_back(std::move(value));
  }
  out = Value::list(items);
  return true;
}

bool Decoder::State::build_object(const simdjson::dom::object& from, const Fields* wanted,
                                  Value& out) {
  const std::size_t size = from.size();
  bool fits;
  if (const Guess& known = guess(wanted, size); known.fields == wanted && known.size == size) {
    const bool built = build_members(from, *known.layout, out, fits);
    if (built || fits) return built;
  }
  const Layout* layout = layout_of(from, wanted);
  if (layout == nullptr) return false;
  guess(wanted, size) = {wanted, size, layout};
  return build_members(from, *layout, out, fits);
}

// Sets `fits` to false, and returns false, when the object has other keys than the layout.
bool Decoder::State::build_members(const simdjson::dom::object& from, const Layout& layout,
                                   Value& out, bool& fits) {
  static const Fields kAll = Fields::all();
  struct Frame {
    std::vector<Value>& values;
    std::size_t base;
    ~Frame() { values.resize(base); }
  } frame{members, members.size()};
  members.resize(frame.base + layout.shape->size());
  std::size_t i = 0;
  for (const auto member : from) {
    fits = i < layout.keys.size() && member.key == layout.keys[i];
    if (!fits) return false;
    Value value;
    const std::int32_t slot = layout.slots[i];
    if (!build(member.value, slot >= 0 ? layout.below[i] : &kAll, value)) return false;
    if (slot >= 0) members[frame.base + static_cast<std::size_t>(slot)] = std::move(value);
    ++i;
  }
  fits = i == layout.keys.size();
  if (!fits) return false;
  out = Value::object_of(*layout.shape,
                         [&](std::size_t at) { return std::move(members[frame.base + at]); });
  return true;
}

const Layout* Decoder::State::layout_of(const simdjson::dom::object& from, const Fields* wanted) {
  keys.clear();
  std::uint64_t state = reinterpret_cast<std::uint64_t>(wanted);
  for (const auto member : from) {
    keys.push_back(member.key);
    state = mix(state, hash_bytes(member.key));
  }
  for (auto [it, end] = layouts.equal_range(state); it != end; ++it)
    if (it->second->fields == wanted &&
        std::equal(keys.begin(), keys.end(), it->second->keys.begin(), it->second->keys.end()))
      return it->second.get();
  std::vector<std::string_view> sorted = keys;
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    if (!acceptable(sorted[i])) return fail("key with U+0000 or a lone surrogate"), nullptr;
    if (i > 0 && sorted[i - 1] == sorted[i])
      return fail("key \"" + std::string(sorted[i].substr(0, 100)) +
                  "\" occurs twice in one object"),
             nullptr;
  }
  std::erase_if(sorted, [&](std::string_view key) { return wanted->member(key) == nullptr; });
  auto layout = std::make_unique<Layout>();
  layout->fields = wanted;
  std::vector<Value> shape_keys;
  for (const std::string_view key : sorted) shape_keys.push_back(Value::string(key));
  layout->shape = ShapePtr(Shape::make(std::move(shape_keys)));
  for (const std::string_view key : keys) {
    layout->keys.emplace_back(key);
    layout->slots.push_back(layout->shape->find(key));
    layout->below.push_back(wanted->member(key));
  }
  return layouts.emplace(state, std::move(layout))->second.get();
}

Decoder::Decoder(DecodeLimits limits, Fields fields)
    : state_(std::make_unique<State>(limits, std::move(fields))) {}
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;
Decoder::~Decoder() = default;

bool Decoder::decode(std::string_view text, Value& out, std::string& error) {
  State& state = *state_;
  if (text.size() > state.limits.bytes_max) {
    error = "document of " + std::to_string(text.size()) + " bytes; the limit is " +
            std::to_string(state.limits.bytes_max);
    return false;
  }
  if (state.layouts.size() > limits::kShapesMax) {
    state.layouts.clear();
    state.guesses.fill({});
  }
  state.buffer.assign(text);
  state.buffer.append(simdjson::SIMDJSON_PADDING, '\0');
  if (state.parser.capacity() < text.size() || state.parser.max_depth() != state.limits.depth_max) {
    const std::size_t room = std::max(text.size(), std::size_t{4096});
    if (state.parser.allocate(room, state.limits.depth_max) != simdjson::SUCCESS)
      throw std::bad_alloc();
  }
  element root;
  const auto code = state.parser.parse(state.buffer.data(), text.size(), false).get(root);
  if (code != simdjson::SUCCESS) {
    error = code == simdjson::DEPTH_ERROR
                ? "nested deeper than " + std::to_string(state.limits.depth_max) + " levels"
                : std::string(simdjson::error_message(code));
    return false;
  }
  Value value;
  if (!state.build(root, &state.fields, value)) {
    error = state.reason;
    return false;
  }
  out = std::move(value);
  return true;
}

}  // namespace dmm::engine
