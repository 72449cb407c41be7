// SPDX-License-Identifier: MIT
// Zones with a pager: when pages come, when they go, and what is known of their contents.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <vector>

#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc::test {
namespace {

using Zone = PagedZone<FrameSource>;

constexpr std::size_t base_page_bytes = 4 * kibibyte;
constexpr std::size_t slots_of_64 = 63;

class PagedZoneTest : public testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(zone_.validate(), nullptr); }

  std::vector<void*> allocate(std::size_t count, Layout layout) {
    std::vector<void*> objects;
    for (std::size_t number = 0; number < count; ++number) {
      objects.push_back(zone_.allocate(layout).value_or(nullptr));
      EXPECT_NE(objects.back(), nullptr);
    }
    return objects;
  }
  void free(const std::vector<void*>& objects, Layout layout) {
    for (void* object : objects) {
      zone_.deallocate(object, layout);
    }
  }

  const Layout layout_ = layout_of(64);
  FrameSource frames_;
  Zone zone_{frames_};
  MisuseRecorder misuse_;
};

// ---- asking for pages
// ------------------------------------------------------------------------------

TEST_F(PagedZoneTest, asks_for_a_frame_only_when_nothing_is_free) {
  for (std::size_t pages = 1; pages <= 5; ++pages) {
    allocate(slots_of_64, layout_);
    EXPECT_EQ(frames_.calls(), pages);
  }
}

TEST_F(PagedZoneTest, fills_freed_slots_before_it_asks) {
  std::vector<void*> objects = allocate(10 * slots_of_64, layout_);
  std::vector<void*> freed;
  for (std::size_t position = 0; position < objects.size(); position += 3) {
    freed.push_back(objects[position]);
  }
  free(freed, layout_);
  const std::size_t calls = frames_.calls();
  allocate(freed.size(), layout_);
  EXPECT_EQ(frames_.calls(), calls) << "no slot stays unused while the class grows";
  allocate(1, layout_);
  EXPECT_EQ(frames_.calls(), calls + 1);
}

TEST_F(PagedZoneTest, fills_slots_freed_by_others_before_it_asks) {
  const std::vector<void*> objects = allocate(10 * slots_of_64, layout_);
  for (std::size_t position = 0; position < objects.size(); position += 3) {
    Zone::deallocate_remote(objects[position], layout_);
  }
  const std::size_t calls = frames_.calls();
  allocate((objects.size() + 2) / 3, layout_);
  EXPECT_EQ(frames_.calls(), calls);
}

TEST_F(PagedZoneTest, takes_in_all_frees_by_others_before_memory_is_out) {
  // More pages than one slow path drains, all freed by others, and a pager with nothing left.
  constexpr std::size_t pages = 100;
  const std::vector<void*> objects = allocate(pages * slots_of_64, layout_);
  frames_.set_limit(frames_.live_bytes());
  for (void* object : objects) {
    Zone::deallocate_remote(object, layout_);
  }
  EXPECT_TRUE(zone_.allocate(layout_of(256))) << "pages freed by others serve another class";
  allocate((pages - 1) * slots_of_64, layout_);
  EXPECT_FALSE(zone_.allocate(layout_));
}

TEST_F(PagedZoneTest, empty_pages_move_between_classes_before_it_asks) {
  free(allocate(4 * slots_of_64, layout_), layout_);
  zone_.settle();
  const std::size_t calls = frames_.calls();
  const std::size_t pages = frames_.live_frames();
  for (const std::size_t size : {16u, 32u, 128u, 256u}) {
    ASSERT_TRUE(zone_.allocate(layout_of(size)));
  }
  EXPECT_EQ(frames_.calls(), calls) << "four empty pages serve four classes";
  EXPECT_EQ(frames_.live_frames(), pages);
}

TEST(PagedZoneWithoutReserve, has_what_it_gave_back_on_the_way_to_exhaustion) {
  FrameSource frames;
  ScopedZone<FrameSource, EagerConfig> zone(frames);
  std::vector<void*> objects;
  while (objects.size() < 40 * slots_of_64) {
    objects.push_back(zone.allocate(layout_of(64)).value_or(nullptr));
  }
  frames.set_limit(frames.live_bytes());
  // Others empty one half of the pages, and then free one object of each in the other half: these
  // are taken in first, and none of them is empty. The rest goes back to the pager, which has none
  // till then.
  for (std::size_t position = 0; position < objects.size(); ++position) {
    if (position < objects.size() / 2 || position % slots_of_64 == 0) {
      zone.deallocate_remote(objects[position], layout_of(64));
    }
  }
  EXPECT_TRUE(zone.allocate(layout_of(256)));
}

TEST_F(PagedZoneTest, an_empty_page_that_another_class_allocates_from_serves_when_memory_is_out) {
  frames_.set_limit(base_page_bytes);
  free(allocate(1, layout_), layout_);
  EXPECT_TRUE(zone_.allocate(layout_of(128))) << "the only page is wholly empty";
}

// ---- giving pages back
// -----------------------------------------------------------------------------

TEST_F(PagedZoneTest, a_pair_at_the_edge_of_a_page_does_not_go_to_the_pager) {
  for (const std::size_t pages : {1u, 2u, 7u, 20u}) {
    const std::vector<void*> objects = allocate(pages * slots_of_64, layout_);
    free(allocate(1, layout_), layout_);
    const std::size_t calls = frames_.calls();
    const std::size_t live = frames_.live_frames();
    for (int count = 0; count < 1000; ++count) {
      free(allocate(1, layout_), layout_);
    }
    EXPECT_EQ(frames_.calls(), calls);
    EXPECT_EQ(frames_.live_frames(), live);
    free(objects, layout_);
  }
}

TEST_F(PagedZoneTest, bursts_of_a_page_at_the_edge_do_not_go_to_the_pager) {
  allocate(3 * slots_of_64, layout_);
  for (const std::size_t burst : {slots_of_64, 2 * slots_of_64, 3 * slots_of_64}) {
    free(allocate(burst, layout_), layout_);
    const std::size_t calls = frames_.calls();
    for (int count = 0; count < 100; ++count) {
      free(allocate(burst, layout_), layout_);
    }
    EXPECT_EQ(frames_.calls(), calls) << burst;
  }
}

TEST_F(PagedZoneTest, pairs_of_one_object_pages_do_not_go_to_the_pager_again_and_again) {
  struct OneSlotConfig : DefaultConfig {
    using Pages = PageKinds<PageKind<ObjectPage, 256>, PageKind<EmbeddedPage<256 * kibibyte>, 0>>;
  };
  FrameSource frames;
  ScopedZone<FrameSource, OneSlotConfig> zone(frames);
  const Layout layout = layout_of(128 * kibibyte);
  void* kept = zone.allocate(layout).value_or(nullptr);
  ASSERT_NE(kept, nullptr);
  for (int count = 0; count < 100; ++count) {
    void* object = zone.allocate(layout).value_or(nullptr);
    ASSERT_NE(object, nullptr);
    zone.deallocate(object, layout);
  }
  EXPECT_LE(frames.calls(), 3u);
}

TEST_F(PagedZoneTest, keeps_few_empty_pages) {
  free(allocate(200 * slots_of_64, layout_), layout_);
  zone_.settle();
  EXPECT_LE(frames_.live_frames(),
            DefaultConfig::idle_pages_per_class + DefaultConfig::depot_pages);
}

TEST_F(PagedZoneTest, gives_back_pages_that_others_empty) {
  for (void* object : allocate(200 * slots_of_64, layout_)) {
    Zone::deallocate_remote(object, layout_);
  }
  zone_.settle();
  EXPECT_LE(frames_.live_frames(),
            DefaultConfig::idle_pages_per_class + DefaultConfig::depot_pages);
}

TEST_F(PagedZoneTest, takes_in_what_others_free_though_it_needs_no_further_page) {
  constexpr std::size_t most_frames = 2 + DefaultConfig::idle_pages_per_class + DefaultConfig::depot_pages;
  for (const std::size_t bytes : {std::size_t{64}, std::size_t{512}}) {
    SCOPED_TRACE(bytes);
    const Layout layout = layout_of(bytes);
    // 200 pages of 4 KiB, or 12 of 2 MiB.
    for (void* object : allocate(bytes == 64 ? 200 * slots_of_64 : 12 * 4064, layout)) {
      Zone::deallocate_remote(object, layout);
    }
    std::vector<void*> ring = allocate(60, layout);
    for (std::size_t step = 0; step < 200'000; ++step) {
      void*& oldest = ring[step % ring.size()];
      zone_.deallocate(oldest, layout);
      oldest = zone_.allocate(layout).value_or(nullptr);
    }
    EXPECT_LE(frames_.live_frames(), most_frames);
    free(ring, layout);
    zone_.trim();
  }
}

TEST_F(PagedZoneTest, trim_gives_back_every_empty_page_and_says_how_many_bytes) {
  const std::vector<void*> small = allocate(10 * slots_of_64, layout_);
  const std::vector<void*> large = allocate(100, layout_of(32 * kibibyte));
  void* kept = allocate(1, layout_of(128))[0];
  free(small, layout_);
  free(large, layout_of(32 * kibibyte));
  const std::size_t before = frames_.live_bytes();
  EXPECT_EQ(zone_.trim(), before - base_page_bytes);
  EXPECT_EQ(frames_.live_bytes(), base_page_bytes) << "one page has a live object";
  zone_.deallocate(kept, layout_of(128));
  EXPECT_EQ(zone_.trim(), base_page_bytes);
  EXPECT_EQ(zone_.trim(), 0u);
  EXPECT_EQ(frames_.live_frames(), 0u);
  allocate(1, layout_);
}

TEST_F(PagedZoneTest, trim_delivers_what_it_withholds_and_takes_in_what_others_freed) {
  Zone other(frames_);
  void* mine = allocate(1, layout_)[0];
  void* theirs = other.allocate(layout_).value_or(nullptr);
  zone_.deallocate(theirs, layout_);
  Zone::deallocate_remote(mine, layout_);
  zone_.trim();
  EXPECT_EQ(other.trim(), base_page_bytes);
  EXPECT_EQ(frames_.live_frames(), 0u);
}

TEST_F(PagedZoneTest, a_scoped_zone_returns_all_frames_whatever_lives_in_them) {
  {
    ScopedZone<FrameSource> zone(frames_);
    for (std::size_t size = 1; size <= Zone::MAX_ALLOC_SIZE; size = size * 3 / 2 + 1) {
      void* object = zone.allocate(layout_of(size)).value_or(nullptr);
      ASSERT_NE(object, nullptr);
      if (size % 2 == 0) {
        zone.deallocate(object, layout_of(size));
      }
    }
    for (int count = 0; count < 1000; ++count) {
      ASSERT_TRUE(zone.allocate(layout_));
    }
    EXPECT_GT(frames_.live_frames(), 20u);
  }
  EXPECT_EQ(frames_.live_frames(), 0u);
}

TEST_F(PagedZoneTest, release_all_leaves_a_zone_that_works) {
  allocate(1000, layout_);
  allocate(3, layout_of(1000));
  zone_.release_all(
      [&](void* frame, std::size_t bytes) { frames_.deallocate_frame(frame, bytes); });
  EXPECT_EQ(frames_.live_frames(), 0u);
  EXPECT_EQ(zone_.validate(), nullptr);
  const std::vector<void*> objects = allocate(1000, layout_);
  free(objects, layout_);
  zone_.trim();
  EXPECT_EQ(frames_.live_frames(), 0u);
}

// ---- zeroes
// ----------------------------------------------------------------------------------------

TEST(PagedZoneZeroes, allocate_zeroed_is_zero_however_its_slot_was_used) {
  for (const FrameContent content : {FrameContent::zero, FrameContent::garbage}) {
    FrameSource frames(content);
    ScopedZone<FrameSource> zone(frames);
    for (const std::size_t size : {8u, 64u, 100u, 5000u}) {
      const Layout layout = layout_of(size);
      std::vector<void*> objects;
      for (int round = 0; round < 500; ++round) {
        void* object = zone.allocate_zeroed(layout).value_or(nullptr);
        ASSERT_NE(object, nullptr);
        ASSERT_TRUE(holds_zeroes(object, size)) << "round " << round;
        std::memset(object, 0xFF, size);
        objects.push_back(object);
        if (round % 3 == 0) {  // Dirty slots come back in the midst of the first sweep.
          zone.deallocate(objects[objects.size() / 2], layout);
          objects.erase(objects.begin() + static_cast<std::ptrdiff_t>(objects.size() / 2));
        }
        if (round % 5 == 1) {
          PagedZone<FrameSource>::deallocate_remote(objects.back(), layout);
          objects.pop_back();
        }
        if (round % 50 == 0) {
          zone.collect();
        }
      }
    }
  }
}

/// Says of every frame that it is zeroed, and fills it with ones: shows what is not written again.
struct LyingPager {
  Frame allocate_frame(std::size_t bytes) noexcept {
    void* frame = frames.frame(bytes);
    std::memset(frame, 0xFF, bytes);
    return {frame, true};
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    frames.deallocate_frame(frame, bytes);
  }
  Frame allocate_run(std::size_t bytes, std::size_t alignment) noexcept {
    void* run = frames.allocate_run(bytes, alignment).address;
    std::memset(run, 0xFF, bytes);
    return {run, true};
  }
  void deallocate_run(void* run, std::size_t bytes, std::size_t alignment) noexcept {
    frames.deallocate_run(run, bytes, alignment);
  }
  FrameSource frames;
};

TEST(PagedZoneZeroes, fresh_memory_that_is_known_to_be_zero_is_not_written_again) {
  LyingPager pager;
  ScopedZone<LyingPager> zone(pager);
  for (const std::size_t size : {8u, 64u, 256u, 5000u}) {
    const Layout layout = layout_of(size);
    std::size_t fresh = 0;
    for (int count = 0; count < 200; ++count) {
      void* object = zone.allocate_zeroed(layout).value_or(nullptr);
      ASSERT_NE(object, nullptr);
      fresh += holds_zeroes(object, size) ? 0u : 1u;
    }
    EXPECT_EQ(fresh, 200u) << size;
  }
}

TEST(PagedZoneZeroes, slots_used_before_are_written_again_even_in_a_page_that_came_zeroed) {
  LyingPager pager;
  ScopedZone<LyingPager> zone(pager);
  const Layout layout = layout_of(64);
  std::vector<void*> objects;
  for (std::size_t count = 0; count < slots_of_64; ++count) {
    objects.push_back(zone.allocate(layout).value_or(nullptr));
  }
  zone.deallocate(objects[5], layout);
  zone.deallocate(objects[62], layout);
  void* again = zone.allocate_zeroed(layout).value_or(nullptr);
  ASSERT_NE(again, nullptr);
  EXPECT_TRUE(holds_zeroes(again, 64));
}

TEST(PagedZoneZeroes, a_page_that_moved_to_another_class_is_not_fresh) {
  LyingPager pager;
  ScopedZone<LyingPager> zone(pager);
  zone.deallocate(zone.allocate(layout_of(64)).value_or(nullptr), layout_of(64));
  zone.settle();
  const std::size_t calls = pager.frames.calls();
  void* object = zone.allocate_zeroed(layout_of(128)).value_or(nullptr);
  ASSERT_NE(object, nullptr);
  ASSERT_EQ(pager.frames.calls(), calls);
  EXPECT_TRUE(holds_zeroes(object, 128));
}

TEST(PagedZoneZeroes, runs_that_come_zeroed_are_not_written_again) {
  LyingPager pager;
  ScopedZone<LyingPager> zone(pager);
  const Layout layout = layout_of(200 * kibibyte);
  void* run = zone.allocate_zeroed(layout).value_or(nullptr);
  ASSERT_NE(run, nullptr);
  EXPECT_FALSE(holds_zeroes(run, 1));
  zone.deallocate(run, layout);
}

// ---- above the classes
// -----------------------------------------------------------------------------

TEST_F(PagedZoneTest, requests_above_the_classes_are_runs_of_their_own) {
  for (const std::size_t size : {Zone::MAX_ALLOC_SIZE + 1, std::size_t{1} * mebibyte}) {
    for (const std::size_t alignment : {1u, 64u, 4096u, 65536u}) {
      const Layout layout = layout_of(size, alignment);
      EXPECT_EQ(Zone::usable_size(layout), 0u);
      void* run = zone_.allocate_zeroed(layout).value_or(nullptr);
      ASSERT_NE(run, nullptr);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(run) % alignment, 0u);
      EXPECT_TRUE(holds_zeroes(run, size)) << "garbage came from the pager";
      EXPECT_EQ(frames_.live_bytes(), size);
      zone_.deallocate(run, layout);
      EXPECT_EQ(frames_.live_bytes(), 0u);
    }
  }
}

TEST_F(PagedZoneTest, an_alignment_above_the_classes_is_a_run_too) {
  const Layout layout = layout_of(100, 256 * kibibyte);
  void* run = zone_.allocate(layout).value_or(nullptr);
  ASSERT_NE(run, nullptr);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(run) % layout.align(), 0u);
  zone_.deallocate(run, layout);
  EXPECT_EQ(frames_.live_bytes(), 0u);
}

TEST_F(PagedZoneTest, reallocate_moves_between_slots_and_runs_and_keeps_the_bytes) {
  const Layout sizes[] = {layout_of(100),    layout_of(112),          layout_of(4000),
                          layout_of(300000), layout_of(1 * mebibyte), layout_of(50)};
  Layout layout = layout_of(40);
  void* block = zone_.allocate(layout).value_or(nullptr);
  fill_pattern(block, layout.size(), 1);
  for (const Layout next : sizes) {
    block = zone_.reallocate(block, layout, next).value_or(nullptr);
    ASSERT_NE(block, nullptr);
    const std::size_t kept = layout.size() < next.size() ? layout.size() : next.size();
    EXPECT_TRUE(holds_pattern(block, kept, 1));
    fill_pattern(block, next.size(), 1);
    layout = next;
  }
  zone_.deallocate(block, layout);
  zone_.trim();
  EXPECT_EQ(frames_.live_frames(), 0u);
}

/// A pager of frames alone.
struct PlainPager {
  void* allocate_frame(std::size_t bytes) noexcept { return frames.frame(bytes); }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    frames.deallocate_frame(frame, bytes);
  }
  FrameSource frames;
};

TEST(PagedZoneWithoutRuns, requests_above_the_classes_are_invalid) {
  PlainPager pager;
  ScopedZone<PlainPager> zone(pager);
  const Layout layout = layout_of(zone.MAX_ALLOC_SIZE + 1);
  EXPECT_EQ(zone.allocate(layout).error(), AllocationError::InvalidLayout);
  EXPECT_EQ(zone.allocate_zeroed(layout).error(), AllocationError::InvalidLayout);
  EXPECT_EQ(zone.allocate(layout_of(8, 256 * kibibyte)).error(), AllocationError::InvalidLayout);
  void* object = zone.allocate(layout_of(64)).value_or(nullptr);
  fill_pattern(object, 64, 3);
  EXPECT_EQ(zone.reallocate(object, layout_of(64), layout).error(), AllocationError::InvalidLayout);
  EXPECT_TRUE(holds_pattern(object, 64, 3));
  EXPECT_EQ(pager.frames.calls(), 1u) << "the pager is not asked in vain";
}

}  // namespace
}  // namespace slabmalloc::test
