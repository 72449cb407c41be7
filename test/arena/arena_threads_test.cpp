// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "arena/arena.hpp"
#include "os/faulty_os.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;
constexpr std::size_t thread_count = 4;

TEST(ArenaThreads, concurrent_first_use_sets_up_one_window) {
  for (int round = 0; round < 50; ++round) {
    test::FaultyOs os;
    const auto arena = std::make_unique<Arena>();
    std::byte* runs[thread_count] = {};
    test::run_threads(thread_count, [&](std::size_t thread) {
      runs[thread] = static_cast<std::byte*>(arena->allocate(1).address);
    });
    for (std::byte* const run : runs) {
      ASSERT_NE(run, nullptr);
      ASSERT_NE(arena->chunk_of(run), nullptr);
    }
    EXPECT_TRUE(arena->validate());
    EXPECT_EQ(arena->statistics().in_use_bytes, thread_count * chunk_bytes);
    EXPECT_EQ(arena->statistics().committed_bytes, os.usable_bytes());
  }
}

TEST(ArenaThreads, no_two_threads_hold_the_same_memory) {
  test::Random random;
  test::FaultyOs os;
  const auto arena = std::make_unique<Arena>();
  std::uint64_t seeds[thread_count];
  for (std::uint64_t& seed : seeds) {
    seed = random.next();
  }
  test::run_threads(thread_count, [&](std::size_t thread) {
    test::Random own(seeds[thread]);
    struct Block {
      std::byte* address;
      std::size_t chunks;
      bool large;
    };
    std::vector<Block> blocks;
    for (int step = 0; step < 600; ++step) {
      if (blocks.size() < 12 && !own.one_in(3)) {
        const bool large = own.one_in(2);
        const std::size_t chunks = own.one_in(40) ? 520 : own.between(1, 12);
        const Extent extent =
            large ? arena->allocate_large(chunks * chunk_bytes, 16) : arena->allocate(chunks);
        ASSERT_TRUE(extent);
        auto* const address = static_cast<std::byte*>(extent.address);
        if (extent.zeroed) {
          ASSERT_TRUE(test::holds_zeroes(address, 256));
        }
        test::fill_pattern(address, 256, seeds[thread]);
        test::fill_pattern(address + chunks * chunk_bytes - 256, 256, seeds[thread]);
        blocks.push_back({address, chunks, large});
      } else if (!blocks.empty()) {
        const std::size_t index = own.below(blocks.size());
        const Block block = blocks[index];
        blocks[index] = blocks.back();
        blocks.pop_back();
        ASSERT_TRUE(test::holds_pattern(block.address, 256, seeds[thread]));
        ASSERT_TRUE(test::holds_pattern(block.address + block.chunks * chunk_bytes - 256, 256,
                                        seeds[thread]));
        if (block.large) {
          ASSERT_EQ(arena->deallocate_large(block.address), LargeFree::Freed);
        } else {
          arena->deallocate(block.address, block.chunks);
        }
      }
      if (own.one_in(50)) {
        arena->trim();
        os.advance_clock(100);
      }
      (void)arena->statistics();
    }
    for (const Block& block : blocks) {
      if (block.large) {
        ASSERT_EQ(arena->deallocate_large(block.address), LargeFree::Freed);
      } else {
        arena->deallocate(block.address, block.chunks);
      }
    }
  });
  EXPECT_TRUE(arena->validate());
  EXPECT_EQ(arena->statistics().in_use_bytes, 0u);
  EXPECT_EQ(arena->statistics().committed_bytes, os.usable_bytes());
}

TEST(ArenaThreads, exactly_one_of_several_threads_frees_an_object) {
  for (const std::size_t bytes : {mebibyte, tunables.direct_threshold_bytes}) {
    test::FaultyOs os;
    const auto arena = std::make_unique<Arena>();
    for (int round = 0; round < 100; ++round) {
      void* const object = arena->allocate_large(bytes, 16).address;
      std::atomic<int> freed{0};
      test::run_threads(thread_count, [&](std::size_t) {
        freed += arena->deallocate_large(object) == LargeFree::Freed ? 1 : 0;
      });
      ASSERT_EQ(freed.load(), 1);
    }
    EXPECT_TRUE(arena->validate());
    EXPECT_EQ(arena->statistics().in_use_bytes, 0u);
  }
}

TEST(ArenaThreads, the_hard_limit_holds_while_threads_allocate_and_resize) {
  test::Random random;
  test::FaultyOs os;
  const auto arena = std::make_unique<Arena>();
  tunables.soft_limit_bytes = 12 * mebibyte;
  tunables.hard_limit_bytes = 16 * mebibyte;
  tunables.direct_threshold_bytes = 2 * mebibyte;
  std::uint64_t seeds[thread_count];
  for (std::uint64_t& seed : seeds) {
    seed = random.next();
  }
  std::atomic<std::size_t> refusals{0};
  test::run_threads(thread_count, [&](std::size_t thread) {
    test::Random own(seeds[thread]);
    LargeCache* const cache = &arena->large_cache_of(thread);
    std::vector<void*> blocks;
    for (int step = 0; step < 2000; ++step) {
      const std::size_t bytes = own.between(1, own.one_in(4) ? 4 * mebibyte : mebibyte / 4);
      if (blocks.size() < 64 && !own.one_in(3)) {
        void* const block = arena->allocate_large(bytes, 16, cache).address;
        refusals += block == nullptr ? 1 : 0;
        if (block != nullptr) {
          test::fill_pattern(block, 64, thread);
          blocks.push_back(block);
        }
      } else if (!blocks.empty()) {
        void*& block = blocks[own.below(blocks.size())];
        void* const moved = own.one_in(2) ? arena->resize_large(block, bytes) : nullptr;
        block = moved != nullptr ? moved : block;
        EXPECT_TRUE(test::holds_pattern(block, 64, thread));
        if (moved == nullptr) {
          EXPECT_EQ(arena->deallocate_large(block, cache), LargeFree::Freed);
          block = blocks.back();
          blocks.pop_back();
        }
      }
      EXPECT_LE(arena->statistics().in_use_bytes, 16 * mebibyte);
    }
    for (void* const block : blocks) {
      EXPECT_EQ(arena->deallocate_large(block, cache), LargeFree::Freed);
    }
  });
  EXPECT_NE(refusals.load(), 0u);
  const ArenaStatistics now = arena->statistics();
  EXPECT_GE(now.limit_refusals, 1u);
  EXPECT_LE(now.limit_refusals, refusals.load());
  EXPECT_NE(now.limit_purges, 0u);
  EXPECT_EQ(now.in_use_bytes, 0u);
  EXPECT_LE(now.in_use_peak_bytes, 16 * mebibyte);
  EXPECT_TRUE(arena->validate());
  tunables = Tunables{};
}

TEST(ArenaThreads, a_cache_gives_each_run_to_one_thread_at_a_time) {
  LargeCache cache;
  std::atomic<int> holders[5] = {};
  std::atomic<bool> is_shared{false};
  const auto hold = [&](CachedRun run) {
    is_shared =
        is_shared || (run.bytes != 0 && holders[run.address / chunk_bytes].fetch_add(1) != 0);
    return run;
  };
  const auto let_go = [&](CachedRun run) {
    holders[run.address / chunk_bytes].fetch_sub(1);
    return run;
  };
  test::run_threads(4, [&](std::size_t thread) {
    CachedRun mine = hold(CachedRun{(thread + 1) * chunk_bytes, chunk_bytes});
    for (int step = 0; step < 20000; ++step) {
      if (mine.bytes != 0) {
        mine = hold(cache.put(let_go(mine)));
      } else if (step % 8 == 0) {
        const auto place = static_cast<std::uint32_t>(thread) % Tunables::large_cache_places;
        mine = hold(cache.clear(place, step % 16 == 0));
      } else {
        mine = hold(cache.take(chunk_bytes));
      }
    }
  });
  EXPECT_FALSE(is_shared.load());
}

TEST(ArenaThreads, exactly_one_of_several_threads_frees_an_object_into_a_cache) {
  test::FaultyOs os;
  const auto arena = std::make_unique<Arena>();
  LargeCache* const cache = &arena->large_cache_of(0);
  for (int round = 0; round < 200; ++round) {
    void* const object = arena->allocate_large(chunk_bytes, 16, cache).address;
    std::atomic<int> freed{0};
    test::run_threads(thread_count, [&](std::size_t thread) {
      LargeCache* const mine = thread % 2 == 0 ? cache : nullptr;
      freed += arena->deallocate_large(object, mine) == LargeFree::Freed ? 1 : 0;
    });
    ASSERT_EQ(freed.load(), 1);
  }
  EXPECT_TRUE(arena->validate());
  EXPECT_EQ(arena->statistics().in_use_bytes, 0u);
}

TEST(ArenaThreads, arena_works_in_the_child_of_a_fork_amid_allocations) {
  test::FaultyOs os;
  const auto arena = std::make_unique<Arena>();
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) {
      arena->deallocate(arena->allocate(3).address, 3);
      arena->deallocate_large(arena->allocate_large(33 * mebibyte, 16).address);
    }
  });
  for (int round = 0; round < 20; ++round) {
    arena->prepare_fork();
    const pid_t child = fork();
    ASSERT_NE(child, -1);
    if (child == 0) {
      // The mutex of the test's own interface does not handle forks.
      os::replace_interface(os::linux_interface);
      arena->child_after_fork();
      const Extent run = arena->allocate(5);
      const Extent large = arena->allocate_large(40 * mebibyte, 16);
      arena->deallocate(run.address, 5);
      const bool freed = arena->deallocate_large(large.address) == LargeFree::Freed;
      _exit(freed ? 0 : 1);
    }
    arena->parent_after_fork();
    int status = 1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
  }
  stop = true;
  other.join();
  EXPECT_TRUE(arena->validate());
}

TEST(ArenaThreads, others_allocate_and_free_while_one_purges) {
  test::FaultyOs os;
  tunables.decay_milliseconds = 0;
  const auto arena = std::make_unique<Arena>();
  void* const run = arena->allocate(512).address;
  void* const kept = arena->allocate(2).address;
  int purges = 0;
  os.before_each_purge([&] {
    ++purges;
    std::thread([&] {
      EXPECT_TRUE(arena->allocate(3));
      if (purges == 1) {
        arena->deallocate(kept, 2);
      }
      EXPECT_EQ(arena->classify(run), LargeFree::AlreadyFree) << "also what is being purged";
    }).join();
  });
  arena->deallocate(run, 512);
  EXPECT_GE(purges, 1);
  arena->trim();
  EXPECT_TRUE(arena->validate());
  EXPECT_EQ(arena->statistics().dirty_bytes, 0u);
}

TEST(ArenaThreads, a_purge_includes_memory_that_others_free_meanwhile) {
  test::FaultyOs os;
  const auto arena = std::make_unique<Arena>();
  void* const first = arena->allocate(512).address;
  void* const second = arena->allocate(512).address;
  tunables.decay_milliseconds = 0;
  bool others_turn = true;
  os.before_each_purge([&] {
    if (others_turn) {
      others_turn = false;
      std::thread([&] { arena->deallocate(second, 512); }).join();
    }
  });
  arena->deallocate(first, 512);
  tunables = Tunables{};
  EXPECT_EQ(arena->statistics().dirty_bytes, 0u);
  tunables = Tunables{};
  EXPECT_TRUE(arena->validate());
}

TEST(ArenaThreads, an_allocation_waits_for_memory_that_is_being_purged) {
  test::FaultyOs os;
  os.limit_commit(64 * mebibyte);
  tunables.decay_milliseconds = 0;
  const auto arena = std::make_unique<Arena>();
  const std::size_t chunks = 800;
  void* const run = arena->allocate(chunks).address;
  std::atomic<bool> asked{false};
  Extent again;
  std::thread other;
  os.before_each_purge([&] {
    if (!other.joinable()) {
      other = std::thread([&] {
        asked = true;
        again = arena->allocate(chunks);
      });
    }
    while (!asked) {
      std::this_thread::yield();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  });
  arena->deallocate(run, chunks);
  other.join();
  EXPECT_EQ(again.address, run);
  tunables = Tunables{};
  EXPECT_TRUE(arena->validate());
}

TEST(ArenaThreads, a_fork_waits_for_the_purge_under_way) {
  test::FaultyOs os;
  tunables.decay_milliseconds = 0;
  const auto arena = std::make_unique<Arena>();
  void* const run = arena->allocate(512).address;
  std::atomic<bool> purging{false};
  std::atomic<bool> seen_purging{false};
  std::thread forking;
  os.before_each_purge([&] {
    if (forking.joinable()) {
      return;  // The first call is enough.
    }
    purging = true;
    forking = std::thread([&] {
      arena->prepare_fork();
      seen_purging = purging.load();
      arena->parent_after_fork();
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    purging = false;
  });
  arena->deallocate(run, 512);
  forking.join();
  EXPECT_FALSE(seen_purging);
  tunables = Tunables{};
  EXPECT_TRUE(arena->validate());
}

}  // namespace
}  // namespace slabmalloc
