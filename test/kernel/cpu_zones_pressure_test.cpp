// SPDX-License-Identifier: MIT
//
// Tests of CpuZones when memory is short: no CPU keeps free memory from another.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"
#include "support/frames.hpp"
#include "support/interrupting_atomics.hpp"

namespace slabmalloc {
namespace {

using test::FrameSource;
using test::HostedCpu;
using test::Interruption;
using test::OpenKernel;

constexpr Layout small = Layout::of<std::uint64_t[8]>();
constexpr Layout large = Layout::from_size_align(1024, 8).value_or(small);

using Heap = CpuZones<OpenKernel, FrameSource>;

std::vector<void*> allocate_some(Heap& heap, std::size_t count) {
  std::vector<void*> objects;
  for (; count != 0; --count) {
    objects.push_back(heap.allocate(small).value_or(nullptr));
    EXPECT_NE(objects.back(), nullptr);
  }
  return objects;
}

TEST(CpuZonesUnderPressure, a_cpu_that_is_told_to_drain_drains_remote_frees) {
  FrameSource frames;
  Heap heap(frames);
  HostedCpu::number = 1;
  const std::vector<void*> objects = allocate_some(heap, 1000);
  HostedCpu::number = 0;
  for (void* const object : objects) {
    heap.deallocate(object, small);
  }
  heap.trim();
  EXPECT_GT(frames.live_bytes(), 0u);
  HostedCpu::number = 1;
  heap.run_deferred();
  HostedCpu::number = 0;
  heap.give_back();
  EXPECT_EQ(frames.live_bytes(), 0u);
}

TEST(CpuZonesUnderPressure, a_reserve_that_cannot_be_filled_keeps_no_cpu_from_draining) {
  FrameSource frames;
  Heap heap(frames);
  HostedCpu::number = 1;
  const std::vector<void*> objects = allocate_some(heap, 10);
  frames.set_exhausted(true);
  EXPECT_FALSE(heap.reserve_for_interrupts(large, 1));
  for (void* const object : objects) {
    heap.deallocate(object, small);
  }
  HostedCpu::number = 0;
  heap.trim();
  HostedCpu::number = 1;
  heap.run_deferred();
  HostedCpu::number = 0;
  EXPECT_TRUE(heap.allocate(small)) << "CPU 1 has an empty page";
  heap.release_all();
}

TEST(CpuZonesUnderPressure, reserves_nothing_in_a_context_that_may_not_call_the_pager) {
  FrameSource frames;
  Heap heap(frames);
  HostedCpu::number = 0;
  EXPECT_FALSE(heap.reserve_for_interrupts(small, 1, Context::Interrupt));
  EXPECT_FALSE(heap.reserve_frames(small, 1, Context::Interrupt));
  EXPECT_EQ(frames.calls(), 0u);
}

struct InterruptedConfig
    : GranuleKernelConfig<4 * kibibyte, test::InterruptingAtomics<HardwareAtomics>> {};

/// Another CPU acts while this one is in no section.
void meanwhile(std::size_t access, const std::function<void()>& something) {
  Interruption::arm(
      access,
      [something] {
        HostedCpu::number = 1;
        something();
        HostedCpu::number = 0;
      },
      [] { return HostedCpu::saved != 0; });
}

TEST(CpuZonesUnderPressure, a_request_beyond_the_limit_keeps_no_cpu_from_one_within) {
  bool came = true;
  for (std::size_t access = 1; came; ++access) {
    FrameSource frames;
    CpuZones<OpenKernel, FrameSource, InterruptedConfig> heap(frames);
    HostedCpu::number = 0;
    heap.set_limit(8 * kibibyte);
    meanwhile(access, [&] { EXPECT_TRUE(heap.allocate(small)) << "at access " << access; });
    EXPECT_FALSE(heap.allocate(large));
    came = Interruption::disarm();
    heap.release_all();
  }
}

TEST(CpuZonesUnderPressure, two_cpus_that_reserve_different_numbers_of_frames_both_return) {
  bool came = true;
  for (std::size_t access = 1; came; ++access) {
    FrameSource frames;
    CpuZones<OpenKernel, FrameSource, InterruptedConfig> heap(frames);
    HostedCpu::number = 0;
    meanwhile(access, [&] { EXPECT_TRUE(heap.reserve_frames(small, 1)); });
    EXPECT_TRUE(heap.reserve_frames(small, 3));
    came = Interruption::disarm();
    // The later call decides.
    const std::size_t kept = heap.statistics().reserved_frame_bytes / (4 * kibibyte);
    EXPECT_TRUE(kept == 3 || (kept == 1 && came)) << kept << " at access " << access;
    heap.release_all();
  }
}

}  // namespace
}  // namespace slabmalloc
