// SPDX-License-Identifier: MIT
//
// A zone that is to take in all that others freed while a scavenger looks at its queue.
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

TEST(ZoneScavenging, what_a_scavenger_holds_whom_nothing_stops_is_drained_another_time) {
  FrameSource frames;
  ScopedZone<FrameSource> zone(frames);
  free_remotely(zone, 4);
  zone.scavenge_queue(fence, 9, [&](auto*) {
    zone.drain();
    EXPECT_EQ(zone.statistics().remote_frees, 0u);
    return true;
  });
  zone.drain();
  EXPECT_EQ(zone.statistics().remote_frees, 4u);
  EXPECT_FALSE(zone.has_remote_frees());
  EXPECT_EQ(zone.validate(), nullptr);
}

/// Has a mutex that scavengers hold.
struct StoppingPager : FrameSource {
  void pause_scavenging() noexcept { scavengers.lock(); }
  void resume_scavenging() noexcept { scavengers.unlock(); }
  std::mutex scavengers;
};
static_assert(ScavengingPauser<StoppingPager> && !ScavengingPauser<FrameSource>);

TEST(ZoneScavenging, a_pager_that_can_pauses_scavenging_lets_everything_be_drained) {
  StoppingPager frames;
  ScopedZone<StoppingPager> zone(frames);
  free_remotely(zone, 4);
  std::binary_semaphore is_there{0};
  std::thread scavenger([&] {
    const std::lock_guard lock(frames.scavengers);
    zone.scavenge_queue(fence, 9, [&, first = true](auto*) mutable {
      if (first) {
        is_there.release();
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
      }
      first = false;
      return true;
    });
  });
  is_there.acquire();
  zone.drain();
  EXPECT_EQ(zone.statistics().remote_frees, 4u);
  EXPECT_FALSE(zone.has_remote_frees());
  scavenger.join();
  EXPECT_TRUE(frames.scavengers.try_lock()) << "scavenging are allowed again";
  frames.scavengers.unlock();
  EXPECT_EQ(zone.validate(), nullptr);
}

}  // namespace
}  // namespace slabmalloc::test
