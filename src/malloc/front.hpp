// SPDX-License-Identifier: MIT
//
// The heap that the entry points use: heap.hpp, or in the hardened library hardened_heap.hpp. The
// kind of a block and the call matter to the latter alone, which costs the former nothing.
#pragma once

#include <cstddef>

#include "malloc/hardened_heap.hpp"
#include "malloc/heap.hpp"

namespace slabmalloc::front {

/// As heap::allocate_aligned().
[[gnu::always_inline]] inline void* allocate_aligned(std::size_t bytes, std::size_t alignment,
                                                     BlockKind kind = BlockKind::Malloc) noexcept {
  if constexpr (MallocConfig::hardened) {
    return hardened::allocate(bytes, alignment, kind);
  } else {
    return heap::allocate_aligned(bytes, alignment);
  }
}

/// As heap::allocate_zeroed().
[[gnu::always_inline]] inline void* allocate_zeroed(
    std::size_t bytes, std::size_t alignment = heap::minimum_alignment) noexcept {
  if constexpr (MallocConfig::hardened) {
    return hardened::allocate(bytes, alignment, BlockKind::Malloc);
  } else {
    return heap::allocate_zeroed(bytes, alignment);
  }
}

/// As heap::deallocate().
template <Call call>
[[gnu::always_inline]] inline void deallocate(void* block) noexcept {
  if constexpr (MallocConfig::hardened) {
    hardened::deallocate(block, call);
  } else {
    heap::deallocate<call>(block);
  }
}

/// As heap::deallocate_sized() and heap::deallocate_any_sized().
template <Call call>
[[gnu::always_inline]] inline void deallocate_sized(
    void* block, std::size_t bytes, std::size_t alignment = heap::minimum_alignment) noexcept {
  if constexpr (MallocConfig::hardened) {
    hardened::deallocate(block, call, bytes, alignment);
  } else if (alignment <= heap::minimum_alignment) {
    heap::deallocate_sized<call>(block, bytes);
  } else {
    heap::deallocate_any_sized(block, bytes, alignment, call);
  }
}

/// As heap::reallocate(); `bytes` may be 0.
[[gnu::always_inline]] inline void* reallocate(
    void* block, std::size_t bytes, std::size_t alignment = heap::minimum_alignment) noexcept {
  if constexpr (MallocConfig::hardened) {
    return hardened::reallocate(block, bytes, alignment);
  } else {
    return heap::reallocate(block, bytes != 0 ? bytes : 1, alignment);
  }
}

/// As heap::usable_bytes().
[[gnu::always_inline]] inline std::size_t usable_bytes(const void* block) noexcept {
  if constexpr (MallocConfig::hardened) {
    return hardened::usable_bytes(block);
  } else {
    return heap::usable_bytes(block);
  }
}

/// As heap::trim().
inline std::size_t trim() noexcept {
  if constexpr (MallocConfig::hardened) {
    hardened::release_quarantined();
  }
  return heap::trim();
}

}  // namespace slabmalloc::front
