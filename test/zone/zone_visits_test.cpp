// SPDX-License-Identifier: MIT
//
// A zone that is to take in all that others freed while a visitor looks at its queue.
#include <gtest/gtest.h>

#include <chrono>
#include <mutex>
#include <semaphore>
#include <thread>
#include <vector>

#include "support/frames.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc::test {
namespace {

constexpr auto fence = [] { return true; };

/// Frees `count` of the zone's objects, on pages of their own, as another thread would.
template <class Zone>
void free_remotely(Zone& zone, std::size_t count) {
  const Layout layout = layout_of(256);
  std::vector<void*> objects;
  for (std::size_t number = 0; number < count * 16; ++number) {
    objects.push_back(zone.allocate(layout).value_or(nullptr));
  }
  for (std::size_t number = 0; number < count; ++number) {
    Zone::deallocate_remote(objects[number * 16], layout);
  }
}

TEST(ZoneVisits, what_a_visitor_holds_whom_nothing_stops_is_collected_another_time) {
  FrameSource frames;
  ScopedZone<FrameSource> zone(frames);
  free_remotely(zone, 4);
  zone.visit_queue(fence, 9, [&](auto*) {
    zone.collect();
    EXPECT_EQ(zone.statistics().remote_frees, 0u);
    return true;
  });
  zone.collect();
  EXPECT_EQ(zone.statistics().remote_frees, 4u);
  EXPECT_FALSE(zone.has_mail());
  EXPECT_EQ(zone.validate(), nullptr);
}

/// Has a mutex that visitors hold.
struct StoppingPager : FrameSource {
  void stop_visits() noexcept { visitors.lock(); }
  void resume_visits() noexcept { visitors.unlock(); }
  std::mutex visitors;
};
static_assert(VisitStopper<StoppingPager> && !VisitStopper<FrameSource>);

TEST(ZoneVisits, a_pager_that_can_stop_visits_lets_everything_be_collected) {
  StoppingPager frames;
  ScopedZone<StoppingPager> zone(frames);
  free_remotely(zone, 4);
  std::binary_semaphore is_there{0};
  std::thread visitor([&] {
    const std::lock_guard lock(frames.visitors);
    zone.visit_queue(fence, 9, [&, first = true](auto*) mutable {
      if (first) {
        is_there.release();
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
      }
      first = false;
      return true;
    });
  });
  is_there.acquire();
  zone.collect();
  EXPECT_EQ(zone.statistics().remote_frees, 4u);
  EXPECT_FALSE(zone.has_mail());
  visitor.join();
  EXPECT_TRUE(frames.visitors.try_lock()) << "visits are allowed again";
  frames.visitors.unlock();
  EXPECT_EQ(zone.validate(), nullptr);
}

}  // namespace
}  // namespace slabmalloc::test
