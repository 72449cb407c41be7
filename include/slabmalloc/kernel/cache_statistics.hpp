// SPDX-License-Identifier: MIT
//
// CacheStatistics: what is known at any time of an object cache, or of a size class of a heap.
#pragma once

#include <cstddef>

namespace slabmalloc {

/// A snapshot. What other CPUs do meanwhile may be seen to lag.
struct CacheStatistics {
  const char* name = nullptr;  ///< Of the cache or the heap.
  bool is_class = false;       ///< One of the size classes of a heap.
  bool knows_use = false;      ///< `objects_in_use` is known.
  std::size_t objects_in_use = 0;
  std::size_t objects = 0;       ///< In all pages, free ones included.
  std::size_t object_bytes = 0;  ///< From one to the next.
  std::size_t objects_per_page = 0;
  std::size_t page_bytes = 0;
  std::size_t pages = 0;  ///< Of a cache: all frames. Of a class: those of the CPUs' zones.
  std::size_t pages_high_water = 0;  ///< The most there ever were; of a class no less than that.
  std::size_t limit_pages = 0;       ///< 0: there is none.
  std::size_t refills = 0;           ///< Times that a CPU took a frame for its pages.
  std::size_t remote_frees = 0;      ///< Frees by other CPUs that were taken in.
  std::size_t nested_calls = 0;  ///< Of a cache: calls that came while the CPU's part was occupied.
  std::size_t failures = 0;      ///< Of a cache: allocations that found no memory.
};

}  // namespace slabmalloc
