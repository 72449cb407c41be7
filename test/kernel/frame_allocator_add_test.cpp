// SPDX-License-Identifier: MIT
// Tests with boot memory maps of unusual forms.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "kernel/frame_fixture.hpp"
#include "support/misuse_recorder.hpp"
#include "support/random.hpp"

namespace slabmalloc::test {
namespace {

constexpr std::size_t frame = 4 * kibibyte;

class FrameAddTest : public testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(frames_.validate(), nullptr); }

  bool add(std::vector<MemoryRegion> regions) {
    return static_cast<bool>(frames_.add(regions.data(), regions.size()));
  }
  std::size_t managed() const { return frames_.statistics().managed_bytes / frame; }
  std::size_t metadata() const { return frames_.statistics().metadata_bytes / frame; }
  std::size_t free_frames() const { return frames_.statistics().free_bytes / frame; }

  MisuseRecorder misuse_;
  PhysicalMemory memory_{std::size_t{8} << 30};
  Frames frames_;
};

TEST_F(FrameAddTest, of_nothing_adds_nothing) {
  EXPECT_TRUE(add({}));
  EXPECT_TRUE(add({memory_.region(frame, 0)}));
  EXPECT_TRUE(add({memory_.region(1, frame), memory_.region(3 * frame, frame - 1)}));
  EXPECT_EQ(managed(), 0u);
  EXPECT_EQ(frames_.allocate_frame(frame).address, nullptr);
}

TEST_F(FrameAddTest, one_frame_cannot_hold_its_own_meta_data) {
  EXPECT_FALSE(add({memory_.region(0, frame)}));
  EXPECT_EQ(managed(), 0u);
  EXPECT_TRUE(add({memory_.region(0, 2 * frame)})) << "two frames give one";
  EXPECT_EQ(drain(frames_), std::vector<std::byte*>{memory_.at(0)});
}

TEST_F(FrameAddTest, takes_whole_frames_of_overlapping_unsorted_unaligned_regions) {
  EXPECT_TRUE(add({memory_.region(10 * frame, 5 * frame), memory_.region(1, 3 * frame),
                   memory_.region(12 * frame, 6 * frame + 77), memory_.region(0, 0),
                   memory_.region(3 * frame + 1, frame), memory_.region(30 * frame, 100)}));
  EXPECT_EQ(managed(), 3u + 8u) << "frames 1 to 3 and 10 to 17";
  EXPECT_EQ(metadata(), 1u);
  const std::vector<std::byte*> all = drain(frames_);
  EXPECT_EQ(all.size(), 10u);
  EXPECT_EQ(all.front(), memory_.at(frame));
  EXPECT_EQ(all.back(), memory_.at(16 * frame)) << "the largest range has the meta-data";
}

TEST_F(FrameAddTest, a_great_hole_costs_nothing) {
  EXPECT_TRUE(add({memory_.region(0, 128 * frame), memory_.region(std::size_t{8} << 30, 0),
                   memory_.region((std::size_t{8} << 30) - 128 * frame, 128 * frame)}));
  EXPECT_EQ(managed(), 256u);
  EXPECT_EQ(metadata(), 1u);
  EXPECT_EQ(drain(frames_).size(), 255u);
}

TEST_F(FrameAddTest, allocates_from_the_span_with_the_smaller_block_and_else_from_the_lower) {
  const std::size_t high = 100'000 * frame;
  EXPECT_TRUE(add({memory_.region(high, 64 * frame), memory_.region(0, 80 * frame)}));
  // Frames 0 … 79, of which the last holds meta-data, are blocks of 64, 8, 4, 2, 1. The high span
  // is a block of 64.
  EXPECT_EQ(frames_.allocate_frame(64 * frame).address, memory_.at(0));
  EXPECT_EQ(frames_.allocate_frame(32 * frame).address, memory_.at(high));
  EXPECT_EQ(frames_.allocate_frame(8 * frame).address, memory_.at(64 * frame));
  EXPECT_EQ(frames_.allocate_frame(16 * frame).address, memory_.at(high + 32 * frame));
}

TEST_F(FrameAddTest, takes_any_number_of_regions_far_apart) {
  // 17 regions and more, each with its own meta-data or all with that of the first.
  for (const std::size_t frames_of_region : {3u, 40u}) {
    std::vector<MemoryRegion> regions;
    for (std::size_t number = 0; number < 500; ++number) {
      regions.push_back(memory_.region(number * 4096 * frame, frames_of_region * frame));
    }
    std::reverse(regions.begin() + 7, regions.end());
    for (const std::size_t at_once : {regions.size(), std::size_t{1}}) {
      Frames frames;
      for (std::size_t done = 0; done < regions.size(); done += at_once) {
        ASSERT_TRUE(frames.add(regions.data() + done, at_once));
      }
      EXPECT_EQ(frames.validate(), nullptr);
      const FrameStatistics statistics = frames.statistics();
      EXPECT_EQ(statistics.managed_bytes, 500 * frames_of_region * frame);
      EXPECT_LE(statistics.metadata_bytes, (at_once == 1 ? 500 : 50) * frame);
      EXPECT_EQ(drain(frames).size() * frame, statistics.managed_bytes - statistics.metadata_bytes);
    }
  }
}

TEST_F(FrameAddTest, small_regions_share_frames_of_meta_data) {
  std::vector<MemoryRegion> regions;
  for (std::size_t number = 0; number < 300; ++number) {
    regions.push_back(memory_.region(number * 2048 * frame, (number % 2 + 1) * frame));
  }
  EXPECT_TRUE(frames_.add(regions.data(), regions.size()));
  EXPECT_EQ(managed(), 450u);
  EXPECT_LE(metadata(), 24u) << "no range has room for the meta-data of all";
  EXPECT_EQ(drain(frames_).size(), managed() - metadata());
}

TEST_F(FrameAddTest, without_room_for_meta_data_changes_nothing) {
  // Frames of 256 bytes, of which one cannot hold the meta-data of a span.
  FrameAllocator<PatientKernel, 256> small;
  std::vector<MemoryRegion> regions;
  for (std::size_t number = 0; number < 200; ++number) {
    regions.push_back(memory_.region(number * 2048 * frame, 256));
  }
  EXPECT_FALSE(small.add(regions.data(), regions.size()));
  EXPECT_EQ(small.statistics().managed_bytes, 0u);
  EXPECT_EQ(small.allocate_frame(256).address, nullptr);
  regions.push_back(memory_.region(frame, 512 * 256));
  EXPECT_TRUE(small.add(regions.data(), regions.size()));
  EXPECT_EQ(small.statistics().managed_bytes, (200 + 512) * 256u);
  EXPECT_EQ(small.validate(), nullptr);
}

TEST_F(FrameAddTest, skips_memory_that_it_already_has) {
  EXPECT_TRUE(add({memory_.region(0, 100 * frame)}));
  void* used = frames_.allocate_frame(frame).address;
  EXPECT_TRUE(add({memory_.region(0, 100 * frame)}));
  EXPECT_EQ(managed(), 100u);
  EXPECT_EQ(metadata(), 1u);
  EXPECT_TRUE(add({memory_.region(50 * frame, 100 * frame)}));
  EXPECT_EQ(managed(), 150u);
  EXPECT_EQ(metadata(), 2u);
  EXPECT_EQ(free_frames(), 147u);
  frames_.deallocate_frame(used, frame);
}

TEST_F(FrameAddTest, finds_memory_added_around_and_between_spans) {
  EXPECT_TRUE(add({memory_.region(1000 * frame, 10 * frame)}));
  EXPECT_TRUE(add({memory_.region(3000 * frame, 10 * frame)}));
  EXPECT_TRUE(add({memory_.region(500 * frame, 4000 * frame)})) << "below, between and above";
  EXPECT_EQ(managed(), 4000u);
  EXPECT_EQ(frames_.validate(), nullptr);
  EXPECT_EQ(drain(frames_).size(), 4000 - metadata());
}

TEST_F(FrameAddTest, a_hole_filled_later_merges_with_its_neighbours) {
  EXPECT_TRUE(add({memory_.region(0, 128 * frame), memory_.region(192 * frame, 64 * frame)}));
  EXPECT_EQ(free_blocks(frames_)[7], 0u);
  EXPECT_TRUE(add({memory_.region(128 * frame, 64 * frame)}));
  EXPECT_EQ(metadata(), 1u) << "the hole has meta-data";
  EXPECT_EQ(managed(), 256u);
  EXPECT_EQ(free_blocks(frames_)[7], 1u);
  std::vector<std::size_t> expected(FrameStatistics::orders);
  // The meta-data is in frame 127.
  std::fill_n(expected.begin(), 8, 1);
  EXPECT_EQ(free_blocks(frames_), expected);
}

TEST_F(FrameAddTest, regions_that_adjoin_merge_in_whatever_order_they_come) {
  constexpr std::size_t count = 40;
  Random random;
  std::vector<std::size_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), std::size_t{0});
  for (int round = 0; round < 10; ++round) {
    Frames frames;
    for (const std::size_t number : numbers) {
      const MemoryRegion region = memory_.region(number * mebibyte, mebibyte);
      ASSERT_TRUE(frames.add(&region, 1));
    }
    ASSERT_EQ(frames.validate(), nullptr);
    EXPECT_EQ(frames.statistics().metadata_bytes, count * frame);
    const std::vector<std::size_t> before = free_blocks(frames);
    // Regions that adjoin no older one have their meta-data at their end. The rest is in a row.
    std::size_t longest = 0;
    std::size_t length = 0;
    std::byte* end = nullptr;
    frames.for_each_block([&](void* address, std::size_t bytes, FrameUse use) {
      length = use != FrameUse::Free ? 0 : bytes + (address == end ? length : 0);
      end = static_cast<std::byte*>(address) + bytes;
      longest = std::max(longest, length);
    });
    void* const run = frames.allocate_run(longest, frame).address;
    ASSERT_NE(run, nullptr) << longest;
    std::memset(run, 0xEE, longest);
    EXPECT_EQ(frames.validate(), nullptr);
    EXPECT_EQ(frames.statistics().used_bytes, longest);
    frames.deallocate_run(static_cast<std::byte*>(run) + mebibyte, longest, frame);
    EXPECT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::MisalignedFree});
    frames.deallocate_run(run, longest - mebibyte, frame);
    EXPECT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::SizeMismatch});
    EXPECT_TRUE(frames.deallocate_run(run, longest, frame));
    EXPECT_EQ(free_blocks(frames), before);
    EXPECT_EQ(frames.validate(), nullptr);
    if (round == 0) {
      EXPECT_EQ(longest, (count - 1) * mebibyte);
      void* const large = frames.allocate_frame(16 * mebibyte).address;
      ASSERT_NE(large, nullptr) << "no region has so much";
      EXPECT_EQ(memory_.offset_of(large) % (2 * mebibyte), 0u);
      frames.deallocate_frame(large, 16 * mebibyte);
      EXPECT_EQ(free_blocks(frames), before);
    }
    for (std::size_t index = count; index > 1; --index) {
      std::swap(numbers[index - 1], numbers[random.below(index)]);
    }
  }
}

/// For any map: the allocator issues exactly the frames whose bytes are all usable, except those
/// with meta-data.
TEST_F(FrameAddTest, random_maps_are_used_to_the_last_frame) {
  Random random;
  constexpr std::size_t units = 4 * 2000;
  for (int round = 0; round < 60; ++round) {
    Frames frames;
    std::vector<bool> usable(units);
    std::size_t bytes_of_metadata = 0;
    for (std::size_t call = random.between(1, 3); call != 0; --call) {
      std::vector<MemoryRegion> regions(random.between(1, 30));
      for (MemoryRegion& region : regions) {
        const std::size_t first = random.below(units);
        const std::size_t count = std::min<std::size_t>(random.below(900), units - first);
        region = memory_.region(first * 1024, count * 1024);
      }
      // The result does not depend on the order of the list.
      const std::size_t before = frames.statistics().managed_bytes;
      if (frames.add(regions.data(), regions.size())) {
        for (std::size_t number = 0; number < units / 4; ++number) {
          const MemoryMap<frame> map(regions.data(), regions.size());
          const std::uintptr_t wanted =
              reinterpret_cast<std::uintptr_t>(memory_.at(number * frame)) / frame;
          usable[number] = usable[number] || map.next(wanted).first == wanted;
        }
      } else {
        ASSERT_EQ(frames.statistics().managed_bytes, before);
      }
    }
    ASSERT_EQ(frames.validate(), nullptr);
    frames.for_each_block([&](void* address, std::size_t bytes, FrameUse use) {
      for (std::size_t done = 0; use == FrameUse::Metadata && done < bytes; done += frame) {
        bytes_of_metadata += frame;
        usable[(memory_.offset_of(address) + done) / frame] = false;
      }
    });
    EXPECT_EQ(bytes_of_metadata, frames.statistics().metadata_bytes);
    std::vector<std::byte*> expected;
    for (std::size_t number = 0; number < units / 4; ++number) {
      if (usable[number]) {
        expected.push_back(memory_.at(number * frame));
      }
    }
    ASSERT_EQ(drain(frames), expected);
  }
}

TEST_F(FrameAddTest, all_orders_of_a_map_give_the_same) {
  std::vector<MemoryRegion> regions = {
      memory_.region(0, 5 * frame), memory_.region(5 * frame, 300 * frame),
      memory_.region(2000 * frame, 40 * frame), memory_.region(2039 * frame, 9 * frame + 5)};
  const auto by_address = [](const MemoryRegion& a, const MemoryRegion& b) {
    return a.address < b.address;
  };
  std::vector<std::size_t> first;
  do {
    Frames frames;
    ASSERT_TRUE(frames.add(regions.data(), regions.size()));
    first = first.empty() ? free_blocks(frames) : first;
    ASSERT_EQ(free_blocks(frames), first);
    ASSERT_EQ(frames.statistics().managed_bytes, (305 + 48) * frame);
  } while (std::next_permutation(regions.begin(), regions.end(), by_address));
}

}  // namespace
}  // namespace slabmalloc::test
