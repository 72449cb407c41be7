// SPDX-License-Identifier: MIT
//
// The fixture of CpuZones tests: a heap over counted frames, on CPUs that the test chooses.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"
#include "support/frames.hpp"

namespace slabmalloc::test {

inline constexpr Layout small = Layout::of<std::uint64_t[8]>();
inline constexpr std::size_t base_bytes = 4 * kibibyte;

inline Layout layout_of(std::size_t size) { return Layout::from_size_align(size, 8).value(); }

/// A test on CPU 0 that must end without a lost object or frame.
class CpuZonesTest : public testing::Test {
 protected:
  using Heap = CpuZones<OpenKernel, FrameSource>;

  void SetUp() override { on_cpu(0); }
  void TearDown() override {
    drain_all();
    EXPECT_EQ(heap.validate(), nullptr);
    heap.release_all();
    EXPECT_EQ(frames.live_bytes(), 0u);
    EXPECT_EQ(heap.frame_bytes(), 0u);
    on_cpu(0);
  }

  static void on_cpu(std::uint32_t cpu) { HostedCpu::number = cpu; }
  void drain_all() {
    for (std::uint32_t cpu = 0; cpu < OpenKernel::maximum_cpus; ++cpu) {
      on_cpu(cpu);
      EXPECT_TRUE(heap.drain_this_cpu());
    }
  }
  void* allocate(Layout layout = small, Context context = Context::MayWait) {
    return heap.allocate(layout, context).value_or(nullptr);
  }
  std::vector<void*> allocate_all(Layout layout = small, Context context = Context::MayWait) {
    std::vector<void*> objects;
    while (void* object = allocate(layout, context)) {
      objects.push_back(object);
    }
    return objects;
  }
  void free_all(const std::vector<void*>& objects, Layout layout = small) {
    for (void* object : objects) {
      heap.deallocate(object, layout);
    }
  }

  FrameSource frames;
  Heap heap{frames};
};

}  // namespace slabmalloc::test
