// SPDX-License-Identifier: MIT
//
// Tests that known defects of slabmalloc 0.11.0 are absent. These tests need threads, or a count of
// operations on shared words (CountingAtomics). The other defects have scenarios.
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

// ---- 5: full pages are searched -----------------------------------------------------------------

/// The most work of one call on full pages of one object, where one page at a time has a free slot.
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

TEST_F(SeedDefect, full_pages_of_one_object_are_not_searched) {
  EXPECT_EQ(most_work_with_one_object_pages(1000), most_work_with_one_object_pages(10));
}

// ---- 6: growing and reclaiming search all pages -------------------------------------------------

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

/// The work of reclaiming one of so many empty pages, while as many pages are in use.
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

TEST_F(SeedDefect, reclaiming_a_page_touches_no_other) {
  EXPECT_EQ(work_to_reclaim_one_page(1000), work_to_reclaim_one_page(10));
}

// ---- 7: relaxed orderings -----------------------------------------------------------------------

TEST_F(SeedDefect, writes_before_a_free_happen_before_the_next_use) {
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
  other.drain();
  HappensBefore::become(2);
  const std::uint64_t last_use_of_second = HappensBefore::now();
  owner.deallocate_remote(objects[1], layout);
  HappensBefore::become(0);
  const std::set<void*> reused = {*owner.allocate(layout), *owner.allocate(layout)};
  EXPECT_EQ(reused, (std::set{objects[0], objects[1]}));
  EXPECT_TRUE(HappensBefore::has_seen(1, last_use_of_first));
  EXPECT_TRUE(HappensBefore::has_seen(2, last_use_of_second));
}

// ---- 8: frees by other threads ------------------------------------------------------------------

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
    zones[side].drain();
  };
  std::thread thread(work, 0);
  work(1);
  thread.join();
  for (auto& zone : zones) {
    zone.drain();
    EXPECT_EQ(zone.validate(), nullptr);
    EXPECT_EQ(zone.statistics().used_bytes, 0u);
    EXPECT_EQ(zone.statistics().remote_frees, count);
    zone.trim();
  }
  EXPECT_EQ(frames.live_frames(), 0u);
}

// ---- 9: bad frees are races, corruption, or out of bounds ---------------------------------------

TEST_F(SeedDefect, one_of_two_threads_that_free_the_same_object_is_reported) {
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
  zone.drain();
  EXPECT_EQ(zone.validate(), nullptr);
  EXPECT_EQ(zone.statistics().used_bytes, 0u);
}

// ---- 11: 32-bit targets -------------------------------------------------------------------------

TEST_F(SeedDefect, no_shared_word_is_wider_than_a_pointer_and_pages_are_exact) {
  using Header = PageHeader<HardwareAtomics>;
  static_assert(sizeof(Word) == sizeof(void*));
  static_assert(sizeof(Header::tag) <= sizeof(void*) &&
                sizeof(Header::announced) <= sizeof(void*) &&
                sizeof(Header::seal) <= sizeof(void*));
  static_assert(sizeof(ObjectPage) == 4096 && sizeof(LargeObjectPage) == 2097152);
  // A cell refuses a type without instructions on the target. Another test compiles for other
  // targets.
  static_assert(sizeof(HardwareAtomics::Cell<void*>) == sizeof(void*));
}

// ---- 12: all bitmaps compete for one cache set --------------------------------------------------

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

}  // namespace
}  // namespace slabmalloc
