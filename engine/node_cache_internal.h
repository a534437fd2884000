#pragma once

#include <cstddef>

/// Memory for the nodes of values. Values come and go by the thousand in a step; small nodes that
/// were given back are kept, a few hundred kilobytes for each thread, for the next ones.
namespace dmm::engine::internal {

/// throws std::bad_alloc.
void* take_node(std::size_t bytes);
/// Gives back what take_node(bytes) gave, on any thread.
void give_node(void* node, std::size_t bytes) noexcept;

}  // namespace dmm::engine::internal
