// SPDX-License-Identifier: MIT
//
// Tests of scavenging on behalf of threads that sleep for ever. Other threads deliver the frees
// that a sleeping thread has gathered. They also purge memory of its own that others have freed.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <random>
#include <semaphore>
#include <set>
#include <thread>
#include <vector>

#include "malloc/blocks.hpp"
#include "malloc/manual_clock.hpp"
#include "malloc/report.hpp"
#include "malloc/thread_zones.hpp"
#include "os/os.hpp"
#include "slabmalloc/base/bits.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"

namespace slabmalloc {
namespace {

/// A thread sleeps here until another wakes it. That one first waits until the thread sleeps.
class Bed {
 public:
  void sleep() {
    is_asleep_.release();
    may_wake_.acquire();
  }
  void wait_for_sleeper() { is_asleep_.acquire(); }
  void wake_sleeper() { may_wake_.release(); }

 private:
  std::binary_semaphore is_asleep_{0};
  std::binary_semaphore may_wake_{0};
};

/// A thread that frees blocks of others and then sleeps as long as this lives.
class Sleeper {
 public:
  explicit Sleeper(std::vector<void*>& blocks)
      : thread_([&] {
          get_own_zone();  // Without one it would gather no frees.
          void* own = heap::allocate(1);
          free_all(blocks);
          bed_.sleep();
          heap::deallocate(own);
        }) {
    bed_.wait_for_sleeper();
  }
  ~Sleeper() {
    bed_.wake_sleeper();
    thread_.join();
  }

 private:
  Bed bed_;
  std::thread thread_;
};

/// Frees all blocks of each page but one; the sleeper frees that one. So each block in the
/// sleeper's buffer pins a page.
void leave_to_sleeper(std::vector<void*>& blocks, std::vector<void*>& last_of_pages) {
  allocate_many(blocks, 1024, 12 * chunk_bytes);
  std::set<std::uintptr_t> pages;
  std::erase_if(blocks, [&](void* block) {
    const bool is_first =
        pages.insert(reinterpret_cast<std::uintptr_t>(block) / chunk_bytes).second;
    if (is_first) {
      last_of_pages.push_back(block);
    }
    return is_first;
  });
  free_all(blocks);
}

TEST(Scavenging, trim_delivers_frees_that_a_sleeping_thread_withholds) {
  std::vector<void*> blocks;
  std::vector<void*> last_of_pages;
  leave_to_sleeper(blocks, last_of_pages);
  const std::size_t pages = last_of_pages.size();
  ASSERT_GE(pages, 12u);
  const Sleeper sleeper(last_of_pages);
  ASSERT_GT(process_statistics().live_bytes, 4 * 1024u) << "the test wants them to be buffered";
  ASSERT_GE(in_use_bytes(), 8 * chunk_bytes);
  EXPECT_GT(heap::trim(), 0u);
  EXPECT_EQ(process_statistics().live_objects, 1u) << "the sleeper's own";
  EXPECT_LE(in_use_bytes(), 2 * chunk_bytes) << "the sleeper's page and the registry";
}

TEST(Scavenging, a_thread_that_needs_no_further_page_drains_remote_frees) {
  std::vector<void*> blocks;
  allocate_many(blocks, 64, 16 * mebibyte);
  std::thread([&] { free_all(blocks); }).join();
  ASSERT_GE(in_use_bytes(), 16 * mebibyte);
  std::vector<void*> ring(500);
  for (std::size_t step = 0; step < 400'000; ++step) {
    void*& oldest = ring[step % ring.size()];
    heap::deallocate(oldest);
    oldest = heap::allocate(48);
  }
  EXPECT_LE(in_use_bytes(), 8 * chunk_bytes);
  free_all(ring);
}

TEST(Scavenging, an_allocating_thread_gets_back_frees_that_a_sleeping_thread_withholds) {
  std::vector<void*> blocks;
  std::vector<void*> last_of_pages;
  leave_to_sleeper(blocks, last_of_pages);
  const Sleeper sleeper(last_of_pages);
  ASSERT_GT(process_statistics().live_bytes, 4 * 1024u);
  std::this_thread::sleep_for(std::chrono::milliseconds(tunables.scavenge_milliseconds + 50));
  allocate_many(blocks, 4096, 40 * chunk_bytes);
  EXPECT_EQ(process_statistics().live_objects, blocks.size() + 1);
  free_all(blocks);
}

TEST(Scavenging, happens_as_often_as_the_tunable_says) {
  for (const bool is_due : {true, false}) {
    tunables.scavenge_milliseconds = 60'000;
    std::vector<void*> blocks;
    std::vector<void*> last_of_pages;
    leave_to_sleeper(blocks, last_of_pages);
    const Sleeper sleeper(last_of_pages);
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    tunables.scavenge_milliseconds = is_due ? 20 : 60'000;
    allocate_many(blocks, 4096, 40 * chunk_bytes);
    EXPECT_EQ(process_statistics().live_objects == blocks.size() + 1, is_due);
    free_all(blocks);
  }
  tunables = Tunables{};
}

TEST(Scavenging, delivers_frees_that_a_sleeping_thread_withholds_before_memory_is_exhausted) {
  static bool is_exhausted = false;
  static os::Interface table = os::linux_interface;
  table.now_milliseconds = [] { return std::uint64_t{1}; };  // It stands still: no scavenge is due.
  table.map_at = [](void* address, std::size_t bytes) {
    return is_exhausted ? os::MapOutcome::Exhausted : os::linux_interface.map_at(address, bytes);
  };
  const os::Interface& previous = os::replace_interface(table);
  std::vector<void*> blocks;
  std::vector<void*> last_of_pages;
  leave_to_sleeper(blocks, last_of_pages);
  const Sleeper sleeper(last_of_pages);
  ASSERT_GT(process_statistics().live_bytes, 4 * 1024u);
  is_exhausted = true;
  while (void* block = heap::allocate(1024)) {
    blocks.push_back(block);
  }
  EXPECT_EQ(process_statistics().live_objects, blocks.size() + 1) << "and the sleeper's own";
  free_all(blocks);
  os::replace_interface(previous);
}

/// The resident bytes of the OS pages around `blocks`.
std::size_t resident_bytes(const std::vector<void*>& blocks) {
  const std::size_t unit = os::interface().os_page_bytes();
  std::set<std::uintptr_t> pages;
  for (void* block : blocks) {
    pages.insert(align_down(reinterpret_cast<std::uintptr_t>(block), unit));
  }
  std::size_t bytes = 0;
  for (const std::uintptr_t page : pages) {
    unsigned char is_resident = 0;
    EXPECT_EQ(mincore(reinterpret_cast<void*>(page), unit, &is_resident), 0);
    bytes += (is_resident & 1) * unit;
  }
  return bytes;
}

/// A thread that allocates blocks, sleeps, and allocates as many again when it wakes.
class SleepingOwner {
 public:
  SleepingOwner(std::vector<void*>& blocks, std::size_t bytes, std::size_t total_bytes)
      : thread_([&blocks, bytes, total_bytes, this] {
          allocate_many(blocks, bytes, total_bytes);
          bed_.sleep();
          std::vector<void*> mine;
          allocate_many(mine, bytes, total_bytes);
          for (std::size_t number = 0; number < mine.size(); ++number) {
            test::fill_pattern(mine[number], bytes, number);
          }
          for (std::size_t number = 0; number < mine.size(); ++number) {
            EXPECT_TRUE(test::holds_pattern(mine[number], bytes, number));
          }
          free_all(mine);
          EXPECT_EQ(thread_heap.zone->validate(), nullptr);
        }) {
    bed_.wait_for_sleeper();
  }
  ~SleepingOwner() {
    bed_.wake_sleeper();
    thread_.join();
  }

 private:
  Bed bed_;
  std::thread thread_;
};

TEST(Scavenging, trim_purges_freed_blocks_of_a_sleeping_thread) {
  heap::deallocate(heap::allocate(1));
  for (const std::size_t bytes : {std::size_t{64}, std::size_t{1000}, std::size_t{30000}}) {
    std::vector<void*> blocks;
    {
      const SleepingOwner owner(blocks, bytes, 16 * mebibyte);
      const std::vector<void*> freed = blocks;
      free_all(blocks);
      const std::size_t held = resident_bytes(freed);
      ASSERT_GE(held, freed.size() * std::min<std::size_t>(bytes, 4096));
      constexpr std::size_t page_of_owner = 2 * chunk_bytes;  // The page that it allocates from.
      EXPECT_GE(heap::trim(), held - page_of_owner);
      EXPECT_LE(resident_bytes(freed), page_of_owner);
      EXPECT_EQ(heap::trim(), 0u) << "once is enough";
    }
    heap::trim();
    EXPECT_EQ(process_statistics().live_objects, 0u);
  }
}

TEST(Scavenging, a_live_block_keeps_its_page) {
  heap::deallocate(heap::allocate(1));
  std::vector<void*> blocks;
  std::vector<void*> kept;
  const SleepingOwner owner(blocks, 1000, 4 * mebibyte);
  for (std::size_t number = 0; number < blocks.size(); number += 50) {
    test::fill_pattern(blocks[number], 1000, number);
    kept.push_back(blocks[number]);
    blocks[number] = nullptr;
  }
  free_all(blocks);
  heap::trim();
  for (std::size_t number = 0; number < kept.size(); ++number) {
    EXPECT_TRUE(test::holds_pattern(kept[number], 1000, number * 50));
  }
  free_all(kept);
}

TEST(Scavenging, a_thread_that_frees_purges_freed_blocks_of_a_sleeping_thread) {
  tunables.decay_milliseconds = tunables.scavenge_milliseconds;
  heap::deallocate(heap::allocate(1));
  std::vector<void*> blocks;
  const SleepingOwner owner(blocks, 1000, 16 * mebibyte);
  const std::vector<void*> freed = blocks;
  const std::size_t part = blocks.size() / 8;
  // The second interval without a scan by the owner ends, one scan sees what is free then, and the
  // next one drops it.
  while (!blocks.empty()) {
    for (std::size_t count = 0; count < part && !blocks.empty(); ++count) {
      heap::deallocate(blocks.back());
      blocks.pop_back();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(tunables.scavenge_milliseconds + 20));
  }
  EXPECT_LE(resident_bytes(freed), 8 * mebibyte);
  tunables = Tunables{};
}

TEST(Scavenging, purges_freed_blocks_of_an_owner_that_drains_too_few) {
  const ManualClock clock;
  std::vector<void*> blocks;
  allocate_many(blocks, 1000, 16 * mebibyte);
  const std::vector<void*> freed = blocks;
  run_thread([&] { free_all(blocks); });
  for (int round = 0; round < 3; ++round) {
    ManualClock::now += 2 * tunables.decay_milliseconds;
    thread_heap.zone->drain_some(1);
    run_thread([] { thread_zones.scavenge_if_due(); });
  }
  EXPECT_LE(resident_bytes(freed), 8 * chunk_bytes) << "those that the owner has drained";
  heap::trim();
  EXPECT_EQ(process_statistics().live_objects, 0u);
}

TEST(Scavenging, leaves_freed_blocks_to_an_owner_that_drains_everything) {
  const ManualClock clock;
  std::vector<void*> blocks;
  for (int round = 0; round < 3; ++round) {
    thread_heap.zone->drain();
    allocate_many(blocks, 1000, mebibyte);
    const std::vector<void*> freed = blocks;
    run_thread([&] { free_all(blocks); });
    ManualClock::now += tunables.scavenge_milliseconds;
    run_thread([] { thread_zones.scavenge_if_due(); });
    EXPECT_GE(resident_bytes(freed), mebibyte);
  }
  heap::trim();
}

/// Allocates blocks of many sizes, which another thread frees. From then on no thread makes a call
/// but this one: `work()`, once in a millisecond, for some decay times. Returns the bytes that the
/// arena holds then.
template <class Work>
std::size_t held_bytes_after(Work&& work, std::uint32_t decay_times = 4) {
  const ManualClock clock;
  tunables.decay_milliseconds = 100;
  tunables.scavenge_milliseconds = 25;
  std::vector<void*> blocks;
  for (std::size_t number = 0; number < 200'000; ++number) {
    blocks.push_back(heap::allocate(1 + number * 7919 % 800));
  }
  run_thread([&] { free_all(blocks); });
  EXPECT_GE(in_use_bytes(), 64 * mebibyte) << "the owner holds what the other thread freed";
  for (std::uint32_t passed = 0; passed < decay_times * tunables.decay_milliseconds; ++passed) {
    ++ManualClock::now;
    work();
  }
  tunables = Tunables{};
  const auto arena = process_arena.statistics();
  return arena.in_use_bytes + arena.dirty_bytes;
}

// It claims slots six times in each round. Rounds begin at different times since the owner last
// read the clock.
TEST(Scavenging, an_owner_that_works_lightly_gives_back_what_another_thread_freed) {
  std::vector<void*> live;
  for (int round = 0; round < 4; ++round) {
    allocate_many(live, 16, 16 * 16 * word_bits);
    EXPECT_LE(held_bytes_after([] { heap::deallocate(heap::allocate(16)); }), 8 * mebibyte);
  }
  free_all(live);
  heap::trim();
  EXPECT_EQ(process_statistics().live_objects, 0u);
}

// It claims no slots: where all pages are full, a free hands its slot to the next allocation.
TEST(Scavenging, an_owner_that_replaces_a_block_gives_back_what_another_thread_freed) {
  constexpr std::size_t bytes = 1024;
  std::vector<void*> live;
  do {
    live.push_back(heap::allocate(bytes));
  } while (live.size() < 4096 ||
           reinterpret_cast<std::uintptr_t>(live.back()) % chunk_bytes != chunk_bytes - bytes);
  const auto replace = [&](void*& block) {
    heap::deallocate(block);
    block = heap::allocate(bytes);
  };
  replace(live.front());  // Leaves the last page, which is on its first sweep.
  EXPECT_LE(held_bytes_after([&] { replace(live[1000]); }), 16 * mebibyte);
  free_all(live);
  heap::trim();
  EXPECT_EQ(process_statistics().live_objects, 0u);
}

/// The bytes that the arena holds after a burst of `claims` within a moment. Before it lies free
/// memory that an earlier burst has left. After it the calling thread makes a pair of calls in each
/// millisecond, for `claims_after` claims.
std::size_t held_bytes_after_burst(std::size_t claims, std::size_t claims_after) {
  constexpr std::size_t bytes = 16;
  tunables.decay_milliseconds = 100;
  tunables.scavenge_milliseconds = 25;
  std::vector<void*> blocks;
  allocate_many(blocks, 1000, 32 * mebibyte);
  free_all(blocks);
  allocate_many(blocks, bytes, claims * bytes * word_bits);
  EXPECT_GE(process_arena.statistics().dirty_bytes, 16 * mebibyte);
  for (std::size_t passed = 0; passed < claims_after * word_bits; ++passed) {
    ++ManualClock::now;
    heap::deallocate(heap::allocate(bytes));
  }
  free_all(blocks);
  tunables = Tunables{};
  const auto arena = process_arena.statistics();
  return arena.in_use_bytes + arena.dirty_bytes;
}

// Whatever the thread did before, it soon sees that time has passed.
TEST(Scavenging, an_owner_gives_memory_back_a_few_claims_after_a_burst) {
  const ManualClock clock;
  constexpr std::size_t few = Tunables::calls_per_clock_check / Tunables::calls_per_claim + 2;
  for (const std::size_t claims : {1u, 2u, 3u, 5u, 15u, 16u, 17u, 63u, 64u, 65u, 128u, 1000u}) {
    EXPECT_LE(held_bytes_after_burst(claims, few), 8 * mebibyte) << claims << " claims";
    heap::trim();
  }
  EXPECT_EQ(process_statistics().live_objects, 0u);
}

// The burst comes when the owner has drained everything, and waits for the decay.
TEST(Scavenging, a_burst_of_the_owner_delays_what_another_thread_freed_by_a_few_claims) {
  for (const std::size_t claims : {2u, 8u, 100u}) {
    std::uint32_t passed = 0;
    std::vector<void*> live;
    const std::size_t held = held_bytes_after(
        [&] {
          if (++passed == 200) {
            allocate_many(live, 16, claims * 16 * word_bits);
          }
          heap::deallocate(heap::allocate(16));
        },
        20);
    EXPECT_LE(held, 8 * mebibyte) << claims << " claims";
    free_all(live);
    heap::trim();
  }
  EXPECT_EQ(process_statistics().live_objects, 0u);
}

std::chrono::nanoseconds processor_time_of_thread() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

std::binary_semaphore scavenge_has_begun{0};
constinit thread_local bool is_slow_scavenger = false;

// The scavenger may share its processor with an owner of real-time priority. It then runs only
// while the owner sleeps.
TEST(Scavenging, an_owner_that_must_drain_everything_sleeps_until_it_has_ended) {
  static os::Interface table = os::linux_interface;
  table.purge = [](void* address, std::size_t bytes) {
    if (is_slow_scavenger) {
      is_slow_scavenger = false;
      scavenge_has_begun.release();
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
    return os::linux_interface.purge(address, bytes);
  };
  const os::Interface& previous = os::replace_interface(table);
  std::vector<void*> blocks;
  allocate_many(blocks, 1000, 4 * chunk_bytes);
  std::thread scavenger([&] {
    free_all(blocks);
    thread_heap.zone->drain();  // Delivers the frees that it buffered.
    is_slow_scavenger = true;
    thread_zones.drop_all_holes();
  });
  scavenge_has_begun.acquire();
  const std::chrono::nanoseconds before = processor_time_of_thread();
  heap::trim();
  EXPECT_LT(processor_time_of_thread() - before, std::chrono::milliseconds(50));
  EXPECT_EQ(process_statistics().live_objects, 0u) << "and then takes in everything";
  scavenger.join();
  os::replace_interface(previous);
}

TEST(Scavenging, leaves_blocks_in_use_alone) {
  std::barrier both(2);
  std::atomic<bool> done{false};
  std::vector<void*> passed;
  std::thread other([&] {
    while (true) {
      both.arrive_and_wait();
      if (done) {
        return;
      }
      free_all(passed);
      for (int count = 0; count < 5; ++count) {
        thread_zones.drop_all_holes();
      }
      both.arrive_and_wait();
    }
  });
  std::vector<void*> mine;
  for (int round = 0; round < 100; ++round) {
    allocate_many(passed, 2000, 8 * chunk_bytes);
    both.arrive_and_wait();
    for (std::size_t number = 0; number < 400; ++number) {
      mine.push_back(heap::allocate(2000));
      test::fill_pattern(mine.back(), 2000, number);
    }
    both.arrive_and_wait();
    for (std::size_t number = 0; number < mine.size(); ++number) {
      ASSERT_TRUE(test::holds_pattern(mine[number], 2000, number));
    }
    free_all(mine);
  }
  done = true;
  both.arrive_and_wait();
  other.join();
  heap::trim();
  EXPECT_EQ(process_statistics().live_objects, 0u);
  EXPECT_EQ(thread_heap.zone->validate(), nullptr);
}

TEST(Scavenging, may_meet_the_owner_at_any_moment) {
  test::MisuseRecorder misuse;
  std::vector<void*> blocks;
  std::barrier both(2);
  std::atomic<bool> done{false};
  std::atomic<bool> frees{false};
  std::thread other([&] {
    void* own = heap::allocate(1);
    for (;;) {
      both.arrive_and_wait();
      if (done) {
        break;
      }
      free_all(blocks);
      frees = false;
      both.arrive_and_wait();
    }
    heap::deallocate(own);
  });
  for (int round = 0; round < 40; ++round) {
    allocate_many(blocks, 48, 8 * chunk_bytes);
    std::ranges::shuffle(blocks, std::minstd_rand(static_cast<unsigned>(round)));
    frees = true;
    both.arrive_and_wait();
    while (frees) {
      thread_zones.deliver_all();
    }
    both.arrive_and_wait();
  }
  done = true;
  both.arrive_and_wait();
  other.join();
  heap::trim();
  EXPECT_EQ(misuse.take_count(MisuseKind::DoubleFree), 0u) << "each is delivered once";
  EXPECT_EQ(process_statistics().live_objects, 0u) << "and none is lost";
  EXPECT_EQ(thread_heap.zone->validate(), nullptr);
}

}  // namespace
}  // namespace slabmalloc
