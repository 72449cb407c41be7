// SPDX-License-Identifier: MIT
// Tests of zones that are refilled by hand, the base of every zone: classes, alignment, refill,
// reclaim, frees by others, cost.
#include "slabmalloc/zone/zone_allocator.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <set>
#include <vector>

#include "support/counting_atomics.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc::test {
namespace {

constinit ZoneAllocator constant_initialised;
static_assert(LayoutAllocator<ZoneAllocator> && LayoutAllocator<PagedZone<FrameSource>>);
static_assert(ZoneAllocator::MAX_BASE_ALLOC_SIZE == 256);
static_assert(ZoneAllocator::MAX_ALLOC_SIZE == 128 * kibibyte);

/// Gives the zone the page that `layout` needs, and allocates.
template <class Zone>
void* allocate_refilling(Zone& zone, FrameSource& frames, Layout layout) {
  using Config = typename Zone::Config;
  Result<void*> object = zone.allocate(layout);
  if (!object) {
    EXPECT_EQ(object.error(), AllocationError::OutOfMemory);
    using Base = typename Config::BasePage;
    using Large = typename Config::LargePage;
    const bool is_base = Zone::frame_bytes(layout) == Base::size_bytes;
    EXPECT_TRUE(is_base ? zone.refill(layout, frames.page<Base>())
                        : zone.refill_large(layout, frames.page<Large>()));
    object = zone.allocate(layout);
  }
  return object.value_or(nullptr);
}

class ZoneAllocatorTest : public testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(zone_.validate(), nullptr); }
  void* allocate(Layout layout) { return allocate_refilling(zone_, frames_, layout); }

  FrameSource frames_;
  ZoneAllocator zone_;
  MisuseRecorder misuse_;
};

// ---- sizes and alignments -----------------------------------------------------------------------

TEST_F(ZoneAllocatorTest, is_usable_from_constant_initialisation_on) {
  EXPECT_EQ(constant_initialised.validate(), nullptr);
  void* object = allocate_refilling(constant_initialised, frames_, layout_of(40));
  ASSERT_NE(object, nullptr);
  constant_initialised.deallocate(object, layout_of(40));
  EXPECT_EQ(constant_initialised.try_reclaim_base_pages(1, [](ObjectPage*) {}), 1u);
}

TEST_F(ZoneAllocatorTest, is_out_of_memory_until_the_class_is_refilled) {
  const Layout layout = layout_of(64);
  EXPECT_EQ(zone_.allocate(layout).error(), AllocationError::OutOfMemory);
  ASSERT_TRUE(zone_.refill(layout, frames_.page<ObjectPage>()));
  std::set<void*> objects;
  while (void* object = zone_.allocate(layout).value_or(nullptr)) {
    EXPECT_TRUE(objects.insert(object).second);
  }
  EXPECT_EQ(objects.size(), 63u) << "63 slots and one line of meta-data fill the page";
  ASSERT_TRUE(zone_.refill(layout, frames_.page<ObjectPage>()));
  EXPECT_TRUE(zone_.allocate(layout));
}

TEST_F(ZoneAllocatorTest, mixed_small_sizes_are_distinct_aligned_and_need_few_pages) {
  std::set<void*> objects;
  for (int round = 0; round < 10; ++round) {
    for (const std::size_t size : {256u, 48u, 6u, 8u, 16u}) {
      void* object = allocate(layout_of(size, 2));
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(object) % 2, 0u);
      EXPECT_TRUE(objects.insert(object).second);
    }
  }
  EXPECT_EQ(frames_.calls(), 4u) << "256, 48, 8 and 16 B; 6 B live among the 8 B";
}

TEST_F(ZoneAllocatorTest, every_size_to_the_largest_has_a_slot_that_holds_it) {
  for (std::size_t size = 0; size <= ZoneAllocator::MAX_ALLOC_SIZE; size += size < 4096 ? 1 : 97) {
    const std::size_t usable = ZoneAllocator::usable_size(layout_of(size));
    ASSERT_GE(usable, size);
    ASSERT_EQ(ZoneAllocator::get_max_size(size).value_or(0), usable);
    ASSERT_EQ(ZoneAllocator::get_max_size(usable).value_or(0), usable) << "a class keeps its size";
    if (size > 128) {
      ASSERT_LE((usable - size) * 5, usable + 5) << size;
    }
  }
  const std::size_t too_large = ZoneAllocator::MAX_ALLOC_SIZE + 1;
  EXPECT_EQ(ZoneAllocator::get_max_size(too_large).error(), AllocationError::InvalidLayout);
  EXPECT_EQ(ZoneAllocator::usable_size(layout_of(too_large)), 0u);
  EXPECT_EQ(zone_.allocate(layout_of(too_large)).error(), AllocationError::InvalidLayout);
}

TEST_F(ZoneAllocatorTest, each_class_serves_its_own_size) {
  using PowerOfTwoZone = BasicZoneAllocator<PowerOfTwoConfig>;
  for (std::size_t size = 8; size <= 128 * kibibyte; size *= 2) {
    EXPECT_EQ(PowerOfTwoZone::get_max_size(size).value_or(0), size);
    EXPECT_EQ(PowerOfTwoZone::get_max_size(size - 1).value_or(0), size);
    EXPECT_EQ(ZoneAllocator::get_max_size(size).value_or(0), size);
  }
}

TEST_F(ZoneAllocatorTest, every_alignment_of_every_class_is_kept_by_every_slot) {
  for (std::size_t alignment = 1; alignment <= 128 * kibibyte; alignment *= 2) {
    for (const std::size_t size : {1u, 8u, 24u, 100u, 257u, 3000u, 20000u, 131072u}) {
      const Layout layout = layout_of(size, alignment);
      const std::size_t slot = ZoneAllocator::usable_size(layout);
      ASSERT_NE(slot, 0u);
      ASSERT_LE(slot, std::max<std::size_t>(2 * std::max(size, alignment), 8)) << "no waste";
      for (int count = 0; count < 12; ++count) {
        void* object = allocate(layout);
        ASSERT_NE(object, nullptr);
        ASSERT_EQ(reinterpret_cast<std::uintptr_t>(object) % alignment, 0u)
            << size << " B aligned to " << alignment;
        if (count % 2 == 0) {
          zone_.deallocate(object, layout);
        }
      }
    }
  }
  EXPECT_EQ(zone_.allocate(layout_of(8, 256 * kibibyte)).error(), AllocationError::InvalidLayout);
}

TEST_F(ZoneAllocatorTest, alignment_costs_no_slots_beyond_the_class) {
  const Layout layout = layout_of(8, 64);
  std::size_t count = 0;
  ASSERT_TRUE(zone_.refill(layout, frames_.page<ObjectPage>()));
  while (zone_.allocate(layout)) {
    ++count;
  }
  EXPECT_EQ(count, 63u);
}

TEST_F(ZoneAllocatorTest, large_pages_are_used_to_the_end) {
  for (const std::size_t size : {512u, 1024u, 2048u, 4096u}) {
    ZoneAllocator zone;
    const Layout layout = layout_of(size);
    ASSERT_TRUE(zone.refill_large(layout, frames_.page<LargeObjectPage>()));
    std::size_t count = 0;
    while (zone.allocate(layout)) {
      ++count;
    }
    EXPECT_GE(count * size * 100, 99 * sizeof(LargeObjectPage)) << size;
  }
}

TEST_F(ZoneAllocatorTest, a_size_of_0_is_a_block) {
  void* one = allocate(layout_of(0));
  void* other = allocate(layout_of(0));
  EXPECT_NE(one, nullptr);
  EXPECT_NE(one, other);
  zone_.deallocate(one, layout_of(0));
  zone_.deallocate(other, layout_of(0));
}

TEST_F(ZoneAllocatorTest, reallocate_stays_where_the_slot_allows_it_and_keeps_the_bytes) {
  void* block = allocate(layout_of(33));
  fill_pattern(block, 33, 9);
  EXPECT_EQ(zone_.reallocate(block, layout_of(33), layout_of(48)).value_or(nullptr), block);
  EXPECT_EQ(zone_.reallocate(block, layout_of(48), layout_of(40)).value_or(nullptr), block);
  EXPECT_EQ(zone_.reallocate(block, layout_of(40), layout_of(200)).error(),
            AllocationError::OutOfMemory)
      << "no page of that class";
  EXPECT_TRUE(holds_pattern(block, 33, 9)) << "untouched";
  ASSERT_TRUE(zone_.refill(layout_of(200), frames_.page<ObjectPage>()));
  void* moved = zone_.reallocate(block, layout_of(40), layout_of(200)).value_or(nullptr);
  ASSERT_NE(moved, nullptr);
  EXPECT_NE(moved, block);
  EXPECT_TRUE(holds_pattern(moved, 33, 9));
  zone_.deallocate(block, layout_of(40));
  EXPECT_EQ(misuse_.take_count(MisuseKind::DoubleFree), 1u) << "the old block was freed";
  void* shrunk = zone_.reallocate(moved, layout_of(200), layout_of(8)).value_or(nullptr);
  ASSERT_NE(shrunk, nullptr) << "the first page is empty by now";
  EXPECT_TRUE(holds_pattern(shrunk, 8, 9));
}

TEST_F(ZoneAllocatorTest, allocate_zeroed_clears_the_requested_bytes) {
  void* block = allocate(layout_of(64));
  std::memset(block, 0xFF, 64);
  zone_.deallocate(block, layout_of(64));
  for (int count = 0; count < 63; ++count) {
    void* object = zone_.allocate_zeroed(layout_of(60)).value_or(nullptr);
    ASSERT_NE(object, nullptr);
    EXPECT_TRUE(holds_zeroes(object, 60)) << "frames given by hand are not known to be zero";
  }
}

// ---- pages out ----------------------------------------------------------------------------------

TEST_F(ZoneAllocatorTest, fill_and_free_twice_uses_no_more_pages_and_gives_all_back) {
  for (const std::size_t size : {8u, 24u, 32u, 64u, 256u, 512u, 1024u, 2048u}) {
    FrameSource frames;
    ZoneAllocator zone;
    const Layout layout = layout_of(size, 8);
    std::size_t pages = 0;
    for (int round = 0; round < 2; ++round) {
      std::vector<void*> objects;
      for (std::size_t number = 0; number < 3000; ++number) {
        objects.push_back(allocate_refilling(zone, frames, layout));
        fill_pattern(objects.back(), size, number);
      }
      for (std::size_t number = 0; number < objects.size(); ++number) {
        ASSERT_TRUE(holds_pattern(objects[number], size, number));
        zone.deallocate(objects[number], layout);
      }
      EXPECT_TRUE(round == 0 || frames.live_frames() == pages) << size;
      pages = frames.live_frames();
    }
    const auto take = [&](auto* page) { frames.take_page(page); };
    EXPECT_EQ(zone.try_reclaim_base_pages(pages, take) + zone.try_reclaim_large_pages(pages, take),
              pages);
    EXPECT_EQ(frames.live_frames(), 0u) << size;
    EXPECT_EQ(zone.validate(), nullptr);
  }
}

TEST_F(ZoneAllocatorTest, reclaim_returns_only_empty_pages_and_at_most_the_requested_number) {
  std::vector<void*> objects;
  while (frames_.live_frames() < 10) {
    objects.push_back(allocate(layout_of(64)));
  }
  const auto take = [&](ObjectPage* page) { frames_.take_page(page); };
  EXPECT_EQ(zone_.try_reclaim_base_pages(10, take), 0u) << "something lives in each";
  for (std::size_t position = 0; position + 1 < objects.size(); ++position) {
    zone_.deallocate(objects[position], layout_of(64));
  }
  EXPECT_EQ(zone_.try_reclaim_base_pages(0, take), 0u);
  EXPECT_EQ(zone_.try_reclaim_base_pages(4, take), 4u);
  EXPECT_EQ(zone_.try_reclaim_large_pages(4, [](LargeObjectPage*) {}), 0u);
  EXPECT_EQ(zone_.try_reclaim_base_pages(10, take), 5u);
  EXPECT_EQ(frames_.live_frames(), 1u);
  zone_.deallocate(objects.back(), layout_of(64));
  EXPECT_EQ(zone_.try_reclaim_base_pages(10, take), 1u);
}

TEST_F(ZoneAllocatorTest, reclaim_drains_frees_by_other_threads) {
  void* object = allocate(layout_of(64));
  ZoneAllocator::deallocate_remote(object, layout_of(64));
  EXPECT_EQ(zone_.try_reclaim_base_pages(1, [&](ObjectPage* page) { frames_.take_page(page); }),
            1u);
}

// ---- buffered frees by others -------------------------------------------------------------------

class BufferedFrees : public ZoneAllocatorTest {
 protected:
  std::vector<void*> allocate_elsewhere(std::size_t count, Layout layout) {
    std::vector<void*> objects;
    for (std::size_t number = 0; number < count; ++number) {
      objects.push_back(allocate_refilling(owner_, frames_, layout));
    }
    return objects;
  }
  std::size_t buffered() const { return zone_.statistics().buffered_bytes; }
  /// Objects of the owner that it counts as live.
  std::size_t used(Layout layout) {
    owner_.drain();
    return owner_.class_statistics(ZoneAllocator::class_for(layout)).used;
  }

  ZoneAllocator owner_;
  const Layout layout_ = layout_of(64);
};

TEST_F(BufferedFrees, are_delivered_to_their_owner_on_demand) {
  const std::vector<void*> objects = allocate_elsewhere(10, layout_);
  for (void* object : objects) {
    zone_.deallocate(object, layout_);
  }
  EXPECT_EQ(buffered(), 10 * 64u);
  EXPECT_EQ(used(layout_), 10u) << "buffered";
  zone_.drain();
  EXPECT_EQ(buffered(), 0u);
  EXPECT_EQ(used(layout_), 0u);
}

TEST_F(BufferedFrees, are_delivered_to_their_owner_by_drain_and_leave_current) {
  zone_.deallocate(allocate_elsewhere(1, layout_)[0], layout_);
  zone_.drain_and_leave_current();
  EXPECT_EQ(buffered(), 0u);
  EXPECT_EQ(used(layout_), 0u);
}

TEST_F(BufferedFrees, are_delivered_to_their_owner_on_the_slow_path) {
  zone_.deallocate(allocate_elsewhere(1, layout_)[0], layout_);
  ASSERT_NE(buffered(), 0u);
  ASSERT_TRUE(zone_.refill(layout_of(32), frames_.page<ObjectPage>()));
  ASSERT_TRUE(zone_.allocate(layout_of(32)));
  EXPECT_EQ(buffered(), 0u);
  EXPECT_EQ(used(layout_), 0u);
}

TEST_F(BufferedFrees, are_bounded_in_bytes) {
  for (const std::size_t size : {8u, 64u, 1024u}) {
    const Layout layout = layout_of(size);
    for (void* object : allocate_elsewhere(5000, layout)) {
      zone_.deallocate(object, layout);
      ASSERT_LE(buffered(), DefaultConfig::remote_buffer_bytes);
    }
    zone_.drain();
    EXPECT_EQ(used(layout), 0u);
  }
}

TEST_F(BufferedFrees, do_not_include_large_objects) {
  const Layout layout = layout_of(1025);
  zone_.deallocate(allocate_elsewhere(1, layout)[0], layout);
  EXPECT_EQ(buffered(), 0u);
  EXPECT_EQ(used(layout), 0u);
}

TEST_F(BufferedFrees, do_not_exist_when_hardened) {
  BasicZoneAllocator<HardenedConfig> zone;
  BasicZoneAllocator<HardenedConfig> owner;
  void* object = allocate_refilling(owner, frames_, layout_);
  zone.deallocate(object, layout_);
  EXPECT_EQ(zone.statistics().buffered_bytes, 0u);
  owner.drain();
  EXPECT_EQ(owner.statistics().used_bytes, 0u);
}

TEST_F(BufferedFrees, pin_the_page_of_their_object) {
  zone_.deallocate(allocate_elsewhere(1, layout_)[0], layout_);
  const auto take = [&](ObjectPage* page) { frames_.take_page(page); };
  EXPECT_EQ(owner_.try_reclaim_base_pages(1, take), 0u);
  zone_.drain();
  EXPECT_EQ(owner_.try_reclaim_base_pages(1, take), 1u);
}

TEST_F(ZoneAllocatorTest, frees_from_another_zone_are_reused) {
  ZoneAllocator other;
  std::set<void*> objects;
  for (int count = 0; count < 63; ++count) {
    objects.insert(allocate(layout_of(64)));
  }
  for (void* object : objects) {
    other.deallocate(object, layout_of(64));
  }
  other.drain();
  for (int count = 0; count < 63; ++count) {
    void* object = zone_.allocate(layout_of(64)).value_or(nullptr);
    ASSERT_EQ(objects.erase(object), 1u) << "without a refill";
  }
}

// ---- cost ---------------------------------------------------------------------------------------

/// The default configuration with cells that count each operation.
struct CountingConfig : CommonConfig {
  using Atomics = CountingAtomics;
  using BasePage = PageSizes<4 * kibibyte, CountingAtomics>::Base;
  using LargePage = PageSizes<4 * kibibyte, CountingAtomics>::Large;
  using Pages = PageKinds<PageKind<BasePage, 256>, PageKind<LargePage, 128 * kibibyte>>;
};

/// The most expensive call of each kind, in operations on shared words.
struct WorstCalls {
  std::size_t allocate = 0;
  std::size_t deallocate = 0;
  std::size_t deallocate_remote = 0;
  std::size_t reclaim_one_page = 0;
  std::size_t total = 0;
};

template <class Call>
void measure(std::size_t& worst, WorstCalls& calls, Call&& call) {
  const std::size_t before = CountingAtomics::operations();
  call();
  const std::size_t operations = CountingAtomics::operations() - before;
  worst = std::max(worst, operations);
  calls.total += operations;
}

/// Grows to `count` objects, frees and allocates at random, reclaims page by page.
WorstCalls worst_calls(std::size_t count) {
  using Zone = BasicZoneAllocator<CountingConfig>;
  FrameSource frames;
  Zone zone;
  Random random(count);
  WorstCalls calls;
  std::vector<void*> objects;
  const Layout layout = layout_of(64);
  const auto allocate = [&] {
    void* object = nullptr;
    measure(calls.allocate, calls, [&] { object = zone.allocate(layout).value_or(nullptr); });
    if (object == nullptr) {
      measure(calls.allocate, calls,
              [&] { (void)zone.refill(layout, frames.page<CountingConfig::BasePage>()); });
      object = zone.allocate(layout).value_or(nullptr);
    }
    objects.push_back(object);
  };
  const auto free_one = [&] {
    std::swap(objects[random.below(objects.size())], objects.back());
    void* object = objects.back();
    objects.pop_back();
    if (random.one_in(4)) {
      measure(calls.deallocate_remote, calls, [&] { Zone::deallocate_remote(object, layout); });
    } else {
      measure(calls.deallocate, calls, [&] { zone.deallocate(object, layout); });
    }
  };
  while (objects.size() < count) {
    allocate();
  }
  for (std::size_t step = 0; step < count; ++step) {
    free_one();
    if (!random.one_in(3)) {
      allocate();
    }
  }
  while (!objects.empty()) {
    free_one();
  }
  zone.drain();
  std::size_t reclaimed = 1;
  while (reclaimed != 0) {
    measure(calls.reclaim_one_page, calls, [&] {
      reclaimed = zone.try_reclaim_base_pages(
          1, [&](CountingConfig::BasePage* page) { frames.take_page(page); });
    });
  }
  EXPECT_EQ(frames.live_frames(), 0u);
  return calls;
}

TEST(ZoneCost, of_no_call_grows_with_the_number_of_objects) {
  const WorstCalls few = worst_calls(1000);
  const WorstCalls many = worst_calls(100'000);
  // A slow path drains a bounded number of pages; with few objects there may be fewer to drain.
  EXPECT_LE(many.allocate, 4 * few.allocate);
  EXPECT_LE(many.deallocate, 2 * few.deallocate);
  EXPECT_LE(many.deallocate_remote, 2 * few.deallocate_remote);
  EXPECT_LE(many.reclaim_one_page, 2 * few.reclaim_one_page);
  EXPECT_LE(many.total / 100, few.total * 13 / 10) << "per object";
}

TEST(ZoneCost, of_a_call_is_the_same_with_ten_thousand_objects_as_with_a_million) {
  const WorstCalls few = worst_calls(10'000);
  const WorstCalls many = worst_calls(1'000'000);
  EXPECT_LE(many.allocate, few.allocate + few.allocate / 2);
  EXPECT_LE(many.deallocate, few.deallocate + few.deallocate / 2);
  EXPECT_LE(many.deallocate_remote, few.deallocate_remote + few.deallocate_remote / 2);
  EXPECT_LE(many.reclaim_one_page, few.reclaim_one_page + few.reclaim_one_page / 2);
  EXPECT_LE(many.total / 100, few.total * 13 / 10) << "per object";
}

}  // namespace
}  // namespace slabmalloc::test
