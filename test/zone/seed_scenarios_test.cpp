// SPDX-License-Identifier: MIT
//
// The scenarios by which slabmalloc 0.11.0 was checked, on every page type.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <set>
#include <vector>

#include "slabmalloc/slabmalloc.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"
#include "zone/page_source.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc {
namespace {

using test::layout_of;

/// Fills `allocator` until it asks for more than `most_pages`, each object with a pattern of its
/// own.
template <class Page>
std::vector<void*> fill(SCAllocator<Page>& allocator, test::PageSource<Page>& source, Layout layout,
                        std::size_t most_pages) {
  std::vector<void*> objects;
  for (;;) {
    const Result<void*> object = allocator.allocate(layout);
    if (!object) {
      EXPECT_EQ(object.error(), AllocationError::OutOfMemory);
      if (source.live_pages() == most_pages) {
        return objects;
      }
      EXPECT_TRUE(allocator.refill(source.page()));
      continue;
    }
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(*object) % layout.align(), 0u);
    test::fill_pattern(*object, layout.size(), objects.size());
    objects.push_back(*object);
  }
}

/// Fill, verify, free all, fill again on the same pages, free all, give every page back.
template <class Page>
void fill_free_and_fill_again(std::size_t size, std::size_t alignment, std::size_t pages) {
  SCOPED_TRACE(testing::Message() << size << " B aligned to " << alignment);
  test::MisuseRecorder misuse;
  test::PageSource<Page> source;
  SCAllocator<Page> allocator(size, alignment);
  const Layout layout = layout_of(size, alignment);
  const std::size_t capacity = pages * Page::geometry(allocator.usable_size()).slots;
  for (int round = 0; round < 2; ++round) {
    const std::vector<void*> objects = fill(allocator, source, layout, pages);
    ASSERT_EQ(objects.size(), capacity);
    ASSERT_EQ(std::set(objects.begin(), objects.end()).size(), capacity);
    ASSERT_EQ(allocator.validate(), nullptr);
    for (std::size_t index = 0; index < objects.size(); ++index) {
      ASSERT_TRUE(test::holds_pattern(objects[index], size, index)) << index;
    }
    for (void* object : objects) {
      allocator.deallocate(object, layout);
    }
    ASSERT_EQ(allocator.validate(), nullptr);
    EXPECT_EQ(source.live_pages(), pages);
  }
  EXPECT_EQ(test::reclaim_all(allocator, source), pages);
  EXPECT_EQ(source.live_pages(), 0u);
}

template <class Page>
class SeedScenario : public testing::Test {};
TYPED_TEST_SUITE(SeedScenario, test::PageTypes);

TYPED_TEST(SeedScenario, small_sizes_fill_base_pages_at_alignments_of_1_8_and_64) {
  for (const std::size_t size : {8u, 12u, 13u, 14u, 15u, 16u, 24u, 32u, 64u, 512u, 1024u, 2048u}) {
    for (const std::size_t alignment : {1u, 8u, 64u}) {
      fill_free_and_fill_again<TypeParam>(size, alignment, 3);
    }
  }
}

TYPED_TEST(SeedScenario, mixed_layouts_share_a_class) {
  test::MisuseRecorder misuse;
  test::PageSource<TypeParam> source;
  SCAllocator<TypeParam> allocator(128, 64);
  test::refill(allocator, source, 1);
  const Layout layouts[] = {layout_of(128, 64), layout_of(100, 1), layout_of(1, 1),
                            layout_of(64, 32), layout_of(0, 8)};
  std::vector<void*> objects;
  for (std::size_t index = 0;; ++index) {
    const Layout layout = layouts[index % std::size(layouts)];
    const Result<void*> object = allocator.allocate(layout);
    if (!object) {
      break;
    }
    test::fill_pattern(*object, layout.size(), index);
    objects.push_back(*object);
  }
  EXPECT_EQ(objects.size(), TypeParam::geometry(128).slots);
  for (std::size_t index = 0; index < objects.size(); ++index) {
    const Layout layout = layouts[index % std::size(layouts)];
    EXPECT_TRUE(test::holds_pattern(objects[index], layout.size(), index));
    allocator.deallocate(objects[index], layout);
  }
  EXPECT_EQ(test::reclaim_all(allocator, source), 1u);
}

TYPED_TEST(SeedScenario, a_page_is_full_after_its_last_slot_though_its_last_word_is_partly_used) {
  test::MisuseRecorder misuse;
  for (const std::size_t size : {24u, 40u, 56u, 72u, 120u, 200u, 500u}) {
    test::PageSource<TypeParam> source;
    SCAllocator<TypeParam> allocator(size);
    test::refill(allocator, source, 1);
    const std::size_t slots = TypeParam::geometry(allocator.usable_size()).slots;
    std::vector<void*> objects;
    for (std::size_t slot = 0; slot < slots; ++slot) {
      ASSERT_EQ(allocator.statistics().used, slot);
      objects.push_back(allocator.allocate(layout_of(size)).value_or(nullptr));
      ASSERT_NE(objects.back(), nullptr) << "slot " << slot << " of " << slots;
    }
    ASSERT_FALSE(allocator.allocate(layout_of(size)));
    ASSERT_EQ(allocator.validate(), nullptr);
    allocator.deallocate(objects.back(), layout_of(size));
    EXPECT_EQ(allocator.allocate(layout_of(size)).value_or(nullptr), objects.back());
    EXPECT_FALSE(allocator.allocate(layout_of(size)));
  }
}

TEST(SeedScenarioLarge, sizes_to_128_kib_fill_large_pages_at_an_alignment_of_4096) {
  for (const std::size_t size : {8u, 4096u, 8192u, 16384u, 32768u, 65536u, 131072u}) {
    fill_free_and_fill_again<LargeObjectPage>(size, 4096, 2);
  }
}

TEST(SeedScenarioLarge, large_pages_of_one_processor_behave_alike) {
  fill_free_and_fill_again<PageSizes<4 * kibibyte, SingleCpuAtomics>::Large>(4096, 4096, 2);
}

TEST(SeedScenarioLarge, large_pages_of_other_granules_are_filled_to_the_end) {
  test::FrameSource frames(test::FrameContent::untouched);
  SCAllocator<LargeObjectPage16K> middle(128 * kibibyte);
  SCAllocator<LargeObjectPage64K> large(128 * kibibyte);
  ASSERT_TRUE(middle.refill(frames.page<LargeObjectPage16K>()));
  ASSERT_TRUE(large.refill(frames.page<LargeObjectPage64K>()));
  const auto count = [](auto& allocator) {
    std::set<void*> objects;
    while (const Result<void*> object = allocator.allocate(layout_of(128 * kibibyte))) {
      EXPECT_TRUE(objects.insert(*object).second);
    }
    EXPECT_EQ(allocator.validate(), nullptr);
    return objects.size();
  };
  EXPECT_EQ(count(middle), 32 * mebibyte / (128 * kibibyte) - 1);
  EXPECT_EQ(count(large), 512 * mebibyte / (128 * kibibyte) - 1);
}

/// A zone that is refilled by hand, and only when it must be.
template <class Config>
class SeedZoneScenario : public testing::Test {
 protected:
  using Zone = BasicZoneAllocator<Config>;

  void* allocate(Layout layout) {
    for (;;) {
      const Result<void*> object = zone_.allocate(layout);
      if (object || object.error() != AllocationError::OutOfMemory) {
        return object.value_or(nullptr);
      }
      ++refills_;
      if (Zone::frame_bytes(layout) == sizeof(typename Config::BasePage)) {
        EXPECT_TRUE(zone_.refill(layout, frames_.template page<typename Config::BasePage>()));
      } else {
        EXPECT_TRUE(
            zone_.refill_large(layout, frames_.template page<typename Config::LargePage>()));
      }
    }
  }

  test::MisuseRecorder misuse_;
  test::FrameSource frames_;
  Zone zone_;
  std::size_t refills_ = 0;
};
using ZoneConfigs = testing::Types<DefaultConfig, PowerOfTwoConfig, GranuleConfig<16 * kibibyte>,
                                   test::SingleCpuConfig, test::HardenedConfig>;
TYPED_TEST_SUITE(SeedZoneScenario, ZoneConfigs);

TYPED_TEST(SeedZoneScenario, sizes_of_256_48_6_8_and_16_refill_only_when_they_must) {
  std::set<void*> objects;
  std::set<std::uint32_t> classes;
  for (const std::size_t size : {256u, 48u, 6u, 8u, 16u}) {
    const Layout layout = layout_of(size, std::min<std::size_t>(natural_alignment(size), 8));
    classes.insert(TestFixture::Zone::class_for(layout));
    for (int count = 0; count < 10; ++count) {
      void* object = this->allocate(layout);
      ASSERT_NE(object, nullptr);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(object) % layout.align(), 0u);
      EXPECT_TRUE(objects.insert(object).second) << "pointers are distinct";
    }
  }
  EXPECT_EQ(this->refills_, classes.size());
  EXPECT_EQ(this->zone_.validate(), nullptr);
}

TYPED_TEST(SeedZoneScenario, one_object_of_a_type_is_allocated_and_freed) {
  struct Point {
    std::uint64_t x, y;
  };
  const Layout layout = Layout::of<Point>();
  ASSERT_TRUE(
      this->zone_.refill(layout, this->frames_.template page<typename TypeParam::BasePage>()));
  const Result<void*> memory = this->zone_.allocate(layout);
  ASSERT_TRUE(memory);
  auto* point = new (*memory) Point{3, 4};
  EXPECT_EQ(point->x + point->y, 7u);
  this->zone_.deallocate(point, layout);
  EXPECT_EQ(this->zone_.try_reclaim_base_pages(
                1, [&](typename TypeParam::BasePage* page) { this->frames_.take_page(page); }),
            1u);
  EXPECT_EQ(this->frames_.live_frames(), 0u);
}

TYPED_TEST(SeedZoneScenario, the_wrong_kind_of_page_is_an_invalid_layout) {
  auto* base = this->frames_.template page<typename TypeParam::BasePage>();
  auto* large = this->frames_.template page<typename TypeParam::LargePage>();
  EXPECT_EQ(this->zone_.refill(layout_of(4096), base).error(), AllocationError::InvalidLayout);
  EXPECT_EQ(this->zone_.refill_large(layout_of(8), large).error(), AllocationError::InvalidLayout);
  EXPECT_EQ(this->zone_.refill_large(layout_of(1 * mebibyte), large).error(),
            AllocationError::InvalidLayout);
}

TEST(SeedReadme, one_size_on_one_page) {
  test::FrameSource frames;
  SCAllocator<ObjectPage> allocator(8);
  const Layout layout = layout_of(8, 8);
  EXPECT_EQ(allocator.allocate(layout).error(), AllocationError::OutOfMemory);
  ASSERT_TRUE(allocator.refill(frames.page<ObjectPage>()));
  const Result<void*> object = allocator.allocate(layout);
  ASSERT_TRUE(object);
  allocator.deallocate(*object, layout);
}

TEST(SeedReadme, the_limits_of_a_zone_are_256_bytes_and_128_kib) {
  EXPECT_EQ(ZoneAllocator::MAX_BASE_ALLOC_SIZE, 256u);
  EXPECT_EQ(ZoneAllocator::MAX_ALLOC_SIZE, 128 * kibibyte);
  EXPECT_EQ(ZoneAllocator::get_max_size(128 * kibibyte + 1).error(),
            AllocationError::InvalidLayout);
}

}  // namespace
}  // namespace slabmalloc
