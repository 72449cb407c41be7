// SPDX-License-Identifier: MIT
//
// Tests of CpuZones with requests above the largest size class.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include "kernel/cpu_zones_fixture.hpp"
#include "slabmalloc/kernel/frame_allocator.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

using test::CpuZonesTest;
using test::FrameSource;
using test::small;

constexpr Layout run_layout = Layout::from_size_align(3 * mebibyte, 8).value_or(small);

TEST_F(CpuZonesTest, large_requests_are_runs_of_the_pager) {
  void* const run = allocate(run_layout);
  ASSERT_NE(run, nullptr);
  EXPECT_EQ(frames.live_bytes(), 3 * mebibyte);
  heap.deallocate(run, run_layout);
  EXPECT_EQ(frames.live_bytes(), 0u);
  heap.deallocate(nullptr, run_layout);
  heap.deallocate(nullptr, run_layout, Context::Interrupt);
}

TEST_F(CpuZonesTest, runs_are_not_allocated_where_the_pager_cannot_be_called) {
  for (const Context context : {Context::Interrupt, Context::Emergency}) {
    EXPECT_EQ(heap.allocate(run_layout, context).error(), AllocationError::OutOfMemory);
  }
  EXPECT_EQ(frames.calls(), 0u);
  EXPECT_EQ(heap.statistics().failures, 2u);
}

TEST_F(CpuZonesTest, a_small_block_of_large_alignment_is_a_run_too) {
  const Layout aligned = Layout::from_size_align(1, 64 * kibibyte).value();
  void* const run = allocate(aligned);
  ASSERT_NE(run, nullptr);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(run) % (64 * kibibyte), 0u);
  heap.deallocate(run, aligned, Context::Interrupt);
  heap.run_deferred();
  EXPECT_EQ(frames.live_bytes(), 0u);
  // The run has exactly the requested size.
  heap.deallocate(allocate(aligned), aligned);
  EXPECT_EQ(frames.live_bytes(), 0u);
}

TEST_F(CpuZonesTest, a_run_that_a_handler_frees_waits_for_a_call_of_the_pager) {
  void* const run = allocate(run_layout);
  heap.deallocate(run, run_layout, Context::Interrupt);
  EXPECT_EQ(frames.live_bytes(), 3 * mebibyte);
  EXPECT_EQ(heap.statistics().deferred_bytes, 3 * mebibyte);
  EXPECT_EQ(allocate(small, Context::Interrupt), nullptr);
  EXPECT_EQ(heap.statistics().deferred_bytes, 3 * mebibyte) << "a handler does not call it";
  heap.run_deferred();
  EXPECT_EQ(heap.statistics().deferred_bytes, 0u);
  EXPECT_EQ(frames.live_bytes(), 0u);
}

TEST_F(CpuZonesTest, slow_paths_give_waiting_runs_back) {
  std::vector<void*> runs(3);
  ASSERT_EQ(heap.allocate_many(run_layout, runs.data(), runs.size()), runs.size());
  heap.deallocate_many(runs.data(), runs.size(), run_layout, Context::Emergency);
  EXPECT_EQ(frames.live_bytes(), 9 * mebibyte);
  std::vector<void*> objects;
  for (int count = 0; count < 1000; ++count) {
    objects.push_back(allocate());
  }
  EXPECT_EQ(frames.live_bytes(), heap.frame_bytes());
  free_all(objects);
}

TEST_F(CpuZonesTest, memory_pressure_gives_waiting_runs_back) {
  heap.deallocate(allocate(run_layout), run_layout, Context::Interrupt);
  EXPECT_EQ(heap.give_back(), run_layout.size());
  EXPECT_EQ(frames.live_bytes(), 0u);
}

TEST_F(CpuZonesTest, an_allocation_that_finds_no_memory_gives_waiting_runs_back) {
  frames.set_limit(run_layout.size());
  for (const Context context : {Context::MayWait, Context::MayNotWait}) {
    heap.deallocate(allocate(run_layout), run_layout, Context::Interrupt);
    void* const object = allocate(small, context);
    EXPECT_NE(object, nullptr);
    heap.deallocate(object, small);
    heap.trim();
    heap.deallocate(allocate(run_layout), run_layout, Context::Interrupt);
    void* const run = allocate(run_layout, context);
    EXPECT_NE(run, nullptr);
    heap.deallocate(run, run_layout);
  }
}

TEST_F(CpuZonesTest, a_run_that_may_wait_uses_frames_of_frame_caches) {
  frames.set_limit(4 * mebibyte);
  for (const std::uint32_t cpu : {1u, 0u}) {
    on_cpu(cpu);
    free_all(std::vector<void*>(allocate_all()));
  }
  void* const run = allocate(run_layout, Context::MayWait);
  EXPECT_NE(run, nullptr);
  heap.deallocate(run, run_layout);
}

TEST_F(CpuZonesTest, a_run_that_may_wait_uses_frames_that_a_reclaim_frees) {
  struct Held {
    Heap& heap;
    std::vector<void*> objects;
  } held{heap, {}};
  frames.set_limit(4 * mebibyte);
  held.objects = allocate_all();
  heap.set_reclaim(
      [](void* argument, const ReclaimRequest&) noexcept {
        auto& [from, objects] = *static_cast<Held*>(argument);
        for (void* object : objects) {
          from.deallocate(object, small);
        }
        return !std::exchange(objects, {}).empty();
      },
      &held);
  void* const run = allocate(run_layout, Context::MayWait);
  EXPECT_NE(run, nullptr);
  heap.deallocate(run, run_layout);
}

TEST_F(CpuZonesTest, a_waiting_run_that_is_freed_again_is_reported) {
  test::MisuseRecorder misuse;
  void* const run = allocate(run_layout);
  heap.deallocate(run, run_layout, Context::Interrupt);
  heap.deallocate(run, run_layout, Context::Interrupt);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  heap.run_deferred();
  EXPECT_EQ(frames.live_bytes(), 0u);
}

TEST(CpuZonesRuns, a_foreign_run_is_reported_while_another_one_waits) {
  alignas(64 * kibibyte) static std::byte memory[mebibyte];
  FrameAllocator<test::OpenKernel> frames;
  const MemoryRegion region{reinterpret_cast<std::uintptr_t>(memory), sizeof memory};
  ASSERT_TRUE(frames.add(&region, 1));
  CpuZones<test::OpenKernel, FrameAllocator<test::OpenKernel>> heap(frames);
  test::MisuseRecorder misuse;
  const Layout layout = test::layout_of(20'000);
  heap.deallocate(heap.allocate(layout).value(), layout, Context::Interrupt);
  // Nothing is mapped there.
  heap.deallocate(reinterpret_cast<void*>(std::uintptr_t{0x10000}), layout);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::ForeignPointer});
}

TEST(CpuZonesWithoutRuns, refuse_large_requests_in_every_context) {
  struct PlainFrames {
    FrameSource source;
    Frame allocate_frame(std::size_t bytes) noexcept { return source.allocate_frame(bytes); }
    void deallocate_frame(void* frame, std::size_t bytes) noexcept {
      source.deallocate_frame(frame, bytes);
    }
  } frames;
  CpuZones<test::OpenKernel, PlainFrames> heap(frames);
  test::MisuseRecorder misuse;
  for (const Context context :
       {Context::MayWait, Context::MayNotWait, Context::Interrupt, Context::Emergency}) {
    EXPECT_EQ(heap.allocate(run_layout, context).error(), AllocationError::InvalidLayout);
    int wrong = 0;
    heap.deallocate(&wrong, run_layout, context);
    EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::SizeMismatch});
  }
}

}  // namespace
}  // namespace slabmalloc
