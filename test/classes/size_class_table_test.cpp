// SPDX-License-Identifier: MIT
#include "slabmalloc/classes/size_class_table.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "slabmalloc/zone/class_table.hpp"
#include "slabmalloc/zone/config.hpp"

namespace slabmalloc {
namespace {

template <std::size_t Smallest, std::size_t Step, std::size_t Limit, std::size_t PerDoubling,
          std::size_t Largest>
struct SpecOf {
  static constexpr SizeClassSpec value{Smallest, Step, Limit, PerDoubling, Largest};
};

template <class Table>
class SizeClassTableTest : public testing::Test {};

using EightPerDoubling = SizeClassTable<SpecOf<8, 16, 128, 8, 128 * 1024>>;
using EveryEighth = SizeClassTable<SpecOf<8, 8, 64, 2, 4096>>;
using StartingAtTwo = SizeClassTable<SpecOf<2, 2, 16, 4, 2048>>;
using LinearAlone = SizeClassTable<SpecOf<16, 16, 1024, 1, 1024>>;
using UpToHalfAKibibyte = SizeClassTable<SpecOf<8, 16, 64, 4, 512>>;
using UpToAMebibyte = SizeClassTable<SpecOf<8, 16, 128, 4, 1024 * 1024>>;
using LinearToTwoKibibytes = SizeClassTable<SpecOf<16, 16, 2048, 4, 32 * 1024>>;
using EachAnOddOne = ListedSizeClasses<8, 8, 56, 64, 72, 1000, 1024, 4096>;
using OneAlone = ListedSizeClasses<32, 32>;
using Tables = testing::Types<FineSizeClasses, PowerOfTwoSizeClasses, SizeClassTable<SmallSpec>,
                              EightPerDoubling, EveryEighth, StartingAtTwo, LinearAlone,
                              UpToHalfAKibibyte, UpToAMebibyte, LinearToTwoKibibytes,
                              SmallArenaConfig::SizeClasses, EachAnOddOne, OneAlone>;
TYPED_TEST_SUITE(SizeClassTableTest, Tables);

TYPED_TEST(SizeClassTableTest, is_valid) { static_assert(TypeParam::validate()); }

TYPED_TEST(SizeClassTableTest, sizes_ascend_from_the_smallest_to_the_largest) {
  if constexpr (requires { TypeParam::spec; }) {
    EXPECT_EQ(TypeParam::size_of(0), TypeParam::spec.smallest);
    EXPECT_EQ(TypeParam::size_of(TypeParam::count - 1), TypeParam::spec.largest);
  }
  EXPECT_EQ(TypeParam::size_of(TypeParam::count - 1), TypeParam::max_size);
  for (std::uint32_t index = 1; index < TypeParam::count; ++index) {
    EXPECT_LT(TypeParam::size_of(index - 1), TypeParam::size_of(index));
  }
}

TYPED_TEST(SizeClassTableTest, every_size_gets_the_smallest_class_that_holds_it) {
  std::uint32_t expected = 0;
  for (std::size_t size = 0; size <= TypeParam::max_size; ++size) {
    while (TypeParam::size_of(expected) < size) {
      ++expected;
    }
    ASSERT_EQ(TypeParam::index_for(size), expected) << size;
  }
}

TYPED_TEST(SizeClassTableTest, every_size_and_alignment_get_the_smallest_class_that_has_both) {
  for (std::size_t alignment = 1; alignment <= TypeParam::max_size; alignment *= 2) {
    std::uint32_t expected = 0;
    for (std::size_t size = 0; size <= TypeParam::max_size; ++size) {
      while (TypeParam::size_of(expected) < size || TypeParam::size_of(expected) % alignment != 0) {
        ++expected;
        ASSERT_LT(expected, TypeParam::count) << size << " B aligned to " << alignment;
      }
      ASSERT_EQ(TypeParam::index_for(size, alignment), expected)
          << size << " B aligned to " << alignment;
    }
  }
}

TYPED_TEST(SizeClassTableTest, sizes_above_the_largest_have_no_class) {
  for (const std::size_t size :
       {TypeParam::max_size + 1, 2 * TypeParam::max_size, std::size_t{PTRDIFF_MAX},
        std::numeric_limits<std::size_t>::max() - 1, std::numeric_limits<std::size_t>::max()}) {
    EXPECT_EQ(TypeParam::index_for(size), TypeParam::no_class) << size;
    for (std::size_t alignment = 1; alignment <= TypeParam::max_size; alignment *= 2) {
      EXPECT_EQ(TypeParam::index_for(size, alignment), TypeParam::no_class) << size;
    }
  }
}

TYPED_TEST(SizeClassTableTest, alignments_above_the_largest_have_no_class) {
  for (std::uint32_t bit = highest_bit(TypeParam::max_size) + 1; bit < word_bits; ++bit) {
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, TypeParam::max_size}) {
      EXPECT_EQ(TypeParam::index_for(size, std::size_t{1} << bit), TypeParam::no_class);
    }
  }
}

/// The largest unused share of a slot, in per mille, over sizes above `above`.
template <class Table>
std::size_t worst_waste_per_mille(std::size_t above) {
  std::size_t worst = 0;
  for (std::size_t size = above + 1; size <= Table::max_size; ++size) {
    const std::size_t slot = Table::size_of(Table::index_for(size));
    const std::size_t waste = (slot - size) * 1000 / slot;
    worst = waste > worst ? waste : worst;
  }
  return worst;
}

TEST(FineSizeClasses, waste_at_most_a_fifth_of_a_slot_above_128_bytes) {
  EXPECT_LE(worst_waste_per_mille<FineSizeClasses>(128), 200u);
  EXPECT_GE(worst_waste_per_mille<FineSizeClasses>(128), 190u) << "the bound is a close one";
}

TEST(FineSizeClasses, waste_less_than_16_bytes_up_to_128) {
  for (std::size_t size = 1; size <= 128; ++size) {
    EXPECT_LT(FineSizeClasses::size_of(FineSizeClasses::index_for(size)) - size, 16u);
  }
}

TEST(FineSizeClasses, are_8_multiples_of_16_to_128_and_four_for_each_doubling) {
  std::vector<std::size_t> expected = {8};
  for (std::size_t size = 16; size <= 128; size += 16) {
    expected.push_back(size);
  }
  for (std::size_t base = 128; base < 128 * 1024; base *= 2) {
    for (std::size_t quarter = 5; quarter <= 8; ++quarter) {
      expected.push_back(base / 4 * quarter);
    }
  }
  std::vector<std::size_t> actual;
  for (std::uint32_t index = 0; index < FineSizeClasses::count; ++index) {
    actual.push_back(FineSizeClasses::size_of(index));
  }
  EXPECT_EQ(actual, expected);
}

TEST(PowerOfTwoSizeClasses, are_the_powers_of_two_from_8_to_128_kib) {
  ASSERT_EQ(PowerOfTwoSizeClasses::count, 15u);
  for (std::uint32_t index = 0; index < PowerOfTwoSizeClasses::count; ++index) {
    EXPECT_EQ(PowerOfTwoSizeClasses::size_of(index), std::size_t{8} << index);
  }
}

TEST(SizeClassTable, eight_classes_for_each_doubling_halve_the_waste) {
  EXPECT_LE(worst_waste_per_mille<EightPerDoubling>(128), 112u);
}

TEST(SizeClassTable, the_validator_rejects_broken_specs) {
  EXPECT_FALSE((SizeClassTable<SpecOf<8, 12, 128, 4, 1024>>::validate())) << "step of 12";
  EXPECT_FALSE((SizeClassTable<SpecOf<8, 16, 96, 4, 1024>>::validate())) << "limit of 96";
  EXPECT_FALSE((SizeClassTable<SpecOf<1, 8, 8, 1, 64>>::validate())) << "objects of 1 B";
  EXPECT_FALSE((SizeClassTable<SpecOf<24, 16, 128, 4, 1024>>::validate())) << "24 before 16";
  EXPECT_FALSE((SizeClassTable<SpecOf<8, 8, 8, 1, std::size_t{1} << 31>>::validate())) << "2 GiB";
}

TEST(ListedSizeClasses, the_validator_rejects_broken_lists) {
  EXPECT_FALSE((ListedSizeClasses<16, 16, 48, 32>::validate())) << "not ascending";
  EXPECT_FALSE((ListedSizeClasses<16, 16, 32, 32>::validate())) << "one twice";
  EXPECT_FALSE((ListedSizeClasses<16, 16, 40, 64>::validate())) << "40 is no multiple of 16";
  EXPECT_FALSE((ListedSizeClasses<1, 1, 2>::validate())) << "objects of 1 B";
  EXPECT_FALSE((ListedSizeClasses<12, 12, 24>::validate())) << "a granule of 12";
}

/// Every class of `Groups` from the class `above` on.
template <class Groups, class F>
void for_each_geometry(F&& f) {
  Groups{}.for_each_group([&]<class Group>(const Group&) {
    for (const SlotGeometry& geometry : Group::geometries.at) {
      f(geometry, Group::Page::size_bytes);
    }
  });
}

TEST(SmallArenaConfig, fills_its_pages) {
  using Groups = ClassTable<SmallArenaConfig>;
  std::size_t classes = 0;
  for_each_geometry<Groups>([&](const SlotGeometry& geometry, std::size_t page_bytes) {
    ++classes;
    const std::size_t size = geometry.object_size;
    if (size <= 128) {
      return;
    }
    const std::size_t used = size * geometry.slots;
    EXPECT_GE(used * 1000, page_bytes * (size == 2048 ? 875 : 968)) << size;
    if (size != 2048) {
      const SlotGeometry larger =
          SlotGeometry::fit(size + 16, page_bytes, sizeof(PageHeader<HardwareAtomics>), true);
      EXPECT_LT(larger.slots, geometry.slots) << size << " could be larger";
    }
    for (std::size_t smaller = 4096; smaller < page_bytes && size != 2048; smaller *= 2) {
      const SlotGeometry there =
          SlotGeometry::fit(size, smaller, sizeof(PageHeader<HardwareAtomics>), true);
      EXPECT_LT(there.slots * size * 1000, smaller * 968) << size << " fills a smaller page";
    }
  });
  EXPECT_EQ(classes, SmallArenaConfig::SizeClasses::count);
}

}  // namespace
}  // namespace slabmalloc
