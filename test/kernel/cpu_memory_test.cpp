// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/cpu_memory.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/kernel_config.hpp"
#include "support/frames.hpp"

namespace slabmalloc::test {
namespace {

class CpuMemoryTest : public testing::Test {
 protected:
  using Parts = CpuParts<OpenKernel, KernelConfig>;
  using Memory = CpuMemory<OpenKernel, FrameSource, KernelConfig, PlainFrames>;
  using Caches = Memory::Caches;

  void SetUp() override { on_cpu(0); }
  void TearDown() override {
    on_cpu(0);
    EXPECT_EQ(memory.validate(), nullptr);
    parts.drain_all();
    memory.release_all();
    EXPECT_EQ(pager.live_bytes(), 0u);
    EXPECT_EQ(memory.frames().account().bytes(), 0u);
  }
  static void on_cpu(std::uint32_t cpu) { HostedCpu::number = cpu; }
  void* allocate(std::uint32_t index = small) { return memory.allocate(index, Context::MayWait); }
  /// Frames of `bytes` in the frame cache of CPU `cpu`.
  std::uint32_t cached(std::uint32_t cpu, std::size_t bytes = base_bytes) const {
    return parts[cpu].frame_cache.size(bytes);
  }

  static constexpr std::size_t base_bytes = Caches::base_bytes;
  static constexpr std::size_t middle_bytes = Caches::sizes.at[1];
  static constexpr std::uint32_t small = Parts::Zone::class_for(Layout::of<std::uint64_t[8]>());
  static constexpr std::uint32_t other = small + 1;
  static constexpr std::uint32_t middle =
      Parts::Zone::class_for(Layout::from_size_align(4096, 8).value_or(Layout()));
  static constexpr std::uint32_t growth = KernelConfig::growth_frames;

  FrameSource pager;
  Parts parts;
  Memory memory{parts, pager, {}};
};

TEST_F(CpuMemoryTest, grows_by_several_base_frames_or_one_larger_frame) {
  EXPECT_NE(allocate(small), nullptr);
  EXPECT_EQ(cached(0), growth - 1) << "one is the zone's";
  EXPECT_NE(allocate(middle), nullptr);
  EXPECT_EQ(cached(0, middle_bytes), 0u);
  EXPECT_EQ(pager.live_bytes(), growth * base_bytes + middle_bytes);
  pager.set_exhausted(true);
  EXPECT_EQ(allocate(middle), nullptr);
}

TEST_F(CpuMemoryTest, makes_the_reserve_good_before_frame_caches_and_the_pager) {
  EXPECT_TRUE(memory.reserve_frames(base_bytes, 2, Context::MayWait));
  EXPECT_NE(memory.allocate_reserved(small), nullptr);
  EXPECT_EQ(memory.reserve().bytes(), base_bytes);
  EXPECT_NE(allocate(other), nullptr);
  EXPECT_EQ(memory.reserve().bytes(), 2 * base_bytes);
  EXPECT_EQ(cached(0), growth - 2);
  // By a frame that goes back.
  EXPECT_TRUE(memory.reserve_frames(base_bytes, 2, Context::Interrupt)) << "it is full";
  EXPECT_FALSE(memory.reserve_frames(base_bytes, 3, Context::Interrupt)) << "no pager";
  EXPECT_EQ(memory.give_back(0), (growth - 3) * base_bytes) << "all but one, which is reserved";
  EXPECT_EQ(memory.reserve().bytes(), 3 * base_bytes);
  EXPECT_TRUE(memory.reserve_frames(base_bytes, 0, Context::Interrupt));
  EXPECT_EQ(cached(0), 3u) << "what is wanted no more lies in the frame cache";
}

TEST_F(CpuMemoryTest, gives_back_what_cpus_do_not_keep) {
  for (const std::uint32_t cpu : {0u, 3u}) {
    on_cpu(cpu);
    ASSERT_NE(allocate(), nullptr);
  }
  EXPECT_EQ(memory.give_back(1), 2 * (growth - 2) * base_bytes);
  EXPECT_EQ(cached(0), 1u);
  EXPECT_EQ(cached(3), 1u);
  EXPECT_FALSE(memory.give_back_excess()) << "a CPU keeps cached_frames";
  std::vector<void*> frames;
  for (std::uint32_t count = 0; count < KernelConfig::cached_frames + 2; ++count) {
    void* frame = nullptr;
    ASSERT_EQ(memory.frames().get(base_bytes, Context::MayWait, &frame, 1), 1u);
    parts.enter()->frame_cache.push(frame, base_bytes);
  }
  EXPECT_TRUE(memory.give_back_excess());
  EXPECT_EQ(cached(3), KernelConfig::cached_frames + 1) << "two at once";
  EXPECT_TRUE(memory.give_back_excess());
  EXPECT_FALSE(memory.give_back_excess());
  EXPECT_EQ(cached(3), KernelConfig::cached_frames);
}

TEST_F(CpuMemoryTest, gives_back_for_another_size_a_run_first_and_larger_frames_before_smaller) {
  ASSERT_NE(allocate(small), nullptr);
  void* frame = nullptr;
  ASSERT_EQ(memory.frames().get(middle_bytes, Context::MayWait, &frame, 1), 1u);
  parts.enter()->frame_cache.push(frame, middle_bytes);
  const Layout large = Layout::from_size_align(100'000, 8).value();
  void* const run = memory.runs().allocate(large, Context::MayWait).value();
  memory.runs().deallocate(run, large, Context::Interrupt);
  std::vector<std::size_t> given;
  for (std::size_t before = pager.live_bytes(); memory.give_back_other(Memory::no_bytes);) {
    given.push_back(before - pager.live_bytes());
    before = pager.live_bytes();
  }
  EXPECT_EQ(given,
            (std::vector<std::size_t>{100'000, middle_bytes, base_bytes, base_bytes, base_bytes}));
  ASSERT_NE(allocate(small), nullptr);
  EXPECT_FALSE(memory.give_back_other(base_bytes)) << "they are of the size that is asked for";
}

TEST_F(CpuMemoryTest, a_deferred_run_waits_while_the_cpu_is_in_a_section) {
  const Layout large = Layout::from_size_align(100'000, 8).value();
  memory.runs().deallocate(memory.runs().allocate(large, Context::MayWait).value(), large,
                           Context::Interrupt);
  {
    const auto section = parts.enter();
    EXPECT_EQ(memory.give_back_run(), 0u);
  }
  EXPECT_EQ(memory.give_back_run(), 100'000u);
  EXPECT_EQ(memory.give_back_run(), 0u);
}

TEST_F(CpuMemoryTest, fills_the_reserve_of_objects_if_the_pager_may_be_called) {
  parts.enter()->reserve.want(small, 3);
  EXPECT_FALSE(memory.fill_object_reserve(small, Context::Emergency));
  EXPECT_TRUE(memory.fill_object_reserve(small, Context::MayNotWait));
  EXPECT_EQ(parts[0].reserve.size(small), 3u);
  EXPECT_TRUE(memory.fill_object_reserve(small, Context::Interrupt)) << "it is full";
}

}  // namespace
}  // namespace slabmalloc::test
