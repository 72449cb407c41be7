// SPDX-License-Identifier: MIT
//
// What every mutex of the library does.
#pragma once

#include <gtest/gtest.h>

#include <thread>

namespace slabmalloc::test {

/// Expects that one thread at a time takes `mutex`, which is free before and after.
template <class Mutex>
void expect_one_holder_at_a_time(Mutex& mutex) {
  EXPECT_TRUE(mutex.try_lock());
  bool taken_twice = true;
  std::thread([&] { taken_twice = mutex.try_lock(); }).join();
  EXPECT_FALSE(taken_twice);
  mutex.unlock();
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
}

}  // namespace slabmalloc::test
