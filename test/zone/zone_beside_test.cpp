// SPDX-License-Identifier: MIT
// Tests of zones whose meta-data lies beside the pages, with frames of two sizes in one page kind.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <vector>

#include "support/chunk_table.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc::test {
namespace {

using Table = BesideConfig::Table;
using Chunks = ChunkPager<Table>;
using BesideZone = ScopedZone<Chunks, BesideConfig>;

class ZoneBeside : public testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(zone_.validate(), nullptr); }

  std::vector<void*> allocate(std::size_t count, Layout layout) {
    std::vector<void*> objects;
    for (std::size_t number = 0; number < count; ++number) {
      objects.push_back(zone_.allocate(layout).value_or(nullptr));
    }
    return objects;
  }
  void free(const std::vector<void*>& objects, Layout layout) {
    for (void* object : objects) {
      zone_.deallocate(object, layout);
    }
  }

  Chunks chunks_;
  BesideZone zone_{chunks_};
  MisuseRecorder misuse_;
};

TEST_F(ZoneBeside, slots_fill_the_frame_to_its_last_byte) {
  for (const std::size_t size : {16u, 64u, 1024u, 8192u}) {
    ASSERT_TRUE(zone_.allocate(layout_of(size)));
    const ClassStatistics found = zone_.class_statistics(BesideZone::class_for(layout_of(size)));
    EXPECT_EQ(found.slots * size, Table::chunk_bytes) << size;
  }
}

TEST_F(ZoneBeside, frames_have_the_size_that_the_table_sets_for_the_class) {
  EXPECT_EQ(BesideZone::frame_bytes(layout_of(8192)), Table::chunk_bytes);
  EXPECT_EQ(BesideZone::frame_bytes(layout_of(8193)), Table::large_frame_bytes);
  (void)zone_.allocate(layout_of(8192)).value();
  EXPECT_EQ(chunks_.live_bytes(), Table::chunk_bytes);
  (void)zone_.allocate(layout_of(8193)).value();
  EXPECT_EQ(chunks_.live_bytes(), Table::chunk_bytes + Table::large_frame_bytes);
  EXPECT_EQ(zone_.validate(), nullptr);
}

TEST_F(ZoneBeside, objects_in_every_chunk_of_a_large_frame_find_their_page) {
  const Layout layout = layout_of(40 * kibibyte);
  const std::vector<void*> objects = allocate(12, layout);
  EXPECT_EQ(chunks_.live_bytes(), Table::large_frame_bytes);
  free(objects, layout);
  EXPECT_EQ(zone_.statistics().used_bytes, 0u);
  free(objects, layout);
  EXPECT_EQ(misuse_.take_count(MisuseKind::DoubleFree), objects.size());
}

TEST_F(ZoneBeside, an_overflow_does_not_reach_the_meta_data) {
  const Layout layout = layout_of(64);
  const std::vector<void*> objects = allocate(1024, layout);
  std::memset(objects[0], 0xFF, Table::chunk_bytes);
  EXPECT_EQ(zone_.validate(), nullptr);
  free(objects, layout);
  EXPECT_EQ(zone_.statistics().used_bytes, 0u);
}

TEST_F(ZoneBeside, empty_pages_move_between_classes_of_one_frame_size_only) {
  const std::vector<void*> small = allocate(1, layout_of(64));
  free(small, layout_of(64));
  zone_.drain_and_leave_current();
  const std::size_t calls = chunks_.calls();
  (void)zone_.allocate(layout_of(128)).value();
  EXPECT_EQ(chunks_.calls(), calls) << "the empty page of another class serves";
  (void)zone_.allocate(layout_of(16 * kibibyte)).value();
  EXPECT_EQ(chunks_.calls(), calls + 1) << "there is no empty page of that size";
}

TEST_F(ZoneBeside, frees_of_a_page_given_back_are_foreign) {
  const Layout layout = layout_of(16 * kibibyte);
  const std::vector<void*> objects = allocate(40, layout);
  free(objects, layout);
  zone_.trim();
  ASSERT_EQ(chunks_.live_bytes(), 0u);
  free(objects, layout);
  for (void* object : objects) {
    BesideZone::deallocate_remote(object, layout);
  }
  EXPECT_EQ(misuse_.take_count(MisuseKind::ForeignPointer), 2 * objects.size());
}

TEST_F(ZoneBeside, a_frame_split_after_a_large_page_left_has_pages_of_its_own) {
  const Layout large = layout_of(128 * kibibyte);
  const std::vector<void*> before = allocate(4, large);
  free(before, large);
  zone_.trim();
  const Layout small = layout_of(8 * kibibyte);
  const std::vector<void*> after = allocate(64, small);
  EXPECT_EQ(chunks_.live_bytes(), Table::large_frame_bytes) << "eight frames of one chunk";
  for (std::size_t number = 0; number < after.size(); ++number) {
    fill_pattern(after[number], small.size(), number);
  }
  for (std::size_t number = 0; number < after.size(); ++number) {
    EXPECT_TRUE(holds_pattern(after[number], small.size(), number));
  }
  zone_.deallocate(after[16], large);
  EXPECT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::SizeMismatch});
  free(after, small);
  EXPECT_EQ(zone_.statistics().used_bytes, 0u);
}

// ---- refilled by hand ---------------------------------------------------------------------------

using HandZone = BasicZoneAllocator<BesideConfig>;
using Page = BesideConfig::BasePage;

TEST(HandRefilledZoneBeside, keeps_every_empty_page_until_it_is_reclaimed) {
  Chunks chunks;
  HandZone zone;
  std::size_t given = 0;
  for (const std::size_t size : {64u, 128u, 16384u}) {
    const Layout layout = layout_of(size);
    for (int count = 0; count < 3; ++count) {
      auto* frame =
          static_cast<Page*>(chunks.allocate_frame(HandZone::frame_bytes(layout)).address);
      ASSERT_TRUE(zone.refill(layout, frame));
      ++given;
    }
    void* object = zone.allocate(layout).value_or(nullptr);
    ASSERT_NE(object, nullptr);
    zone.deallocate(object, layout);
  }
  zone.drain_and_leave_current();
  EXPECT_EQ(zone.validate(), nullptr);
  const ZoneStatistics sums = zone.statistics();
  EXPECT_EQ(sums.page_bytes + sums.depot_bytes, chunks.live_bytes());

  std::size_t count = 0;
  zone.try_reclaim_pages<Page>(given + 1, [&](Page*) { ++count; });
  EXPECT_EQ(count, given) << "all pages are empty";
  EXPECT_EQ(zone.validate(), nullptr);
  EXPECT_EQ(zone.statistics().page_bytes + zone.statistics().depot_bytes, 0u);
}

}  // namespace
}  // namespace slabmalloc::test
