// SPDX-License-Identifier: MIT
//
// Tests that ChunkInfo and SlotGeometry find the same slots by different computations.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

#include "malloc/arena_zone.hpp"

namespace slabmalloc {
namespace {

using SizeClasses = MallocConfig::SizeClasses;

/// A page of one class, as seen by its zone and by its chunk's record.
struct Page {
  explicit Page(std::uint32_t index)
      : bytes(ArenaTable::frame_bytes(SizeClasses::size_of(index))),
        geometry(ArenaPage::geometry(SizeClasses::size_of(index))),
        info(ArenaTable::info_for(geometry, index)) {}

  std::size_t bytes;
  SlotGeometry geometry;
  ChunkInfo info;
};

/// Calls f(page, offset, slot, rest) for every byte of every class's page. The byte lies `rest`
/// bytes into `slot`.
template <class F>
void for_each_byte(F&& f) {
  for (std::uint32_t index = 0; index < SizeClasses::count; ++index) {
    const Page page(index);
    std::uint32_t slot = 0;
    std::uint32_t rest = 0;
    for (std::uint32_t offset = 0; offset < page.bytes; ++offset) {
      ASSERT_TRUE(f(page, offset, slot, rest))
          << "offset " << offset << ", objects of " << page.geometry.object_size << " B";
      if (++rest == page.geometry.object_size) {
        rest = 0;
        ++slot;
      }
    }
  }
}

static_assert(ChunkInfo::no_slot == SlotGeometry::no_slot, "one answer for both");

TEST(Slot, is_the_same_by_chunk_and_by_geometry_for_every_class_and_offset) {
  for_each_byte([](const Page& page, std::uint32_t offset, std::uint32_t slot, std::uint32_t rest) {
    const std::uint32_t expected =
        rest == 0 && slot < page.geometry.slots ? slot : SlotGeometry::no_slot;
    return page.info.slot_at(offset) == expected && page.geometry.slot_at(offset) == expected;
  });
}

TEST(Slot, may_be_one_beyond_the_last_for_a_read_of_its_bit) {
  for_each_byte([](const Page& page, std::uint32_t offset, std::uint32_t slot, std::uint32_t rest) {
    return page.info.slot_or_end_at(offset) == (rest == 0 ? slot : ChunkInfo::no_slot) &&
           slot <= page.geometry.slots;
  });
}

TEST(Slot, lies_around_each_of_its_bytes) {
  for_each_byte([](const Page& page, std::uint32_t offset, std::uint32_t slot, std::uint32_t) {
    return page.info.slot_around(offset) == slot;
  });
}

TEST(Slot, serves_the_sizes_of_its_class_alone) {
  for (std::uint32_t index = 0; index < SizeClasses::count; ++index) {
    const Page page(index);
    for (std::size_t bytes = 0; bytes < 2 * SizeClasses::max_size; ++bytes) {
      ASSERT_EQ(page.info.serves(bytes), SizeClasses::index_for(bytes) == index)
          << bytes << " bytes, objects of " << page.geometry.object_size << " B";
    }
    for (int power = 16; power < 64; ++power) {
      ASSERT_FALSE(page.info.serves(page.geometry.object_size + (std::size_t{1} << power)));
    }
    ASSERT_FALSE(page.info.serves(~std::size_t{0}));
  }
}

TEST(Slot, is_nowhere_in_other_chunks) {
  const std::uint32_t large = (std::uint32_t{1} << 30) - large_step_bytes;
  for (const ChunkInfo& info : {ChunkInfo{}, ChunkInfo::slab_tail(1), ChunkInfo::large_head(4096),
                                ChunkInfo::large_head(large), ChunkInfo::cached(large)}) {
    for (std::size_t bytes = 0; bytes < 2 * chunk_bytes; ++bytes) {
      ASSERT_FALSE(info.serves(bytes)) << bytes;
    }
  }
  EXPECT_EQ(ChunkInfo::large_head(large).large_bytes(), large);
}

}  // namespace
}  // namespace slabmalloc
