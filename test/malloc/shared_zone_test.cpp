// SPDX-License-Identifier: MIT
//
// Tests of the shared zone: the first allocations of threads, and large blocks.
#include <gtest/gtest.h>

#include <barrier>
#include <cstddef>
#include <functional>
#include <semaphore>
#include <thread>
#include <vector>

#include "malloc/blocks.hpp"
#include "malloc/manual_clock.hpp"
#include "malloc/thread_zones.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"
#include "support/run_threads.hpp"

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
  // On a busy machine, each thread may have a zone. A chunk holds a whole number of them.
  constexpr std::size_t zones_of_chunk = chunk_bytes / sizeof(ThreadZone);
  EXPECT_LE(process_arena.statistics().in_use_bytes,
            before + (threads / zones_of_chunk + 2) * chunk_bytes);
}

TEST(SharedZone, a_thread_that_allocates_in_earnest_gets_a_zone) {
  heap::deallocate(heap::allocate(10));
  const std::size_t threads = thread_zones.threads();
  run_thread([] {
    for (std::uint32_t number = 0; number < Tunables::shared_burst_beside_parked; ++number) {
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

// ---- large blocks ------------------------------------------------------------------------------

constexpr std::size_t large = 20'000;

/// The pages of the calling thread's zone for blocks of `bytes`.
std::size_t own_pages(std::size_t bytes) {
  return thread_heap.zone->class_at(heap::SizeClasses::index_for(bytes)).pages();
}

/// Runs `work` on a thread that has a zone, and is not the process's first one.
void run_thread_with_zone(const std::function<void()>& work) {
  heap::deallocate(heap::allocate(10));
  run_thread([&] {
    get_own_zone();
    work();
  });
}

TEST(SharedZone, large_blocks_of_threads_with_zones_share_pages) {
  constexpr std::size_t threads = 16;
  constexpr std::size_t blocks_each = 100;
  heap::deallocate(heap::allocate(10));
  const std::size_t before = in_use_bytes();
  std::barrier all(threads);
  test::run_threads(threads, [&](std::size_t number) {
    get_own_zone();
    // At each time another thread has the most blocks.
    for (std::size_t turn = 0; turn < threads; ++turn) {
      all.arrive_and_wait();
      if (turn == number) {
        std::vector<void*> blocks;
        allocate_many(blocks, large, blocks_each * large);
        free_all(blocks);
      }
    }
    all.arrive_and_wait();
    if (number == 0) {
      EXPECT_LE(in_use_bytes() - before, blocks_each * large * 3 / 2);
    }
    all.arrive_and_wait();
  });
}

TEST(SharedZone, a_thread_gets_pages_for_large_blocks_while_it_allocates_too_many) {
  const ManualClock clock;
  run_thread_with_zone([] {
    // As many as may be, again and again.
    for (int burst = 0; burst < 10; ++burst) {
      ManualClock::now += Tunables::shared_burst_milliseconds;
      for (std::uint32_t pair = 0; pair < Tunables::shared_burst_of_large; ++pair) {
        heap::deallocate(heap::allocate(large));
      }
      EXPECT_EQ(own_pages(large), 0u);
    }
    // One more.
    heap::deallocate(heap::allocate(large));
    EXPECT_EQ(own_pages(large), 1u);
    // Within the rest another class gets a page too, after it none.
    ManualClock::now += Tunables::shared_rest_milliseconds - 1;
    heap::deallocate(heap::allocate(large * 5 / 4));
    EXPECT_EQ(own_pages(large * 5 / 4), 1u);
    ManualClock::now += 1;
    heap::deallocate(heap::allocate(large * 3 / 2));
    EXPECT_EQ(own_pages(large * 3 / 2), 0u);
  });
}

std::binary_semaphore may_hold(0);
std::binary_semaphore holds(0);
std::counting_semaphore<1000> may_let_go(0);  // A sleeper may wake for no reason.

// A wait costs as much as the pages that it saves.
TEST(SharedZone, a_thread_that_waits_for_it_gets_pages_for_large_blocks_sooner) {
  const ManualClock clock;
  constexpr std::uint32_t turns_each = 1 + Tunables::shared_turns_per_wait;
  constexpr std::uint32_t waits = (Tunables::shared_burst_of_large - 1) / turns_each + 1;
  heap::deallocate(heap::allocate(10));
  std::thread holder([] {
    for (std::uint32_t wait = 0; wait < waits; ++wait) {
      may_hold.acquire();
      thread_zones.prepare_fork();
      holds.release();
      may_let_go.acquire();
      thread_zones.parent_after_fork();
    }
  });
  run_thread_with_zone([] {
    os::Interface table = os::interface();
    table.wait = [](const std::uint32_t* word, std::uint32_t expected) {
      may_let_go.release();
      os::linux_interface.wait(word, expected);
    };
    const os::Interface& previous = os::replace_interface(table);
    for (std::uint32_t wait = 0; wait < waits; ++wait) {
      EXPECT_EQ(own_pages(large), 0u);
      may_hold.release();
      holds.acquire();
      void* const block = heap::allocate(large);
      while (may_let_go.try_acquire()) {
      }
      heap::deallocate(block);
    }
    EXPECT_EQ(own_pages(large), 0u);
    heap::deallocate(heap::allocate(large));
    EXPECT_EQ(own_pages(large), 1u);
    os::replace_interface(previous);
  });
  holder.join();
}

TEST(SharedZone, serves_the_first_aligned_large_blocks_and_no_more) {
  run_thread_with_zone([] {
    std::vector<void*> blocks;
    for (int block = 0; block < Tunables::shared_blocks(large); ++block) {
      blocks.push_back(heap::allocate_aligned(large, 4096));
    }
    EXPECT_EQ(own_pages(large), 0u);
    blocks.push_back(heap::allocate_aligned(large, 4096));
    EXPECT_EQ(own_pages(large), 1u);
    free_all(blocks);
  });
}

TEST(SharedZone, gives_zeroes_where_blocks_were_used_before) {
  run_thread_with_zone([] {
    for (int turn = 0; turn < 100; ++turn) {
      auto* const block = static_cast<std::byte*>(heap::allocate_zeroed(large));
      ASSERT_TRUE(test::holds_zeroes(block, large));
      test::fill_pattern(block, large, 1);
      heap::deallocate(block);
    }
    EXPECT_EQ(own_pages(large), 0u);
  });
}

// ---- misuse ------------------------------------------------------------------------------------

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
