#pragma once

#include <cstddef>

/// Memory for the nodes of values. A step makes some and gives as many back; a few small ones are
/// kept for each thread, so that a step of few rows needs nothing from malloc.
namespace dmm::engine::internal {

/// throws std::bad_alloc.
void* take_node(std::size_t bytes);
/// Gives back what take_node(bytes) gave, on any thread.
void give_node(void* node, std::size_t bytes) noexcept;

}  // namespace dmm::engine::internal
