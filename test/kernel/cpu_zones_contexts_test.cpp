// SPDX-License-Identifier: MIT
//
// Tests which allocations CpuZones serves in which context, above all in handlers and emergencies.
#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <vector>

#include "kernel/cpu_zones_fixture.hpp"

namespace slabmalloc {
namespace {

using test::base_bytes;
using test::CpuZonesTest;
using test::layout_of;
using test::small;

TEST_F(CpuZonesTest, handlers_do_not_call_the_pager) {
  EXPECT_EQ(allocate(small, Context::Interrupt), nullptr);
  EXPECT_EQ(frames.calls(), 0u);
  void* const object = allocate();
  const std::size_t calls = frames.calls();
  const std::vector<void*> objects = allocate_all(small, Context::Interrupt);
  EXPECT_FALSE(objects.empty());
  EXPECT_EQ(frames.calls(), calls);
  free_all(objects);
  heap.deallocate(object, small);
}

TEST_F(CpuZonesTest, handlers_have_a_reserve_that_is_refilled_later) {
  ASSERT_TRUE(heap.reserve_for_interrupts(small, 3));
  const std::vector<void*> rest = allocate_all(small, Context::Interrupt);
  frames.set_exhausted(true);
  EXPECT_EQ(allocate(small, Context::Interrupt), nullptr);
  free_all(rest);
  std::vector<void*> objects = allocate_all();
  EXPECT_EQ(objects.size(), rest.size() - 3) << "slow paths filled the reserve";
  EXPECT_EQ(allocate_all(small, Context::Interrupt).size(), 3u);
  free_all({objects.end() - 3, objects.end()});
  heap.run_deferred();
  EXPECT_EQ(allocate_all(small, Context::Interrupt).size(), 3u);
}

TEST_F(CpuZonesTest, a_reserve_of_zero_objects_gives_the_reserve_up) {
  ASSERT_TRUE(heap.reserve_for_interrupts(small, 4));
  EXPECT_EQ(heap.statistics().zones.used_bytes, 4 * small.size());
  ASSERT_TRUE(heap.reserve_for_interrupts(small, 0));
  EXPECT_EQ(heap.statistics().zones.used_bytes, 0u);
  EXPECT_EQ(heap.reserve_for_interrupts(small, KernelConfig::reserve_objects + 1).error(),
            AllocationError::TooMany);
  EXPECT_EQ(heap.reserve_for_interrupts(layout_of(1 * mebibyte), 1).error(),
            AllocationError::InvalidLayout);
}

/// Runs `work` in the middle of a section, from the misuse hook.
void in_a_section(auto& heap, const std::function<void()>& work) {
  static const std::function<void()>* job;
  job = &work;
  const MisuseHandler before = set_misuse_handler([](const Misuse&) noexcept { (*job)(); });
  void* const object = heap.allocate(small).value();
  heap.deallocate(object, small);
  heap.deallocate(object, small);
  set_misuse_handler(before);
}

TEST_F(CpuZonesTest, reserved_frames_stay_for_emergencies_after_one) {
  ASSERT_TRUE(heap.reserve_frames(small, 2));
  frames.set_exhausted(true);
  std::vector<void*> objects = allocate_all();
  objects.push_back(allocate(small, Context::Emergency));
  ASSERT_NE(objects.back(), nullptr);
  ASSERT_EQ(heap.statistics().reserved_frame_bytes, base_bytes);
  for (const Context context : {Context::MayWait, Context::MayNotWait, Context::Interrupt}) {
    for (const Layout layout : {small, layout_of(128)}) {
      for (void* object : allocate_all(layout, context)) {
        heap.deallocate(object, layout);
      }
      EXPECT_EQ(heap.statistics().reserved_frame_bytes, base_bytes);
    }
  }
  free_all(objects);
}

TEST_F(CpuZonesTest, release_all_ends_all_reservations) {
  ASSERT_TRUE(heap.reserve_for_interrupts(small, 4));
  ASSERT_TRUE(heap.reserve_frames(small, 3));
  heap.release_all();
  EXPECT_EQ(frames.live_bytes(), 0u);
  heap.deallocate(allocate(), small);
  heap.run_deferred();
  heap.trim();
  EXPECT_EQ(frames.live_bytes(), 0u);
}

TEST_F(CpuZonesTest, a_search_drains_all_that_others_freed) {
  frames.set_limit(40 * base_bytes);
  const std::vector<void*> objects = allocate_all();
  on_cpu(1);
  free_all(objects);
  ASSERT_TRUE(heap.drain_this_cpu());  // Delivers.
  on_cpu(0);
  // A frame of 64 KiB takes 16 of the pages, more than a slow path drains.
  void* const object = allocate(layout_of(8 * kibibyte), Context::MayWait);
  EXPECT_NE(object, nullptr);
  heap.deallocate(object, layout_of(8 * kibibyte));
}

TEST_F(CpuZonesTest, a_search_that_fails_has_other_cpus_drain) {
  for (const Context context : {Context::MayWait, Context::MayNotWait}) {
    on_cpu(1);
    std::vector<void*> objects;
    for (int count = 0; count < 500; ++count) {
      objects.push_back(allocate());
    }
    on_cpu(0);
    frames.set_exhausted(true);
    std::vector<void*> own = allocate_all();
    on_cpu(1);
    heap.run_deferred();  // What those searches asked for.
    on_cpu(0);
    free_all(objects);
    ASSERT_TRUE(heap.drain_this_cpu());  // Delivers.
    for (int call = 0; call < 100; ++call) {
      EXPECT_EQ(allocate(small, context), nullptr) << "others' pages are no use here";
    }
    on_cpu(1);
    heap.run_deferred();
    on_cpu(0);
    own.push_back(allocate(small, context));
    EXPECT_NE(own.back(), nullptr);
    free_all(own);
    frames.set_exhausted(false);
    drain_all();
    heap.trim();
  }
}

TEST_F(CpuZonesTest, the_end_of_a_reserve_frees_the_objects_of_all_cpus) {
  const std::uint32_t index = Heap::Zone::class_for(small);
  ASSERT_TRUE(heap.reserve_for_interrupts(small, 3));
  for (std::uint32_t cpu = 1; cpu < test::OpenKernel::maximum_cpus; ++cpu) {
    on_cpu(cpu);
    heap.deallocate(allocate(), small);
    heap.run_deferred();
  }
  EXPECT_EQ(heap.class_statistics(index).used, 3 * test::OpenKernel::maximum_cpus);
  on_cpu(2);
  ASSERT_TRUE(heap.reserve_for_interrupts(small, 0));
  drain_all();
  drain_all();
  EXPECT_EQ(heap.class_statistics(index).used, 0u);
}

TEST_F(CpuZonesTest, in_the_middle_of_a_free_a_reserve_can_end) {
  ASSERT_TRUE(heap.reserve_for_interrupts(small, 2));
  in_a_section(heap, [&] {
    EXPECT_TRUE(heap.reserve_for_interrupts(small, 0, Context::Interrupt));
    EXPECT_FALSE(heap.reserve_for_interrupts(small, 1, Context::Interrupt));
  });
  ASSERT_TRUE(heap.reserve_for_interrupts(small, 0));
}

TEST_F(CpuZonesTest, in_the_middle_of_a_free_handlers_free_by_the_remote_path) {
  void* const object = allocate();
  in_a_section(heap, [&] {
    heap.deallocate(object, small);
    EXPECT_FALSE(heap.drain_this_cpu());
    EXPECT_EQ(heap.give_back(), 0u);
  });
  EXPECT_EQ(heap.statistics().nested_frees, 1u);
  ASSERT_TRUE(heap.drain_this_cpu());
  EXPECT_EQ(heap.statistics().zones.used_bytes, 0u);
}

TEST_F(CpuZonesTest, in_the_middle_of_a_free_handlers_allocate_from_the_reserve_alone) {
  ASSERT_TRUE(heap.reserve_for_interrupts(small, 2));
  std::vector<void*> objects;
  in_a_section(heap, [&] {
    for (int call = 0; call < 3; ++call) {
      // Inside a section, the caller's context does not matter.
      objects.push_back(heap.allocate(small, Context::MayWait).value_or(nullptr));
    }
  });
  EXPECT_NE(objects[0], nullptr);
  EXPECT_NE(objects[1], nullptr);
  EXPECT_EQ(objects[2], nullptr);
  EXPECT_EQ(heap.statistics().nested_allocations, 3u);
  heap.deallocate(objects[0], small);
  heap.deallocate(objects[1], small);
}

TEST_F(CpuZonesTest, in_the_middle_of_a_free_an_emergency_takes_other_cpus_reserves) {
  on_cpu(2);
  ASSERT_TRUE(heap.reserve_for_interrupts(small, 1));
  on_cpu(0);
  void* object = nullptr;
  in_a_section(heap, [&] {
    EXPECT_TRUE(heap.allocate(small, Context::Interrupt)) << "its own";
    EXPECT_FALSE(heap.allocate(small, Context::Interrupt));
    object = heap.allocate(small, Context::Emergency).value_or(nullptr);
  });
  EXPECT_NE(object, nullptr);
  heap.deallocate(object, small);
}

TEST_F(CpuZonesTest, the_next_slow_path_repeats_a_drain_that_met_a_section) {
  const std::vector<void*> objects = {allocate(), allocate()};
  on_cpu(1);
  free_all(objects);
  ASSERT_TRUE(heap.drain_this_cpu());
  on_cpu(0);
  in_a_section(heap, [&] { EXPECT_FALSE(heap.drain_this_cpu()); });
  EXPECT_EQ(heap.statistics().zones.used_bytes, 2 * small.size());
  (void)allocate(layout_of(256));
  EXPECT_EQ(heap.statistics().zones.used_bytes, 256u);
}

TEST_F(CpuZonesTest, reserved_frames_are_for_emergencies_and_refilled_before_frames_go_back) {
  ASSERT_TRUE(heap.reserve_frames(small, 2));
  EXPECT_EQ(heap.statistics().reserved_frame_bytes, 2 * base_bytes);
  frames.set_limit(6 * base_bytes);
  std::vector<void*> objects = allocate_all();
  const std::size_t slots = ObjectPage::geometry(small.size()).slots;
  EXPECT_EQ(objects.size(), 4 * slots);
  EXPECT_EQ(allocate(small, Context::MayWait), nullptr);
  const std::vector<void*> saved = allocate_all(small, Context::Emergency);
  EXPECT_EQ(saved.size(), 2 * slots);
  EXPECT_EQ(heap.statistics().reserved_frame_bytes, 0u);
  free_all(objects);
  free_all(saved);
  heap.trim();
  EXPECT_EQ(heap.statistics().reserved_frame_bytes, 2 * base_bytes);
  EXPECT_EQ(frames.live_bytes(), 2 * base_bytes);
  ASSERT_TRUE(heap.reserve_frames(small, 0));
  heap.trim();
  EXPECT_EQ(frames.live_bytes(), 0u);
}

TEST_F(CpuZonesTest, an_emergency_does_not_call_the_pager) {
  ASSERT_TRUE(heap.reserve_frames(small, 1));
  const std::size_t calls = frames.calls();
  const std::vector<void*> objects = allocate_all(small, Context::Emergency);
  EXPECT_EQ(objects.size(), ObjectPage::geometry(small.size()).slots);
  EXPECT_EQ(heap.allocate(layout_of(1 * mebibyte), Context::Emergency).error(),
            AllocationError::OutOfMemory);
  EXPECT_EQ(frames.calls(), calls);
  // The next allocation that may call the pager refills the reserve.
  const std::vector<void*> others = {allocate(layout_of(128))};
  EXPECT_EQ(heap.statistics().reserved_frame_bytes, base_bytes);
  free_all(objects);
  free_all(others, layout_of(128));
}

TEST_F(CpuZonesTest, reports_frames_that_cannot_be_reserved) {
  frames.set_limit(3 * base_bytes);
  EXPECT_EQ(heap.reserve_frames(small, 4).error(), AllocationError::OutOfMemory);
  EXPECT_EQ(heap.reserve_frames(layout_of(1 * mebibyte), 1).error(),
            AllocationError::InvalidLayout);
  EXPECT_EQ(heap.statistics().reserved_frame_bytes, 3 * base_bytes);
}

// ---- calls that must not wait -------------------------------------------------------------------

TEST_F(CpuZonesTest, a_call_that_must_not_wait_succeeds_after_some_repetitions) {
  const Layout middle = layout_of(4096);
  frames.set_limit(256 * kibibyte);
  const std::vector<void*> objects = allocate_all();
  free_all(objects);
  int calls = 1;
  void* object = allocate(middle, Context::MayNotWait);
  EXPECT_EQ(object, nullptr)
      << "all frames are of another size, and it is not called more often than once";
  while (object == nullptr && calls < 1000) {
    object = allocate(middle, Context::MayNotWait);
    ++calls;
  }
  EXPECT_NE(object, nullptr);
  EXPECT_GT(calls, 2);
  heap.deallocate(object, middle);
}

TEST_F(CpuZonesTest, a_call_that_must_not_wait_drains_remote_frees) {
  frames.set_limit(64 * base_bytes);
  const std::vector<void*> objects = allocate_all();
  on_cpu(1);
  free_all(objects);
  ASSERT_TRUE(heap.drain_this_cpu());
  on_cpu(0);
  std::vector<void*> again;
  for (std::size_t call = 0; call < objects.size() + 100; ++call) {
    if (void* const object = allocate(small, Context::MayNotWait)) {
      again.push_back(object);
    }
  }
  EXPECT_EQ(again.size(), objects.size());
  free_all(again);
}

TEST_F(CpuZonesTest, a_call_that_must_not_wait_does_not_reclaim) {
  static int calls;
  calls = 0;
  heap.set_reclaim([](void*, const ReclaimRequest&) noexcept { return ++calls == 0; }, nullptr);
  frames.set_exhausted(true);
  EXPECT_EQ(allocate(small, Context::MayNotWait), nullptr);
  EXPECT_EQ(allocate(layout_of(1 * mebibyte), Context::MayNotWait), nullptr);
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(allocate(small, Context::MayWait), nullptr);
  EXPECT_EQ(allocate(layout_of(1 * mebibyte), Context::MayWait), nullptr);
  EXPECT_EQ(calls, 2);
}

}  // namespace
}  // namespace slabmalloc
