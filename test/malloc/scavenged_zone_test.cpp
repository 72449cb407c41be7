// SPDX-License-Identifier: MIT
//
// Tests of a zone whose owner goes on while a scavenger holds the lock of its queue.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
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

class ScavengedZoneTest : public ::testing::Test {
 protected:
  using Zone = ScopedZone<FrameSource, ScavengedConfig>;

  void* allocate() { return zone_.allocate(layout_).value_or(nullptr); }

  /// Runs `work` in another thread while a scavenger is there for a while; true if `work` waits
  /// until the scavenger has gone.
  bool waits_for_scavenger(const std::function<void()>& work) {
    scavenger_mutex.lock();
    EXPECT_TRUE(zone_.queue().scavenger_lock().try_lock_scavenger([] { return true; }));
    std::atomic<bool> is_done{false};
    std::thread owner([&] {
      work();
      is_done = true;
    });
    for (int count = 0; count < 50 && !is_done; ++count) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    const bool waits = !is_done;
    zone_.queue().scavenger_lock().unlock_scavenger();
    scavenger_mutex.unlock();
    owner.join();
    EXPECT_EQ(zone_.validate(), nullptr);
    return waits;
  }

  FrameSource frames_;
  Zone zone_{frames_};
  const Layout layout_ = layout_of(2048);
};

TEST_F(ScavengedZoneTest, a_claim_waits_for_the_scavenger) {
  EXPECT_TRUE(waits_for_scavenger([&] { allocate(); }));
}

TEST_F(ScavengedZoneTest, an_issue_a_free_and_a_drain_do_not_wait) {
  std::vector<void*> objects;
  for (int count = 0; count < 120; ++count) {
    objects.push_back(allocate());
  }
  zone_.deallocate(allocate(), layout_);
  Zone::deallocate_remote(objects[0], layout_);
  objects.erase(objects.begin());
  EXPECT_FALSE(waits_for_scavenger([&] {
    for (int count = 0; count < 6; ++count) {
      objects.push_back(allocate());
      zone_.deallocate(objects[0], layout_);
      objects.erase(objects.begin());
    }
    zone_.drain();
  })) << "a claim takes 16 objects of this size after 112 objects";
  EXPECT_EQ(zone_.statistics().remote_frees, 1u);
}

TEST_F(ScavengedZoneTest, leaving_the_current_page_waits_and_so_does_giving_pages_back) {
  void* const object = allocate();
  EXPECT_TRUE(waits_for_scavenger([&] { zone_.drain_and_leave_current(); }));
  zone_.deallocate(object, layout_);
  EXPECT_TRUE(waits_for_scavenger([&] { zone_.trim(); }));
}

}  // namespace
}  // namespace slabmalloc::test
