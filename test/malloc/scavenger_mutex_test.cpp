// SPDX-License-Identifier: MIT
#include "malloc/scavenger_mutex.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "support/child.hpp"
#include "support/exclusion.hpp"

namespace slabmalloc {
namespace {

constinit ScavengerMutex mutex;

void sleep_a_while() { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }

/// An operating system whose sleep does what the test says, while this lives.
class SleepingOs {
 public:
  explicit SleepingOs(void (*sleep)(std::uint32_t)) : table_(os::linux_interface) {
    table_.sleep = sleep;
    naps = 0;
    previous_ = &os::replace_interface(table_);
  }
  ~SleepingOs() { os::replace_interface(*previous_); }

  static inline std::atomic<int> naps;

 private:
  os::Interface table_;
  const os::Interface* previous_;
};

TEST(ScavengerMutex, a_thread_that_waits_comes_before_the_next_step_of_a_scan) {
  // So that it comes even on a busy machine.
  const SleepingOs os([](std::uint32_t) {
    for (int count = 0; count < 10'000 && mutex.has_waiting(); ++count) {
      sleep_a_while();
    }
  });
  constexpr int rounds = 50;
  std::atomic<int> entries{0};
  mutex.lock();
  std::thread owner([&] {
    while (entries < rounds) {
      mutex.lock();
      ++entries;
      mutex.unlock();
    }
  });
  for (int round = 0; round < rounds && entries < rounds; ++round) {
    while (!mutex.has_waiting()) {
      std::this_thread::yield();
    }
    const int before = entries;
    mutex.unlock();
    mutex.let_others_in();
    mutex.lock();
    EXPECT_GT(entries, before);
  }
  mutex.unlock();
  owner.join();
}

TEST(ScavengerMutex, a_scan_does_not_wait_long_for_a_thread_that_does_not_come) {
  const SleepingOs os([](std::uint32_t) { ++SleepingOs::naps; });
  mutex.lock();
  std::thread stopped([&] {
    mutex.lock();
    mutex.unlock();
  });
  while (!mutex.has_waiting()) {
    std::this_thread::yield();
  }
  std::thread([] { mutex.let_others_in(); }).join();
  EXPECT_EQ(SleepingOs::naps, Tunables::scavenger_naps);
  mutex.unlock();
  stopped.join();
  mutex.let_others_in();
  EXPECT_EQ(SleepingOs::naps, Tunables::scavenger_naps) << "nobody waits any more";
}

TEST(ScavengerMutex, an_attempt_fails_while_a_thread_holds_it) {
  test::expect_one_holder_at_a_time(mutex);
}

TEST(ScavengerMutex, is_free_and_awaited_by_nobody_in_the_child_of_a_fork) {
  mutex.lock_for_fork();
  std::thread waiting([] {
    mutex.lock();
    mutex.unlock();
  });
  while (!mutex.has_waiting()) {
    std::this_thread::yield();
  }
  const auto take = [] {
    mutex.unlock_in_child();
    return mutex.try_lock() ? 0 : 1;
  };
  EXPECT_EQ(test::status_of_child(take), 0);
  mutex.unlock_after_fork();
  waiting.join();
}

}  // namespace
}  // namespace slabmalloc
