// SPDX-License-Identifier: MIT
//
// Helpers of tests that use the process heap with threads: many blocks, and threads that handle
// them.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <thread>
#include <vector>

#include "malloc/heap.hpp"

namespace slabmalloc {

inline std::size_t in_use_bytes() { return process_arena.statistics().in_use_bytes; }

inline void run_thread(const std::function<void()>& work) { std::thread(work).join(); }

/// Gives the calling thread a zone of its own, which its first allocations do not.
inline void get_own_zone() {
  while (thread_heap.zone == &empty_zone) {
    heap::deallocate(heap::allocate(1));
  }
}

inline void allocate_many(std::vector<void*>& blocks, std::size_t bytes, std::size_t total_bytes) {
  for (std::size_t total = 0; total < total_bytes; total += bytes) {
    blocks.push_back(heap::allocate(bytes));
    ASSERT_NE(blocks.back(), nullptr);
    static_cast<char*>(blocks.back())[0] = 'x';
  }
}

inline void free_all(std::vector<void*>& blocks) {
  for (void* block : blocks) {
    heap::deallocate(block);
  }
  blocks.clear();
}

}  // namespace slabmalloc
