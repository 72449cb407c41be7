// SPDX-License-Identifier: MIT
//
// Tests the order of steps at an AsymmetricLock. The model test/model/asymmetric_lock.pml covers
// the effect of the fence.
#include "malloc/asymmetric_lock.hpp"

#include <gtest/gtest.h>

namespace slabmalloc {
namespace {

bool scavenge(AsymmetricLock& lock) {
  return lock.try_lock_scavenger([] { return true; });
}

TEST(AsymmetricLock, admits_the_owner_and_a_scavenger_one_after_the_other) {
  AsymmetricLock lock;
  ASSERT_TRUE(lock.try_lock_owner());
  lock.unlock_owner();
  ASSERT_TRUE(scavenge(lock));
  lock.unlock_scavenger();
  EXPECT_TRUE(lock.try_lock_owner());
}

TEST(AsymmetricLock, a_scavenger_is_not_admitted_while_the_owner_is_inside) {
  AsymmetricLock lock;
  ASSERT_TRUE(lock.try_lock_owner());
  EXPECT_FALSE(scavenge(lock));
  lock.unlock_owner();
  EXPECT_TRUE(lock.try_lock_owner()) << "the scavenger has left nothing behind";
  lock.unlock_owner();
  EXPECT_TRUE(scavenge(lock));
}

TEST(AsymmetricLock, the_owner_is_not_admitted_while_a_scavenger_is_inside) {
  AsymmetricLock lock;
  ASSERT_TRUE(scavenge(lock));
  EXPECT_FALSE(lock.try_lock_owner());
  lock.unlock_scavenger();
  EXPECT_TRUE(lock.try_lock_owner());
}

TEST(AsymmetricLock, an_owner_that_was_not_admitted_does_not_keep_scavengers_out) {
  AsymmetricLock lock;
  ASSERT_TRUE(scavenge(lock));
  ASSERT_FALSE(lock.try_lock_owner());
  lock.unlock_scavenger();
  EXPECT_TRUE(scavenge(lock));
}

TEST(AsymmetricLock, one_of_two_scavengers_is_admitted) {
  AsymmetricLock lock;
  ASSERT_TRUE(scavenge(lock));
  EXPECT_FALSE(scavenge(lock));
  EXPECT_FALSE(lock.try_lock_owner()) << "the second has not ended the first one's scavenge";
}

TEST(AsymmetricLock, a_scavenger_that_gets_no_fence_is_not_admitted) {
  AsymmetricLock lock;
  EXPECT_FALSE(lock.try_lock_scavenger([] { return false; }));
  EXPECT_TRUE(lock.try_lock_owner());
}

TEST(AsymmetricLock, an_owner_that_comes_during_the_fence_is_not_admitted) {
  AsymmetricLock lock;
  bool entered = true;
  EXPECT_TRUE(lock.try_lock_scavenger([&] {
    entered = lock.try_lock_owner();
    return true;
  }));
  EXPECT_FALSE(entered) << "the scavenge was told before the fence";
}

}  // namespace
}  // namespace slabmalloc
