// SPDX-License-Identifier: MIT
//
// The order of steps at a lock. What the fence itself is for is in the model (test/model/asymmetric_lock.pml).
#include "slabmalloc/zone/asymmetric_lock.hpp"

#include <gtest/gtest.h>

namespace slabmalloc {
namespace {

using TestLock = AsymmetricLock<HardwareAtomics>;

bool visit(TestLock& lock) {
  return lock.try_lock_scavenger([] { return true; });
}

TEST(AsymmetricLock, admits_the_owner_and_a_visitor_one_after_the_other) {
  TestLock lock;
  ASSERT_TRUE(lock.try_lock_owner());
  lock.unlock_owner();
  ASSERT_TRUE(visit(lock));
  lock.unlock_scavenger();
  EXPECT_TRUE(lock.try_lock_owner());
}

TEST(AsymmetricLock, a_visitor_goes_away_while_the_owner_is_inside) {
  TestLock lock;
  ASSERT_TRUE(lock.try_lock_owner());
  EXPECT_FALSE(visit(lock));
  lock.unlock_owner();
  EXPECT_TRUE(lock.try_lock_owner()) << "the visitor has left nothing behind";
  lock.unlock_owner();
  EXPECT_TRUE(visit(lock));
}

TEST(AsymmetricLock, the_owner_does_without_while_a_visitor_is_inside) {
  TestLock lock;
  ASSERT_TRUE(visit(lock));
  EXPECT_FALSE(lock.try_lock_owner());
  lock.unlock_scavenger();
  EXPECT_TRUE(lock.try_lock_owner());
}

TEST(AsymmetricLock, an_owner_that_was_not_admitted_does_not_keep_visitors_out) {
  TestLock lock;
  ASSERT_TRUE(visit(lock));
  ASSERT_FALSE(lock.try_lock_owner());
  lock.unlock_scavenger();
  EXPECT_TRUE(visit(lock));
}

TEST(AsymmetricLock, of_two_visitors_one_is_admitted) {
  TestLock lock;
  ASSERT_TRUE(visit(lock));
  EXPECT_FALSE(visit(lock));
  EXPECT_FALSE(lock.try_lock_owner()) << "the second has not ended the first one's visit";
}

TEST(AsymmetricLock, a_visitor_that_gets_no_fence_is_not_admitted) {
  TestLock lock;
  EXPECT_FALSE(lock.try_lock_scavenger([] { return false; }));
  EXPECT_TRUE(lock.try_lock_owner());
}

TEST(AsymmetricLock, an_owner_that_comes_during_the_fence_is_turned_away) {
  TestLock lock;
  bool entered = true;
  EXPECT_TRUE(lock.try_lock_scavenger([&] {
    entered = lock.try_lock_owner();
    return true;
  }));
  EXPECT_FALSE(entered) << "the visit was told before the fence";
}

}  // namespace
}  // namespace slabmalloc
