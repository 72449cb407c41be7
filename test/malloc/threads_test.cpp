// SPDX-License-Identifier: MIT
//
// Tests of threads and their zones: start, end, adoption, remote frees, and statistics meanwhile.
#include <gtest/gtest.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstdint>
#include <functional>
#include <semaphore>
#include <set>
#include <thread>
#include <vector>

#include "malloc/blocks.hpp"
#include "malloc/report.hpp"
#include "malloc/thread_zones.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"

namespace slabmalloc {
namespace {

std::size_t zone_count() {
  std::size_t count = 0;
  thread_zones.for_each([&](const ArenaZone&) { ++count; });
  return count;
}

TEST(ThreadZones, short_threads_one_after_the_other_share_one_zone) {
  for (int number = 0; number < 2; ++number) {
    // The first thread never uses the shared zone.
    run_thread([] { heap::deallocate(heap::allocate(10)); });
  }
  const std::size_t zones = zone_count();
  const std::size_t committed = process_arena.statistics().committed_bytes;
  for (int number = 0; number < 1000; ++number) {
    run_thread([] {
      std::vector<void*> blocks;
      for (const std::size_t bytes : {16u, 100u, 3000u, 100000u}) {
        blocks.push_back(heap::allocate(bytes));
      }
      free_all(blocks);
    });
  }
  EXPECT_EQ(zone_count(), zones);
  EXPECT_EQ(process_arena.statistics().committed_bytes, committed);
}

TEST(ThreadZones, there_are_at_most_as_many_zones_as_threads_at_one_time) {
  const std::size_t zones = zone_count();
  for (int round = 0; round < 5; ++round) {
    std::barrier all(8);
    std::vector<std::thread> threads;
    for (int number = 0; number < 8; ++number) {
      threads.emplace_back([&] {
        get_own_zone();
        void* block = heap::allocate(100);
        all.arrive_and_wait();
        heap::deallocate(block);
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
  }
  EXPECT_LE(zone_count(), zones + 9) << "and the shared one";
}

TEST(ThreadZones, a_thread_that_frees_few_small_blocks_gets_no_zone) {
  std::vector<void*> blocks;
  allocate_many(blocks, 64, 64 * (Tunables::frees_before_zone - 1));
  allocate_many(blocks, 20000, 2 * mebibyte);
  allocate_many(blocks, 300000, mebibyte);
  const std::size_t zones = zone_count();
  const std::size_t threads = thread_zones.threads();
  run_thread([&] {
    free_all(blocks);
    EXPECT_EQ(thread_heap.zone, &empty_zone);
  });
  EXPECT_EQ(zone_count(), zones);
  EXPECT_EQ(thread_zones.threads(), threads);
  heap::trim();
  EXPECT_LT(in_use_bytes(), mebibyte / 2);
}

TEST(ThreadZones, a_thread_that_frees_many_small_blocks_buffers_its_frees) {
  heap::deallocate(heap::allocate(1));
  run_thread([] { get_own_zone(); });  // There is a parked zone.
  const std::size_t zones = zone_count();
  for (int number = 0; number < 10; ++number) {
    std::vector<void*> blocks;
    allocate_many(blocks, 64, 64 * (Tunables::frees_before_zone + 10));
    run_thread([&] {
      free_all(blocks);
      ASSERT_NE(thread_heap.zone, &empty_zone);
      EXPECT_TRUE(thread_heap.zone->buffered_frees().holds_some());
    });
    heap::trim();
    EXPECT_EQ(process_statistics().live_objects, 0u) << "they are delivered at the thread's end";
  }
  EXPECT_EQ(zone_count(), zones) << "threads one after the other share one zone";
}

TEST(ThreadZones, a_thread_without_a_zone_may_ask_about_blocks_of_others) {
  for (const std::size_t bytes : {std::size_t{16}, std::size_t{1000}, std::size_t{100000}}) {
    void* block = heap::allocate(bytes);
    run_thread([&] {
      EXPECT_GE(heap::usable_bytes(block), bytes);
      EXPECT_EQ(heap::reallocate(block, bytes), block);
      EXPECT_EQ(thread_heap.zone, &empty_zone);
    });
    heap::deallocate(block);
  }
}

TEST(ThreadZones, the_zone_of_threads_that_have_none_takes_no_room_in_the_programs_file) {
  EXPECT_TRUE(test::holds_zeroes(&empty_zone, sizeof(empty_zone)));
}

TEST(ThreadZones, blocks_outlive_their_thread_and_their_memory_is_used_again) {
  std::size_t committed = 0;
  for (int round = 0; round < 100; ++round) {
    std::vector<void*> blocks;
    run_thread([&] {
      allocate_many(blocks, 64, mebibyte);
      allocate_many(blocks, 5000, mebibyte);
      for (void* block : blocks) {
        test::fill_pattern(block, 64, 3);
      }
    });
    for (void* block : blocks) {
      ASSERT_TRUE(test::holds_pattern(block, 64, 3));
    }
    free_all(blocks);
    if (round == 10) {
      committed = process_arena.statistics().committed_bytes;
    }
  }
  EXPECT_LE(process_arena.statistics().committed_bytes, committed);
}

TEST(ThreadZones, frees_to_ended_threads_go_back_when_others_need_memory) {
  std::vector<void*> of_ended;
  // With a zone of its own, this thread does not take over that of the ended thread.
  heap::deallocate(heap::allocate(1));
  run_thread([&] { allocate_many(of_ended, 1000, 32 * mebibyte); });
  free_all(of_ended);
  ASSERT_GE(in_use_bytes(), 30 * mebibyte);
  // Each sixteenth allocation of a page drains the zone of one ended thread, each in its turn.
  const std::size_t wanted_bytes = 16 * (zone_count() + 1) * chunk_bytes;
  std::vector<void*> blocks;
  allocate_many(blocks, 1000, wanted_bytes);
  EXPECT_LT(in_use_bytes(), wanted_bytes + 4 * mebibyte);
  free_all(blocks);
}

TEST(ThreadZones, trim_drains_frees_to_ended_threads) {
  std::vector<void*> of_ended;
  for (int number = 0; number < 4; ++number) {
    run_thread([&] { allocate_many(of_ended, 1000, 4 * mebibyte); });
  }
  free_all(of_ended);
  EXPECT_GT(heap::trim(), 0u);
  EXPECT_EQ(process_arena.statistics().dirty_bytes, 0u);
  EXPECT_LT(in_use_bytes(), mebibyte);
}

// ---- frees across threads -----------------------------------------------------------------------

TEST(RemoteFrees, a_thread_that_falls_asleep_withholds_no_more_than_its_buffer) {
  for (const std::size_t bytes :
       {std::size_t{16}, std::size_t{1024}, std::size_t{1025}, std::size_t{100000}, 2 * mebibyte}) {
    std::vector<void*> blocks;
    allocate_many(blocks, bytes, 8 * mebibyte);
    std::binary_semaphore has_freed(0);
    std::binary_semaphore may_wake(0);
    std::thread sleeper([&] {
      void* own = heap::allocate(bytes);
      for (void* block : blocks) {
        heap::deallocate(block);
      }
      has_freed.release();
      may_wake.acquire();
      heap::deallocate(own);
    });
    has_freed.acquire();
    const std::size_t live = process_statistics().live_bytes;
    EXPECT_LE(live, MallocConfig::remote_buffer_bytes + 3 * bytes) << bytes;
    may_wake.release();
    sleeper.join();
    heap::trim();
    EXPECT_EQ(process_statistics().live_bytes, 0u) << bytes;
  }
}

TEST(RemoteFrees, an_owner_reuses_them_before_it_needs_new_memory) {
  std::vector<void*> blocks;
  allocate_many(blocks, 64, mebibyte);
  const std::size_t committed = process_arena.statistics().committed_bytes;
  for (int round = 0; round < 200; ++round) {
    run_thread([&] { free_all(blocks); });
    allocate_many(blocks, 64, mebibyte);
  }
  EXPECT_LE(process_arena.statistics().committed_bytes, committed);
  free_all(blocks);
}

TEST(RemoteFrees, the_last_free_of_a_page_may_race_with_the_owners) {
  const test::MisuseRecorder misuse;
  constexpr std::size_t bytes = 8192;  // Eight to a page.
  std::vector<void*> mine;
  std::vector<void*> theirs;
  std::barrier both(2);
  std::atomic<bool> done{false};
  std::thread other([&] {
    for (;;) {
      both.arrive_and_wait();
      if (done) {
        return;
      }
      free_all(theirs);
      both.arrive_and_wait();
    }
  });
  for (int round = 0; round < 1000; ++round) {
    for (int count = 0; count < 16; ++count) {
      (count % 2 == 0 ? mine : theirs).push_back(heap::allocate(bytes));
    }
    both.arrive_and_wait();
    free_all(mine);
    both.arrive_and_wait();
    if (round % 100 == 0) {
      EXPECT_EQ(thread_heap.zone->validate(), nullptr);
    }
  }
  done = true;
  both.arrive_and_wait();
  other.join();
  heap::trim();
  EXPECT_EQ(process_statistics().live_objects, 0u);
  EXPECT_LT(in_use_bytes(), mebibyte);
  EXPECT_TRUE(process_arena.validate());
}

TEST(RemoteFrees, one_of_two_threads_that_free_the_same_block_is_reported) {
  test::MisuseRecorder misuse;
  constexpr std::size_t count = 2000;
  for (const bool with_zone : {false, true}) {
    std::vector<void*> blocks;
    for (std::size_t number = 0; number < count; ++number) {
      blocks.push_back(heap::allocate(48));
    }
    // All blocks stay live to the end, so no page becomes empty, and every second free can be
    // reported.
    std::vector<void*> keep;
    std::barrier both(2);
    const auto free_them = [&] {
      void* own = with_zone ? heap::allocate(48) : nullptr;
      both.arrive_and_wait();
      for (void* block : blocks) {
        heap::deallocate(block);
      }
      heap::deallocate(own);
    };
    std::thread first(free_them);
    std::thread second(free_them);
    first.join();
    second.join();
    heap::trim();
    EXPECT_EQ(misuse.take_count(MisuseKind::DoubleFree), count) << with_zone;
    std::set<void*> distinct;
    for (std::size_t number = 0; number < 2 * count; ++number) {
      keep.push_back(heap::allocate(48));
      EXPECT_TRUE(distinct.insert(keep.back()).second);
    }
    free_all(keep);
    EXPECT_EQ(thread_heap.zone->validate(), nullptr);
    EXPECT_EQ(process_statistics().live_objects, 0u);
  }
}

TEST(RemoteFrees, a_remote_free_and_then_one_by_the_owner_are_reported_on_draining) {
  test::MisuseRecorder misuse;
  void* keep = heap::allocate(48);
  void* block = heap::allocate(48);
  run_thread([&] {
    void* own = heap::allocate(48);
    heap::deallocate(block);
    heap::deallocate(own);
  });
  heap::deallocate(block);
  heap::trim();
  EXPECT_EQ(misuse.take_count(MisuseKind::DoubleFree), 1u);
  void* first = heap::allocate(48);
  void* second = heap::allocate(48);
  EXPECT_NE(first, second);
  for (void* one : {keep, first, second}) {
    heap::deallocate(one);
  }
  EXPECT_EQ(process_statistics().live_objects, 0u);
}

// ---- the end of a thread ------------------------------------------------------------------------

/// This key is younger than the heap's, so its destructor runs after the heap has parked the zone.
class LateKey {
 public:
  explicit LateKey(void (*destructor)(void*)) {
    heap::deallocate(heap::allocate(1));
    EXPECT_EQ(pthread_key_create(&key_, destructor), 0);
  }
  ~LateKey() { pthread_key_delete(key_); }
  pthread_key_t get() const { return key_; }

 private:
  pthread_key_t key_ = 0;
};

thread_local int late_calls = 0;
pthread_key_t late_key = 0;

void allocate_and_free_late(void* first) {
  const bool is_parked = thread_heap.zone == &empty_zone;
  EXPECT_TRUE(is_parked) << "the test wants the heap's destructor to have run";
  heap::deallocate(first);
  for (const std::size_t bytes : {1u, 100u, 5000u, 100000u, 1000000u}) {
    void* block = heap::allocate(bytes);
    ASSERT_NE(block, nullptr);
    __builtin_memset(block, 0xFF, bytes);
    block = heap::reallocate(block, bytes * 2);
    heap::deallocate(block);
    void* zeroed = heap::allocate_zeroed(bytes);
    EXPECT_TRUE(test::holds_zeroes(zeroed, bytes));
    __builtin_memset(zeroed, 0xFF, bytes);
    heap::deallocate(zeroed);
  }
  EXPECT_EQ(thread_heap.zone, &empty_zone) << "a zone for the rest of a thread would stay behind";
  if (++late_calls < 3) {
    // The C library runs the destructor up to four times. The last run is too late for sanitizers.
    pthread_setspecific(late_key, heap::allocate(10));
  }
}

TEST(ThreadEnd, destructors_that_run_after_the_zone_was_parked_may_allocate_and_free) {
  const LateKey key(&allocate_and_free_late);
  late_key = key.get();
  const auto work = [&] { pthread_setspecific(late_key, heap::allocate(100)); };
  run_thread(work);
  const std::size_t zones = zone_count();
  for (int round = 0; round < 100; ++round) {
    run_thread(work);
  }
  EXPECT_EQ(zone_count(), zones);
  heap::trim();
  EXPECT_EQ(process_statistics().live_objects, 0u);
}

TEST(ThreadEnd, many_threads_may_end_late_at_the_same_time) {
  const LateKey key(&allocate_and_free_late);
  late_key = key.get();
  std::vector<std::thread> threads;
  for (int number = 0; number < 40; ++number) {
    threads.emplace_back([&] { pthread_setspecific(late_key, heap::allocate(100)); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_TRUE(process_arena.validate());
}

struct FreesAtThreadEnd {
  ~FreesAtThreadEnd() {
    free_all(*blocks);
    heap::deallocate(heap::allocate(77));
    delete blocks;
  }
  std::vector<void*>* blocks = new std::vector<void*>;
};

TEST(ThreadEnd, thread_local_objects_may_free_in_their_destructors) {
  for (int round = 0; round < 50; ++round) {
    run_thread([] {
      static thread_local FreesAtThreadEnd object;
      allocate_many(*object.blocks, 100, mebibyte / 8);
    });
  }
  heap::trim();
  EXPECT_EQ(process_statistics().live_objects, 0u);
}

// ---- first use and reading statistics -----------------------------------------------------------

TEST(FirstUse, many_threads_may_make_the_first_call_at_the_same_time) {
  std::barrier all(8);
  std::vector<std::thread> threads;
  std::vector<std::vector<void*>> blocks(8);
  for (std::size_t number = 0; number < 8; ++number) {
    threads.emplace_back([&, number] {
      all.arrive_and_wait();
      for (std::size_t count = 0; count < 100; ++count) {
        const std::size_t bytes = std::size_t{1} << ((count + number * 3) % 26);
        void* block = count % 2 == 0 ? heap::allocate(bytes) : heap::allocate_zeroed(bytes);
        test::fill_pattern(block, std::min<std::size_t>(bytes, 64), number);
        blocks[number].push_back(block);
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  std::set<void*> distinct;
  for (std::size_t number = 0; number < 8; ++number) {
    for (void* block : blocks[number]) {
      EXPECT_TRUE(distinct.insert(block).second);
      EXPECT_TRUE(test::holds_pattern(block, 1, number));
    }
    free_all(blocks[number]);
  }
  EXPECT_TRUE(process_arena.validate());
}

TEST(Statistics, are_exact_while_no_thread_runs) {
  heap::trim();  // Statistics count remote frees once they are drained.
  const ProcessStatistics start = process_statistics();
  std::vector<void*> blocks;
  const std::uint32_t index = heap::SizeClasses::index_for(100);
  for (int count = 0; count < 1000; ++count) {
    blocks.push_back(heap::allocate(100));
  }
  for (int count = 0; count < 300; ++count) {
    heap::deallocate(blocks.back());
    blocks.pop_back();
  }
  ProcessStatistics now = process_statistics();
  EXPECT_EQ(now.classes[index].used - start.classes[index].used, 700u);
  EXPECT_EQ(now.classes[index].allocations - start.classes[index].allocations, 1000u);
  EXPECT_EQ(now.classes[index].frees - start.classes[index].frees, 300u);
  EXPECT_EQ(now.live_objects - start.live_objects, 700u);
  EXPECT_EQ(now.live_bytes - start.live_bytes, 700u * heap::SizeClasses::size_of(index));

  run_thread([&] {
    for (int count = 0; count < 200; ++count) {
      heap::deallocate(blocks.back());
      blocks.pop_back();
    }
  });
  heap::trim();
  now = process_statistics();
  EXPECT_EQ(now.classes[index].used - start.classes[index].used, 500u);
  EXPECT_EQ(now.classes[index].remote_frees - start.classes[index].remote_frees, 200u);
  EXPECT_EQ(now.classes[index].frees - start.classes[index].frees, 500u);

  void* large = heap::allocate(mebibyte);
  void* mapped = heap::allocate(64 * mebibyte);
  now = process_statistics();
  EXPECT_EQ(now.arena.large.count, 2u);
  EXPECT_EQ(now.arena.large.bytes, 65 * mebibyte);
  EXPECT_EQ(now.arena.large.allocations - start.arena.large.allocations, 2u);
  EXPECT_EQ(now.live_objects - start.live_objects, 502u);
  heap::deallocate(large);
  heap::deallocate(mapped);
  free_all(blocks);
  now = process_statistics();
  EXPECT_EQ(now.live_objects, start.live_objects);
  EXPECT_EQ(now.live_bytes, start.live_bytes);
  EXPECT_EQ(now.allocations - start.allocations, 1002u);
  EXPECT_EQ(now.frees - start.frees, 1002u);
}

TEST(Statistics, may_be_asked_while_threads_run) {
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (int number = 0; number < 3; ++number) {
    threads.emplace_back([&] {
      std::vector<void*> blocks;
      while (!done) {
        for (std::size_t bytes = 1; bytes < 40 * mebibyte; bytes = bytes * 3 + 1) {
          blocks.push_back(heap::allocate(bytes));
        }
        blocks.back() = heap::reallocate(blocks.back(), 50 * mebibyte);
        blocks[13] = heap::reallocate(blocks[13], mebibyte);
        free_all(blocks);
      }
    });
  }
  for (int count = 0; count < 200; ++count) {
    const ProcessStatistics now = process_statistics();
    EXPECT_LE(now.live_objects, 1000u);
    EXPECT_LE(now.frees, now.allocations);
  }
  done = true;
  for (std::thread& thread : threads) {
    thread.join();
  }
  heap::trim();
  EXPECT_EQ(process_statistics().live_objects, 0u);
}

}  // namespace
}  // namespace slabmalloc
