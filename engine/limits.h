/// Every limit of the engine, by name. What lies beyond is refused with a message, never cut.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dmm::engine::limits {

/// Nesting of a decoded document and of a program text.
inline constexpr std::size_t kDepthMax = 64;
/// Nesting of a value that is kept from one step for the next, or in a state image: values of a
/// running circuit may nest deeper than a document, by what its stages add.
inline constexpr std::size_t kStateDepthMax = 4 * kDepthMax;
/// Bytes of one document's JSON text.
inline constexpr std::size_t kDocumentBytesMax = std::size_t{16} << 20;
/// Bytes of one string value.
inline constexpr std::size_t kStringBytesMax = std::size_t{64} << 20;
/// Bytes of a program text.
inline constexpr std::size_t kProgramBytesMax = std::size_t{1} << 20;
/// Nodes of one circuit.
inline constexpr std::size_t kNodesMax = 4096;
/// Length of the list that `@range` may build, and of what a slice or a repeat may produce.
inline constexpr std::int64_t kListItemsMax = 1'000'000;
/// Copies of one value that a group's list may repeat because of its weight.
inline constexpr std::int64_t kGroupItemsMax = 10'000'000;
/// Length of a regular expression and of what its counted repeats expand to.
inline constexpr std::size_t kRegexBytesMax = 1000;
inline constexpr std::size_t kRegexProgramMax = 10'000;
/// Different shapes of documents that a decoder remembers.
inline constexpr std::size_t kShapesMax = 4096;

}  // namespace dmm::engine::limits
