// SPDX-License-Identifier: MIT
//
// Slots of full pages that a free passes on to the next allocation.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstring>
#include <set>
#include <vector>

#include "slabmalloc/zone/sc_allocator.hpp"
#include "slabmalloc/zone/zone_allocator.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"
#include "zone/page_source.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc {
namespace {

using test::layout_of;

constexpr std::size_t object_bytes = 48;

struct HardenedConfig : DefaultConfig {
  static constexpr bool hardened = true;
};

/// Two pages, full of objects.
template <class Page>
class PassedOnTest : public testing::Test {
 protected:
  using Header = typename Page::Header;

  PassedOnTest() : allocator_(object_bytes) {
    test::refill(allocator_, source_, 2);
    while (void* object = allocate()) {
      objects_.push_back(object);
    }
  }

  void* allocate() { return allocator_.allocate(layout).value_or(nullptr); }
  void free(void* object) {
    allocator_.deallocate(object, layout);
    ASSERT_EQ(allocator_.validate(), nullptr);
  }
  static std::uintptr_t state(void* object) {
    return Page::header_of(object)->tag.load(Order::relaxed) & PageState::mask;
  }
  std::set<void*> visited() {
    std::set<void*> objects;
    allocator_.visit_live([&](void* object, std::size_t) noexcept { objects.insert(object); });
    return objects;
  }
  void free_all() {
    for (void* object : objects_) {
      free(object);
    }
  }

  static inline const Layout layout = layout_of(object_bytes);

  test::MisuseRecorder misuse_;
  test::PageSource<Page> source_;
  SCAllocator<Page> allocator_;
  std::vector<void*> objects_;
};
TYPED_TEST_SUITE(PassedOnTest, test::PageTypes);

TYPED_TEST(PassedOnTest, replacing_objects_of_full_pages_leaves_the_pages_full) {
  for (std::size_t index = 0; index < this->objects_.size(); index += 7) {
    void* object = this->objects_[index];
    this->free(object);
    EXPECT_EQ(this->state(object), PageState::full);
    ASSERT_EQ(this->allocate(), object);
    ASSERT_EQ(this->allocator_.validate(), nullptr);
  }
  EXPECT_EQ(this->allocate(), nullptr) << "no slot is given out twice";
}

TYPED_TEST(PassedOnTest, a_second_free_of_the_object_is_reported_until_it_is_allocated_again) {
  void* object = this->objects_[70 % this->objects_.size()];
  this->free(object);
  this->free(object);
  EXPECT_EQ(this->misuse_.take_kinds(), std::vector{MisuseKind::DoubleFree});
  ASSERT_EQ(this->allocate(), object);
  this->free(object);
  ASSERT_EQ(this->allocate(), object);
  EXPECT_EQ(this->allocate(), nullptr);
}

TYPED_TEST(PassedOnTest, a_second_free_in_the_page_frees_both) {
  this->free(this->objects_[5]);
  this->free(this->objects_[9]);
  EXPECT_EQ(this->state(this->objects_[5]), PageState::open);
  this->free(this->objects_[5]);
  EXPECT_EQ(this->misuse_.take_kinds(), std::vector{MisuseKind::DoubleFree});
  EXPECT_EQ((std::set{this->allocate(), this->allocate()}),
            (std::set{this->objects_[5], this->objects_[9]}));
  EXPECT_EQ(this->allocate(), nullptr);
}

TYPED_TEST(PassedOnTest, a_free_in_another_full_page_is_not_lost) {
  this->free(this->objects_.front());
  this->free(this->objects_.back());
  EXPECT_EQ(this->allocate(), this->objects_.front());
  EXPECT_EQ(this->allocate(), this->objects_.back());
  EXPECT_EQ(this->allocate(), nullptr);
}

TYPED_TEST(PassedOnTest, statistics_and_visits_know_that_the_slot_is_free) {
  const std::size_t objects = this->objects_.size();
  void* object = this->objects_[3];
  this->free(object);
  const ClassStatistics statistics = this->allocator_.statistics();
  EXPECT_EQ(statistics.used, objects - 1);
  EXPECT_EQ(statistics.allocations, objects);
  EXPECT_EQ(statistics.frees, 1u);
  std::set<void*> expected(this->objects_.begin(), this->objects_.end());
  expected.erase(object);
  EXPECT_EQ(this->visited(), expected);

  ASSERT_EQ(this->allocate(), object);
  EXPECT_EQ(this->allocator_.statistics().used, objects);
  EXPECT_EQ(this->allocator_.statistics().allocations, objects + 1);
  EXPECT_EQ(this->visited().size(), objects);
}

TYPED_TEST(PassedOnTest, ends_when_there_is_another_page_to_allocate_from) {
  this->free(this->objects_[3]);
  ASSERT_EQ(this->allocate(), this->objects_[3]);
  test::refill(this->allocator_, this->source_, 1);
  void* object = this->allocate();
  ASSERT_EQ(this->allocator_.validate(), nullptr);
  EXPECT_EQ(this->allocator_.statistics().used, this->objects_.size() + 1);
  this->free(this->objects_[3]);
  EXPECT_EQ(this->state(this->objects_[3]), PageState::open) << "not passed on: much is claimed";
  this->free(object);
  EXPECT_EQ(this->allocator_.statistics().used, this->objects_.size() - 1);
}

TYPED_TEST(PassedOnTest, an_announced_free_by_another_is_seen_before_the_slot_is_issued) {
  void* object = this->objects_[11];
  this->allocator_.deallocate_remote(object, this->layout);
  this->free(object);
  EXPECT_EQ(this->allocate(), object);
  EXPECT_EQ(this->misuse_.take_kinds(), std::vector{MisuseKind::DoubleFree});
  EXPECT_EQ(this->allocate(), nullptr) << "the slot is given out once";
  EXPECT_EQ(this->allocator_.validate(), nullptr);
}

TYPED_TEST(PassedOnTest, a_later_free_by_another_is_reported_when_it_is_collected) {
  void* object = this->objects_[11];
  this->free(object);
  this->allocator_.deallocate_remote(object, this->layout);
  this->allocator_.collect();
  EXPECT_EQ(this->misuse_.take_kinds(), std::vector{MisuseKind::DoubleFree});
  ASSERT_EQ(this->allocator_.validate(), nullptr);
  EXPECT_EQ(this->allocate(), object);
  EXPECT_EQ(this->allocate(), nullptr);
}

TYPED_TEST(PassedOnTest, collecting_frees_by_others_in_its_page_keeps_the_slot_free) {
  this->free(this->objects_[2]);
  this->allocator_.deallocate_remote(this->objects_[4], this->layout);
  this->allocator_.collect();
  ASSERT_EQ(this->allocator_.validate(), nullptr);
  EXPECT_EQ(this->allocator_.statistics().used, this->objects_.size() - 2);
  EXPECT_EQ((std::set{this->allocate(), this->allocate()}),
            (std::set{this->objects_[2], this->objects_[4]}));
  EXPECT_EQ(this->allocate(), nullptr);
}

TYPED_TEST(PassedOnTest, frees_by_others_of_all_else_leave_a_page_that_can_be_reclaimed) {
  this->free(this->objects_[0]);
  for (std::size_t index = 1; index < this->objects_.size(); ++index) {
    this->allocator_.deallocate_remote(this->objects_[index], this->layout);
  }
  EXPECT_EQ(test::reclaim_all(this->allocator_, this->source_), 2u);
  EXPECT_EQ(this->allocator_.statistics().used, 0u);
}

TYPED_TEST(PassedOnTest, a_slot_passed_on_does_not_keep_its_page_from_being_reclaimed) {
  this->free_all();
  EXPECT_EQ(test::reclaim_all(this->allocator_, this->source_), 2u);
  EXPECT_EQ(this->allocate(), nullptr);
}

TEST(PassedOn, the_last_object_of_a_page_empties_it) {
  test::FrameSource frames;
  // One object to a page, then two.
  for (const std::size_t size : {std::size_t{3000}, std::size_t{2000}}) {
    SCAllocator<ObjectPage> allocator(size);
    ASSERT_TRUE(allocator.refill(frames.page<ObjectPage>()));
    std::vector<void*> objects;
    while (void* object = allocator.allocate(layout_of(size)).value_or(nullptr)) {
      objects.push_back(object);
    }
    for (void* object : objects) {
      allocator.deallocate(object, layout_of(size));
      ASSERT_EQ(allocator.validate(), nullptr);
    }
    EXPECT_EQ(ObjectPage::header_of(objects[0])->tag.load(Order::relaxed) & PageState::mask,
              PageState::idle);
    EXPECT_EQ(allocator.statistics().used, 0u);
    EXPECT_EQ(allocator.try_reclaim_pages(9, [&](ObjectPage* page) { frames.take_page(page); }),
              1u);
  }
}

TEST(PassedOn, a_zone_that_settles_takes_the_slot_back) {
  const Layout layout = layout_of(64);
  test::FrameSource frames;
  ScopedZone<test::FrameSource> zone(frames);
  const std::size_t count = 2 * std::size_t{ObjectPage::geometry(64).slots};
  std::vector<void*> objects;
  while (objects.size() < count) {
    objects.push_back(zone.allocate(layout).value_or(nullptr));
  }
  zone.deallocate(objects[9], layout);
  auto* page = ObjectPage::header_of(objects[9]);
  ASSERT_EQ(page->tag.load(Order::relaxed), zone.tag() | PageState::full);
  zone.settle();
  EXPECT_EQ(page->tag.load(Order::relaxed), zone.tag());
  EXPECT_EQ(zone.validate(), nullptr);
  EXPECT_EQ(zone.statistics().used_bytes, (count - 1) * 64);
  EXPECT_EQ(zone.allocate(layout).value_or(nullptr), objects[9]);
}

/// Base pages that are unmapped when they are given back, so that a look at one of them shows.
struct UnmappingPager {
  Frame allocate_frame(std::size_t bytes) noexcept {
    void* frame = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes != sizeof(ObjectPage) || frame == MAP_FAILED) {
      return {};
    }
    ++live_frames;
    return {frame, false};
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    EXPECT_EQ(munmap(frame, bytes), 0);
    --live_frames;
  }
  std::size_t live_frames = 0;
};

TEST(PassedOn, a_page_that_a_slot_was_passed_on_of_is_not_looked_at_once_it_was_given_back) {
  const Layout layout = layout_of(64);
  UnmappingPager frames;
  ScopedZone<UnmappingPager, test::EagerConfig> zone(frames);
  const std::uint32_t slots = ObjectPage::geometry(64).slots;
  std::vector<void*> objects;
  while (objects.size() < 2 * std::size_t{slots}) {
    objects.push_back(zone.allocate(layout).value_or(nullptr));
  }
  for (std::uint32_t index = 0; index < slots; ++index) {
    zone.deallocate(objects[index], layout);
    ASSERT_EQ(zone.validate(), nullptr);
  }
  ASSERT_EQ(frames.live_frames, 1u);
  zone.deallocate(objects.back(), layout);
  EXPECT_EQ(zone.allocate(layout).value_or(nullptr), objects.back());
  EXPECT_NE(zone.allocate(layout).value_or(nullptr), nullptr);
  EXPECT_EQ(zone.validate(), nullptr);
}

TEST(PassedOn, is_never_taken_for_zeroed) {
  const Layout layout = layout_of(64);
  test::FrameSource frames(test::FrameContent::zero);
  ScopedZone<test::FrameSource> zone(frames);
  std::vector<unsigned char*> objects;
  for (std::uint32_t count = 0; count < 2 * ObjectPage::geometry(64).slots; ++count) {
    objects.push_back(static_cast<unsigned char*>(zone.allocate(layout).value_or(nullptr)));
    ASSERT_NE(objects.back(), nullptr);
    std::memset(objects.back(), 0xFF, 64);
  }
  zone.deallocate(objects.front(), layout);
  const auto* again = static_cast<unsigned char*>(zone.allocate_zeroed(layout).value_or(nullptr));
  ASSERT_NE(again, nullptr);
  for (std::size_t byte = 0; byte < 64; ++byte) {
    ASSERT_EQ(again[byte], 0) << "byte " << byte;
  }
}

TEST(PassedOn, a_hardened_zone_sees_a_free_under_way_by_another) {
  const Layout layout = layout_of(64);
  test::MisuseRecorder misuse;
  test::FrameSource frames;
  ScopedZone<test::FrameSource, HardenedConfig> zone(frames);
  std::vector<void*> objects;
  for (std::uint32_t count = 0; count < 2 * ObjectPage::geometry(64).slots; ++count) {
    objects.push_back(zone.allocate(layout).value_or(nullptr));
  }
  // The bit is set, the announcement is still to come.
  auto* page = ObjectPage::header_of(objects[8]);
  page->remote(0, 1).fetch_or(Word{1} << 8, Order::relaxed);
  zone.deallocate(objects[8], layout);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  page->remote(0, 1).store(0, Order::relaxed);
}

}  // namespace
}  // namespace slabmalloc
