// SPDX-License-Identifier: MIT
//
// Tests of ObjectCache: limits and reserved objects.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel/object_cache_fixture.hpp"

namespace slabmalloc {
namespace {

using test::FrameSource;
using test::HostedCpu;
using test::Inode;
using test::ObjectCacheTest;
using test::OpenKernel;
using test::Wide;

TEST_F(ObjectCacheTest, the_limit_is_in_whole_pages_and_its_callback_may_free_something) {
  static std::vector<Inode*> held;
  cache.set_limit(
      2 * slots + 1,
      [](void* argument) noexcept {
        auto& self = *static_cast<Cache*>(argument);
        self.deallocate_many(held.data(), held.size());
        held.clear();
      },
      &cache);
  held = allocate(slots);
  const std::vector<Inode*> rest = allocate(9 * slots);
  EXPECT_EQ(held.size(), 0u) << "the callback was asked";
  EXPECT_EQ(rest.size(), 3 * slots);
  EXPECT_EQ(frames.live_bytes(), 3 * Cache::page_bytes);
  free_all(rest);
  cache.set_limit(~std::size_t{0});
  EXPECT_EQ(cache.statistics().limit_pages, CacheStatistics::no_limit);
  cache.set_limit(0);
  EXPECT_EQ(cache.statistics().limit_pages, 0u) << "which is a limit";
}

/// Makes `counts[i]` allocations on CPU i, in turns if `in_turns`. Returns how many failed.
template <class Cache>
std::size_t allocate_on_cpus(Cache& cache, std::vector<std::size_t> counts,
                             std::vector<decltype(cache.allocate())>& objects, bool in_turns) {
  std::size_t failed = 0;
  for (bool is_done = false; !is_done;) {
    is_done = true;
    for (std::uint32_t cpu = 0; cpu < counts.size(); ++cpu) {
      HostedCpu::number = cpu;
      for (; counts[cpu] != 0; --counts[cpu]) {
        auto* const object = cache.allocate();
        object != nullptr ? objects.push_back(object) : void(++failed);
        if (in_turns) {
          --counts[cpu];
          is_done = false;
          break;
        }
      }
    }
  }
  HostedCpu::number = 0;
  return failed;
}

TEST(ObjectCacheReserve, holds_however_the_allocations_are_spread_over_the_cpus) {
  using Cache = ObjectCache<Wide, OpenKernel, FrameSource>;
  constexpr std::size_t slots = Cache::objects_per_page;
  constexpr std::size_t cpus = OpenKernel::maximum_cpus;
  static_assert(slots == 5);
  for (std::size_t n = 1; n <= 4 * cpus + 9; ++n) {
    // Each of `others` CPUs makes `few` allocations, and CPU 0 makes the rest.
    for (std::size_t few = 0; few <= slots + 1; ++few) {
      for (std::size_t others = 0; others < cpus && few * others <= n; ++others) {
        std::vector<std::size_t> counts(cpus, 0);
        for (std::size_t cpu = 1; cpu <= others; ++cpu) {
          counts[cpu] = few;
        }
        counts[0] = n - few * others;
        FrameSource frames;
        Cache cache("wide", frames);
        HostedCpu::number = static_cast<std::uint32_t>(n % cpus);
        ASSERT_TRUE(cache.reserve(n));
        ASSERT_EQ(frames.live_frames(), Cache::pages_for(n));
        frames.set_exhausted(true);
        std::vector<Wide*> objects;
        ASSERT_EQ(allocate_on_cpus(cache, counts, objects, n % 2 == 0), 0u)
            << n << " objects, " << others << " CPUs with " << few << " each";
        cache.deallocate_many(objects.data(), objects.size());
        ASSERT_EQ(cache.destroy(), 0u);
      }
    }
  }
}

TEST(ObjectCacheReserve, is_no_larger_than_the_worst_distribution_needs) {
  using Cache = ObjectCache<Wide, OpenKernel, FrameSource>;
  constexpr std::size_t cpus = OpenKernel::maximum_cpus;
  for (std::size_t n = cpus; n < 40; ++n) {
    FrameSource frames;
    Cache cache("wide", frames);
    HostedCpu::number = 0;
    // If the worst distribution needs a further page for the last object, then one object fewer
    // fits fewer pages.
    if (Cache::pages_for(n - 1) == Cache::pages_for(n)) {
      continue;
    }
    ASSERT_TRUE(cache.reserve(n - 1));
    frames.set_exhausted(true);
    std::vector<std::size_t> counts(cpus, 1);
    counts[0] = n - (cpus - 1);
    std::vector<Wide*> objects;
    EXPECT_EQ(allocate_on_cpus(cache, counts, objects, false), 1u) << n;
    cache.deallocate_many(objects.data(), objects.size());
    ASSERT_EQ(cache.destroy(), 0u);
  }
}

TEST_F(ObjectCacheTest, a_reserve_refills_before_frames_go_back_and_ends_at_zero) {
  ASSERT_TRUE(cache.reserve(10 * slots));
  const std::size_t reserved = frames.live_frames();
  frames.set_exhausted(true);
  for (int round = 0; round < 3; ++round) {
    const std::vector<Inode*> objects = allocate(10 * slots);
    EXPECT_EQ(objects.size(), 10 * slots);
    on_cpu(static_cast<std::uint32_t>(round) + 1);
    free_all(objects);
    cache.zones().trim();
    on_cpu(0);
    cache.zones().trim();
    EXPECT_EQ(frames.live_frames(), reserved);
  }
  ASSERT_TRUE(cache.reserve(0));
  cache.zones().trim();
  EXPECT_EQ(frames.live_frames(), 0u);
}

TEST_F(ObjectCacheTest, reports_a_reserve_that_cannot_be_filled) {
  frames.set_limit(2 * Cache::page_bytes);
  EXPECT_EQ(cache.reserve(10 * slots).error(), AllocationError::OutOfMemory);
  EXPECT_EQ(frames.live_frames(), 2u);
}

TEST_F(ObjectCacheTest, a_reserve_of_more_pages_than_can_be_counted_is_refused) {
  const std::size_t objects = (std::size_t{1} << 32) * slots;
  ASSERT_GT(Cache::pages_for(objects), std::size_t{1} << 32);
  EXPECT_EQ(cache.reserve(objects).error(), AllocationError::TooMany);
  EXPECT_EQ(frames.live_frames(), 0u);
}

TEST_F(ObjectCacheTest, refuses_more_objects_for_interrupts_than_a_cpu_can_hold) {
  EXPECT_EQ(cache.reserve_for_interrupts(40).error(), AllocationError::TooMany);
  EXPECT_EQ(frames.live_frames(), 0u);
}

TEST_F(ObjectCacheTest, handlers_have_constructed_objects_in_reserve) {
  ASSERT_TRUE(cache.reserve_for_interrupts(2));
  std::vector<Inode*> objects = allocate(9 * slots, Context::Interrupt);
  EXPECT_EQ(objects.size(), 4 * slots) << "what there was, and no new frames";
  for (Inode* object : objects) {
    EXPECT_EQ(object->lock, 0x10C4u);
  }
  EXPECT_EQ(cache.statistics().objects_in_use, objects.size());
  free_all(objects);
}

}  // namespace
}  // namespace slabmalloc
