// SPDX-License-Identifier: MIT
//
// The fixture of tests of tags: a heap with tags over a FrameAllocator with owners.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

#include "kernel/frame_fixture.hpp"
#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc::test {

inline constexpr std::uint32_t net = 2;  ///< A tag.

struct OwnedFrames : FrameOptions {
  static constexpr bool has_owners = true;
};

/// `Config` with tags.
template <class Config, std::uint32_t Tags = 5>
struct Tagged : Config {
  static constexpr std::uint32_t tags = Tags;
};
struct TaggedKernelConfig : Tagged<KernelConfig> {
  using Kernel = OpenKernel;
};
struct TaggedDebugConfig : Tagged<DebugKernelConfig> {
  using Kernel = OpenKernel;
};
struct TaggedConfigOfOneCpu : Tagged<GranuleKernelConfig<4 * kibibyte, SingleCpuAtomics>, 17> {
  using Kernel = SingleKernel;
};

/// At its end, nothing may be charged or in use.
template <class Config>
class TagsTest : public testing::Test {
 public:
  using Kernel = typename Config::Kernel;
  using Frames = FrameAllocator<Kernel, 4 * kibibyte, typename Config::Atomics, OwnedFrames>;
  using Heap = CpuZones<Kernel, Frames, Config>;

  static constexpr std::uint32_t cpus = Kernel::maximum_cpus;
  static constexpr std::uint32_t tags = Config::tags;
  static constexpr std::size_t base_bytes = 4 * kibibyte;

  void drain_all() {
    for (std::uint32_t cpu = 0; cpu < cpus; ++cpu) {
      HostedCpu::number = cpu;
      EXPECT_TRUE(heap.drain_this_cpu());
    }
    HostedCpu::number = 0;
  }
  /// What a block of `layout` is charged.
  static std::size_t bytes_of(Layout layout) {
    Layout slot = layout;
    if constexpr (Heap::is_debugged) {
      slot = Heap::Mode::extend(layout);
    }
    const std::size_t bytes = Heap::Zone::usable_size(slot);
    return bytes == 0 ? align_up(slot.size(), base_bytes) : bytes;
  }

  PhysicalMemory memory{16 * mebibyte};
  Frames frames;
  Heap heap{frames};
  MisuseRecorder misuse;

 protected:
  void SetUp() override {
    HostedCpu::number = 0;
    const MemoryRegion region = memory.region(0, 16 * mebibyte);
    ASSERT_TRUE(frames.add(&region, 1));
  }
  void TearDown() override {
    for (std::uint32_t tag = 0; tag < tags; ++tag) {
      EXPECT_EQ(heap.tag_statistics(tag).bytes, 0u) << "of tag " << tag;
      EXPECT_EQ(heap.tag_statistics(tag).objects, 0u) << "of tag " << tag;
    }
    for (int round = 0; round < 2; ++round) {
      drain_all();
    }
    EXPECT_EQ(heap.statistics().zones.used_bytes, 0u);
    EXPECT_EQ(heap.validate(), nullptr);
    heap.release_all();
    EXPECT_EQ(heap.frame_bytes(), 0u);
    EXPECT_EQ(frames.statistics().used_bytes, 0u);
  }
};

}  // namespace slabmalloc::test
