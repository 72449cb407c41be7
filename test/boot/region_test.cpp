// SPDX-License-Identifier: MIT
#include "kernel/region.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "support/random.hpp"

namespace boot {
namespace {

template <std::size_t capacity>
std::vector<Region> all(const RegionList<capacity>& list) {
  EXPECT_EQ(list.validate(), 0);
  return {list.begin(), list.end()};
}

TEST(RegionList, is_in_ascending_order) {
  RegionList<4> list;
  EXPECT_TRUE(list.add({300, 10}));
  EXPECT_TRUE(list.add({100, 10}));
  EXPECT_TRUE(list.add({200, 10}));
  EXPECT_EQ(all(list), (std::vector<Region>{{100, 10}, {200, 10}, {300, 10}}));
  EXPECT_EQ(list.bytes(), 30u);
}

TEST(RegionList, holds_no_byte_twice) {
  RegionList<8> list;
  EXPECT_TRUE(list.add({100, 10}));
  EXPECT_TRUE(list.add({120, 10}));
  EXPECT_TRUE(list.add({90, 60}));
  EXPECT_EQ(all(list), (std::vector<Region>{{90, 10}, {100, 10}, {110, 10}, {120, 10}, {130, 20}}));
}

TEST(RegionList, removal_from_the_middle_leaves_both_sides) {
  RegionList<2> list;
  EXPECT_TRUE(list.add({100, 100}));
  EXPECT_TRUE(list.remove({150, 10}));
  EXPECT_EQ(all(list), (std::vector<Region>{{100, 50}, {160, 40}}));
  EXPECT_FALSE(list.remove({110, 10})) << "there is no room for the upper part";
  EXPECT_EQ(all(list).front(), (Region{100, 10}));
  EXPECT_EQ(list.count(), 2u);
}

TEST(RegionList, a_region_beyond_the_last_address_is_refused) {
  RegionList<2> list;
  EXPECT_FALSE(list.add({~std::uintptr_t{0} - 10, 100}));
  EXPECT_EQ(list.count(), 0u);
}

TEST(RegionList, a_full_list_refuses_another_region) {
  RegionList<2> list;
  EXPECT_TRUE(list.add({100, 1}));
  EXPECT_TRUE(list.add({300, 1}));
  EXPECT_FALSE(list.add({200, 1}));
  EXPECT_EQ(all(list), (std::vector<Region>{{100, 1}, {300, 1}}));
}

TEST(RegionList, reduces_regions_to_whole_pages) {
  RegionList<8> list;
  EXPECT_TRUE(list.add({10, 90}));   // to 100
  EXPECT_TRUE(list.add({101, 18}));  // inside of a page
  EXPECT_TRUE(list.add({128, 16}));  // half a page
  EXPECT_TRUE(list.add({150, 9}));   // the rest of it
  EXPECT_TRUE(list.add({192, 32}));
  EXPECT_TRUE(list.add({~std::uintptr_t{0} - 9, 9}));
  list.keep_whole_pages(32);
  EXPECT_EQ(all(list), (std::vector<Region>{{32, 64}, {192, 32}}));
}

// Compares the list with a map of single bytes.
TEST(RegionList, holds_every_added_byte_that_was_not_removed) {
  slabmalloc::test::Random random;
  for (int round = 0; round < 200; ++round) {
    RegionList<128> list;
    std::vector<bool> free(100);
    for (int step = 0; step < 30; ++step) {
      const Region region{random.below(90), random.below(11)};
      const bool adds = random.one_in(2);
      EXPECT_TRUE(adds ? list.add(region) : list.remove(region));
      std::fill_n(free.begin() + static_cast<std::ptrdiff_t>(region.start), region.bytes, adds);
      std::vector<bool> found(100);
      for (const Region& each : all(list)) {
        std::fill_n(found.begin() + static_cast<std::ptrdiff_t>(each.start), each.bytes, true);
      }
      ASSERT_EQ(found, free);
    }
  }
}

}  // namespace
}  // namespace boot
