// SPDX-License-Identifier: MIT
//
// Memory of idle CPUs: others get it without an interrupt, and without a call on the idle CPU.
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "kernel/cpu_zones_fixture.hpp"
#include "slabmalloc/kernel/object_cache.hpp"
#include "slabmalloc/kernel/reclaimer.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc::test {
namespace {

class CpuZonesIdleTest : public CpuZonesTest {
 protected:
  static constexpr std::size_t limit = 2 * mebibyte;

  void SetUp() override {
    CpuZonesTest::SetUp();
    frames.set_limit(limit);
  }
  /// Has CPU 0 allocate everything and become idle. CPU 1 frees all but each `kept`-th object.
  void strand(std::size_t kept) {
    objects = allocate_all();
    ASSERT_TRUE(heap.enter_idle());
    on_cpu(1);
    for (std::size_t number = 0; number < objects.size(); ++number) {
      if (number % kept != 0) {
        heap.deallocate(objects[number], small);
      }
    }
  }
  void free_rest(std::size_t kept) {
    for (std::size_t number = 0; number < objects.size(); number += kept) {
      heap.deallocate(objects[number], small);
    }
  }

  std::vector<void*> objects;
};

TEST_F(CpuZonesIdleTest, an_allocation_gets_every_empty_page_of_an_idle_cpu) {
  constexpr std::size_t kept = 1000;
  strand(kept);
  const Layout other = layout_of(128);
  const std::size_t slots = KernelConfig::BasePage::geometry(128).slots;
  const std::size_t pinned = (objects.size() + kept - 1) / kept;
  const std::vector<void*> found = allocate_all(other);
  EXPECT_EQ(found.size(), (limit / base_bytes - pinned) * slots);
  EXPECT_GT(heap.statistics().idle_drains, 0u);
  free_all(found, other);
  free_rest(kept);
}

TEST_F(CpuZonesIdleTest, an_allocation_that_must_not_wait_gets_them_step_by_step) {
  strand(1000);
  const Layout other = layout_of(128);
  std::vector<void*> found;
  for (int refusals = 0; refusals < 1000;) {
    void* const object = allocate(other, Context::MayNotWait);
    object != nullptr ? found.push_back(object) : (void)++refusals;
  }
  const std::size_t slots = KernelConfig::BasePage::geometry(128).slots;
  EXPECT_EQ(found.size(), (limit / base_bytes - (objects.size() + 999) / 1000) * slots);
  free_all(found, other);
  free_rest(1000);
}

TEST_F(CpuZonesIdleTest, trim_and_runs_get_them_too) {
  strand(objects.max_size());
  const Layout run = layout_of(limit / 2);
  void* const found = allocate(run);
  EXPECT_NE(found, nullptr);
  heap.deallocate(found, run);
  free_rest(objects.max_size());
  heap.trim();
  EXPECT_EQ(heap.frame_bytes(), 0u);
}

TEST_F(CpuZonesIdleTest, an_idle_cpu_wakes_by_any_call) {
  void* const pin = allocate();  // Its page has free slots.
  // Another CPU drains what it freed for this one only while this one is idle.
  const auto is_idle_after = [this](auto&& call) {
    void* const object = allocate();
    EXPECT_TRUE(heap.enter_idle());
    EXPECT_TRUE(heap.enter_idle());
    call();
    on_cpu(1);
    const std::size_t before = heap.statistics().idle_drains;
    heap.deallocate(object, small);
    heap.trim();
    const bool is_idle = heap.statistics().idle_drains != before;
    EXPECT_TRUE(heap.enter_idle());
    on_cpu(0);
    return is_idle;
  };
  const auto free = [this](void* object) {
    EXPECT_NE(object, nullptr);
    heap.deallocate(object, small);
  };
  EXPECT_FALSE(is_idle_after([&] { free(allocate()); }));
  for (const Context context : {Context::MayNotWait, Context::Interrupt, Context::Emergency}) {
    EXPECT_FALSE(is_idle_after([&] { free(allocate(small, context)); }));
  }
  EXPECT_FALSE(is_idle_after([&] { EXPECT_TRUE(heap.drain_this_cpu()); }));
  EXPECT_FALSE(is_idle_after([&] { heap.run_deferred(); }));
  EXPECT_FALSE(is_idle_after([&] { EXPECT_TRUE(heap.reserve_for_interrupts(small, 2)); }));
  EXPECT_FALSE(is_idle_after([&] { heap.trim(); }));
  EXPECT_TRUE(is_idle_after([] {}));
  EXPECT_TRUE(heap.reserve_for_interrupts(small, 0));
  heap.deallocate(pin, small);
}

TEST(CpuZonesIdle, what_a_handler_frees_between_drain_and_offer_is_found) {
  struct HandlerPager : FrameSource {
    std::function<void()> handler;
    void deallocate_frame(void* frame, std::size_t bytes) noexcept {
      if (handler != nullptr) {
        std::exchange(handler, nullptr)();
      }
      FrameSource::deallocate_frame(frame, bytes);
    }
  } frames;
  CpuZones<OpenKernel, HandlerPager> heap(frames);
  HostedCpu::number = 0;
  const Layout other = layout_of(128);
  std::vector<void*> objects;
  while (heap.frame_bytes() < 32 * base_bytes) {
    objects.push_back(heap.allocate(small).value());
  }
  void* const last = heap.allocate(other).value();
  for (void* const object : objects) {
    heap.deallocate(object, small);
  }
  frames.handler = [&] { heap.deallocate(last, other); };
  EXPECT_TRUE(heap.enter_idle());
  EXPECT_EQ(frames.handler, nullptr) << "it called the pager after the drain";
  EXPECT_TRUE(heap.enter_idle());
  HostedCpu::number = 1;
  heap.trim();
  EXPECT_EQ(heap.frame_bytes(), 0u);
  HostedCpu::number = 0;
}

TEST_F(CpuZonesIdleTest, a_cpu_leaves_nothing_behind_when_it_becomes_idle) {
  on_cpu(1);
  void* const others = allocate();
  on_cpu(0);
  std::vector<void*> some;
  for (int count = 0; count < 1000; ++count) {
    some.push_back(allocate());
  }
  free_all(some);
  heap.deallocate(others, small);
  EXPECT_TRUE(heap.enter_idle());
  const CpuZonesStatistics now = heap.statistics();
  EXPECT_EQ(now.zones.buffered_bytes, 0u);
  EXPECT_EQ(heap.zone_of(0).statistics().page_bytes, 0u);
  EXPECT_EQ(now.cached_frame_bytes, Heap::Config::cached_frames * base_bytes)
      << "the rest went to the pager";
}

TEST(ReclaimerIdle, one_call_is_for_all_heaps_and_caches) {
  struct Inode {
    std::uint64_t number = 0;
  };
  HostedCpu::number = 0;
  FrameSource frames;
  CpuZones<OpenKernel, FrameSource> heap(frames);
  ObjectCache<Inode, OpenKernel, FrameSource> inodes("inode", frames);
  Reclaimable heap_entry("heap", heap);
  Reclaimable inodes_entry(inodes);
  Reclaimer<OpenKernel> reclaimer;
  reclaimer.add(heap_entry);
  reclaimer.add(inodes_entry);
  void* const object = heap.allocate(small).value_or(nullptr);
  Inode* const inode = inodes.allocate();
  EXPECT_TRUE(reclaimer.enter_idle());
  HostedCpu::number = 1;
  heap.deallocate(object, small);
  inodes.deallocate(inode);
  EXPECT_NE(reclaimer.trim(), 0u);
  EXPECT_EQ(frames.live_bytes(), 0u);
  HostedCpu::number = 0;
}

// ---- threads ------------------------------------------------------------------------------------

struct ThreadKernel : PatientKernel {
  static constexpr std::uint32_t maximum_cpus = 4;
};

/// CPUs sleep and wake at random. All free each other's objects, and search for memory. Nothing may
/// be lost, and no wait may end as a failure.
TEST(CpuZonesIdleThreads, cpus_sleep_wake_and_drain_each_other) {
  constexpr std::size_t cpus = ThreadKernel::maximum_cpus;
  constexpr std::size_t places = 4096;
  FrameSource frames;
  frames.set_limit(640 * kibibyte);
  CpuZones<ThreadKernel, FrameSource> heap(frames);
  const auto shared = std::make_unique<std::atomic<void*>[]>(places);
  std::atomic<std::size_t> overwritten = 0;
  const auto drop = [&](void* object) {
    if (object != nullptr) {
      overwritten += holds_pattern(object, small.size(), 7) ? 0u : 1u;
      std::memset(object, 0, small.size());
      heap.deallocate(object, small);
    }
  };
  Random seeds;
  std::vector<Random> randoms;
  for (std::size_t cpu = 0; cpu < cpus; ++cpu) {
    randoms.push_back(seeds.fork());
  }
  run_threads(cpus, [&](std::size_t cpu) {
    HostedCpu::number = static_cast<std::uint32_t>(cpu);
    Random& random = randoms[cpu];
    for (int turn = 0; turn < 30'000; ++turn) {
      void* object = nullptr;
      if (!random.one_in(3)) {
        const Context contexts[] = {Context::MayWait, Context::MayNotWait, Context::Interrupt};
        object = heap.allocate(small, contexts[random.below(3)]).value_or(nullptr);
        if (object != nullptr) {
          fill_pattern(object, small.size(), 7);
        }
      }
      drop(shared[random.below(places)].exchange(object, std::memory_order_acq_rel));
      if (random.one_in(8)) {
        EXPECT_TRUE(heap.enter_idle());
      } else if (random.one_in(500)) {
        heap.trim();
      }
    }
    EXPECT_TRUE(heap.enter_idle());
  });
  HostedCpu::number = 0;
  for (std::size_t place = 0; place < places; ++place) {
    drop(shared[place]);
  }
  EXPECT_TRUE(heap.enter_idle());
  EXPECT_EQ(overwritten, 0u);
  EXPECT_EQ(heap.validate(), nullptr);
  EXPECT_GT(heap.statistics().idle_drains, 0u);
  heap.trim();
  EXPECT_EQ(heap.statistics().zones.used_bytes, 0u);
  EXPECT_EQ(heap.frame_bytes(), 0u) << "all CPUs sleep, and one gave everything back";
}

}  // namespace
}  // namespace slabmalloc::test
