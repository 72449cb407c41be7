// SPDX-License-Identifier: MIT
//
// The malloc's own thread, in a process that makes no calls.
#include "malloc/background.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "malloc/heap.hpp"
#include "malloc/options.hpp"
#include "support/child.hpp"
#include "tunables.hpp"

namespace slabmalloc {
namespace {

TEST(Background, its_thread_gives_the_memory_of_an_idle_process_back) {
  const int status = test::status_of_child([] {
    tunables.decay_milliseconds = 20;
    tunables.scavenge_milliseconds = 1;
    std::vector<void*> blocks;
    for (int count = 0; count < 100; ++count) {
      blocks.push_back(heap::allocate(60'000));
      *static_cast<char*>(blocks.back()) = 'x';
    }
    options.background_thread = true;
    for (void* block : blocks) {
      heap::deallocate(block);
    }
    EXPECT_GT(process_arena.statistics().dirty_bytes, std::size_t{1'000'000});
    background::start_if_wanted();
    const std::size_t purged = process_arena.statistics().purged_bytes;
    // The alarm of the child bounds the wait.
    while (process_arena.statistics().dirty_bytes != 0) {
      os::interface().sleep(1000);
    }
    EXPECT_GT(process_arena.statistics().purged_bytes, purged);
    return 0;
  });
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace slabmalloc
