// SPDX-License-Identifier: MIT
#include "slabmalloc/zone/sc_allocator.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"
#include "zone/page_source.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc {
namespace {

using test::layout_of;

constinit SCAllocator<ObjectPage> static_allocator(64);
constinit SCAllocator<LargeObjectPage> static_large_allocator(4096, 4096);
constinit SCAllocator<BesidePage<test::SmallChunkTable<HardwareAtomics>>> static_beside(48);

template <class Page>
class SCAllocatorTest : public testing::Test {
 protected:
  /// Allocates until no slot is free.
  static std::vector<void*> allocate_all(SCAllocator<Page>& allocator, Layout layout) {
    std::vector<void*> objects;
    while (const Result<void*> object = allocator.allocate(layout)) {
      objects.push_back(*object);
    }
    return objects;
  }

  test::MisuseRecorder misuse_;
  test::PageSource<Page> source_;
};
TYPED_TEST_SUITE(SCAllocatorTest, test::PageTypes);

TYPED_TEST(SCAllocatorTest, reports_its_object_size) {
  const SCAllocator<TypeParam> allocator(20, 16);
  EXPECT_EQ(allocator.size(), 20u);
  EXPECT_EQ(allocator.usable_size(), 32u);
  EXPECT_EQ(SCAllocator<TypeParam>(20).usable_size(), 24u);
  EXPECT_EQ(SCAllocator<TypeParam>(20, 1).usable_size(), 20u);
  EXPECT_EQ(allocator.validate(), nullptr);
}

TYPED_TEST(SCAllocatorTest, without_pages_it_is_out_of_memory) {
  SCAllocator<TypeParam> allocator(64);
  const Result<void*> object = allocator.allocate(layout_of(64));
  ASSERT_FALSE(object);
  EXPECT_EQ(object.error(), AllocationError::OutOfMemory);
  EXPECT_EQ(allocator.validate(), nullptr);
}

TYPED_TEST(SCAllocatorTest, few_objects_that_come_and_go_stay_on_a_page_or_two_of_many) {
  SCAllocator<TypeParam> allocator(64);
  test::refill(allocator, this->source_, 8);
  std::vector<void*> objects = this->allocate_all(allocator, layout_of(64));
  for (std::size_t index = 0; index < objects.size(); ++index) {
    if (index % 16 != 0) {
      allocator.deallocate(objects[index], layout_of(64));
    }
  }
  std::set<const void*> pages;
  std::vector<void*> few(objects.size() / 8 / 4);
  for (int round = 0; round < 100; ++round) {
    for (void*& object : few) {
      object = allocator.allocate(layout_of(64)).value_or(nullptr);
      pages.insert(TypeParam::header_of(object));
    }
    for (void* const object : few) {
      allocator.deallocate(object, layout_of(64));
    }
  }
  EXPECT_LE(pages.size(), 2u);
  EXPECT_EQ(allocator.validate(), nullptr);
}

TYPED_TEST(SCAllocatorTest, a_claim_of_less_than_an_eighth_waits_until_the_page_has_no_other_word) {
  constexpr std::size_t size = 16;
  for (const std::size_t freed : {word_bits / 8 - 1, word_bits / 8}) {
    SCAllocator<TypeParam> allocator(size);
    test::refill(allocator, this->source_, 1);
    ASSERT_GT(allocator.statistics().slots, 2 * word_bits);
    std::vector<void*> first(word_bits);
    for (void*& object : first) {
      object = allocator.allocate(layout_of(size)).value_or(nullptr);
    }
    for (std::size_t index = 0; index < freed; ++index) {
      allocator.deallocate(first[index], layout_of(size));
    }
    void* const next = allocator.allocate(layout_of(size)).value_or(nullptr);
    EXPECT_EQ(next == first[0], freed == word_bits / 8) << freed;
    // The few slots serve before the class is out of memory.
    const std::vector<void*> rest = this->allocate_all(allocator, layout_of(size));
    EXPECT_EQ(rest.size() + 1 + word_bits - freed, allocator.statistics().slots);
    EXPECT_EQ(allocator.validate(), nullptr);
  }
}

TEST(SCAllocatorClaim, takes_4_kibibytes_at_first_and_twice_as_much_after_each_eight) {
  constexpr std::size_t size = 512;
  test::PageSource<LargeObjectPage> source;
  SCAllocator<LargeObjectPage> allocator(size);
  test::refill(allocator, source, 1);
  std::vector<const void*> issued;
  for (const std::size_t claimed : {8u, 16u, 32u, 64u}) {
    for (int claim = 0; claim < 8; ++claim) {
      // Slots that are freed at once wait for the next claim, which begins at the lowest again.
      issued.resize(claimed);
      for (const void*& object : issued) {
        void* const block = allocator.allocate(layout_of(size)).value_or(nullptr);
        allocator.deallocate(block, layout_of(size));
        object = block;
      }
      EXPECT_EQ(std::set<const void*>(issued.begin(), issued.end()).size(), claimed);
      EXPECT_EQ(issued.front(), *std::min_element(issued.begin(), issued.end()));
    }
  }
  test::reclaim_all(allocator, source);
}

TYPED_TEST(SCAllocatorTest, serves_every_layout_that_fits_its_slots) {
  SCAllocator<TypeParam> allocator(48, 16);
  test::refill(allocator, this->source_, 1);
  for (std::size_t size = 0; size <= 48; ++size) {
    for (std::size_t alignment = 1; alignment <= 16; alignment *= 2) {
      const Result<void*> object = allocator.allocate(layout_of(size, alignment));
      ASSERT_TRUE(object) << size << " B aligned to " << alignment;
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(*object) % alignment, 0u);
      allocator.deallocate(*object, layout_of(size, alignment));
    }
  }
  EXPECT_EQ(test::reclaim_all(allocator, this->source_), 1u);
}

TYPED_TEST(SCAllocatorTest, refuses_layouts_that_do_not_fit_its_slots) {
  SCAllocator<TypeParam> allocator(48, 16);
  test::refill(allocator, this->source_, 1);
  for (const Layout layout : {layout_of(49), layout_of(8, 32), layout_of(std::size_t{1} << 40)}) {
    const Result<void*> object = allocator.allocate(layout);
    ASSERT_FALSE(object);
    EXPECT_EQ(object.error(), AllocationError::InvalidLayout);
    EXPECT_FALSE(allocator.serves(layout));
  }
  EXPECT_EQ(allocator.validate(), nullptr);
}

TYPED_TEST(SCAllocatorTest, sizes_that_fit_no_page_are_invalid_layouts) {
  const std::size_t page_bytes = TypeParam::frame_bytes(0);
  for (const std::size_t size :
       {page_bytes + 1, std::size_t{PTRDIFF_MAX}, std::numeric_limits<std::size_t>::max()}) {
    SCAllocator<TypeParam> allocator(size);
    EXPECT_EQ(allocator.allocate(layout_of(1)).error(), AllocationError::InvalidLayout) << size;
    TypeParam* page = this->source_.page();
    EXPECT_EQ(allocator.refill(page).error(), AllocationError::InvalidLayout) << size;
    this->source_.take_back(page);
  }
}

TYPED_TEST(SCAllocatorTest, alignments_that_are_no_power_of_two_make_no_allocator) {
  for (const std::size_t alignment : {std::size_t{0}, std::size_t{3}, std::size_t{24}}) {
    SCAllocator<TypeParam> allocator(64, alignment);
    EXPECT_EQ(allocator.allocate(layout_of(1)).error(), AllocationError::InvalidLayout);
  }
}

TYPED_TEST(SCAllocatorTest, objects_do_not_overlap_each_other_or_the_meta_data) {
  for (const std::size_t size : {2u, 3u, 8u, 24u, 64u, 100u, 1000u, 1800u}) {
    SCAllocator<TypeParam> allocator(size, 1);
    if (TypeParam::geometry(size).slots == 0) {
      continue;
    }
    SCOPED_TRACE(size);
    test::refill(allocator, this->source_, 2);
    const std::vector<void*> objects = this->allocate_all(allocator, layout_of(size));
    EXPECT_EQ(objects.size(), allocator.statistics().slots);
    for (std::size_t index = 0; index < objects.size(); ++index) {
      test::fill_pattern(objects[index], size, index);
    }
    ASSERT_EQ(allocator.validate(), nullptr);
    for (std::size_t index = 0; index < objects.size(); ++index) {
      ASSERT_TRUE(test::holds_pattern(objects[index], size, index));
      allocator.deallocate(objects[index], layout_of(size));
    }
    ASSERT_EQ(allocator.validate(), nullptr);
    EXPECT_EQ(test::reclaim_all(allocator, this->source_), 2u);
  }
}

TYPED_TEST(SCAllocatorTest, an_object_freed_on_full_pages_is_allocated_next) {
  SCAllocator<TypeParam> allocator(56);
  test::refill(allocator, this->source_, 3);
  const std::vector<void*> objects = this->allocate_all(allocator, layout_of(56));
  for (void* object : objects) {
    allocator.deallocate(object, layout_of(56));
    const Result<void*> again = allocator.allocate(layout_of(56));
    ASSERT_TRUE(again);
    ASSERT_EQ(*again, object);
    ASSERT_FALSE(allocator.allocate(layout_of(56)));
  }
  EXPECT_EQ(allocator.validate(), nullptr);
}

TYPED_TEST(SCAllocatorTest, reclaims_no_more_than_the_limit_and_only_empty_pages) {
  SCAllocator<TypeParam> allocator(64);
  test::refill(allocator, this->source_, 5);
  const Result<void*> object = allocator.allocate(layout_of(64));
  ASSERT_TRUE(object);
  test::fill_pattern(*object, 64, 1);
  const auto take = [&](TypeParam* page) { this->source_.take_back(page); };
  EXPECT_EQ(allocator.try_reclaim_pages(0, take), 0u);
  EXPECT_EQ(allocator.try_reclaim_pages(3, take), 3u);
  EXPECT_EQ(allocator.try_reclaim_pages(3, take), 1u);
  EXPECT_EQ(this->source_.live_pages(), 1u);
  EXPECT_TRUE(test::holds_pattern(*object, 64, 1));
  EXPECT_EQ(allocator.validate(), nullptr);
  allocator.deallocate(*object, layout_of(64));
  EXPECT_EQ(allocator.try_reclaim_pages(3, take), 1u);
  EXPECT_EQ(this->source_.live_pages(), 0u);
}

TYPED_TEST(SCAllocatorTest, a_reclaimed_page_can_return) {
  SCAllocator<TypeParam> allocator(64);
  TypeParam* page = this->source_.page();
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(allocator.refill(page));
    const Result<void*> object = allocator.allocate(layout_of(64));
    ASSERT_TRUE(object);
    allocator.deallocate(*object, layout_of(64));
    ASSERT_EQ(allocator.try_reclaim_pages(1, [](TypeParam*) {}), 1u);
  }
  EXPECT_EQ(allocator.validate(), nullptr);
}

TYPED_TEST(SCAllocatorTest, a_reclaimed_page_can_serve_another_allocator) {
  SCAllocator<TypeParam> small(16);
  SCAllocator<TypeParam> large(512);
  TypeParam* page = this->source_.page();
  ASSERT_TRUE(small.refill(page));
  ASSERT_EQ(small.try_reclaim_pages(1, [](TypeParam*) {}), 1u);
  ASSERT_TRUE(large.refill(page));
  EXPECT_EQ(this->allocate_all(large, layout_of(512)).size(), TypeParam::geometry(512).slots);
  EXPECT_EQ(large.validate(), nullptr);
}

TYPED_TEST(SCAllocatorTest, visit_live_shows_exactly_the_live_objects) {
  SCAllocator<TypeParam> allocator(40);
  test::refill(allocator, this->source_, 3);
  std::set<void*> live;
  for (int count = 0; count < 250; ++count) {
    live.insert(allocator.allocate(layout_of(40)).value_or(nullptr));
  }
  live.erase(nullptr);
  for (auto object = live.begin(); object != live.end();) {
    if (reinterpret_cast<std::uintptr_t>(*object) / 40 % 3 == 0) {
      allocator.deallocate(*object, layout_of(40));
      object = live.erase(object);
    } else {
      ++object;
    }
  }
  std::set<void*> visited;
  allocator.visit_live([&](void* object, std::size_t bytes) {
    EXPECT_EQ(bytes, 40u);
    EXPECT_TRUE(visited.insert(object).second);
  });
  EXPECT_EQ(visited, live);
}

TYPED_TEST(SCAllocatorTest, statistics_count_every_call_exactly) {
  test::Random random;
  SCAllocator<TypeParam> allocator(120);
  std::vector<void*> live;
  ClassStatistics expected;
  expected.object_size = 120;
  expected.page_bytes = TypeParam::frame_bytes(120);
  for (int step = 0; step < 4000; ++step) {
    if (random.one_in(500)) {
      test::refill(allocator, this->source_, 1);
      ++expected.refills;
      ++expected.pages;
      expected.pages_high_water = std::max(expected.pages_high_water, expected.pages);
    } else if (random.one_in(300)) {
      const std::size_t reclaimed = test::reclaim_all(allocator, this->source_);
      expected.reclaims += reclaimed;
      expected.pages -= reclaimed;
    } else if (random.below(9) < 5) {
      if (const Result<void*> object = allocator.allocate(layout_of(120))) {
        live.push_back(*object);
        ++expected.allocations;
      }
    } else if (!live.empty()) {
      std::swap(live[random.below(live.size())], live.back());
      allocator.deallocate(live.back(), layout_of(120));
      live.pop_back();
      ++expected.frees;
    }
    const ClassStatistics actual = allocator.statistics();
    ASSERT_EQ(actual.object_size, expected.object_size);
    ASSERT_EQ(actual.page_bytes, expected.page_bytes);
    ASSERT_EQ(actual.pages, expected.pages);
    ASSERT_EQ(actual.pages_high_water, expected.pages_high_water);
    ASSERT_EQ(actual.slots, expected.pages * TypeParam::geometry(120).slots);
    ASSERT_EQ(actual.used, live.size());
    ASSERT_EQ(actual.allocations, expected.allocations);
    ASSERT_EQ(actual.frees, expected.frees);
    ASSERT_EQ(actual.remote_frees, 0u);
    ASSERT_EQ(actual.refills, expected.refills);
    ASSERT_EQ(actual.reclaims, expected.reclaims);
  }
}

TEST(SCAllocator, a_static_one_needs_no_code_to_be_ready) {
  test::FrameSource frames;
  ASSERT_TRUE(static_allocator.refill(frames.page<ObjectPage>()));
  ASSERT_TRUE(static_large_allocator.refill(frames.page<LargeObjectPage>()));
  EXPECT_TRUE(static_allocator.allocate(layout_of(64)));
  EXPECT_TRUE(static_large_allocator.allocate(layout_of(4096, 4096)));
  EXPECT_EQ(static_beside.allocate(layout_of(48)).error(), AllocationError::OutOfMemory);
}

TEST(SCAllocator, every_size_fills_its_page_at_every_alignment) {
  using Page = ObjectPage;
  test::FrameSource frames;
  for (std::size_t size = 1; size <= 4 * kibibyte; size += size < 200 ? 1 : 61) {
    for (std::size_t alignment = 1; alignment <= 2 * kibibyte; alignment *= 4) {
      SCAllocator<Page> allocator(size, alignment);
      const std::size_t slots = Page::geometry(allocator.usable_size()).slots;
      if (slots == 0) {
        continue;
      }
      Page* page = frames.page<Page>();
      ASSERT_TRUE(allocator.refill(page));
      for (std::size_t slot = 0; slot < slots; ++slot) {
        const Result<void*> object = allocator.allocate(layout_of(size, alignment));
        ASSERT_TRUE(object) << slot << " of " << slots << " of " << size << " B";
        ASSERT_EQ(reinterpret_cast<std::uintptr_t>(*object) % alignment, 0u);
      }
      ASSERT_FALSE(allocator.allocate(layout_of(size, alignment)));
      frames.take_page(page);
    }
  }
}

TEST(SCAllocator, slots_of_large_objects_are_issued_again_before_fresh_ones) {
  test::FrameSource frames;
  for (const std::size_t size : {std::size_t{1024}, 4 * kibibyte, 20 * kibibyte, 128 * kibibyte}) {
    SCAllocator<LargeObjectPage> allocator(size);
    LargeObjectPage* page = frames.page<LargeObjectPage>();
    ASSERT_TRUE(allocator.refill(page));
    std::set<void*> slots;
    for (int pair = 0; pair < 1000; ++pair) {
      const Result<void*> object = allocator.allocate(layout_of(size));
      ASSERT_TRUE(object);
      slots.insert(*object);
      allocator.deallocate(*object, layout_of(size));
    }
    EXPECT_LE(slots.size() * size, std::max(32 * kibibyte, size)) << size;
    frames.take_page(page);
  }
}

TEST(SCAllocator, a_few_live_objects_stay_within_a_small_part_of_a_large_page) {
  test::FrameSource frames;
  SCAllocator<LargeObjectPage> allocator(64);
  LargeObjectPage* page = frames.page<LargeObjectPage>();
  ASSERT_TRUE(allocator.refill(page));
  constexpr std::size_t live = 200;
  std::vector<void*> objects;
  test::Random random;
  std::uintptr_t first = ~std::uintptr_t{0};
  std::uintptr_t last = 0;
  for (int step = 0; step < 200000; ++step) {
    if (objects.size() == live) {
      std::swap(objects[random.below(live)], objects.back());
      allocator.deallocate(objects.back(), layout_of(64));
      objects.pop_back();
    }
    objects.push_back(*allocator.allocate(layout_of(64)));
    const auto address = reinterpret_cast<std::uintptr_t>(objects.back());
    first = std::min(first, address);
    last = std::max(last, address);
  }
  EXPECT_EQ(allocator.validate(), nullptr);
  // After 1.4 times as many replacements as there are live objects, a word is mostly free again.
  // The test allows four times as many.
  EXPECT_LT(last - first, 6 * live * 64);
  for (void* object : objects) {
    allocator.deallocate(object, layout_of(64));
  }
  frames.take_page(page);
}

TEST(SCAllocator, is_generic_over_allocators) {
  static_assert(LayoutAllocator<SCAllocator<ObjectPage>> && LayoutAllocator<ZoneAllocator>);
}

}  // namespace
}  // namespace slabmalloc
