// SPDX-License-Identifier: MIT
//
// ScavengerMutex: the mutex that scavengers hold, and that an owner waits for if it meets one.
//
//     a scan, for each step            every other holder, such as an owner
//
//     let_others_in():                 lock():
//       sleep while waiting != 0         waiting += 1
//       at most a moment                 lock
//     lock()                             waiting -= 1
//     …                                …
//     unlock()                         unlock()
//
// os::Mutex is not fair: a thread that has unlocked it can lock it again before the thread that it
// woke runs. A scan locks for thousands of steps in a row. So an owner would wait for the whole
// scan, or for one scan after the other.
//
// A scan waits with a bound, since the other thread may be stopped or have a lower priority.
#pragma once

#include <cstdint>

#include "os/mutex.hpp"
#include "os/os.hpp"
#include "slabmalloc/base/atomics.hpp"
#include "tunables.hpp"

namespace slabmalloc {

/// Order: as os::Mutex. The count of waiting threads is a hint and orders nothing.
class ScavengerMutex {
 public:
  constexpr ScavengerMutex() noexcept = default;

  void lock() noexcept {
    if (!mutex_.try_lock()) {
      waiting_.fetch_add(1, Order::relaxed);
      mutex_.lock();
      waiting_.fetch_sub(1, Order::relaxed);
    }
  }

  /// Fails: false; a thread holds the mutex or waits for it.
  [[nodiscard]] bool try_lock() noexcept { return !has_waiting() && mutex_.try_lock(); }

  /// Pre: the calling thread holds the mutex.
  void unlock() noexcept { mutex_.unlock(); }

  /// Sleeps while other threads wait for the mutex, but not for long.
  /// Pre: the calling thread does not hold the mutex, except across a fork.
  void let_others_in() noexcept {
    const int naps = os::this_thread.forks != 0 ? 0 : Tunables::scavenger_naps;
    for (int nap = 0; nap < naps && has_waiting(); ++nap) {
      os::interface().sleep(Tunables::scavenger_nap_microseconds);
    }
  }

  /// True if a thread waits in lock(); a hint.
  bool has_waiting() const noexcept { return waiting_.load(Order::relaxed) != 0; }

  /// As os::Mutex. In the child nobody waits for the mutex.
  void lock_for_fork() noexcept { mutex_.lock_for_fork(); }
  void unlock_after_fork() noexcept { mutex_.unlock_after_fork(); }
  void unlock_in_child() noexcept {
    mutex_.unlock_in_child();
    waiting_.store(0, Order::relaxed);
  }
  bool is_held() const noexcept { return mutex_.is_held(); }

 private:
  os::Mutex mutex_;
  HardwareAtomics::Cell<std::uint32_t> waiting_{0};
};

/// Held while any zone is scavenged. An owner that meets a scavenger sleeps on it: if it spun at a
/// higher priority, a scavenger on its processor could never run.
[[gnu::visibility("hidden")]] extern constinit ScavengerMutex scavenger_mutex;

}  // namespace slabmalloc
