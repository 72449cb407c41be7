// SPDX-License-Identifier: MIT
//
// The check at the end of a workload: nothing is lost, and every structure of the heap is sound.
#pragma once

#include <gtest/gtest.h>

#include "malloc/front.hpp"
#include "malloc/report.hpp"

namespace slabmalloc::test {

/// Trims the process heap and expects that it holds no object.
/// Pre: the program has freed all blocks; no other thread uses the heap.
inline void expect_nothing_lost() {
  front::trim();
  EXPECT_EQ(process_statistics().live_objects, 0u);
  EXPECT_TRUE(process_arena.validate());
  if (thread_heap.zone != &empty_zone) {
    EXPECT_EQ(thread_heap.zone->validate(), nullptr);
  }
}

}  // namespace slabmalloc::test
