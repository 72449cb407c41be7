// SPDX-License-Identifier: MIT
#include "os/mutex.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "support/child.hpp"
#include "support/exclusion.hpp"

namespace slabmalloc::os {
namespace {

constinit Mutex constant_initialised;

TEST(Mutex, needs_no_constructor) {
  constant_initialised.lock();
  constant_initialised.unlock();
}

TEST(Mutex, is_held_by_one_at_a_time) {
  Mutex mutex;
  test::expect_one_holder_at_a_time(mutex);
}

TEST(Mutex, a_holder_sees_the_writes_of_the_holder_before) {
  constexpr int threads = 4;
  constexpr int rounds = 20000;
  Mutex mutex;
  long counter = 0;
  std::vector<std::thread> workers;
  for (int worker = 0; worker < threads; ++worker) {
    workers.emplace_back([&] {
      for (int round = 0; round < rounds; ++round) {
        const Lock lock(mutex);
        counter = counter + 1;
      }
    });
  }
  for (std::thread& worker : workers) {
    worker.join();
  }
  EXPECT_EQ(counter, long{threads} * rounds);
}

TEST(Mutex, wakes_sleepers) {
  Mutex mutex;
  mutex.lock();
  std::vector<std::thread> sleepers;
  for (int sleeper = 0; sleeper < 3; ++sleeper) {
    sleepers.emplace_back([&] { const Lock lock(mutex); });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  mutex.unlock();
  for (std::thread& sleeper : sleepers) {
    sleeper.join();
  }
}

std::atomic<int> waits{0};
std::atomic<int> wakes{0};

TEST(Mutex, enters_the_kernel_only_to_sleep_and_to_wake_sleepers) {
  Interface counting = linux_interface;
  counting.wait = [](const std::uint32_t* word, std::uint32_t expected) {
    ++waits;
    linux_interface.wait(word, expected);
  };
  counting.wake = [](const std::uint32_t* word, std::uint32_t count) {
    ++wakes;
    linux_interface.wake(word, count);
  };
  const Interface& before = replace_interface(counting);
  Mutex mutex;
  mutex.lock();
  mutex.unlock();
  EXPECT_EQ(waits + wakes, 0);
  mutex.lock();
  std::thread sleeper([&] { const Lock lock(mutex); });
  while (waits == 0) {
    std::this_thread::yield();
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_LT(waits, 10) << "it sleeps rather than ask again and again";
  mutex.unlock();
  sleeper.join();
  EXPECT_GE(wakes, 1);
  replace_interface(before);
}

// ---- forks --------------------------------------------------------------------------------------

bool is_free(Mutex& mutex) {
  bool result = false;
  std::thread([&] {
    result = mutex.try_lock();
    if (result) {
      mutex.unlock();
    }
  }).join();
  return result;
}

TEST(Mutex, is_free_again_after_a_fork_in_parent_and_child) {
  Mutex mutex;
  mutex.lock_for_fork();
  EXPECT_FALSE(is_free(mutex));
  EXPECT_EQ(test::status_of_child([&mutex] {
              mutex.unlock_in_child();
              return is_free(mutex) ? 0 : 1;
            }),
            0);
  mutex.unlock_after_fork();
  EXPECT_TRUE(is_free(mutex));
}

TEST(Mutex, is_free_in_the_child_though_other_threads_slept_for_it) {
  Mutex mutex;
  mutex.lock_for_fork();
  std::thread sleeper([&] { const Lock lock(mutex); });
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_EQ(test::status_of_child([&mutex] {
              mutex.unlock_in_child();
              mutex.lock();
              mutex.unlock();
              return mutex.try_lock() ? 0 : 1;  // It has no other threads, nor may have.
            }),
            0);
  mutex.unlock_after_fork();
  sleeper.join();
}

TEST(Mutex, stays_with_a_thread_that_forks_inside_of_its_critical_section) {
  Mutex mutex;
  mutex.lock();
  EXPECT_TRUE(mutex.is_held());
  mutex.lock_for_fork();
  mutex.lock_for_fork();  // Forks nest.
  const auto goes_on = [&mutex](void (Mutex::*end_fork)() noexcept) {
    for (int forks = 0; forks < 2; ++forks) {
      (mutex.*end_fork)();
      EXPECT_TRUE(mutex.is_held());
      EXPECT_FALSE(is_free(mutex));
    }
    mutex.unlock();
    return is_free(mutex) && !mutex.is_held() && !testing::Test::HasFailure() ? 0 : 1;
  };
  EXPECT_EQ(test::status_of_child([&] { return goes_on(&Mutex::unlock_in_child); }), 0);
  EXPECT_EQ(goes_on(&Mutex::unlock_after_fork), 0);
}

TEST(Mutex, held_for_a_fork_alone_is_not_held_by_a_call) {
  Mutex mutex;
  mutex.lock_for_fork();
  ++this_thread.forks;
  EXPECT_FALSE(mutex.is_held());
  --this_thread.forks;
  mutex.unlock_after_fork();
}

// Another thread holds it, and may wait for a mutex that this thread holds.
TEST(Mutex, of_another_thread_does_not_stop_a_fork_inside_of_a_critical_section) {
  Mutex mutex;
  std::atomic<bool> is_over{false};
  std::atomic<bool> is_held{false};
  std::thread other([&] {
    const Lock lock(mutex);
    is_held = true;
    while (!is_over) {
      std::this_thread::yield();
    }
  });
  while (!is_held) {
    std::this_thread::yield();
  }
  this_thread.forks_inside = true;
  mutex.lock_for_fork();
  EXPECT_FALSE(mutex.is_held());
  EXPECT_EQ(test::status_of_child([&mutex] {
              mutex.unlock_in_child();
              return mutex.try_lock() ? 0 : 1;
            }),
            0);
  mutex.unlock_after_fork();
  EXPECT_FALSE(is_free(mutex)) << "the other thread holds it still";
  this_thread.forks_inside = false;
  is_over = true;
  other.join();
  EXPECT_TRUE(is_free(mutex));
}

}  // namespace
}  // namespace slabmalloc::os
