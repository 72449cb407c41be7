// SPDX-License-Identifier: MIT
//
// Tests of a zone that drains its remote frees while a scavenger is in its queue.
#include <gtest/gtest.h>

#include <chrono>
#include <semaphore>
#include <thread>
#include <vector>

#include "malloc/scavenged_queue.hpp"
#include "slabmalloc/zone/zone_allocator.hpp"
#include "support/frames.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc::test {
namespace {

struct ScavengedConfig : DefaultConfig {
  template <class>
  using Queue = ScavengedQueue;
};
using ScavengedZone = ScopedZone<FrameSource, ScavengedConfig>;

constexpr auto fence = [] { return true; };

/// Frees `count` of the zone's objects, on pages of their own, as another thread would.
void free_remotely(ScavengedZone& zone, std::size_t count) {
  const Layout layout = layout_of(256);
  std::vector<void*> objects;
  for (std::size_t number = 0; number < count * 16; ++number) {
    objects.push_back(zone.allocate(layout).value_or(nullptr));
  }
  for (std::size_t number = 0; number < count; ++number) {
    ScavengedZone::deallocate_remote(objects[number * 16], layout);
  }
}

TEST(ScavengedZone, postpones_a_partial_drain_while_a_scavenger_is_inside) {
  FrameSource frames;
  ScavengedZone zone(frames);
  free_remotely(zone, 4);
  zone.queue().scavenge(fence, 9, [&](auto*) {
    zone.drain_some();
    EXPECT_EQ(zone.statistics().remote_frees, 0u);
    return true;
  });
  zone.drain_some();
  EXPECT_EQ(zone.statistics().remote_frees, 4u);
  EXPECT_FALSE(zone.has_remote_frees());
  EXPECT_EQ(zone.validate(), nullptr);
}

TEST(ScavengedZone, waits_for_the_scavenger_before_it_drains_all) {
  FrameSource frames;
  ScavengedZone zone(frames);
  free_remotely(zone, 4);
  std::binary_semaphore is_there{0};
  std::thread scavenger([&] {
    const os::Lock lock(scavenger_mutex);
    zone.queue().scavenge(fence, 9, [&, first = true](auto*) mutable {
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
  EXPECT_TRUE(scavenger_mutex.try_lock()) << "the owner has unlocked it";
  scavenger_mutex.unlock();
  EXPECT_EQ(zone.validate(), nullptr);
}

}  // namespace
}  // namespace slabmalloc::test
