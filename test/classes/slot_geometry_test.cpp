// SPDX-License-Identifier: MIT
#include "slabmalloc/classes/slot_geometry.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "slabmalloc/classes/size_class_table.hpp"
#include "slabmalloc/page/embedded_page.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t header_bytes = sizeof(PageHeader<HardwareAtomics>);

/// The geometries of `object_size` in a page with its meta-data inside, and with it elsewhere.
std::vector<SlotGeometry> geometries_of(std::size_t object_size, std::size_t page_bytes) {
  return {SlotGeometry::fit(object_size, page_bytes, header_bytes, true),
          SlotGeometry::fit(object_size, page_bytes, 0, false)};
}

std::vector<std::size_t> class_sizes() {
  std::vector<std::size_t> sizes;
  for (std::uint32_t index = 0; index < FineSizeClasses::count; ++index) {
    sizes.push_back(FineSizeClasses::size_of(index));
  }
  return sizes;
}

/// The expected result of slot_at(), by division.
std::uint32_t expected_slot(const SlotGeometry& geometry, std::size_t offset) {
  const std::size_t slot = offset / geometry.object_size;
  return offset % geometry.object_size == 0 && slot < geometry.slots
             ? static_cast<std::uint32_t>(slot)
             : SlotGeometry::no_slot;
}

/// Checks slot_at() and slot_around() for every offset in the page; true if all were right.
bool is_exact_for_every_offset(const SlotGeometry& geometry, std::size_t page_bytes) {
  std::uint32_t slot = 0;
  std::size_t next = 0;
  for (std::size_t offset = 0; offset < page_bytes; ++offset) {
    std::uint32_t expected = SlotGeometry::no_slot;
    if (offset == next && slot < geometry.slots) {
      expected = slot++;
      next += geometry.object_size;
    }
    const std::uint32_t around = offset < next ? slot - 1 : SlotGeometry::no_slot;
    if (geometry.slot_at(offset) != expected || geometry.slot_around(offset) != around) {
      ADD_FAILURE() << "offset " << offset << " of " << page_bytes << ", objects of "
                    << geometry.object_size << " B";
      return false;
    }
  }
  return true;
}

/// As above, for the multiples of the object's size and the offsets around them. It checks every
/// `stride`-th slot.
bool is_exact_around_slots(const SlotGeometry& geometry, std::size_t page_bytes,
                           std::size_t stride) {
  const std::size_t end = page_bytes / geometry.object_size;
  for (std::size_t slot = 0; slot <= end; slot += slot + stride < end ? stride : 1) {
    const std::size_t start = slot * geometry.object_size;
    for (const std::size_t offset : {start - 1, start, start + 1}) {
      if (offset < page_bytes && geometry.slot_at(offset) != expected_slot(geometry, offset)) {
        ADD_FAILURE() << "offset " << offset << " of " << page_bytes << ", objects of "
                      << geometry.object_size << " B";
        return false;
      }
    }
  }
  return true;
}

/// Checks slot_at() of a geometry that the compiler knows, for all offsets of the page and as many
/// below the first slot.
template <std::size_t object_size>
constexpr bool is_exact_as_a_constant(std::size_t page_bytes) {
  constexpr SlotGeometry geometry =
      SlotGeometry::fit(object_size, 64 * kibibyte, header_bytes, true);
  for (std::size_t offset = 0; offset < page_bytes; ++offset) {
    const std::size_t slot = offset / object_size;
    const bool starts_here = offset % object_size == 0 && slot < geometry.slots;
    if (geometry.slot_at(offset) != (starts_here ? slot : SlotGeometry::no_slot) ||
        geometry.slot_at(~offset) != SlotGeometry::no_slot) {
      return false;
    }
  }
  return true;
}
// Unoptimised code knows a geometry only here.
static_assert(is_exact_as_a_constant<16>(1000) && is_exact_as_a_constant<24>(1000) &&
              is_exact_as_a_constant<7>(1000));

TEST(SlotGeometry, of_constant_size_is_exact_for_every_offset) {
  const auto inexact = []<std::size_t... index>(std::index_sequence<index...>) {
    std::vector<std::size_t> sizes;
    ((is_exact_as_a_constant<FineSizeClasses::size_of(index)>(64 * kibibyte)
          ? void()
          : sizes.push_back(FineSizeClasses::size_of(index))),
     ...);
    return sizes;
  }(std::make_index_sequence<FineSizeClasses::count>());
  EXPECT_EQ(inexact, std::vector<std::size_t>());
  EXPECT_TRUE(is_exact_as_a_constant<3>(64 * kibibyte));
  EXPECT_TRUE(is_exact_as_a_constant<1000>(64 * kibibyte));
}

class SmallPages : public testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(SlotGeometry, SmallPages,
                         testing::Values(4 * kibibyte, 16 * kibibyte, 64 * kibibyte));

TEST_P(SmallPages, slots_are_found_from_every_offset_for_every_class) {
  for (const std::size_t size : class_sizes()) {
    for (const SlotGeometry& geometry : geometries_of(size, GetParam())) {
      if (geometry.slots == 0) {
        ASSERT_GT(size + header_bytes + 2 * sizeof(Word), GetParam());
        continue;
      }
      ASSERT_TRUE(is_exact_for_every_offset(geometry, GetParam()));
    }
  }
}

TEST(SlotGeometry, slots_of_every_size_are_found_from_every_offset_of_a_page_of_4_kib) {
  for (std::size_t size = 2; size <= 4 * kibibyte; ++size) {
    for (const SlotGeometry& geometry : geometries_of(size, 4 * kibibyte)) {
      ASSERT_TRUE(geometry.slots == 0 || is_exact_for_every_offset(geometry, 4 * kibibyte));
    }
  }
}

TEST(SlotGeometry, slots_of_some_classes_are_found_from_every_offset_of_a_page_of_2_mib) {
  for (const std::size_t size : {8u, 48u, 80u, 640u, 3584u, 28672u, 114688u}) {
    for (const SlotGeometry& geometry : geometries_of(size, 2 * mebibyte)) {
      ASSERT_TRUE(is_exact_for_every_offset(geometry, 2 * mebibyte));
    }
  }
}

TEST(SlotGeometry, slots_of_every_class_are_found_in_a_page_of_2_mib) {
  for (const std::size_t size : class_sizes()) {
    for (const SlotGeometry& geometry : geometries_of(size, 2 * mebibyte)) {
      ASSERT_TRUE(is_exact_around_slots(geometry, 2 * mebibyte, 1));
    }
  }
}

TEST(SlotGeometry, slots_are_found_to_the_end_of_the_largest_pages) {
  for (const std::size_t page_bytes : {32 * mebibyte, 512 * mebibyte, 1024 * mebibyte}) {
    for (const std::size_t size : class_sizes()) {
      for (const SlotGeometry& geometry : geometries_of(size, page_bytes)) {
        ASSERT_TRUE(is_exact_around_slots(geometry, page_bytes, geometry.slots / 2'000 + 1));
      }
    }
  }
}

TEST(SlotGeometry, offsets_beyond_the_page_are_in_no_slot) {
  for (const std::size_t size : class_sizes()) {
    for (const SlotGeometry& geometry : geometries_of(size, 2 * mebibyte)) {
      for (std::size_t offset = std::size_t{geometry.slots} * size; offset < 8 * mebibyte;
           offset += size) {
        ASSERT_EQ(geometry.slot_at(offset), SlotGeometry::no_slot);
      }
      ASSERT_EQ(geometry.slot_at(~std::size_t{0}), SlotGeometry::no_slot);
    }
  }
}

/// Bytes of `slots` slots and of their two bitmaps.
std::size_t bytes_needed(std::size_t slots, std::size_t size) {
  return slots * size + 2 * sizeof(Word) * ((slots + word_bits - 1) / word_bits);
}

TEST_P(SmallPages, fit_as_many_slots_of_any_size_as_possible) {
  const std::size_t page_bytes = GetParam();
  const std::size_t room = page_bytes - header_bytes;
  for (std::size_t size = 2; size <= page_bytes + 1; ++size) {
    const SlotGeometry inside = SlotGeometry::fit(size, page_bytes, header_bytes, true);
    ASSERT_TRUE(inside.slots == 0 || bytes_needed(inside.slots, size) <= room) << size;
    ASSERT_GT(bytes_needed(inside.slots + 1, size), room) << size;
    const SlotGeometry beside = SlotGeometry::fit(size, page_bytes, 0, false);
    ASSERT_EQ(beside.slots, page_bytes / size);
  }
}

TEST(SlotGeometry, large_pages_fit_as_many_slots_of_any_class_as_a_header_can_count) {
  for (const std::size_t page_bytes : {2 * mebibyte, 32 * mebibyte, 512 * mebibyte}) {
    const std::size_t room = page_bytes - header_bytes;
    for (const std::size_t size : class_sizes()) {
      const SlotGeometry geometry = SlotGeometry::fit(size, page_bytes, header_bytes, true);
      ASSERT_LE(bytes_needed(geometry.slots, size), room) << size;
      if (geometry.slots != SlotGeometry::maximum_slots) {
        ASSERT_GT(bytes_needed(geometry.slots + std::size_t{1}, size), room) << size;
      }
    }
  }
  EXPECT_EQ(SlotGeometry::fit(16, 512 * mebibyte, header_bytes, true).slots,
            SlotGeometry::maximum_slots);
}

TEST(SlotGeometry, words_are_just_enough_for_the_slots) {
  for (std::size_t size = 2; size <= 4 * kibibyte; ++size) {
    for (const SlotGeometry& geometry : geometries_of(size, 4 * kibibyte)) {
      ASSERT_GE(geometry.words * word_bits, geometry.slots);
      ASSERT_LT(geometry.words * word_bits, geometry.slots + word_bits);
      std::uint32_t ones = 0;
      for (std::uint32_t word = 0; word < geometry.words; ++word) {
        const Word mask = geometry.word_mask(word);
        ASSERT_NE(mask, Word{0});
        ASSERT_EQ(mask & (mask + 1), Word{0}) << "the bits of a mask are the lowest ones";
        ones += count_ones(mask);
      }
      ASSERT_EQ(ones, geometry.slots);
    }
  }
}

TEST(SlotGeometry, a_page_of_4_kib_has_63_slots_of_64_bytes) {
  if constexpr (sizeof(void*) == 8) {
    EXPECT_EQ(ObjectPage::geometry(64).slots, 63u);
  } else {
    EXPECT_GE(ObjectPage::geometry(64).slots, 62u);
  }
}

TEST(SlotGeometry, large_pages_are_usable_to_99_percent_for_classes_up_to_4_kib) {
  for (const std::size_t size : class_sizes()) {
    // Two bits of bitmap take 3 % of a slot of 8 B and 1.5 % of one of 16 B.
    if (size > 16 && size <= 4 * kibibyte) {
      const std::size_t usable = LargeObjectPage::geometry(size).slots * size;
      EXPECT_GE(usable * 100, 99 * 2 * mebibyte) << size;
    }
  }
}

TEST(SlotGeometry, small_slots_leave_no_more_than_their_bitmaps_and_the_header) {
  for (const std::size_t size : {std::size_t{8}, std::size_t{16}}) {
    const SlotGeometry geometry = LargeObjectPage::geometry(size);
    const std::size_t taken = bytes_needed(geometry.slots, size) + header_bytes;
    EXPECT_LT(2 * mebibyte - taken, size + 2 * sizeof(Word));
  }
}

TEST(SlotGeometry, an_object_that_does_not_fit_has_no_slots) {
  const SlotGeometry none{};
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, 4 * kibibyte - header_bytes,
                                 4 * kibibyte, 5 * kibibyte, std::size_t{PTRDIFF_MAX}}) {
    EXPECT_EQ(ObjectPage::geometry(size), none) << size;
    EXPECT_EQ(none.slot_at(size), SlotGeometry::no_slot);
  }
}

}  // namespace
}  // namespace slabmalloc
