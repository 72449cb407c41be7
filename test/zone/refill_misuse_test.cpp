// SPDX-License-Identifier: MIT
// Pages given by hand that are no pages, or in use already: refused before any write.
#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc::test {
namespace {

using Kinds = std::vector<MisuseKind>;

class RefillMisuse : public testing::Test {
 protected:
  /// Expects that the zone refuses `page` without a write to it.
  void expect_refused(Layout layout, ObjectPage* page, MisuseKind kind) {
    const ZoneStatistics before = zone_.statistics();
    const Result<void> result = zone_.refill(layout, page);
    EXPECT_FALSE(result);
    EXPECT_EQ(result.error(), AllocationError::InvalidLayout);
    EXPECT_EQ(misuse_.take_kinds(), Kinds{kind});
    EXPECT_EQ(zone_.validate(), nullptr);
    EXPECT_EQ(zone_.statistics().page_bytes, before.page_bytes);
  }

  FrameSource frames_;
  ZoneAllocator zone_;
  MisuseRecorder misuse_;
};

TEST_F(RefillMisuse, of_null_and_misaligned_pages_is_refused_before_any_write) {
  expect_refused(layout_of(64), nullptr, MisuseKind::InvalidPage);
  auto* frame = static_cast<std::byte*>(frames_.frame(8 * kibibyte));
  const std::vector<std::byte> before(frame, frame + 8 * kibibyte);
  for (const std::size_t offset : {1u, 8u, 64u, 2048u, 4095u}) {
    expect_refused(layout_of(64), reinterpret_cast<ObjectPage*>(frame + offset),
                   MisuseKind::InvalidPage);
  }
  EXPECT_TRUE(std::equal(before.begin(), before.end(), frame));
}

TEST_F(RefillMisuse, of_a_page_in_any_state_is_refused) {
  const Layout layout = layout_of(64);
  auto* first = frames_.page<ObjectPage>();
  auto* second = frames_.page<ObjectPage>();
  ASSERT_TRUE(zone_.refill(layout, first));
  expect_refused(layout, first, MisuseKind::InvalidPage);  // idle
  std::vector<void*> objects{*zone_.allocate(layout)};
  expect_refused(layout, first, MisuseKind::InvalidPage);  // current
  expect_refused(layout_of(32), first, MisuseKind::InvalidPage);
  ASSERT_TRUE(zone_.refill(layout, second));
  while (objects.size() < 64) {
    objects.push_back(*zone_.allocate(layout));
  }
  expect_refused(layout, first, MisuseKind::InvalidPage);  // full
  zone_.deallocate(objects[5], layout);
  expect_refused(layout, first, MisuseKind::InvalidPage);  // partial
}

TEST_F(RefillMisuse, of_a_page_in_the_depot_is_refused) {
  const Layout layout = layout_of(64);
  ObjectPage* pages[] = {frames_.page<ObjectPage>(), frames_.page<ObjectPage>()};
  for (ObjectPage* page : pages) {
    ASSERT_TRUE(zone_.refill(layout, page));
  }
  zone_.settle();
  ASSERT_EQ(zone_.statistics().depot_bytes, 4 * kibibyte) << "one page stays in the class";
  for (ObjectPage* page : pages) {
    expect_refused(layout, page, MisuseKind::InvalidPage);
    expect_refused(layout_of(128), page, MisuseKind::InvalidPage);
  }
}

TEST_F(RefillMisuse, of_a_page_that_was_reclaimed_is_a_plain_refill) {
  const Layout layout = layout_of(64);
  auto* page = frames_.page<ObjectPage>();
  ASSERT_TRUE(zone_.refill(layout, page));
  EXPECT_EQ(zone_.try_reclaim_base_pages(1, [](ObjectPage*) {}), 1u);
  EXPECT_TRUE(zone_.refill(layout_of(32), page));
  EXPECT_EQ(zone_.validate(), nullptr);
}

TEST_F(RefillMisuse, with_the_other_page_kind_is_an_invalid_layout) {
  auto* base = frames_.page<ObjectPage>();
  auto* large = frames_.page<LargeObjectPage>();
  EXPECT_EQ(zone_.refill(layout_of(257), base).error(), AllocationError::InvalidLayout);
  EXPECT_EQ(zone_.refill_large(layout_of(256), large).error(), AllocationError::InvalidLayout);
  EXPECT_EQ(zone_.refill_large(layout_of(256 * kibibyte), large).error(),
            AllocationError::InvalidLayout);
  EXPECT_EQ(zone_.statistics().page_bytes, 0u);
}

}  // namespace
}  // namespace slabmalloc::test
