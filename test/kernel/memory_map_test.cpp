// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/memory_map.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "support/random.hpp"

namespace slabmalloc::test {
namespace {

constexpr std::uintptr_t top = ~std::uintptr_t{0};
constexpr std::uintptr_t last_frame = top >> 12;

using Ranges = std::vector<std::pair<std::uintptr_t, std::uintptr_t>>;

Ranges ranges_of(const std::vector<MemoryRegion>& regions) {
  const MemoryMap<4096> map(regions.data(), regions.size());
  Ranges result;
  for (FrameRange range = map.next(0); !range.is_empty(); range = map.next(range.end)) {
    result.emplace_back(range.first, range.end);
  }
  return result;
}

TEST(MemoryMap, of_nothing_has_no_range) {
  EXPECT_EQ(ranges_of({}), Ranges());
  EXPECT_EQ(ranges_of({{0x5000, 0}, {0, 0}, {top, 0}}), Ranges());
}

TEST(MemoryMap, rounds_regions_inwards_to_frames) {
  EXPECT_EQ(ranges_of({{0x5000, 0x2000}}), (Ranges{{5, 7}}));
  EXPECT_EQ(ranges_of({{0x5001, 0x2000}}), (Ranges{{6, 7}}));
  EXPECT_EQ(ranges_of({{0x4FFF, 0x2000}}), (Ranges{{5, 6}}));
  EXPECT_EQ(ranges_of({{0x5001, 0x1FFE}}), Ranges()) << "no whole frame";
  EXPECT_EQ(ranges_of({{0x5000, 1}}), Ranges());
}

TEST(MemoryMap, sorts_regions) {
  EXPECT_EQ(ranges_of({{0x9000, 0x1000}, {0x3000, 0x1000}, {0x6000, 0x1000}}),
            (Ranges{{3, 4}, {6, 7}, {9, 10}}));
}

TEST(MemoryMap, takes_adjoining_regions_together) {
  EXPECT_EQ(ranges_of({{0x7000, 0x1000}, {0x6000, 0x1000}, {0x5000, 0x1000}}), (Ranges{{5, 8}}));
  EXPECT_EQ(ranges_of({{0x5000, 0x1800}, {0x6800, 0x800}}), (Ranges{{5, 7}}))
      << "a frame of two regions is one";
  EXPECT_EQ(ranges_of({{0x5000, 0x1800}, {0x6801, 0x7FF}}), (Ranges{{5, 6}}))
      << "a byte is missing";
}

TEST(MemoryMap, takes_overlapping_regions_together) {
  EXPECT_EQ(ranges_of({{0x5000, 0x3000}, {0x6000, 0x1000}}), (Ranges{{5, 8}}));
  EXPECT_EQ(ranges_of({{0x5000, 0x3000}, {0x5000, 0x3000}}), (Ranges{{5, 8}}));
  EXPECT_EQ(ranges_of({{0x6800, 0x3000}, {0x5000, 0x2000}}), (Ranges{{5, 9}}));
}

TEST(MemoryMap, leaves_out_the_frame_at_0) {
  EXPECT_EQ(ranges_of({{0, 0x3000}}), (Ranges{{1, 3}}));
  EXPECT_EQ(ranges_of({{0, 0x1000}}), Ranges());
}

TEST(MemoryMap, ends_with_the_address_space) {
  EXPECT_EQ(ranges_of({{top - 0x2FFF, 0x3000}}), (Ranges{{last_frame - 2, last_frame}}));
  EXPECT_EQ(ranges_of({{top - 0x2FFF, top}}), (Ranges{{last_frame - 2, last_frame}}))
      << "more bytes than there are";
  EXPECT_EQ(ranges_of({{0, top}}), (Ranges{{1, last_frame}}));
}

TEST(MemoryMap, goes_on_in_the_middle_of_a_range) {
  const MemoryRegion region{0x5000, 0x5000};
  const MemoryMap<4096> map(&region, 1);
  EXPECT_EQ(map.next(7).first, 7u);
  EXPECT_EQ(map.next(7).end, 10u);
  EXPECT_TRUE(map.next(10).is_empty());
}

/// Compares the map with a flag for each 1 KiB of the address space.
TEST(MemoryMap, has_exactly_the_frames_all_of_whose_bytes_are_usable) {
  constexpr std::size_t units = 256;
  Random random;
  for (int round = 0; round < 2000; ++round) {
    std::vector<MemoryRegion> regions(random.below(12));
    std::vector<bool> usable(units);
    for (MemoryRegion& region : regions) {
      const std::size_t first = random.below(units);
      const std::size_t count = random.below(std::min<std::size_t>(40, units - first + 1));
      region = {first * 1024, count * 1024};
      std::fill_n(usable.begin() + static_cast<std::ptrdiff_t>(first), count, true);
    }
    std::vector<bool> expected(units / 4), found(units / 4);
    for (std::size_t frame = 1; frame < units / 4; ++frame) {
      expected[frame] = usable[4 * frame] && usable[4 * frame + 1] && usable[4 * frame + 2] &&
                        usable[4 * frame + 3];
    }
    std::uintptr_t before = 0;
    for (const auto& [first, end] : ranges_of(regions)) {
      ASSERT_GT(first, before) << "ranges are apart and ascend";
      before = end;
      for (std::uintptr_t frame = first; frame < end; ++frame) {
        found[frame] = true;
      }
    }
    ASSERT_EQ(found, expected);
  }
}

TEST(MemoryMap, has_the_parts_of_regions_within_another) {
  const MemoryRegion regions[] = {{0x3000, 0x3000}, {0x8000, 0x4000}, {0x6000, 0x800}};
  const auto within = [&](std::uintptr_t begin, std::size_t bytes) {
    const MemoryMap<4096> map(regions, 3, {begin, bytes});
    Ranges result;
    for (FrameRange range = map.next(0); !range.is_empty(); range = map.next(range.end)) {
      result.emplace_back(range.first, range.end);
    }
    return result;
  };
  EXPECT_EQ(within(0, top), (Ranges{{3, 6}, {8, 12}}));
  EXPECT_EQ(within(0x4000, 0x5000), (Ranges{{4, 6}, {8, 9}}));
  EXPECT_EQ(within(0x4001, 0x6FFE), (Ranges{{5, 6}, {8, 10}})) << "whole frames alone";
  EXPECT_EQ(within(0x6000, 0x2000), Ranges());
  EXPECT_EQ(within(0x9000, 0), Ranges());
}

}  // namespace
}  // namespace slabmalloc::test
