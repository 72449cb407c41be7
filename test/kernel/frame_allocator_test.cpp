// SPDX-License-Identifier: MIT
// Tests of the frame allocator by itself, and as the pager of zones.
#include "slabmalloc/kernel/frame_allocator.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <limits>
#include <tuple>
#include <vector>

#include "kernel/frame_fixture.hpp"
#include "support/misuse_recorder.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc::test {
namespace {

static_assert(RunPager<Frames>);
static_assert(RunPager<FrameAllocator<SingleKernel, 16 * kibibyte, SingleCpuAtomics>>);

constexpr std::size_t frame = 4 * kibibyte;

constinit Frames frames_without_memory;

TEST(FrameAllocator, without_memory_has_nothing_to_give) {
  EXPECT_EQ(frames_without_memory.allocate_frame(frame).address, nullptr);
  EXPECT_EQ(frames_without_memory.allocate_run(1, 1).address, nullptr);
  const FrameStatistics statistics = frames_without_memory.statistics();
  EXPECT_EQ(statistics.managed_bytes, 0u);
  EXPECT_EQ(statistics.failures, 2u);
  EXPECT_EQ(frames_without_memory.validate(), nullptr);
}

/// 1 MiB, whose last frame holds meta-data.
class FrameAllocatorTest : public testing::Test {
 protected:
  FrameAllocatorTest() {
    const MemoryRegion region = memory_.region(0, bytes);
    EXPECT_TRUE(frames_.add(&region, 1));
  }
  void TearDown() override { EXPECT_EQ(frames_.validate(), nullptr); }

  static constexpr std::size_t bytes = mebibyte;
  MisuseRecorder misuse_;
  PhysicalMemory memory_{bytes};
  Frames frames_;
};

TEST_F(FrameAllocatorTest, loses_one_frame_of_a_mebibyte) {
  const FrameStatistics statistics = frames_.statistics();
  EXPECT_EQ(statistics.managed_bytes, bytes);
  EXPECT_EQ(statistics.metadata_bytes, frame);
  EXPECT_EQ(statistics.free_bytes, bytes - frame);
  EXPECT_EQ(drain(frames_).size(), 255u);
}

TEST_F(FrameAllocatorTest, gives_the_lowest_of_the_smallest_blocks_that_will_do) {
  EXPECT_EQ(frames_.allocate_frame(frame).address, memory_.at(254 * frame)) << "a block of one";
  EXPECT_EQ(frames_.allocate_frame(frame).address, memory_.at(252 * frame)) << "of a block of two";
  EXPECT_EQ(frames_.allocate_frame(64 * frame).address, memory_.at(128 * frame));
  EXPECT_EQ(frames_.allocate_frame(64 * frame).address, memory_.at(0));
  EXPECT_EQ(frames_.allocate_frame(32 * frame).address, memory_.at(192 * frame));
  void* low = frames_.allocate_frame(32 * frame).address;
  void* high = frames_.allocate_frame(32 * frame).address;
  ASSERT_EQ(low, memory_.at(64 * frame));
  ASSERT_EQ(high, memory_.at(96 * frame));
  void* sixteen = frames_.allocate_frame(16 * frame).address;
  ASSERT_EQ(sixteen, memory_.at(224 * frame));
  frames_.deallocate_frame(low, 32 * frame);
  frames_.deallocate_frame(sixteen, 16 * frame);
  EXPECT_EQ(frames_.allocate_frame(16 * frame).address, sixteen) << "not the lower, larger block";
  EXPECT_EQ(frames_.allocate_frame(16 * frame).address, memory_.at(64 * frame));
}

TEST_F(FrameAllocatorTest, keeps_large_blocks_whole_while_there_are_small_ones) {
  std::vector<std::byte*> all = drain(frames_);
  for (std::size_t number = 0; number < all.size(); number += 2) {
    frames_.deallocate_frame(all[number], frame);
  }
  for (std::size_t number = 193; number < 224; number += 2) {
    frames_.deallocate_frame(all[number], frame);
  }
  EXPECT_EQ(free_blocks(frames_)[5], 1u);
  for (std::size_t number = 0; number < 192; number += 2) {
    EXPECT_EQ(frames_.allocate_frame(frame).address, memory_.at(number * frame));
  }
  EXPECT_EQ(free_blocks(frames_)[5], 1u);
}

TEST_F(FrameAllocatorTest, aligns_frames_to_their_size) {
  for (std::size_t size = frame; size <= bytes / 2; size *= 2) {
    EXPECT_NE(frames_.allocate_frame(frame).address, nullptr) << "so that the next is not aligned";
    void* given = frames_.allocate_frame(size).address;
    ASSERT_NE(given, nullptr) << size;
    EXPECT_EQ(memory_.offset_of(given) % size, 0u);
    frames_.deallocate_frame(given, size);
  }
}

TEST_F(FrameAllocatorTest, rounds_up_sizes_that_are_no_power_of_two) {
  void* five = frames_.allocate_frame(5 * frame).address;
  EXPECT_EQ(frames_.statistics().used_bytes, 8 * frame);
  frames_.deallocate_frame(five, 5 * frame);
  void* byte = frames_.allocate_frame(1).address;
  EXPECT_EQ(frames_.statistics().used_bytes, frame);
  frames_.deallocate_frame(byte, 1);
}

TEST_F(FrameAllocatorTest, refuses_sizes_that_no_memory_can_hold) {
  constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
  for (const std::size_t size : {bytes, 4 * bytes, most / 2, most / 2 + 1, most - 1, most}) {
    EXPECT_EQ(frames_.allocate_frame(size).address, nullptr) << size;
    EXPECT_EQ(frames_.allocate_run(size, 1).address, nullptr) << size;
  }
  EXPECT_EQ(frames_.allocate_run(1, most / 2 + 1).address, nullptr);
  EXPECT_EQ(frames_.statistics().failures, 13u);
  EXPECT_EQ(frames_.statistics().free_bytes, bytes - frame);
}

TEST_F(FrameAllocatorTest, gives_several_frames_at_once) {
  std::vector<void*> given(300);
  EXPECT_EQ(frames_.allocate_frames(frame, given.data(), 100), 100u);
  EXPECT_EQ(frames_.statistics().used_bytes, 100 * frame);
  EXPECT_EQ(frames_.allocate_frames(frame, given.data() + 100, 200), 155u) << "what there is";
  EXPECT_EQ(frames_.allocate_frames(frame, given.data(), 0), 0u);
  const auto before = frames_.statistics();
  EXPECT_EQ(before.allocations, 255u);
  for (std::size_t number = 0; number < 255; ++number) {
    frames_.deallocate_frame(given[number], frame);
  }
  EXPECT_EQ(frames_.statistics().free_bytes, bytes - frame);
}

TEST_F(FrameAllocatorTest, saves_interrupts_once_for_several_frames) {
  HostedCpu::saved = 0;
  void* given[4];
  frames_.allocate_frames(frame, given, 4);
  EXPECT_EQ(HostedCpu::saved, 0u) << "and restores them";
  for (void* one : given) {
    frames_.deallocate_frame(one, frame);
  }
}

TEST_F(FrameAllocatorTest, rounds_runs_up_to_frames_alone) {
  const std::vector<std::size_t> before = free_blocks(frames_);
  for (std::size_t size = 1; size <= 100 * frame; size += frame / 2 + 1) {
    for (std::size_t alignment = 1; alignment <= 64 * frame; alignment *= 4) {
      void* run = frames_.allocate_run(size, alignment).address;
      ASSERT_NE(run, nullptr) << size << " at " << alignment;
      ASSERT_EQ(memory_.offset_of(run) % alignment, 0u);
      ASSERT_EQ(frames_.statistics().used_bytes, align_up(size, frame));
      std::memset(run, 0xEE, size);
      ASSERT_EQ(frames_.validate(), nullptr);
      frames_.deallocate_run(run, size, alignment);
      ASSERT_EQ(free_blocks(frames_), before);
    }
  }
}

TEST(FrameAllocatorRuns, are_as_long_as_the_free_memory_in_a_row) {
  PhysicalMemory memory(96 * mebibyte, 128 * mebibyte);
  const MemoryRegion region = memory.region(0, 96 * mebibyte);
  Frames frames;
  ASSERT_TRUE(frames.add(&region, 1));
  const std::vector<std::size_t> before = free_blocks(frames);
  void* const low = frames.allocate_frame(frame).address;
  for (const std::size_t size : {94 * mebibyte, 95 * mebibyte + 3 * frame, 65 * mebibyte}) {
    for (const std::size_t alignment : {frame, 16 * frame, mebibyte}) {
      void* const run = frames.allocate_run(size, alignment).address;
      ASSERT_NE(run, nullptr) << size << " at " << alignment;
      EXPECT_EQ(memory.offset_of(run) % alignment, 0u);
      EXPECT_EQ(frames.validate(), nullptr);
      EXPECT_TRUE(frames.deallocate_run(run, size, alignment));
    }
  }
  EXPECT_EQ(frames.allocate_run(96 * mebibyte, frame).address, nullptr);
  frames.deallocate_frame(low, frame);
  EXPECT_EQ(free_blocks(frames), before);
}

TEST_F(FrameAllocatorTest, uses_the_tail_of_a_run_for_others) {
  auto* run = static_cast<std::byte*>(frames_.allocate_run(65 * frame, 128 * frame).address);
  EXPECT_EQ(run, memory_.at(0));
  EXPECT_EQ(frames_.allocate_frame(32 * frame).address, memory_.at(96 * frame));
  frames_.deallocate_run(run, 65 * frame, 128 * frame);
  EXPECT_EQ(frames_.allocate_frame(32 * frame).address, memory_.at(64 * frame));
}

TEST_F(FrameAllocatorTest, counts_its_calls_and_bytes) {
  void* small = frames_.allocate_frame(frame).address;
  void* large = frames_.allocate_frame(64 * frame).address;
  void* run = frames_.allocate_run(3 * frame, 1).address;
  frames_.deallocate_frame(large, 64 * frame);
  const FrameStatistics statistics = frames_.statistics();
  EXPECT_EQ(statistics.allocations, 3u);
  EXPECT_EQ(statistics.frees, 1u);
  EXPECT_EQ(statistics.failures, 0u);
  EXPECT_EQ(statistics.used_bytes, 4 * frame);
  EXPECT_EQ(statistics.used_bytes_high_water, 68 * frame);
  EXPECT_EQ(statistics.managed_bytes,
            statistics.free_bytes + statistics.used_bytes + statistics.metadata_bytes);
  std::size_t free = 0;
  for (std::size_t order = 0; order < FrameStatistics::orders; ++order) {
    free += statistics.free_blocks[order] * (frame << order);
  }
  EXPECT_EQ(free, statistics.free_bytes);
  frames_.deallocate_frame(small, frame);
  frames_.deallocate_run(run, 3 * frame, 1);
}

TEST_F(FrameAllocatorTest, shows_a_picture_of_its_memory) {
  using Picture = std::vector<std::tuple<std::size_t, std::size_t, FrameUse>>;
  void* run = frames_.allocate_run(37 * frame, 64 * frame).address;
  void* two = frames_.allocate_frame(2 * frame).address;
  ASSERT_EQ(two, memory_.at(166 * frame));
  Picture picture;
  frames_.for_each_block([&](void* address, std::size_t size, FrameUse use) {
    picture.emplace_back(memory_.offset_of(address) / frame, size / frame, use);
  });
  const Picture expected = {
      {0, 128, FrameUse::Free},      {128, 37, FrameUse::Allocated}, {165, 1, FrameUse::Free},
      {166, 2, FrameUse::Allocated}, {168, 8, FrameUse::Free},       {176, 16, FrameUse::Free},
      {192, 32, FrameUse::Free},     {224, 16, FrameUse::Free},      {240, 8, FrameUse::Free},
      {248, 4, FrameUse::Free},      {252, 2, FrameUse::Free},       {254, 1, FrameUse::Free},
      {255, 1, FrameUse::Metadata}};
  EXPECT_EQ(picture, expected);
  frames_.deallocate_run(run, 37 * frame, 64 * frame);
  frames_.deallocate_frame(two, 2 * frame);
}

TEST_F(FrameAllocatorTest, shows_no_byte_twice_though_blocks_merge_meanwhile) {
  void* halves[2];
  ASSERT_EQ(frames_.allocate_frames(64 * frame, halves, 2), 2u);
  ASSERT_EQ(halves[0], memory_.at(128 * frame));
  ASSERT_EQ(halves[1], memory_.at(0));
  void* second = frames_.allocate_frame(64 * frame).address;
  ASSERT_EQ(second, memory_.at(64 * frame));
  std::vector<std::size_t> ends;
  frames_.for_each_block([&](void* address, std::size_t size, FrameUse) {
    EXPECT_EQ(memory_.offset_of(address) / frame, ends.empty() ? 0 : ends.back());
    ends.push_back((memory_.offset_of(address) + size) / frame);
    if (address == memory_.at(0)) {
      // From now on, the next frame to show lies in the middle of a block.
      frames_.deallocate_frame(halves[1], 64 * frame);
      frames_.deallocate_frame(second, 64 * frame);
    }
  });
  EXPECT_EQ(ends, (std::vector<std::size_t>{64, 128, 192, 224, 240, 248, 252, 254, 255, 256}));
  frames_.deallocate_frame(halves[0], 64 * frame);
}

TEST_F(FrameAllocatorTest, does_not_read_or_write_free_frames) {
  std::vector<std::byte*> all = drain(frames_);
  for (std::byte* one : all) {
    std::memset(one, 0x5A, frame);
  }
  for (std::byte* one : all) {
    frames_.deallocate_frame(one, frame);
  }
  EXPECT_EQ(frames_.allocate_frame(128 * frame).address, memory_.at(0));
  for (std::size_t offset = 0; offset < 255 * frame; ++offset) {
    ASSERT_EQ(*memory_.at(offset), std::byte{0x5A}) << offset;
  }
}

TEST_F(FrameAllocatorTest, validate_sees_an_overflow_into_the_meta_data) {
  std::byte* metadata = memory_.at(255 * frame);
  EXPECT_EQ(frames_.validate(), nullptr);
  using Span = FrameSpan<frame>;
  auto* span = reinterpret_cast<Span*>(metadata);
  std::uint8_t& state = span->state(span->range().first + 7);
  const std::uint8_t before = state;
  state = 0;
  EXPECT_STREQ(frames_.validate(), "F2: frames of free blocks are plain");
  state = before;
}

/// A zone over the allocator takes what it needs and gives everything back.
template <class Config>
class FramePagerTest : public testing::Test {
 protected:
  static constexpr std::size_t base = Config::BasePage::size_bytes;
  static constexpr std::size_t large = [] {
    if constexpr (requires { typename Config::LargePage; }) {
      return Config::LargePage::size_bytes;
    } else {
      return base;
    }
  }();
  static constexpr std::size_t bytes = 64 * large;
  using Pager = FrameAllocator<SingleKernel, base, typename Config::Atomics>;

  MisuseRecorder misuse_;
  PhysicalMemory memory_{bytes, large};
  Pager frames_;
};

using PagerConfigs =
    testing::Types<DefaultConfig, BasePageConfig, GranuleConfig<16 * kibibyte>, MiddlePageConfig,
                   SmallArenaConfig, SingleCpuConfig, EagerConfig>;
TYPED_TEST_SUITE(FramePagerTest, PagerConfigs, );

TYPED_TEST(FramePagerTest, gets_every_frame_back_from_a_zone) {
  const MemoryRegion region = this->memory_.region(0, this->bytes);
  ASSERT_TRUE(this->frames_.add(&region, 1));
  const std::vector<std::size_t> before = free_blocks(this->frames_);
  {
    ScopedZone<typename TestFixture::Pager, TypeParam> zone(this->frames_);
    struct Object {
      void* address;
      Layout layout;
    };
    std::vector<Object> objects;
    for (std::size_t round = 0; round < 300; ++round) {
      for (const std::size_t size : {8u, 24u, 64u, 200u, 1024u, 5000u, 300'000u}) {
        const Layout layout = layout_of(size, size == 64 ? 64 : 8);
        if (void* object = zone.allocate(layout).value_or(nullptr)) {
          std::memset(object, 0xA5, size < 100 ? size : 100);
          objects.push_back({object, layout});
        }
      }
    }
    EXPECT_GT(objects.size(), 500u);
    EXPECT_EQ(this->frames_.validate(), nullptr);
    for (const Object& object : objects) {
      zone.deallocate(object.address, object.layout);
    }
    zone.trim();
    EXPECT_EQ(zone.validate(), nullptr);
  }
  EXPECT_EQ(free_blocks(this->frames_), before);
  EXPECT_EQ(this->frames_.statistics().used_bytes, 0u);
  EXPECT_EQ(this->frames_.validate(), nullptr);
}

}  // namespace
}  // namespace slabmalloc::test
