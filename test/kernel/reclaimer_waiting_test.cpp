// SPDX-License-Identifier: MIT
//
// Allocations that may wait, while another thread is in a shrink callback.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"
#include "slabmalloc/kernel/reclaimer.hpp"
#include "support/frames.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc::test {
namespace {

constexpr std::size_t page = 4 * kibibyte;
constexpr Layout small = Layout::of<std::uint64_t[8]>();

/// A kernel without the hook, whose spin is counted.
struct SpinningKernel : PatientKernel {
  static inline std::atomic<std::size_t> relaxed = 0;
  static void relax() noexcept {
    ++relaxed;
    PatientKernel::relax();
  }
};

/// A heap with nothing in it, over a pager with nothing left.
template <class Kernel>
struct Place {
  Place() {
    HostedCpu::number = 0;
    SleepingKernel::deadline = std::chrono::milliseconds(60'000);
    SleepingKernel::waits = 0;
    SpinningKernel::relaxed = 0;
    frames.set_exhausted(true);
    entry.set_shrink(
        [](void* self, const ReclaimRequest& request) noexcept {
          static_cast<Place*>(self)->wanted = request.bytes;
          auto& callback = static_cast<Place*>(self)->on_shrink;
          return callback ? callback() : std::size_t{0};
        },
        this);
    reclaimer.add(entry);
    heap.set_reclaim(&reclaimer.reclaim_for, &reclaimer);
  }
  bool allocate(std::uint32_t cpu, Context context = Context::MayWait) {
    HostedCpu::number = cpu;
    return static_cast<bool>(heap.allocate(small, context));
  }
  std::size_t free_memory() {
    frames.set_exhausted(false);
    return page;
  }
  /// Starts an allocation on CPU 1 from inside the callback on CPU 0.
  void allocate_beside(std::function<bool()> is_under_way, bool expected) {
    std::thread other;
    on_shrink = [&]() -> std::size_t {
      if (other.joinable()) {
        return free_memory();
      }
      other = std::thread([&] { EXPECT_EQ(allocate(1), expected); });
      while (!is_under_way()) {
        std::this_thread::yield();
      }
      EXPECT_FALSE(allocate(2, Context::MayNotWait)) << "it must not wait, and does not";
      return free_memory();
    };
    EXPECT_TRUE(allocate(0));
    other.join();
  }

  FrameSource frames;
  CpuZones<Kernel, FrameSource> heap{frames};
  Reclaimable entry{"heap", heap};
  Reclaimer<Kernel> reclaimer;
  std::size_t wanted = 0;
  std::function<std::size_t()> on_shrink;
};

TEST(ReclaimerWaiting, an_allocation_sleeps_while_another_cpu_shrinks) {
  Place<SleepingKernel> place;
  place.allocate_beside([] { return SleepingKernel::waits == 1; }, true);
}

TEST(ReclaimerWaiting, an_allocation_spins_where_the_kernel_has_no_hook) {
  Place<SpinningKernel> place;
  place.allocate_beside([] { return SpinningKernel::relaxed > 1000; }, true);
}

TEST(ReclaimerWaiting, allocations_look_at_what_others_freed_before_they_shrink) {
  Place<SleepingKernel> place;
  constexpr std::size_t others = 7;
  std::vector<std::thread> threads;
  int calls = 0;
  place.on_shrink = [&]() -> std::size_t {
    ++calls;
    for (std::uint32_t cpu = 1; cpu <= others && threads.size() < others; ++cpu) {
      threads.emplace_back([&place, cpu] { EXPECT_TRUE(place.allocate(cpu)); });
    }
    while (SleepingKernel::waits < others) {
      std::this_thread::yield();
    }
    return place.free_memory();
  };
  EXPECT_TRUE(place.allocate(0));
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(calls, 1);
}

/// It then looks for memory and asks again, whatever its own callbacks find.
TEST(ReclaimerWaiting, a_caller_that_waited_learns_that_others_may_have_freed_something) {
  Place<SleepingKernel> place;
  const auto reclaim = [&place](std::uint32_t cpu) {
    HostedCpu::number = cpu;
    return place.reclaimer.reclaim_for(&place.reclaimer, ReclaimRequest::first(64, 8).next());
  };
  std::thread other;
  place.on_shrink = [&]() -> std::size_t {
    if (!other.joinable()) {
      other = std::thread([&] { EXPECT_TRUE(reclaim(1)); });
      while (SleepingKernel::waits == 0) {
        std::this_thread::yield();
      }
    }
    return 0;
  };
  EXPECT_FALSE(reclaim(0)) << "it waited for nobody, and nothing was freed";
  other.join();
}

TEST(ReclaimerWaiting, a_callback_that_allocates_does_not_wait_for_itself) {
  Place<SleepingKernel> place;
  int calls = 0;
  place.on_shrink = [&]() -> std::size_t {
    ++calls;
    // The thread moves to another CPU within the callback.
    EXPECT_FALSE(place.allocate(3)) << "nothing was freed yet";
    EXPECT_EQ(place.reclaimer.reclaim(page), 0u);
    place.free_memory();
    EXPECT_TRUE(place.allocate(3)) << "from what was";
    return page;
  };
  EXPECT_TRUE(place.allocate(0));
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(SleepingKernel::waits, 0u);
}

TEST(ReclaimerWaiting, ends_at_the_deadline_where_the_callback_waits_for_the_waiter) {
  Place<SleepingKernel> place;
  SleepingKernel::deadline = std::chrono::milliseconds(20);
  place.on_shrink = [&]() -> std::size_t {
    std::thread other([&] { EXPECT_FALSE(place.allocate(1)); });
    other.join();
    return 0;
  };
  EXPECT_FALSE(place.allocate(0));
  EXPECT_EQ(SleepingKernel::waits, 1u);
}

TEST(ReclaimerWaiting, ends_at_the_deadline_where_two_lists_wait_for_each_other) {
  Place<SleepingKernel> one;
  Place<SleepingKernel> two;
  SleepingKernel::deadline = std::chrono::milliseconds(20);
  std::atomic<int> inside = 0;
  const auto allocate_from = [&](Place<SleepingKernel>& other) {
    return [&]() -> std::size_t {
      ++inside;
      while (inside < 2) {
        std::this_thread::yield();
      }
      EXPECT_FALSE(other.allocate(HostedCpu::number));
      return 0;
    };
  };
  one.on_shrink = allocate_from(two);
  two.on_shrink = allocate_from(one);
  run_threads(2, [&](std::size_t cpu) {
    EXPECT_FALSE((cpu == 0 ? one : two).allocate(static_cast<std::uint32_t>(cpu)));
  });
  EXPECT_GE(SleepingKernel::waits, 1u);
}

/// Several CPUs use up the memory again and again, and the cache takes most of what they leave.
TEST(ReclaimerWaiting, no_allocation_fails_while_memory_can_be_dropped) {
  constexpr std::size_t cpus = 4;
  // 4 CPUs with 60 objects each, 3 a page, use far less than the 256 that there are.
  constexpr Layout layout = Layout::of<std::uint64_t[125]>();
  Random random;
  Place<SleepingKernel> place;
  place.frames.set_exhausted(false);
  place.frames.set_limit(256 * page);
  std::mutex mutex;
  std::vector<void*> cache;
  std::atomic<bool> is_shrinking = false;
  place.on_shrink = [&]() -> std::size_t {
    EXPECT_FALSE(is_shrinking.exchange(true)) << "one callback at a time";
    std::this_thread::sleep_for(std::chrono::microseconds(100));
    std::size_t freed = 0;
    const std::lock_guard lock(mutex);
    for (; freed < place.wanted && !cache.empty(); freed += page) {
      place.frames.deallocate_frame(cache.back(), page);
      cache.pop_back();
    }
    is_shrinking = false;
    return freed;
  };
  std::vector<Random> seeds;
  for (std::size_t cpu = 0; cpu < cpus; ++cpu) {
    seeds.push_back(random.fork());
  }
  run_threads(cpus, [&](std::size_t cpu) {
    HostedCpu::number = static_cast<std::uint32_t>(cpu);
    for (int round = 0; round < 100; ++round) {
      std::vector<void*> objects;
      for (std::size_t count = seeds[cpu].between(1, 60); count != 0; --count) {
        objects.push_back(place.heap.allocate(layout, Context::MayWait).value_or(nullptr));
        EXPECT_NE(objects.back(), nullptr);
      }
      for (void* object : objects) {
        place.heap.deallocate(object, layout);
      }
      place.heap.trim();
      for (std::size_t count = seeds[cpu].below(32); count != 0; --count) {
        if (void* const frame = place.frames.frame(page)) {
          const std::lock_guard lock(mutex);
          cache.push_back(frame);
        }
      }
    }
  });
  while (!cache.empty()) {
    place.frames.deallocate_frame(cache.back(), page);
    cache.pop_back();
  }
}

}  // namespace
}  // namespace slabmalloc::test
