// SPDX-License-Identifier: MIT
//
// The thirteen known defects of slabmalloc 0.11.0, each shown to be absent. Work is counted in
// operations on shared words (CountingAtomics), so that no clock is needed to see it grow.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "slabmalloc/slabmalloc.hpp"
#include "support/counting_atomics.hpp"
#include "support/happens_before.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"
#include "zone/page_source.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc {
namespace {

using test::CountingAtomics;
using test::FrameSource;
using test::layout_of;

using CountingPage = EmbeddedPage<4 * kibibyte, CountingAtomics>;

/// The default configuration over another policy of atomics.
template <class AtomicsT>
struct ConfigOver : CommonConfig {
  using Atomics = AtomicsT;
  using BasePage = typename PageSizes<4 * kibibyte, AtomicsT>::Base;
  using LargePage = typename PageSizes<4 * kibibyte, AtomicsT>::Large;
  using Pages = PageKinds<PageKind<BasePage, 256>, PageKind<LargePage, 128 * kibibyte>>;
};

/// The largest and the total number of operations on shared words over several calls.
struct Work {
  std::size_t most = 0;
  std::size_t total = 0;

  template <class Call>
  auto count(Call call) {
    const std::size_t before = CountingAtomics::operations();
    auto result = call();
    const std::size_t done = CountingAtomics::operations() - before;
    most = std::max(most, done);
    total += done;
    return result;
  }
};

template <class Allocator>
std::vector<void*> allocate_all(Allocator& allocator, Layout layout) {
  std::vector<void*> objects;
  while (const Result<void*> object = allocator.allocate(layout)) {
    objects.push_back(*object);
  }
  return objects;
}

class SeedDefect : public testing::Test {
 protected:
  test::MisuseRecorder misuse_;
};

// ---- 1: at most 512 objects on a page
// ------------------------------------------------------------

TEST_F(SeedDefect, large_pages_are_used_to_the_end_whatever_the_size) {
  FrameSource frames;
  auto* page = frames.page<LargeObjectPage>();
  for (const std::size_t size : {64u, 512u, 1024u, 2048u, 4096u}) {
    SCAllocator<LargeObjectPage> allocator(size);
    ASSERT_TRUE(allocator.refill(page));
    EXPECT_GE(allocate_all(allocator, layout_of(size)).size() * size * 100, 99 * 2 * mebibyte);
  }
}

// ---- 2: 32768 B in the class of 64 KiB
// -----------------------------------------------------------

template <class Config>
void expect_classes_of_exact_size() {
  using Zone = BasicZoneAllocator<Config>;
  for (std::size_t size = 8; size <= Zone::MAX_ALLOC_SIZE; size *= 2) {
    EXPECT_EQ(*Zone::get_max_size(size), size);
    EXPECT_EQ(Zone::usable_size(layout_of(size)), size);
    EXPECT_EQ(Config::SizeClasses::size_of(Zone::class_for(layout_of(size, size))), size);
  }
}

TEST_F(SeedDefect, every_power_of_two_is_served_by_a_class_of_its_own_size) {
  expect_classes_of_exact_size<DefaultConfig>();
  expect_classes_of_exact_size<PowerOfTwoConfig>();
}

TEST_F(SeedDefect, get_max_size_agrees_with_the_slot_that_is_given) {
  FrameSource frames;
  PagedZone<FrameSource> zone(frames);
  for (const std::size_t size : {1u, 100u, 256u, 257u, 32767u, 32768u, 32769u, 131072u}) {
    const std::uint32_t index = zone.class_for(layout_of(size));
    ASSERT_TRUE(zone.allocate(layout_of(size)));
    EXPECT_EQ(zone.class_statistics(index).object_size, *zone.get_max_size(size)) << size;
    EXPECT_GE(zone.class_statistics(index).used, 1u) << size;
  }
}

// ---- 3: alignment by chance
// ----------------------------------------------------------------------

TEST_F(SeedDefect, an_alignment_wastes_no_slot_of_a_page) {
  FrameSource frames;
  SCAllocator<ObjectPage> aligned(8, 64);
  ASSERT_TRUE(aligned.refill(frames.page<ObjectPage>()));
  EXPECT_EQ(allocate_all(aligned, layout_of(8, 64)).size(), ObjectPage::geometry(64).slots);
  SCAllocator<ObjectPage> odd(10);
  ASSERT_TRUE(odd.refill(frames.page<ObjectPage>()));
  EXPECT_EQ(allocate_all(odd, layout_of(10, 8)).size(), ObjectPage::geometry(16).slots);
}

TEST_F(SeedDefect, the_class_is_chosen_by_size_and_alignment) {
  FrameSource frames;
  PagedZone<FrameSource> zone(frames);
  for (std::size_t alignment = 1; alignment <= 128 * kibibyte; alignment *= 2) {
    for (const std::size_t size : {1u, 10u, 65u, 100u, 257u, 5000u}) {
      const Result<void*> object = zone.allocate(layout_of(size, alignment));
      ASSERT_TRUE(object) << size << " B aligned to " << alignment;
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(*object) % alignment, 0u);
      zone.deallocate(*object, layout_of(size, alignment));
    }
  }
}

TEST_F(SeedDefect, an_alignment_above_the_page_is_an_invalid_layout) {
  FrameSource frames;
  SCAllocator<ObjectPage> allocator(64);
  ASSERT_TRUE(allocator.refill(frames.page<ObjectPage>()));
  ZoneAllocator zone;
  for (const std::size_t alignment : {8 * kibibyte, 4 * mebibyte, std::size_t{1} << 40}) {
    EXPECT_EQ(allocator.allocate(layout_of(8, alignment)).error(), AllocationError::InvalidLayout);
    EXPECT_EQ(SCAllocator<ObjectPage>(8, alignment).allocate(layout_of(8, alignment)).error(),
              AllocationError::InvalidLayout);
  }
  EXPECT_EQ(zone.allocate(layout_of(8, 4 * mebibyte)).error(), AllocationError::InvalidLayout);
}

// ---- 4: out of memory while memory is free
// -------------------------------------------------------

TEST_F(SeedDefect, a_free_slot_anywhere_is_allocated_by_the_next_call) {
  test::Random random;
  test::PageSource<ObjectPage> source;
  SCAllocator<ObjectPage> allocator(100);
  test::refill(allocator, source, 50);
  const std::vector<void*> objects = allocate_all(allocator, layout_of(100));
  for (int round = 0; round < 5000; ++round) {
    void* object = objects[random.below(objects.size())];
    allocator.deallocate(object, layout_of(100));
    ASSERT_EQ(allocator.allocate(layout_of(100)).value_or(nullptr), object);
  }
}

TEST_F(SeedDefect, a_live_set_of_two_objects_needs_no_more_pages_than_two_objects_do) {
  test::PageSource<LargeObjectPage> source;
  const std::size_t size = 1 * mebibyte;
  SCAllocator<LargeObjectPage> allocator(size);
  std::vector<void*> live;
  for (int round = 0; round < 1000; ++round) {
    if (live.size() == 2) {
      allocator.deallocate(live.front(), layout_of(size));
      live.erase(live.begin());
    }
    Result<void*> object = allocator.allocate(layout_of(size));
    if (!object) {
      test::refill(allocator, source, 1);
      object = allocator.allocate(layout_of(size));
    }
    ASSERT_TRUE(object);
    live.push_back(*object);
  }
  EXPECT_EQ(source.live_pages(), 2u);
}

// ---- 5: full pages are searched
// ------------------------------------------------------------------

/// The most work of one call on pages of one object, all of them full, but for one in turn.
std::size_t most_work_with_one_object_pages(std::size_t pages) {
  test::PageSource<CountingPage> source;
  SCAllocator<CountingPage> allocator(4000);
  test::refill(allocator, source, pages);
  const std::vector<void*> objects = allocate_all(allocator, layout_of(4000));
  EXPECT_EQ(objects.size(), pages);
  Work work;
  EXPECT_FALSE(work.count([&] { return allocator.allocate(layout_of(4000)); }));
  for (void* object : objects) {
    work.count([&] { return allocator.deallocate(object, layout_of(4000)), 0; });
    EXPECT_TRUE(work.count([&] { return allocator.allocate(layout_of(4000)); }));
  }
  return work.most;
}

TEST_F(SeedDefect, full_pages_of_one_object_are_not_visited) {
  EXPECT_EQ(most_work_with_one_object_pages(1000), most_work_with_one_object_pages(10));
}

// ---- 6: growing and reclaiming visit all pages
// ---------------------------------------------------

struct LifeOfAHeap {
  Work allocate;
  Work deallocate;
  Work reclaim;
};

/// Grows a zone to so many objects of 64 B, frees them in random order, and gives every page back.
LifeOfAHeap live_with(std::size_t objects) {
  test::Random random(42);
  LifeOfAHeap life;
  FrameSource frames;
  PagedZone<FrameSource, ConfigOver<CountingAtomics>> zone(frames);
  std::vector<void*> live;
  for (std::size_t count = 0; count < objects; ++count) {
    live.push_back(*life.allocate.count([&] { return zone.allocate(layout_of(64)); }));
  }
  while (!live.empty()) {
    std::swap(live[random.below(live.size())], live.back());
    life.deallocate.count([&] { return zone.deallocate(live.back(), layout_of(64)), 0; });
    live.pop_back();
  }
  EXPECT_EQ(zone.validate(), nullptr);
  zone.trim();
  EXPECT_EQ(frames.live_frames(), 0u);
  return life;
}

TEST_F(SeedDefect, the_work_of_a_call_does_not_grow_with_the_heap) {
  const LifeOfAHeap small = live_with(1'000);
  const LifeOfAHeap large = live_with(100'000);
  EXPECT_EQ(large.allocate.most, small.allocate.most);
  EXPECT_EQ(large.deallocate.most, small.deallocate.most);
  EXPECT_LE(large.allocate.total / 100'000, small.allocate.total / 1'000 + 1);
  EXPECT_LE(large.deallocate.total / 100'000, small.deallocate.total / 1'000 + 1);
}

/// The work of reclaiming one of so many empty pages, while as many are in use.
std::size_t work_to_reclaim_one_page(std::size_t pages) {
  test::PageSource<CountingPage> source;
  SCAllocator<CountingPage> allocator(64);
  test::refill(allocator, source, pages);
  EXPECT_FALSE(allocate_all(allocator, layout_of(64)).empty());
  test::refill(allocator, source, pages);
  Work work;
  EXPECT_EQ(work.count([&] {
    return allocator.try_reclaim_pages(1, [&](CountingPage* page) { source.take_back(page); });
  }),
            1u);
  return work.most;
}

TEST_F(SeedDefect, reclaiming_a_page_visits_no_other) {
  EXPECT_EQ(work_to_reclaim_one_page(1000), work_to_reclaim_one_page(10));
}

// ---- 7: relaxed orderings
// ------------------------------------------------------------------------

TEST_F(SeedDefect, the_last_writes_of_who_frees_happen_before_the_next_use) {
  using test::HappensBefore;
  using Config = ConfigOver<test::HappensBeforeAtomics>;
  HappensBefore::reset();
  FrameSource frames;
  PagedZone<FrameSource, Config> owner(frames);
  PagedZone<FrameSource, Config> other(frames);
  const Layout layout = layout_of(256);
  std::vector<void*> objects;
  for (std::size_t slot = 0; slot < ObjectPage::geometry(256).slots; ++slot) {
    objects.push_back(*owner.allocate(layout));
  }
  HappensBefore::become(1);
  const std::uint64_t last_use_of_first = HappensBefore::now();
  other.deallocate(objects[0], layout);
  other.collect();
  HappensBefore::become(2);
  const std::uint64_t last_use_of_second = HappensBefore::now();
  owner.deallocate_remote(objects[1], layout);
  HappensBefore::become(0);
  const std::set<void*> reused = {*owner.allocate(layout), *owner.allocate(layout)};
  EXPECT_EQ(reused, (std::set{objects[0], objects[1]}));
  EXPECT_TRUE(HappensBefore::has_seen(1, last_use_of_first));
  EXPECT_TRUE(HappensBefore::has_seen(2, last_use_of_second));
}

// ---- 8: frees by other threads
// -------------------------------------------------------------------

TEST_F(SeedDefect, zones_free_each_others_objects_while_both_are_at_work) {
  constexpr std::size_t count = 5'000;
  FrameSource frames;
  PagedZone<FrameSource> zones[2] = {PagedZone<FrameSource>(frames),
                                     PagedZone<FrameSource>(frames)};
  const Layout layout = layout_of(48);
  std::vector<void*> objects[2];
  for (std::size_t side = 0; side < 2; ++side) {
    for (std::size_t index = 0; index < count; ++index) {
      objects[side].push_back(*zones[side].allocate(layout));
      test::fill_pattern(objects[side].back(), 48, side);
    }
  }
  const auto work = [&](std::size_t side) {
    for (void* object : objects[1 - side]) {
      EXPECT_TRUE(test::holds_pattern(object, 48, 1 - side));
      zones[side].deallocate(object, layout);
      void* mine = *zones[side].allocate(layout);
      test::fill_pattern(mine, 48, side);
      zones[side].deallocate(mine, layout);
    }
    zones[side].collect();
  };
  std::thread thread(work, 0);
  work(1);
  thread.join();
  for (auto& zone : zones) {
    zone.collect();
    EXPECT_EQ(zone.validate(), nullptr);
    EXPECT_EQ(zone.statistics().used_bytes, 0u);
    EXPECT_EQ(zone.statistics().remote_frees, count);
    zone.trim();
  }
  EXPECT_EQ(frames.live_frames(), 0u);
}

// ---- 9: bad frees are races, corruption, or out of bounds
// ----------------------------------------

TEST_F(SeedDefect, of_two_threads_that_free_the_same_object_one_is_reported) {
  FrameSource frames;
  PagedZone<FrameSource> zone(frames);
  const Layout layout = layout_of(64);
  std::vector<void*> objects;
  for (int index = 0; index < 5'000; ++index) {
    objects.push_back(*zone.allocate(layout));
  }
  const auto free_all = [&] {
    for (void* object : objects) {
      PagedZone<FrameSource>::deallocate_remote(object, layout);
    }
  };
  std::thread thread(free_all);
  free_all();
  thread.join();
  EXPECT_EQ(misuse_.take_count(MisuseKind::DoubleFree), objects.size());
  zone.collect();
  EXPECT_EQ(zone.validate(), nullptr);
  EXPECT_EQ(zone.statistics().used_bytes, 0u);
}

TEST_F(SeedDefect, addresses_in_the_meta_data_of_a_page_are_reported) {
  for (const std::size_t size : {64u, 2048u, 112u * 1024u}) {
    FrameSource frames;
    PagedZone<FrameSource> zone(frames);
    const Layout layout = layout_of(size);
    const std::size_t frame_bytes = zone.frame_bytes(layout);
    auto* object = static_cast<std::byte*>(*zone.allocate(layout));
    auto* frame = reinterpret_cast<std::byte*>(
        align_down(reinterpret_cast<std::uintptr_t>(object), frame_bytes));
    const std::size_t slots = zone.class_statistics(zone.class_for(layout)).slots;
    const std::vector<std::byte> before(frame, frame + frame_bytes);
    std::size_t bad_calls = 0;
    for (std::size_t offset = slots * size; offset < frame_bytes; ++offset, ++bad_calls) {
      zone.deallocate(frame + offset, layout);
    }
    EXPECT_EQ(misuse_.take_count(MisuseKind::MisalignedFree), bad_calls);
    EXPECT_GE(bad_calls, sizeof(PageHeader<HardwareAtomics>));
    EXPECT_TRUE(std::equal(before.begin(), before.end(), frame));
    EXPECT_EQ(zone.validate(), nullptr);
  }
}

// ---- 10: refill writes before it checks
// ----------------------------------------------------------

TEST_F(SeedDefect, a_refill_that_fails_has_written_nothing) {
  FrameSource frames;
  SCAllocator<ObjectPage> allocator(64);
  ZoneAllocator zone;
  auto* memory = static_cast<std::byte*>(frames.frame(16 * kibibyte));
  const std::vector<std::byte> before(memory, memory + 16 * kibibyte);
  for (const std::size_t offset : {1u, 8u, 64u, 2048u, 4095u}) {
    auto* page = reinterpret_cast<ObjectPage*>(memory + offset);
    EXPECT_EQ(allocator.refill(page).error(), AllocationError::InvalidLayout);
    EXPECT_EQ(zone.refill(layout_of(64), page).error(), AllocationError::InvalidLayout);
  }
  EXPECT_TRUE(std::equal(before.begin(), before.end(), memory));
  EXPECT_EQ(misuse_.take_count(MisuseKind::InvalidPage), 10u);
}

TEST_F(SeedDefect, a_page_that_is_inserted_twice_is_noticed) {
  FrameSource frames;
  SCAllocator<ObjectPage> allocator(64);
  ZoneAllocator zone;
  auto* first = frames.page<ObjectPage>();
  auto* second = frames.page<ObjectPage>();
  ASSERT_TRUE(allocator.refill(first));
  ASSERT_TRUE(zone.refill(layout_of(64), second));
  EXPECT_FALSE(allocator.refill(first));
  EXPECT_FALSE(zone.refill(layout_of(64), second));
  EXPECT_FALSE(zone.refill(layout_of(8), second)) << "for any class of the zone";
  EXPECT_EQ(misuse_.take_count(MisuseKind::InvalidPage), 3u);
  EXPECT_EQ(allocate_all(allocator, layout_of(64)).size(), ObjectPage::geometry(64).slots);
  EXPECT_EQ(allocate_all(zone, layout_of(64)).size(), ObjectPage::geometry(64).slots);
}

// ---- 11: 32-bit targets
// --------------------------------------------------------------------------

TEST_F(SeedDefect, no_shared_word_is_wider_than_a_pointer_and_pages_are_exact) {
  using Header = PageHeader<HardwareAtomics>;
  static_assert(sizeof(Word) == sizeof(void*));
  static_assert(sizeof(Header::tag) <= sizeof(void*) &&
                sizeof(Header::announced) <= sizeof(void*) &&
                sizeof(Header::seal) <= sizeof(void*));
  static_assert(sizeof(ObjectPage) == 4096 && sizeof(LargeObjectPage) == 2097152);
  // A cell refuses what the target has no instruction for; see also the test that compiles for
  // others.
  static_assert(sizeof(HardwareAtomics::Cell<void*>) == sizeof(void*));
}

// ---- 12: all bitmaps compete for one cache set
// ---------------------------------------------------

TEST_F(SeedDefect, meta_data_beside_the_pages_spreads_over_the_cache) {
  using Table = test::SmallChunkTable<HardwareAtomics>;
  using Page = BesidePage<Table>;
  std::set<std::uintptr_t> sets;
  for (std::size_t index = 0; index < Table::chunk_count; ++index) {
    const auto address = reinterpret_cast<std::uintptr_t>(Page::header_of(Table::chunk(index)));
    sets.insert(address / 64 % 64);
  }
  EXPECT_GE(sets.size(), 48u) << "of 64 sets, for 64 pages";
}

// ---- 13: what was missing
// ------------------------------------------------------------------------

TEST_F(SeedDefect, a_zone_tells_what_it_holds) {
  FrameSource frames;
  PagedZone<FrameSource> zone(frames);
  for (int count = 0; count < 10; ++count) {
    ASSERT_TRUE(zone.allocate(layout_of(64)));
  }
  const ZoneStatistics statistics = zone.statistics();
  EXPECT_EQ(statistics.used_bytes, 640u);
  EXPECT_EQ(statistics.allocations, 10u);
  EXPECT_EQ(statistics.page_bytes + statistics.depot_bytes, frames.live_bytes());
}

TEST_F(SeedDefect, zeroed_memory_is_zero_whatever_was_there) {
  FrameSource frames;
  PagedZone<FrameSource> zone(frames);
  for (const std::size_t size : {8u, 100u, 5000u}) {
    for (std::uint64_t round = 0; round < 100; ++round) {
      void* object = *zone.allocate_zeroed(layout_of(size));
      ASSERT_TRUE(test::holds_zeroes(object, size));
      test::fill_pattern(object, size, round);
      if (round % 2 == 0) {
        zone.deallocate(object, layout_of(size));
      }
    }
  }
}

TEST_F(SeedDefect, an_empty_page_moves_to_the_class_that_needs_it) {
  FrameSource frames;
  ZoneAllocator zone;
  ASSERT_TRUE(zone.refill(layout_of(64), frames.page<ObjectPage>()));
  void* object = *zone.allocate(layout_of(64));
  EXPECT_FALSE(zone.allocate(layout_of(16))) << "the page has a live object";
  zone.deallocate(object, layout_of(64));
  EXPECT_TRUE(zone.allocate(layout_of(16)));
  EXPECT_EQ(zone.validate(), nullptr);
  EXPECT_EQ(frames.live_frames(), 1u);
}

TEST_F(SeedDefect, a_zone_that_ends_gives_its_pages_back) {
  FrameSource frames;
  {
    ScopedZone<FrameSource> zone(frames);
    for (const std::size_t size : {8u, 64u, 4096u, 100'000u}) {
      ASSERT_TRUE(zone.allocate(layout_of(size)));
    }
    EXPECT_EQ(frames.live_frames(), 4u);
  }
  EXPECT_EQ(frames.live_frames(), 0u);
}

TEST_F(SeedDefect, page_sizes_are_a_choice_of_type) {
  FrameSource frames(test::FrameContent::untouched);
  PagedZone<FrameSource, GranuleConfig<16 * kibibyte>> middle(frames);
  PagedZone<FrameSource, GranuleConfig<64 * kibibyte>> large(frames);
  EXPECT_EQ(middle.frame_bytes(layout_of(64)), 16 * kibibyte);
  EXPECT_EQ(large.frame_bytes(layout_of(64)), 64 * kibibyte);
  for (const std::size_t size : {64u, 4096u}) {
    EXPECT_TRUE(middle.allocate(layout_of(size)));
    EXPECT_TRUE(large.allocate(layout_of(size)));
  }
  EXPECT_EQ(frames.live_bytes(), 16 * kibibyte + 64 * kibibyte + 32 * mebibyte + 512 * mebibyte);
}

}  // namespace
}  // namespace slabmalloc
