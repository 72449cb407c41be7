// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/cpu_zones.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "kernel/cpu_zones_fixture.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

using test::base_bytes;
using test::CpuZonesTest;
using test::FrameSource;
using test::HostedCpu;
using test::layout_of;
using test::OpenKernel;
using test::small;

TEST_F(CpuZonesTest, each_cpu_allocates_from_pages_of_its_own) {
  void* const first = allocate();
  on_cpu(1);
  void* const second = allocate();
  ASSERT_NE(first, nullptr);
  ASSERT_NE(second, nullptr);
  EXPECT_NE(reinterpret_cast<std::uintptr_t>(first) / base_bytes,
            reinterpret_cast<std::uintptr_t>(second) / base_bytes);
  heap.deallocate(first, small);
  heap.deallocate(second, small);
}

TEST_F(CpuZonesTest, an_object_freed_by_another_cpu_serves_its_owner_again) {
  frames.set_limit(4 * base_bytes);
  const std::vector<void*> objects = allocate_all();
  on_cpu(3);
  free_all(objects);
  ASSERT_TRUE(heap.drain_this_cpu());
  on_cpu(0);
  const std::vector<void*> again = allocate_all();
  EXPECT_EQ(std::set(again.begin(), again.end()), std::set(objects.begin(), objects.end()));
  free_all(again);
}

TEST_F(CpuZonesTest, frames_are_asked_for_several_at_once) {
  ASSERT_NE(allocate(), nullptr);
  EXPECT_EQ(frames.calls(), KernelConfig::growth_frames);
  const std::size_t slots = ObjectPage::geometry(small.size()).slots;
  for (std::size_t count = 1; count < slots * KernelConfig::growth_frames; ++count) {
    ASSERT_NE(allocate(), nullptr);
  }
  EXPECT_EQ(heap.statistics().growths, 1u);
}

TEST_F(CpuZonesTest, empty_pages_of_other_classes_and_cpus_come_before_new_frames) {
  frames.set_limit(2 * base_bytes);
  const std::vector<void*> objects = allocate_all();
  frames.set_exhausted(true);
  free_all(objects);
  // The class holds one of the two empty pages; the frame cache holds the other.
  const Layout other = layout_of(128);
  void* const same_cpu = allocate(other);
  EXPECT_NE(same_cpu, nullptr);
  heap.deallocate(same_cpu, other);
  ASSERT_TRUE(heap.drain_this_cpu());
  on_cpu(5);
  const std::vector<void*> elsewhere = allocate_all(other);
  EXPECT_EQ(elsewhere.size(), 2 * ObjectPage::geometry(other.size()).slots);
  free_all(elsewhere, other);
}

TEST_F(CpuZonesTest, frames_of_one_kind_are_made_into_those_of_another_by_the_pager) {
  frames.set_limit(64 * kibibyte);
  const std::vector<void*> objects = allocate_all();
  EXPECT_EQ(frames.live_bytes(), 64 * kibibyte);
  free_all(objects);
  const Layout middle = layout_of(4096);
  void* const object = allocate(middle);
  EXPECT_NE(object, nullptr);
  heap.deallocate(object, middle);
}

TEST_F(CpuZonesTest, exhaustion_is_a_value_and_loses_nothing) {
  frames.set_limit(16 * base_bytes);
  const std::vector<void*> objects = allocate_all();
  EXPECT_EQ(objects.size(), 16 * ObjectPage::geometry(small.size()).slots);
  EXPECT_EQ(heap.allocate(small).error(), AllocationError::OutOfMemory);
  EXPECT_GE(heap.statistics().failures, 2u);
  free_all(objects);
  const std::vector<void*> again = allocate_all();
  EXPECT_EQ(again.size(), objects.size());
  free_all(again);
}

TEST_F(CpuZonesTest, zeroed_blocks_are_zero_on_reused_slots) {
  auto* const bytes = static_cast<unsigned char*>(allocate());
  std::fill_n(bytes, small.size(), static_cast<unsigned char>(0xEE));
  heap.deallocate(bytes, small);
  for (int count = 0; count < 100; ++count) {
    const auto* zeroed = static_cast<unsigned char*>(heap.allocate_zeroed(small).value());
    EXPECT_TRUE(std::all_of(zeroed, zeroed + small.size(), [](auto byte) { return byte == 0; }));
  }
}

TEST_F(CpuZonesTest, many_objects_come_and_go_by_one_call) {
  std::vector<void*> objects(1000);
  EXPECT_EQ(heap.allocate_many(small, objects.data(), objects.size()), objects.size());
  EXPECT_EQ(std::set(objects.begin(), objects.end()).size(), objects.size());
  heap.deallocate_many(objects.data(), objects.size(), small);
  EXPECT_EQ(heap.statistics().zones.used_bytes, 0u);
  frames.set_limit(frames.live_bytes());
  objects.resize(10000);
  const std::size_t count = heap.allocate_many(small, objects.data(), objects.size());
  EXPECT_LT(count, objects.size());
  EXPECT_EQ(count, frames.live_bytes() / base_bytes * ObjectPage::geometry(small.size()).slots);
  heap.deallocate_many(objects.data(), count, small);
}

TEST_F(CpuZonesTest, excess_goes_back_to_the_pager_when_it_may_be_called) {
  std::vector<void*> objects(5000);
  ASSERT_EQ(heap.allocate_many(small, objects.data(), objects.size()), objects.size());
  const std::size_t most = frames.live_bytes();
  heap.deallocate_many(objects.data(), objects.size(), small);
  EXPECT_EQ(frames.live_bytes(), most) << "a free calls no pager";
  (void)allocate(layout_of(128));
  EXPECT_EQ(frames.live_bytes(), most - 2 * base_bytes) << "two at once";
  heap.run_deferred();
  EXPECT_EQ(frames.live_bytes(), (KernelConfig::cached_frames + 2) * base_bytes);
}

TEST_F(CpuZonesTest, misuse_is_reported_and_does_nothing) {
  test::MisuseRecorder misuse;
  void* const object = allocate();
  heap.deallocate(object, small);
  heap.deallocate(object, small);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  void* const other = allocate();
  heap.deallocate(static_cast<std::byte*>(other) + 8, small);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::MisalignedFree});
  heap.deallocate(other, layout_of(200));
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::SizeMismatch});
  heap.deallocate(other, small);
  heap.deallocate(nullptr, small);
}

/// A call of a CPU with too high a number ends in a panic, whatever memory lies at its part
/// pointer.
template <class Kernel, class Config>
void expect_too_large_numbers_to_be_refused() {
  HostedCpu::number = 0;
  FrameSource frames;
  CpuZones<Kernel, FrameSource, Config> heap(frames);
  void* const object = heap.allocate(small).value_or(nullptr);
  const char* const line = "cpu\\(\\) < maximum_cpus";
  constexpr std::uint32_t first = Kernel::maximum_cpus;
  for (const std::uint32_t number : {first, first + 1, first + 2, first + 20, ~0u / 64, ~0u}) {
    HostedCpu::number = number;
    EXPECT_DEATH((void)heap.allocate(small), line) << number;
    EXPECT_DEATH(heap.deallocate(object, small), line) << number;
    EXPECT_DEATH((void)heap.drain_this_cpu(), line) << number;
    EXPECT_DEATH(heap.run_deferred(), line) << number;
  }
  HostedCpu::number = 0;
  heap.deallocate(object, small);
  heap.release_all();
}

TEST(CpuZonesHooks, that_number_cpus_too_high_end_at_their_first_call) {
  expect_too_large_numbers_to_be_refused<OpenKernel, KernelConfig>();
}

/// Each number has a slot, even one that is too high.
struct LocalKernel : OpenKernel {
  static inline std::map<std::uint32_t, void*> values;
  template <std::uint32_t slot>
  static void* local() noexcept {
    return values[HostedCpu::number];
  }
  template <std::uint32_t slot>
  static void set_local(void* to) noexcept {
    values[HostedCpu::number] = to;
  }
};
struct LocalConfig : KernelConfig {
  static constexpr std::uint32_t local_slot = 0;
};

TEST(CpuZonesHooks, with_a_slot_that_number_cpus_too_high_end_at_their_first_call) {
  expect_too_large_numbers_to_be_refused<LocalKernel, LocalConfig>();
}

/// SmallArenaKernelConfig has two kinds of pages of 4 KiB.
TEST(CpuZonesOfASmallArena, count_frames_of_one_size_once_whatever_kinds_have_it) {
  HostedCpu::number = 0;
  FrameSource frames;
  CpuZones<OpenKernel, FrameSource, SmallArenaKernelConfig<>> heap(frames);
  ASSERT_TRUE(heap.reserve_frames(layout_of(16), 2));
  for (const std::size_t size : {16u, 800u, 1000u, 1600u, 2048u}) {
    heap.deallocate(heap.allocate(layout_of(size)).value(), layout_of(size));
  }
  EXPECT_EQ(heap.statistics().reserved_frame_bytes, 2 * base_bytes);
  EXPECT_EQ(heap.validate(), nullptr);
  ASSERT_TRUE(heap.drain_this_cpu());
  EXPECT_EQ(heap.validate(), nullptr);
  heap.release_all();
  EXPECT_EQ(frames.live_bytes(), 0u);
}

/// The same heap for one CPU, without atomic instructions.
TEST(CpuZonesOfOneCpu, need_no_atomics) {
  HostedCpu::number = 0;
  FrameSource frames;
  using Config = GranuleKernelConfig<4 * kibibyte, SingleCpuAtomics>;
  CpuZones<test::SingleKernel, FrameSource, Config> heap(frames);
  ASSERT_TRUE(heap.reserve_for_interrupts(small, 2));
  std::vector<void*> objects(1000);
  ASSERT_EQ(heap.allocate_many(small, objects.data(), objects.size()), objects.size());
  heap.deallocate_many(objects.data(), objects.size(), small);
  EXPECT_EQ(heap.validate(), nullptr);
  heap.release_all();
  EXPECT_EQ(frames.live_bytes(), 0u);
}

}  // namespace
}  // namespace slabmalloc
