// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/retired_objects.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "kernel/reading_kernel.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"
#include "slabmalloc/kernel/object_cache.hpp"
#include "slabmalloc/kernel/reclaimer.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"

namespace slabmalloc::test {
namespace {

/// What readers read, and the link at the end.
struct Route {
  std::byte read[100];
  RetiredLink retired;
};
constexpr RetiredKind route_kind = RetiredKind::of<Route>(offsetof(Route, retired));
constexpr Layout run_layout = Layout::of<std::byte[3 * 4096 * 4]>();

/// A kernel whose waits close the read sections.
struct ClosingKernel : ReadingKernel {
  static inline std::size_t waits = 0;
  static bool wait(WaitCondition condition) noexcept {
    EXPECT_EQ(HostedCpu::saved, 0u);
    ++waits;
    Readers::close_all();
    return condition();
  }
  static void wake() noexcept {}
  static std::uintptr_t thread() noexcept { return 1; }
};

class RetiredObjectsTest : public testing::Test {
 protected:
  using Heap = CpuZones<ClosingKernel, FrameSource>;
  using Retired = RetiredObjects<Heap>;

  void SetUp() override {
    HostedCpu::number = 0;
    ClosingKernel::waits = 0;
  }
  void TearDown() override {
    Readers::close_all();
    EXPECT_TRUE(retired.drain());
    EXPECT_EQ(retired.validate(), nullptr);
    EXPECT_EQ(heap.validate(), nullptr);
    for (std::uint32_t cpu = 0; cpu < ClosingKernel::maximum_cpus; ++cpu) {
      HostedCpu::number = cpu;
      EXPECT_TRUE(heap.drain_this_cpu());
    }
    HostedCpu::number = 0;
    heap.give_back();
    EXPECT_EQ(heap.statistics().zones.used_bytes, 0u) << "an object was lost";
    EXPECT_EQ(frames.live_bytes(), 0u);
    EXPECT_EQ(HostedCpu::saved, 0u);
  }

  Route* make_route(std::uint32_t key = 0) {
    void* const route = heap.allocate(Layout::of<Route>()).value_or(nullptr);
    if (route != nullptr) {
      fill_pattern(route, sizeof(Route::read), key);
    }
    return static_cast<Route*>(route);
  }
  std::size_t used_bytes() { return heap.statistics().zones.used_bytes; }

  FrameSource frames;
  Heap heap{frames};
  Retired retired{heap};
};

TEST_F(RetiredObjectsTest, readers_find_a_retired_object_as_it_was_until_they_leave) {
  Route* const route = make_route(7);
  Readers::open(3);
  retired.retire(route, route_kind);
  EXPECT_EQ(retired.free_passed(), 0u);
  EXPECT_FALSE(retired.is_empty());
  EXPECT_TRUE(holds_pattern(route, sizeof route->read, 7));
  EXPECT_TRUE(Heap::Zone::is_in_use(route, Heap::Zone::class_for(Layout::of<Route>())));
  Readers::close(3);
  EXPECT_EQ(retired.free_passed(), sizeof(Route));
  EXPECT_TRUE(retired.is_empty());
}

TEST_F(RetiredObjectsTest, handlers_retire_objects_and_free_none) {
  retired.retire(make_route(), route_kind, Context::Interrupt);
  EXPECT_FALSE(Retired::step(&retired)) << "its grace period begins here, and passes at once";
  const std::size_t used = used_bytes();
  retired.retire(make_route(), route_kind, Context::Interrupt);
  retired.retire(make_route(), route_kind, Context::Emergency);
  EXPECT_GT(used_bytes(), used) << "a free may need what these contexts forbid";
  const std::size_t three = used_bytes();
  retired.retire(make_route(), route_kind, Context::MayNotWait);
  EXPECT_LE(used_bytes(), three) << "this one may free";
}

TEST_F(RetiredObjectsTest, retiring_frees_what_has_passed_so_that_little_waits) {
  std::size_t most = 0;
  for (int turn = 0; turn < 10'000; ++turn) {
    retired.retire(make_route(), route_kind);
    const std::size_t used = used_bytes();
    most = used > most ? used : most;
  }
  EXPECT_LE(most, 8 * sizeof(Route)) << "without open readers a batch is a call or two long";
}

TEST_F(RetiredObjectsTest, objects_without_a_link_wait_in_blocks_of_pointers) {
  std::vector<void*> objects;
  Readers::open(0);
  for (std::uint32_t number = 0; number < 3 * Retired::block_entries + 1; ++number) {
    void* const object = heap.allocate(Layout::of<Route>()).value();
    fill_pattern(object, sizeof(Route), number);
    objects.push_back(object);
    ASSERT_TRUE(retired.retire(object, Layout::of<Route>()));
  }
  void* const run = heap.allocate(run_layout).value();
  ASSERT_TRUE(retired.retire(run, run_layout));
  EXPECT_EQ(retired.validate(), nullptr);
  retired.free_passed();
  for (std::uint32_t number = 0; number < objects.size(); ++number) {
    EXPECT_TRUE(holds_pattern(objects[number], sizeof(Route), number)) << "all bytes stay";
  }
  EXPECT_NE(heap.run_bytes(), 0u);
  Readers::close(0);
  EXPECT_TRUE(retired.drain());
  EXPECT_EQ(heap.run_bytes(), 0u);
  EXPECT_EQ(heap.statistics().zones.used_bytes, 0u);
}

TEST_F(RetiredObjectsTest, without_a_block_the_caller_waits_or_keeps_the_object) {
  Route* const route = make_route(5);
  frames.set_exhausted(true);
  std::vector<void*> others;
  constexpr Layout block = Layout::of<std::byte[224]>();
  while (void* const other = heap.allocate(block, Context::MayNotWait).value_or(nullptr)) {
    others.push_back(other);
  }
  Readers::open(1);
  const Result<void> refused = retired.retire(route, Layout::of<Route>(), Context::MayNotWait);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), AllocationError::OutOfMemory);
  EXPECT_EQ(ClosingKernel::waits, 0u);
  EXPECT_TRUE(holds_pattern(route, sizeof route->read, 5));
  const std::size_t before = used_bytes();
  EXPECT_TRUE(retired.retire(route, Layout::of<Route>(), Context::MayWait));
  EXPECT_EQ(ClosingKernel::waits, 1u);
  EXPECT_EQ(used_bytes(), before - Heap::usable_size(Layout::of<Route>()));
  for (void* const other : others) {
    heap.deallocate(other, block);
  }
}

TEST_F(RetiredObjectsTest, slow_paths_take_passed_objects_before_they_take_frames) {
  heap.set_deferred_work(Retired::step, &retired);
  constexpr Layout layout = Layout::of<Route>();
  std::vector<void*> routes = {make_route()};
  while (void* const route = heap.allocate(layout, Context::Interrupt).value_or(nullptr)) {
    routes.push_back(route);
  }
  Readers::open(0);
  for (void* const route : routes) {
    retired.retire(route, route_kind, Context::Interrupt);
  }
  EXPECT_EQ(retired.free_passed(), 0u) << "their grace period begins";
  Readers::close(0);
  const std::size_t calls = frames.calls();
  for (void*& route : routes) {
    route = make_route();
  }
  EXPECT_EQ(frames.calls(), calls) << "the heap need not grow";
  for (void* const route : routes) {
    retired.retire(route, route_kind, Context::Interrupt);
  }
  heap.run_deferred();
  heap.run_deferred();
  EXPECT_TRUE(retired.is_empty()) << "idle loops free all that has passed";
}

TEST_F(RetiredObjectsTest, trim_gives_back_what_passed) {
  heap.set_deferred_work(Retired::step, &retired);
  retired.retire(make_route(), route_kind);
  heap.trim();
  heap.trim();
  EXPECT_EQ(frames.live_bytes(), 0u);
}

TEST_F(RetiredObjectsTest, a_heap_without_memory_waits_for_its_readers) {
  heap.set_reclaim(Retired::reclaim, &retired);
  std::vector<void*> routes;
  frames.set_limit(16 * 4096);
  constexpr Layout layout = Layout::of<Route>();
  while (void* const route = heap.allocate(layout, Context::MayNotWait).value_or(nullptr)) {
    routes.push_back(route);
  }
  Readers::open(2);
  for (std::size_t number = 0; number < routes.size(); number += 2) {
    HostedCpu::number = number % 4 == 0 ? 0 : 3;
    retired.retire(routes[number], route_kind, Context::Interrupt);
  }
  HostedCpu::number = 0;
  EXPECT_FALSE(heap.allocate(layout, Context::MayNotWait));
  EXPECT_EQ(ClosingKernel::waits, 0u);
  void* const route = heap.allocate(layout, Context::MayWait).value_or(nullptr);
  ASSERT_NE(route, nullptr) << "an allocation that may wait gets retired memory";
  EXPECT_GE(ClosingKernel::waits, 1u);
  heap.deallocate(route, layout);
  for (std::size_t number = 1; number < routes.size(); number += 2) {
    heap.deallocate(routes[number], layout);
  }
}

TEST_F(RetiredObjectsTest, a_reclaimer_asks_them_for_memory) {
  Reclaimer<ClosingKernel> reclaimer;
  Reclaimable entry("heap", heap);
  entry.set_shrink(Retired::shrink, &retired);
  reclaimer.add(entry);
  Readers::open(0);
  retired.retire(make_route(), route_kind, Context::Interrupt);
  EXPECT_GE(reclaimer.reclaim(1 << 20), sizeof(Route));
  EXPECT_TRUE(retired.is_empty());
  ASSERT_TRUE(reclaimer.remove(entry));
}

/// An object that was retired, and what CPU 0 does while CPU 1 waits for it.
struct DrainTrial {
  using Heap = CpuZones<Reading<BusyKernel>, FrameSource>;
  using Retired = RetiredObjects<Heap>;
  static constexpr Layout layout = Layout::of<Route>();

  FrameSource frames;
  Heap heap{frames};
  Retired retired{heap};
  void* const object = heap.allocate(layout).value();
  void* const other = heap.allocate(layout).value();

  /// Drains on CPU 1 before the `turn`-th section that work() begins. False if that has fewer.
  template <class Work>
  bool run(int turn, Work&& work) {
    int left = turn;
    BusyKernel::elsewhere = [&] {
      if (--left == 0) {
        has_drained = retired.drain();
        heap.drain_this_cpu();
        MisuseRecorder reports;
        is_free = !Heap::Zone::is_in_use(object, Heap::Zone::class_for(layout));
        EXPECT_EQ(reports.take_kinds().size(), is_free ? 1u : 0u);
      }
    };
    work();
    BusyKernel::elsewhere = nullptr;
    return left <= 0;
  }
  bool has_drained = false;
  bool is_free = false;
};

/// CPU 1 drains before each section of what CPU 0 does.
template <class Prepare, class Work>
void expect_drains_to_wait(const char* name, Prepare&& prepare, Work&& work) {
  int early = 0;
  int late = 0;
  for (int turn = 1;; ++turn) {
    DrainTrial trial;
    prepare(trial);
    if (!trial.run(turn, [&] { work(trial); })) {
      break;
    }
    EXPECT_TRUE(trial.is_free || !trial.has_drained) << name << ", before section " << turn;
    (trial.has_drained ? late : early) += 1;
    EXPECT_TRUE(trial.retired.drain());
    EXPECT_EQ(trial.retired.validate(), nullptr);
  }
  EXPECT_GT(early, 0) << name << ": the object was in no hand";
  EXPECT_GT(late, 0) << name;
}

TEST(RetiredObjects, drain_waits_for_what_another_cpu_is_freeing) {
  const auto step = [](DrainTrial& trial) { DrainTrial::Retired::step(&trial.retired); };
  expect_drains_to_wait(
      "an object with a link",
      [&](DrainTrial& trial) {
        trial.retired.retire(trial.object, route_kind, Context::Interrupt);
        step(trial);
      },
      step);
  const auto retire_in_block = [](DrainTrial& trial) {
    ASSERT_TRUE(trial.retired.retire(trial.object, trial.layout, Context::Interrupt));
  };
  expect_drains_to_wait(
      "a block",
      [&](DrainTrial& trial) {
        retire_in_block(trial);
        step(trial);
      },
      step);
  expect_drains_to_wait("an open block", retire_in_block, [](DrainTrial& trial) {
    ASSERT_TRUE(trial.retired.retire(trial.other, trial.layout, Context::Interrupt));
  });
}

TEST(RetiredObjects, drain_waits_for_a_cpu_that_has_the_batches) {
  using Kernel = Reading<PatientKernel>;
  FrameSource frames;
  CpuZones<Kernel, FrameSource> heap(frames);
  RetiredObjects retired(heap);
  using Retired = decltype(retired);
  std::atomic<bool> has_batches = false;
  std::thread other([&] {
    HostedCpu::number = 1;
    retired.retire(heap.allocate(Layout::of<Route>()).value(), route_kind, Context::Interrupt);
    Retired::step(&retired);
    static thread_local bool holds = true;
    Kernel::in_hook = [&] {
      if (holds) {
        holds = false;
        has_batches = true;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
    };
    Retired::step(&retired);
  });
  while (!has_batches) {
    std::this_thread::yield();
  }
  EXPECT_TRUE(retired.drain()) << "nobody retires an object meanwhile";
  other.join();
  Kernel::in_hook = nullptr;
}

TEST_F(RetiredObjectsTest, an_idle_loop_frees_what_passed) {
  heap.set_deferred_work(Retired::step, &retired);
  Route* const route = make_route();
  Readers::open(0);
  retired.retire(route, route_kind);
  EXPECT_TRUE(heap.enter_idle());
  EXPECT_TRUE(heap.enter_idle());
  EXPECT_FALSE(retired.is_empty());
  Readers::close_all();
  EXPECT_TRUE(heap.enter_idle());
  EXPECT_TRUE(retired.is_empty());
  HostedCpu::number = 1;
  heap.trim();
  EXPECT_EQ(frames.live_bytes(), 0u) << "and its memory is for all";
}

TEST(RetiredObjects, a_cache_keeps_its_objects_until_readers_leave) {
  FrameSource frames;
  ObjectCache<Route, ReadingKernel, FrameSource> cache("route", frames);
  RetiredObjects retired(cache.zones());
  Readers::open(0);
  retired.retire(cache.allocate(), route_kind);
  retired.free_passed();
  EXPECT_EQ(cache.statistics().objects_in_use, 1u);
  Readers::close_all();
  EXPECT_EQ(retired.free_passed(), sizeof(Route));
  EXPECT_EQ(cache.statistics().objects_in_use, 0u);
  EXPECT_EQ(cache.destroy(), 0u);
  EXPECT_EQ(frames.live_bytes(), 0u);
}

}  // namespace
}  // namespace slabmalloc::test
