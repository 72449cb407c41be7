// SPDX-License-Identifier: MIT
//
// Tests a double free that is incomplete while the owner gives the slot's page up. A page in that
// state must stay, since the free still writes to it.
#include <gtest/gtest.h>

#include <functional>
#include <semaphore>
#include <thread>
#include <utility>
#include <vector>

#include "slabmalloc/slabmalloc.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

/// Atomics that let a test act between two steps of an owner, and stop a thread between two of its
/// own.
struct SteppedAtomics {
  /// The owner calls this after its next exchange.
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

TEST(LateDoubleFree, pins_its_page_when_the_page_becomes_idle_meanwhile) {
  using Page = EmbeddedPage<4 * kibibyte, SteppedAtomics>;
  test::FrameSource frames;
  test::MisuseRecorder misuse;
  SCAllocator<Page> allocator(32);
  ASSERT_TRUE(allocator.refill(frames.page<Page>()));
  ASSERT_TRUE(allocator.refill(frames.page<Page>()));
  const Layout layout = Layout::from_size_align(32, 8).value();
  const std::size_t slots = Page::geometry(32).slots;
  std::vector<void*> objects;
  // One more than a page has slots: the first page is full and not current.
  for (std::size_t count = 0; count <= slots; ++count) {
    objects.push_back(allocator.allocate(layout).value());
  }
  for (std::size_t index = 0; index < slots; ++index) {
    allocator.deallocate_remote(objects[index], layout);
  }
  // The owner exchanges the queue, the announcement and the page's first word. After the third,
  // another thread sets a bit in that word and stops.
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
  allocator.drain();
  ASSERT_TRUE(other.joinable());
  const auto nothing_of_it = [](Page*) {};
  EXPECT_EQ(allocator.try_reclaim_pages(2, nothing_of_it), 0u);
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  SteppedAtomics::may_announce.release();
  other.join();
  allocator.drain();
  EXPECT_EQ(allocator.validate(), nullptr);
  EXPECT_EQ(allocator.try_reclaim_pages(2, nothing_of_it), 1u);
}

/// The page may not hand the slot off, since the announced free may be of that slot.
TEST(LateDoubleFree, is_reported_where_slots_are_handed_off) {
  test::FrameSource frames;
  test::MisuseRecorder misuse;
  ScopedZone<test::FrameSource> zone(frames);
  const Layout layout = Layout::from_size_align(64, 8).value();
  std::vector<void*> objects;
  for (std::size_t count = 0; count < 4 * 63; ++count) {
    objects.push_back(zone.allocate(layout).value_or(nullptr));
  }
  void* const first = objects[2 * 63 + 1];
  zone.deallocate(first, layout);
  ASSERT_EQ(zone.allocate(layout).value_or(nullptr), first) << "slots are handed off now";
  void* const twice = objects[2 * 63 + 3];
  zone.deallocate_remote(twice, layout);
  zone.deallocate(twice, layout);
  std::size_t issued = zone.allocate(layout).value_or(nullptr) == twice ? 1u : 0u;
  zone.drain_some();
  for (std::size_t count = 0; count < 300; ++count) {
    issued += zone.allocate(layout).value_or(nullptr) == twice ? 1u : 0u;
  }
  EXPECT_EQ(misuse.take_count(MisuseKind::DoubleFree), 1u);
  EXPECT_EQ(issued, 1u);
  EXPECT_EQ(zone.validate(), nullptr);
}

}  // namespace
}  // namespace slabmalloc
