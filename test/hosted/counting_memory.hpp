// SPDX-License-Identifier: MIT
//
// CountingMemory: the memory of the process, counted, which a test can make fail.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "slabmalloc/hosted/heap.hpp"

namespace slabmalloc::test {

struct CountingMemory {
  static inline std::atomic<std::size_t> mapped_bytes = 0;
  static inline std::atomic<std::size_t> drops = 0;
  static inline std::atomic<std::size_t> dropped_bytes = 0;
  /// The calls of map() from now on that succeed.
  static inline std::atomic<std::size_t> maps_left = ~std::size_t{0};
  static inline std::atomic<bool> refuses_drops = false;
  /// Called in each drop.
  static inline std::function<void(std::size_t bytes)> during_drop;
  /// A call above this size fails.
  static inline std::atomic<std::size_t> largest_map = ~std::size_t{0};

  static void* map(std::size_t bytes) noexcept {
    if (bytes > largest_map || maps_left == 0) {
      return nullptr;
    }
    --maps_left;
    void* const memory = ProcessMemory::map(bytes);
    mapped_bytes += memory != nullptr ? bytes : 0;
    return memory;
  }
  static void unmap(void* address, std::size_t bytes) noexcept {
    mapped_bytes -= bytes;
    ProcessMemory::unmap(address, bytes);
  }
  static bool drop(void* address, std::size_t bytes) noexcept {
    ++drops;
    if (refuses_drops) {
      return false;
    }
    dropped_bytes += bytes;
    if (const auto act = during_drop) {
      act(bytes);
    }
    return ProcessMemory::drop(address, bytes);
  }
  static std::size_t page_bytes() noexcept { return ProcessMemory::page_bytes(); }
};

template <std::uint32_t Threads>
using CountedHeap = BasicHeap<Threads, CountingMemory>;

inline Layout layout_of(std::size_t bytes, std::size_t alignment = 8) {
  return Layout::from_size_align(bytes, alignment).value();
}

}  // namespace slabmalloc::test
