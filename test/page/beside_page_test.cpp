// SPDX-License-Identifier: MIT
#include "slabmalloc/page/beside_page.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

#include "slabmalloc/classes/size_class_table.hpp"
#include "slabmalloc/zone/sc_allocator.hpp"
#include "support/chunk_table.hpp"

namespace slabmalloc {
namespace {

using Table = test::SmallChunkTable<HardwareAtomics>;
using Page = BesidePage<Table>;

static_assert(FrameTable<Table> && AllocablePage<Page>);

TEST(BesidePage, slots_fill_the_frame_to_the_last_byte) {
  for (const std::size_t size : {std::size_t{16}, std::size_t{64}, std::size_t{512},
                                 Table::chunk_bytes / 2, Table::chunk_bytes}) {
    EXPECT_EQ(Page::geometry(size).slots, Table::chunk_bytes / size) << size;
  }
}

TEST(BesidePage, refuses_more_slots_than_a_record_has_bits) {
  const std::size_t most = Table::maximum_words * word_bits;
  EXPECT_NE(Page::geometry(Table::chunk_bytes / most).slots, 0u);
  EXPECT_EQ(Page::geometry(Table::chunk_bytes / most / 2).slots, 0u);
}

TEST(BesidePage, the_frame_holds_objects_alone) {
  SCAllocator<Page> allocator(16);
  auto* frame = Table::chunk(3);
  std::vector<std::byte> before(frame, frame + Table::chunk_bytes);
  ASSERT_TRUE(allocator.refill(reinterpret_cast<Page*>(frame)));
  const Layout layout = *Layout::from_size_align(16, 16);
  std::vector<void*> objects;
  while (const Result<void*> object = allocator.allocate(layout)) {
    objects.push_back(*object);
  }
  EXPECT_EQ(objects.size(), Table::chunk_bytes / 16);
  EXPECT_TRUE(std::equal(before.begin(), before.end(), frame)) << "nobody wrote to the frame";
  for (void* object : objects) {
    allocator.deallocate(object, layout);
  }
  EXPECT_TRUE(std::equal(before.begin(), before.end(), frame));
  EXPECT_EQ(allocator.try_reclaim_pages(1, [](Page*) {}), 1u);
}

TEST(BesidePage, notifies_the_table_when_a_frame_becomes_a_page_and_when_the_page_ends) {
  SCAllocator<Page> allocator(64);
  auto* frame = Table::chunk(0);
  EXPECT_EQ(Page::head_of(frame), nullptr);
  ASSERT_TRUE(allocator.refill(reinterpret_cast<Page*>(frame)));
  EXPECT_EQ(Page::head_of(frame), Page::header_of(frame));
  EXPECT_EQ(Page::head_of(frame + Table::chunk_bytes), nullptr);
  EXPECT_EQ(allocator.try_reclaim_pages(1, [](Page*) {}), 1u);
  EXPECT_EQ(Page::head_of(frame), nullptr);
}

TEST(BesidePage, headers_and_frames_lead_to_each_other) {
  std::set<void*> headers;
  for (std::size_t index = 0; index < Table::chunk_count; ++index) {
    auto* frame = Table::chunk(index);
    auto* header = Page::header_of(frame + Table::chunk_bytes - 1);
    headers.insert(header);
    EXPECT_EQ(Page::header_of(frame), header);
    EXPECT_EQ(Page::frame_of(header), frame);
  }
  EXPECT_EQ(headers.size(), Table::chunk_count);
}

}  // namespace
}  // namespace slabmalloc
