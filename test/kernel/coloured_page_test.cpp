// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/coloured_page.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

#include "slabmalloc/zone/sc_allocator.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

using test::FrameSource;

template <class PageT, std::size_t ObjectBytes, std::size_t StepBytes>
struct Case {
  using Page = PageT;
  static constexpr std::size_t object_bytes = ObjectBytes;
  static constexpr std::size_t step_bytes = StepBytes;
};
template <std::size_t FrameBytes, std::size_t ObjectBytes, std::size_t StepBytes>
using CaseOf = Case<ColouredPage<FrameBytes, ObjectBytes, StepBytes>, ObjectBytes, StepBytes>;

template <class C>
class ColouredPageTest : public testing::Test {
 protected:
  using PageOfCase = typename C::Page;
  using Allocator = SCAllocator<PageOfCase>;
  static constexpr std::size_t frame_bytes = PageOfCase::size_bytes;
  static constexpr SlotGeometry geometry = PageOfCase::geometry(C::object_bytes);

  FrameSource frames_;
  test::MisuseRecorder misuse_;
  Layout layout_ = Layout::from_size_align(C::object_bytes, 1).value();
};

using Cases = testing::Types<CaseOf<4096, 576, 64>, CaseOf<4096, 64, 64>, CaseOf<4096, 700, 64>,
                             CaseOf<16384, 1472, 128>, CaseOf<65536, 5000, 64>,
                             CaseOf<32768, 4096, 4096>, CaseOf<65536, 8192, 64>>;
TYPED_TEST_SUITE(ColouredPageTest, Cases);

TYPED_TEST(ColouredPageTest, colours_take_no_slot_away_and_end_below_the_meta_data) {
  using Page = typename TypeParam::Page;
  static_assert(AllocablePage<Page>);
  static_assert(sizeof(Page) == Page::size_bytes);
  constexpr auto plain = EmbeddedPage<Page::size_bytes>::geometry(TypeParam::object_bytes);
  EXPECT_EQ(this->geometry, plain);
  const std::size_t highest = (Page::colours - 1) * TypeParam::step_bytes;
  EXPECT_LE(highest, Page::unused_bytes);
  EXPECT_GT((2 * Page::colours - 1) * TypeParam::step_bytes, Page::unused_bytes)
      << "more would have been possible";
  for (int count = 0; count < 64; ++count) {
    Page* const page = this->frames_.template page<Page>();
    auto* const header = Page::header_of(page);
    std::byte* const end =
        Page::slots_of(header) + std::size_t{plain.slots} * TypeParam::object_bytes;
    EXPECT_LE(static_cast<void*>(end),
              static_cast<void*>(&header->remote(plain.words - 1, plain.words)));
    EXPECT_EQ(static_cast<std::size_t>(Page::slots_of(header) - Page::frame_of(header)),
              Page::colour_of(page) * TypeParam::step_bytes);
  }
}

TYPED_TEST(ColouredPageTest, frames_at_any_regular_distance_have_all_colours) {
  using Page = typename TypeParam::Page;
  constexpr std::size_t frames_each = 8;
  for (std::uintptr_t distance = 1; distance <= 512; distance += distance < 16 ? 1 : distance) {
    std::vector<std::size_t> frames(Page::colours, 0);
    for (std::uintptr_t number = 1; number <= frames_each * Page::colours; ++number) {
      // The test only computes addresses here: the address alone decides the colour.
      ++frames[Page::colour_of(
          reinterpret_cast<const void*>(number * distance * this->frame_bytes))];
    }
    for (const std::size_t count : frames) {
      EXPECT_GE(count, frames_each / 4) << distance << " frames apart";
      EXPECT_LE(count, frames_each * 3) << distance << " frames apart";
    }
  }
}

TYPED_TEST(ColouredPageTest, objects_lie_in_their_slots_and_misuse_is_reported_exactly) {
  using Page = typename TypeParam::Page;
  typename TestFixture::Allocator allocator(TypeParam::object_bytes, 1);
  std::set<Page*> pages;
  for (int count = 0; count < 5; ++count) {
    Page* const page = this->frames_.template page<Page>();
    pages.insert(page);
    ASSERT_TRUE(allocator.refill(page));
  }
  std::set<void*> objects;
  while (void* const object = allocator.allocate(this->layout_).value_or(nullptr)) {
    auto* const first = Page::slots_of(Page::header_of(object));
    EXPECT_EQ((static_cast<std::byte*>(object) - first) % std::ptrdiff_t{TypeParam::object_bytes},
              0);
    EXPECT_TRUE(objects.insert(object).second);
  }
  EXPECT_EQ(objects.size(), 5u * this->geometry.slots);
  std::set<void*> live;
  allocator.visit_live([&](void* object, std::size_t) { live.insert(object); });
  EXPECT_EQ(live, objects);

  for (Page* page : pages) {
    auto* const first = Page::slots_of(Page::header_of(page));
    for (std::byte* address = Page::frame_of(Page::header_of(page)); address < first;
         address += 8) {
      allocator.deallocate(address, this->layout_);
      EXPECT_EQ(this->misuse_.take_kinds(), std::vector{MisuseKind::MisalignedFree});
      allocator.deallocate_remote(address, this->layout_);
      EXPECT_EQ(this->misuse_.take_kinds(), std::vector{MisuseKind::MisalignedFree});
    }
  }
  bool by_owner = false;
  for (void* const object : objects) {
    by_owner = !by_owner;
    by_owner ? allocator.deallocate(object, this->layout_)
             : allocator.deallocate_remote(object, this->layout_);
  }
  void* const twice = *objects.begin();
  allocator.deallocate(twice, this->layout_);
  const auto reports = this->misuse_.take();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].address, twice);
  EXPECT_EQ(allocator.validate(), nullptr);
  std::size_t reclaimed =
      allocator.try_reclaim_pages(9, [&](Page* page) { EXPECT_EQ(pages.erase(page), 1u); });
  EXPECT_EQ(reclaimed, 5u);
}

TYPED_TEST(ColouredPageTest, double_frees_by_others_are_reported_with_their_address) {
  using Page = typename TypeParam::Page;
  typename TestFixture::Allocator allocator(TypeParam::object_bytes, 1);
  ASSERT_TRUE(allocator.refill(this->frames_.template page<Page>()));
  void* const object = allocator.allocate(this->layout_).value();
  void* const other = allocator.allocate(this->layout_).value();
  allocator.deallocate_remote(object, this->layout_);
  allocator.deallocate_remote(object, this->layout_);
  const auto reports = this->misuse_.take();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].address, object);
  EXPECT_EQ(reports[0].kind, MisuseKind::DoubleFree);
  allocator.deallocate(other, this->layout_);
}

TYPED_TEST(ColouredPageTest,
           double_frees_that_are_found_at_the_merge_are_reported_with_their_address) {
  using Page = typename TypeParam::Page;
  typename TestFixture::Allocator allocator(TypeParam::object_bytes, 1);
  ASSERT_TRUE(allocator.refill(this->frames_.template page<Page>()));
  void* const object = allocator.allocate(this->layout_).value();
  void* const other = allocator.allocate(this->layout_).value();
  allocator.deallocate(object, this->layout_);
  allocator.deallocate_remote(object, this->layout_);
  allocator.drain();
  const auto reports = this->misuse_.take();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].address, object);
  allocator.deallocate(other, this->layout_);
  EXPECT_EQ(allocator.validate(), nullptr);
}

}  // namespace
}  // namespace slabmalloc
