// SPDX-License-Identifier: MIT
//
// Double frees that are under way, or not collected yet, at the moments when they would do most harm:
// when a page is given up and when the slot is issued again.
#include <gtest/gtest.h>

#include <functional>
#include <semaphore>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "slabmalloc/slabmalloc.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

/// Atomics that let a test act between two of an owner's steps and hold up a thread between two of its.
struct SteppedAtomics {
  /// Called after the owner's next exchange.
  static inline std::function<void()> after_exchange;
  static inline thread_local bool is_other = false;
  static inline std::binary_semaphore bit_is_set{0};
  static inline std::binary_semaphore may_announce{0};

  template <class T>
  class Cell : public HardwareAtomics::Cell<T> {
   public:
    using Base = HardwareAtomics::Cell<T>;
    using Base::Base;

    T exchange(T value, Order order) noexcept {
      const T old = Base::exchange(value, order);
      if (!is_other && after_exchange) {
        std::exchange(after_exchange, nullptr)();
      }
      return old;
    }
    T fetch_or(T value, Order order) noexcept {
      const T old = Base::fetch_or(value, order);
      if (is_other) {
        bit_is_set.release();
        may_announce.acquire();
      }
      return old;
    }
  };
};

TEST(LateDoubleFree, under_way_when_its_page_becomes_idle_keeps_the_page) {
  using Page = EmbeddedPage<4 * kibibyte, SteppedAtomics>;
  test::FrameSource frames;
  test::MisuseRecorder misuse;
  SCAllocator<Page> allocator(32);
  ASSERT_TRUE(allocator.refill(frames.page<Page>()));
  ASSERT_TRUE(allocator.refill(frames.page<Page>()));
  const Layout layout = Layout::from_size_align(32, 8).value();
  const std::size_t slots = Page::geometry(32).slots;
  std::vector<void*> objects;
  // One more than a page has: the first page is full and not current.
  for (std::size_t count = 0; count <= slots; ++count) {
    objects.push_back(allocator.allocate(layout).value());
  }
  for (std::size_t index = 0; index < slots; ++index) {
    allocator.deallocate_remote(objects[index], layout);
  }
  // The owner's exchanges: the inbox, the announcement, the page's first word. After that one another
  // thread sets a bit there, and gets no further.
  std::thread other;
  const auto free_again = [&] {
    other = std::thread([&] {
      SteppedAtomics::is_other = true;
      allocator.deallocate_remote(objects[0], layout);
    });
    SteppedAtomics::bit_is_set.acquire();
  };
  SteppedAtomics::after_exchange = [&] {
    SteppedAtomics::after_exchange = [&] { SteppedAtomics::after_exchange = free_again; };
  };
  allocator.collect();
  ASSERT_TRUE(other.joinable());
  const auto nothing_of_it = [](Page*) {};
  EXPECT_EQ(allocator.try_reclaim_pages(2, nothing_of_it), 0u);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  SteppedAtomics::may_announce.release();
  other.join();
  allocator.collect();
  EXPECT_EQ(allocator.validate(), nullptr);
  EXPECT_EQ(allocator.try_reclaim_pages(2, nothing_of_it), 1u);
}

struct HardenedConfig : DefaultConfig {
  static constexpr bool hardened = true;
};

TEST(LateDoubleFree, of_a_slot_about_to_be_issued_is_reported_by_a_hardened_zone) {
  test::FrameSource frames;
  test::MisuseRecorder misuse;
  BasicZoneAllocator<HardenedConfig> zone;
  const Layout layout = Layout::from_size_align(64, 8).value();
  ASSERT_TRUE(zone.refill(layout, frames.page<ObjectPage>()));
  ASSERT_TRUE(zone.refill(layout, frames.page<ObjectPage>()));
  void* object = zone.allocate(layout).value();
  zone.deallocate(object, layout);
  zone.deallocate_remote(object, layout);
  std::set<void*> live;
  for (int round = 0; round < 2; ++round) {
    while (const auto next = zone.allocate(layout)) {
      EXPECT_TRUE(live.insert(next.value()).second) << "given to two clients";
    }
    zone.collect();
  }
  EXPECT_EQ(live.size(), 2 * ObjectPage::geometry(64).slots);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  EXPECT_EQ(zone.validate(), nullptr);
}

TEST(LateDoubleFree, of_a_slot_in_a_word_about_to_be_selected_is_reported_by_any_zone) {
  test::FrameSource frames;
  test::MisuseRecorder misuse;
  ZoneAllocator zone;
  // Three words to a page.
  const Layout layout = Layout::from_size_align(24, 8).value();
  ASSERT_TRUE(zone.refill(layout, frames.page<ObjectPage>()));
  std::vector<void*> objects;
  while (const auto next = zone.allocate(layout)) {
    objects.push_back(next.value());
  }
  void* last = objects.back();
  for (void* object : objects) {
    zone.deallocate(object, layout);
  }
  // The page is current again, and its last word not selected yet.
  std::set<void*> live{zone.allocate(layout).value()};
  zone.deallocate_remote(last, layout);
  for (int round = 0; round < 2; ++round) {
    while (const auto next = zone.allocate(layout)) {
      EXPECT_TRUE(live.insert(next.value()).second) << "given to two clients";
    }
    zone.collect();
  }
  EXPECT_EQ(live.size(), objects.size());
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  EXPECT_EQ(zone.validate(), nullptr);
}

TEST(LateDoubleFree, gathered_by_another_zone_does_not_touch_a_page_that_was_given_to_another_class) {
  test::FrameSource frames;
  test::MisuseRecorder misuse;
  ZoneAllocator owner;
  ZoneAllocator other;
  const Layout layout = Layout::from_size_align(64, 8).value();
  const Layout other_layout = Layout::from_size_align(32, 8).value();
  auto* page = frames.page<ObjectPage>();
  ASSERT_TRUE(owner.refill(layout, page));
  void* object = owner.allocate(layout).value();
  other.deallocate(object, layout);
  ASSERT_EQ(other.statistics().withheld_bytes, 64u);
  owner.deallocate(object, layout);
  ASSERT_EQ(owner.try_reclaim_base_pages(1, [](ObjectPage*) {}), 1u);
  ASSERT_TRUE(owner.refill(other_layout, page));
  while (owner.allocate(other_layout)) {
  }
  other.collect();
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  owner.collect();
  EXPECT_FALSE(owner.allocate(other_layout)) << "an object in use was given out again";
  EXPECT_EQ(owner.validate(), nullptr);
}

}  // namespace
}  // namespace slabmalloc
