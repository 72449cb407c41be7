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

TEST(Mutex, held_at_a_fork_it_can_be_made_free_in_the_child) {
  Mutex mutex;
  mutex.lock();
  const auto locks = [&mutex] {
    mutex.reinitialise_after_fork();
    mutex.lock();
    mutex.unlock();
    return 0;
  };
  EXPECT_EQ(test::status_of_child(locks), 0);
  mutex.unlock();
}

}  // namespace
}  // namespace slabmalloc::os
