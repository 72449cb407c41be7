// SPDX-License-Identifier: MIT
//
// Tests progress of CpuZones. A call that must not wait ends, whatever other CPUs do, and repeated
// calls get further. Work that slow paths defer gets done.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

using test::BusyKernel;
using test::FrameSource;
using test::HostedCpu;
using test::OpenKernel;

constexpr Layout small = Layout::of<std::uint64_t[8]>();
constexpr Layout other = Layout::of<std::uint64_t[4]>();
constexpr Layout large = Layout::from_size_align(1024, 8).value_or(small);
constexpr Layout run_layout = Layout::from_size_align(64 * kibibyte, 8).value_or(small);
constexpr std::size_t base_bytes = 4 * kibibyte;

/// A pager during whose calls other CPUs act.
struct BusyPager : FrameSource {
  Frame allocate_frame(std::size_t bytes) noexcept {
    if (before_frame) {
      before_frame();
    }
    return has_frames ? FrameSource::allocate_frame(bytes) : Frame();
  }
  void deallocate_run(void* run, std::size_t bytes, std::size_t alignment) noexcept {
    FrameSource::deallocate_run(run, bytes, alignment);
    ++runs_back;
    if (meanwhile) {
      meanwhile();
    }
  }
  std::function<void()> before_frame;
  std::function<void()> meanwhile;
  std::size_t runs_back = 0;
  bool has_frames = true;  ///< Beside those of runs.
};

class CpuZonesProgress : public testing::Test {
 protected:
  using Heap = CpuZones<BusyKernel, BusyPager>;

  void SetUp() override { HostedCpu::number = 0; }
  /// From now on, another CPU takes each frame as soon as it reaches a frame cache.
  void steal_frames() {
    BusyKernel::elsewhere = [this] {
      while (pager.calls() < 1000 && allocate(small, Context::Interrupt) != nullptr) {
      }
    };
  }
  void TearDown() override {
    BusyKernel::elsewhere = nullptr;
    pager.before_frame = nullptr;
    pager.meanwhile = nullptr;
    EXPECT_EQ(heap.validate(), nullptr);
    heap.release_all();
    EXPECT_EQ(pager.live_bytes(), 0u);
    EXPECT_EQ(heap.statistics().deferred_bytes, 0u);
  }
  void* allocate(Layout layout, Context context) {
    return heap.allocate(layout, context).value_or(nullptr);
  }
  void defer_run() {
    void* const run = heap.allocate(run_layout).value_or(nullptr);
    ASSERT_NE(run, nullptr);
    heap.deallocate(run, run_layout, Context::Interrupt);
  }

  BusyPager pager;
  Heap heap{pager};
};

TEST_F(CpuZonesProgress, runs_that_are_freed_as_fast_as_they_go_back_block_no_call) {
  for (int count = 0; count < 3; ++count) {
    defer_run();
  }
  // Another CPU allocates and frees a run.
  pager.meanwhile = [&] {
    if (pager.runs_back < 1000) {
      defer_run();
    }
  };
  EXPECT_EQ(heap.give_back(), 3 * run_layout.size());
  EXPECT_EQ(pager.runs_back, 3u);
  EXPECT_EQ(heap.statistics().deferred_bytes, 3 * run_layout.size());
}

TEST_F(CpuZonesProgress,
       an_allocation_that_must_not_wait_asks_the_pager_once_whatever_others_take) {
  steal_frames();
  void* const object = allocate(small, Context::MayNotWait);
  BusyKernel::elsewhere = nullptr;
  EXPECT_NE(object, nullptr);
  EXPECT_LE(pager.calls(), KernelConfig::growth_frames);
}

TEST_F(CpuZonesProgress, a_frame_that_is_not_needed_any_more_lies_in_the_frame_cache) {
  std::vector<void*> objects;
  for (std::size_t count = 0; count < ObjectPage::geometry(small.size()).slots; ++count) {
    objects.push_back(allocate(small, Context::MayNotWait));
  }
  heap.give_back();
  // A handler frees an object while the pager allocates.
  pager.before_frame = [&] { heap.deallocate(std::exchange(objects[7], nullptr), small); };
  void* const freed = objects[7];
  EXPECT_EQ(allocate(small, Context::MayNotWait), freed);
  EXPECT_EQ(heap.statistics().cached_frame_bytes, KernelConfig::growth_frames * base_bytes);
  EXPECT_EQ(heap.validate(), nullptr);
}

TEST_F(CpuZonesProgress, a_limit_below_the_frames_in_use_grants_none) {
  void* const object = allocate(small, Context::MayWait);
  const std::size_t before = heap.frame_bytes();
  heap.set_limit(base_bytes);
  for (const Context context : {Context::MayWait, Context::MayNotWait}) {
    EXPECT_EQ(allocate(large, context), nullptr);
  }
  EXPECT_LE(heap.frame_bytes(), before);
  EXPECT_FALSE(heap.reserve_frames(large, 1));
  heap.deallocate(object, small);
}

TEST_F(CpuZonesProgress, a_run_that_must_not_wait_uses_frames_of_frame_caches) {
  pager.set_limit(run_layout.size());
  std::vector<void*> objects;
  while (void* const object = allocate(small, Context::MayNotWait)) {
    objects.push_back(object);
  }
  for (void* const object : objects) {
    heap.deallocate(object, small);
  }
  void* run = nullptr;
  for (int call = 0; call < 1000 && run == nullptr; ++call) {
    run = allocate(run_layout, Context::MayNotWait);
  }
  EXPECT_NE(run, nullptr);
  heap.deallocate(run, run_layout);
}

TEST_F(CpuZonesProgress, a_search_that_must_not_wait_asks_other_cpus_to_drain) {
  for (const Layout wanted : {small, run_layout}) {
    HostedCpu::number = 1;
    pager.set_limit(run_layout.size());
    void* const object = allocate(large, Context::MayWait);
    HostedCpu::number = 0;
    heap.deallocate(object, large);
    EXPECT_TRUE(heap.drain_this_cpu());
    for (int call = 0; call < 50; ++call) {
      EXPECT_EQ(allocate(wanted, Context::MayNotWait), nullptr);
    }
    HostedCpu::number = 1;
    heap.run_deferred();
    HostedCpu::number = 0;
    void* found = nullptr;
    for (int call = 0; call < 50 && found == nullptr; ++call) {
      found = allocate(wanted, Context::MayNotWait);
    }
    EXPECT_NE(found, nullptr);
    heap.deallocate(found, wanted);
    heap.release_all();
  }
}

TEST_F(CpuZonesProgress, frees_of_remote_objects_do_not_stop_a_search) {
  HostedCpu::number = 1;
  std::vector<void*> theirs;
  for (int count = 0; count < 20'000; ++count) {
    theirs.push_back(allocate(other, Context::MayWait));
  }
  heap.deallocate(allocate(large, Context::MayWait), large);
  EXPECT_TRUE(heap.drain_this_cpu());
  HostedCpu::number = 0;
  pager.set_limit(pager.live_bytes());
  // The other CPU's frame cache holds a frame for large objects. This CPU frees remote objects of
  // more pages than it delivers.
  void* object = nullptr;
  std::size_t next = 0;
  for (int call = 0; call < 100 && object == nullptr; ++call) {
    for (int count = 0; count < 8; ++count) {
      next = (next + 1003) % theirs.size();
      heap.deallocate(std::exchange(theirs[next], nullptr), other);
    }
    object = allocate(small, Context::MayNotWait);
  }
  EXPECT_NE(object, nullptr);
}

TEST_F(CpuZonesProgress, runs_that_handlers_free_do_not_stop_a_search) {
  // An empty page of another class, freed by another CPU, and a pager that has runs alone.
  std::vector<void*> objects;
  for (std::size_t count = 0; count < ObjectPage::geometry(other.size()).slots; ++count) {
    objects.push_back(allocate(other, Context::MayWait));
  }
  heap.give_back();
  pager.has_frames = false;
  HostedCpu::number = 1;
  for (void* const object : objects) {
    heap.deallocate(object, other);
  }
  EXPECT_TRUE(heap.drain_this_cpu());
  HostedCpu::number = 0;
  void* object = nullptr;
  for (int call = 0; call < 500 && object == nullptr; ++call) {
    defer_run();
    object = allocate(small, Context::MayNotWait);
  }
  EXPECT_NE(object, nullptr);
}

TEST_F(CpuZonesProgress, frees_of_remote_objects_keep_no_run_from_going_back) {
  HostedCpu::number = 1;
  std::vector<void*> theirs;
  for (int count = 0; count < 3000; ++count) {
    theirs.push_back(allocate(other, Context::MayWait));
  }
  HostedCpu::number = 0;
  EXPECT_NE(allocate(small, Context::MayWait), nullptr);
  heap.drain_later();
  defer_run();
  for (int call = 0; call < 2500 && pager.runs_back == 0; ++call) {
    heap.deallocate(theirs.back(), other);
    theirs.pop_back();
    EXPECT_NE(allocate(small, Context::MayNotWait), nullptr);
  }
  EXPECT_EQ(pager.runs_back, 1u);
}

TEST_F(CpuZonesProgress, a_reserve_that_always_needs_work_starves_no_other_work) {
  HostedCpu::number = 1;
  void* const freed = allocate(other, Context::MayWait);
  HostedCpu::number = 0;
  void* const own = allocate(large, Context::MayWait);
  HostedCpu::number = 1;
  heap.deallocate(own, large);
  heap.deallocate(freed, other);
  EXPECT_TRUE(heap.drain_this_cpu());
  HostedCpu::number = 0;
  defer_run();
  heap.drain_later();
  for (std::uint32_t call = 0; call < 10'000; ++call) {
    EXPECT_NE(allocate(small, Context::MayNotWait), nullptr);
    HostedCpu::number = 1;
    ASSERT_TRUE(heap.reserve_for_interrupts(small, 1 + call % 2));
    HostedCpu::number = 0;
  }
  EXPECT_EQ(pager.runs_back, 1u);
  EXPECT_EQ(heap.class_counts(Heap::Zone::class_for(large)).pages, 0u) << "the CPU was drained";
}

TEST_F(CpuZonesProgress, runs_that_are_always_freed_starve_no_other_work) {
  std::vector<void*> objects;
  for (std::size_t pages = 0; pages < 20; ++pages) {
    for (std::size_t count = 0; count < Heap::Zone::slots_per_page(Heap::Zone::class_for(large));
         ++count) {
      objects.push_back(allocate(large, Context::MayWait));
    }
  }
  for (void* const object : objects) {
    heap.deallocate(object, large);
  }
  EXPECT_GE(heap.statistics().cached_frame_bytes, 16 * 64 * kibibyte);
  HostedCpu::number = 1;
  ASSERT_TRUE(heap.reserve_for_interrupts(other, 4));
  HostedCpu::number = 0;
  for (int call = 0; call < 10'000; ++call) {
    defer_run();
    EXPECT_NE(allocate(small, Context::MayNotWait), nullptr);
  }
  EXPECT_LT(heap.statistics().cached_frame_bytes, 10 * 64 * kibibyte);
  EXPECT_EQ(heap.zone_of(0).class_statistics(Heap::Zone::class_for(other)).used, 4u);
}

TEST_F(CpuZonesProgress, the_high_water_counts_frames_held_and_not_frames_requested) {
  pager.set_limit(6 * base_bytes);
  while (allocate(small, Context::MayNotWait) != nullptr) {
  }
  EXPECT_EQ(heap.frame_bytes(), 6 * base_bytes);
  EXPECT_EQ(heap.statistics().frame_bytes_high_water, 6 * base_bytes);
  pager.set_limit(7 * base_bytes);
  EXPECT_TRUE(heap.reserve_frames(small, 1));
  EXPECT_FALSE(heap.reserve_frames(small, 2));
  EXPECT_EQ(heap.statistics().frame_bytes_high_water, 7 * base_bytes);
}

TEST_F(CpuZonesProgress, a_waiting_run_that_a_thread_frees_again_is_reported) {
  test::MisuseRecorder misuse;
  void* const run = allocate(run_layout, Context::MayWait);
  heap.deallocate(run, run_layout, Context::Interrupt);
  heap.deallocate(run, run_layout, Context::MayWait);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  EXPECT_EQ(pager.runs_back, 0u);
}

TEST_F(CpuZonesProgress, a_reserve_fills_while_others_take_frames) {
  steal_frames();
  EXPECT_TRUE(heap.reserve_for_interrupts(small, 4, Context::MayNotWait));
  BusyKernel::elsewhere = nullptr;
  EXPECT_LE(pager.calls(), KernelConfig::growth_frames);
}

TEST_F(CpuZonesProgress, an_address_of_no_run_goes_to_the_pager_unread) {
  struct TellingPager : FrameSource {
    void deallocate_run(void* run, std::size_t, std::size_t) noexcept { told = run; }
    void* told = nullptr;
  } telling;
  CpuZones<OpenKernel, TellingPager> told(telling);
  void* const nowhere = reinterpret_cast<void*>(base_bytes);
  told.deallocate(nowhere, run_layout);
  EXPECT_EQ(telling.told, nowhere);
}

TEST_F(CpuZonesProgress, a_run_in_memory_that_outlived_a_restart_waits_like_any_other) {
  test::MisuseRecorder misuse;
  struct RestartedPager : FrameSource {
    Frame allocate_run(std::size_t, std::size_t) noexcept { return memory.data(); }
    void deallocate_run(void*, std::size_t, std::size_t) noexcept { ++runs_back; }
    alignas(4096) std::array<std::byte, run_layout.size()> memory{};
    std::size_t runs_back = 0;
  };
  const auto restarted = std::make_unique<RestartedPager>();
  for (const std::size_t runs : {1u, 2u}) {
    CpuZones<BusyKernel, RestartedPager> again(*restarted);
    void* const same = again.allocate(run_layout).value_or(nullptr);
    EXPECT_EQ(same, restarted->memory.data());
    again.deallocate(same, run_layout, Context::Interrupt);
    EXPECT_EQ(misuse.take().size(), 0u);
    EXPECT_EQ(again.statistics().deferred_bytes, run_layout.size());
    // The kernel restarts here, and the memory keeps its content.
    const auto waiting = restarted->memory;
    again.run_deferred();
    EXPECT_EQ(restarted->runs_back, runs);
    restarted->memory = waiting;
  }
}

TEST_F(CpuZonesProgress, the_pager_may_use_the_heap_when_it_takes_a_run_back) {
  std::vector<void*> notes;
  std::vector<void*> runs;
  for (int count = 0; count < 10; ++count) {
    runs.push_back(allocate(run_layout, Context::MayWait));
  }
  pager.meanwhile = [&] {
    if (void* const note = allocate(small, Context::Interrupt)) {
      notes.push_back(note);
    }
    if (!runs.empty()) {
      heap.deallocate(runs.back(), run_layout, Context::Interrupt);
      runs.pop_back();
    }
  };
  heap.deallocate(runs.front(), run_layout, Context::Interrupt);
  runs.erase(runs.begin());
  heap.run_deferred();
  EXPECT_EQ(pager.runs_back, 10u);
  EXPECT_EQ(heap.statistics().deferred_bytes, 0u);
  for (void* const note : notes) {
    heap.deallocate(note, small);
  }
}

}  // namespace
}  // namespace slabmalloc
