// SPDX-License-Identifier: MIT
//
// Tests of the shared zone: the first allocations of threads.
#include <gtest/gtest.h>

#include <barrier>
#include <cstddef>
#include <thread>
#include <vector>

#include "malloc/blocks.hpp"
#include "malloc/thread_zones.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"

namespace slabmalloc {
namespace {

TEST(SharedZone, threads_that_allocate_little_share_pages) {
  heap::deallocate(heap::allocate(10));
  constexpr std::size_t threads = 100;
  std::size_t block_bytes = 0;
  for (std::uint32_t index = 0; index < heap::SizeClasses::count; ++index) {
    block_bytes += heap::SizeClasses::size_of(index);
  }
  const std::size_t before = process_arena.statistics().in_use_bytes;
  std::barrier all(threads + 1);
  std::vector<std::thread> running;
  for (std::size_t number = 0; number < threads; ++number) {
    running.emplace_back([&, number] {
      std::vector<void*> blocks;
      for (std::uint32_t index = 0; index < heap::SizeClasses::count; ++index) {
        const std::size_t bytes = heap::SizeClasses::size_of(index);
        blocks.push_back(heap::allocate(bytes));
        test::fill_pattern(blocks.back(), bytes, number);
      }
      all.arrive_and_wait();
      all.arrive_and_wait();
      for (std::uint32_t index = 0; index < heap::SizeClasses::count; ++index) {
        ASSERT_TRUE(test::holds_pattern(blocks[index], heap::SizeClasses::size_of(index), number));
      }
      free_all(blocks);
    });
  }
  all.arrive_and_wait();
  // Each class has at most one page that is not full.
  const std::size_t rest = heap::SizeClasses::count * Tunables::chunks_per_large_page * chunk_bytes;
  EXPECT_LE(process_arena.statistics().in_use_bytes - before, threads * block_bytes * 9 / 8 + rest);
  all.arrive_and_wait();
  for (std::thread& one : running) {
    one.join();
  }
  heap::trim();
  EXPECT_LE(process_arena.statistics().in_use_bytes,
            before + threads * sizeof(ThreadZone) + 2 * chunk_bytes);
}

TEST(SharedZone, a_thread_that_allocates_in_earnest_gets_a_zone) {
  heap::deallocate(heap::allocate(10));
  const std::size_t threads = thread_zones.threads();
  run_thread([] {
    for (int number = 0; number < 10; ++number) {
      heap::deallocate(heap::allocate(100));
    }
  });
  run_thread([&] {
    for (int number = 0; number < 1000; ++number) {
      heap::deallocate(heap::allocate(100));
    }
    EXPECT_EQ(thread_zones.threads(), threads + 1);
  });
}

TEST(SharedZone, misuse_of_a_block_of_the_shared_zone_is_reported) {
  heap::deallocate(heap::allocate(10));
  test::MisuseRecorder recorder;
  run_thread([&] {
    auto* const block = static_cast<std::byte*>(heap::allocate_zeroed(100));
    EXPECT_TRUE(test::holds_zeroes(block, 100));
    EXPECT_GE(heap::usable_bytes(block), 100u);
    heap::deallocate(block + 16);
    EXPECT_EQ(recorder.take_kinds(), std::vector{MisuseKind::MisalignedFree});
    heap::deallocate(block);
    heap::deallocate(block);
  });
  heap::trim();
  EXPECT_EQ(recorder.take_kinds(), std::vector{MisuseKind::DoubleFree});
}

}  // namespace
}  // namespace slabmalloc
