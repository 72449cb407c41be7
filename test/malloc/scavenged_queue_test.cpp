// SPDX-License-Identifier: MIT
#include "malloc/scavenged_queue.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace slabmalloc {
namespace {

constexpr auto fence = [] { return true; };

TEST(ScavengedQueue, admits_no_scavenger_while_the_owner_is_inside) {
  ScavengedQueue queue;
  queue.lock();
  queue.lock();
  queue.unlock();
  EXPECT_FALSE(queue.scavenger_lock().try_lock_scavenger(fence)) << "it was locked twice";
  queue.unlock();
  EXPECT_TRUE(queue.scavenger_lock().try_lock_scavenger(fence));
  EXPECT_TRUE(queue.scavenger_lock().has_scavenger());
  queue.scavenger_lock().unlock_scavenger();
  EXPECT_FALSE(queue.scavenger_lock().has_scavenger());
}

TEST(ScavengedQueue, admits_no_scavenger_without_a_fence) {
  ScavengedQueue queue;
  EXPECT_TRUE(queue.scavenger_lock().announce_scavenger());
  EXPECT_FALSE(queue.scavenger_lock().admit_scavenger(false));
  EXPECT_FALSE(queue.scavenger_lock().has_scavenger());
}

TEST(ScavengedQueue, the_owner_waits_for_the_scavenger) {
  ScavengedQueue queue;
  std::atomic<bool> is_over{false};
  scavenger_mutex.lock();
  ASSERT_TRUE(queue.scavenger_lock().try_lock_scavenger(fence));
  std::thread owner([&] {
    queue.lock();
    EXPECT_TRUE(is_over);
    queue.unlock();
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  is_over = true;
  queue.scavenger_lock().unlock_scavenger();
  scavenger_mutex.unlock();
  owner.join();
  EXPECT_TRUE(scavenger_mutex.try_lock()) << "the owner has unlocked it";
  scavenger_mutex.unlock();
}

TEST(ScavengedQueue, tells_the_refaults_since_the_last_call) {
  ScavengedQueue queue;
  queue.note_refault(2);
  queue.note_refault(3);
  EXPECT_EQ(queue.take_refaults(), 5u);
  EXPECT_EQ(queue.take_refaults(), 0u);
}

}  // namespace
}  // namespace slabmalloc
