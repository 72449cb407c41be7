// SPDX-License-Identifier: MIT
//
// Mutex: one word and the kernel's futex, for the few slow paths that threads share. A child of
// fork must reset its mutexes, and the layout of a pthread mutex is private. So this library has
// its own.
//
// The word is 0 when free, 1 when held, and 2 when held and a thread may sleep. The algorithm is
// "mutex3" of Ulrich Drepper, "Futexes Are Tricky", 2011, section 6:
//
//     lock:    0 -> 1, done                     unlock:  exchange 0
//              else spin a little                        was 2: wake one sleeper
//              else exchange 2 until it was 0, sleeping while it is 2
//
// A thread that has slept stores 2 when it takes the lock, since other threads may still sleep.
// This costs at most one needless wake.
#pragma once

#include <cstdint>

#include "os/os.hpp"
#include "slabmalloc/base/atomics.hpp"
#include "tunables.hpp"

namespace slabmalloc::os {

/// A non-recursive mutex that needs no constructor, no destructor and no memory.
/// Order: lock() acquires and unlock() releases: a holder sees all writes of the holders before it.
class Mutex {
 public:
  constexpr Mutex() noexcept = default;

  [[nodiscard]] bool try_lock() noexcept {
    std::uint32_t expected = available;
    // A weak exchange may fail for no reason; the value that it read tells the cases apart.
    while (!word_.compare_exchange(expected, held, Order::acquire)) {
      if (expected != available) {
        return false;
      }
    }
    return true;
  }

  void lock() noexcept {
    if (!try_lock()) [[unlikely]] {
      lock_contended();
    }
  }

  /// Frees the mutex.
  /// Pre: the calling thread holds it.
  void unlock() noexcept {
    if (word_.exchange(available, Order::release) == contended) [[unlikely]] {
      interface().wake(address(), 1);
    }
  }

  /// Resets the mutex to free in the child of a fork, where its holder and sleepers do not exist.
  /// Pre: no other thread runs.
  void reinitialise_after_fork() noexcept { word_.store(available, Order::relaxed); }

 private:
  static constexpr std::uint32_t available = 0;
  static constexpr std::uint32_t held = 1;
  static constexpr std::uint32_t contended = 2;

  [[gnu::cold, gnu::noinline]] void lock_contended() noexcept {
    for (int spin = 0; spin < Tunables::mutex_spins; ++spin) {
      pause();
      if (word_.load(Order::relaxed) == available && try_lock()) {
        return;
      }
    }
    while (word_.exchange(contended, Order::acquire) != available) {
      interface().wait(address(), contended);
    }
  }

  static void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#endif
  }

  const std::uint32_t* address() const noexcept {
    static_assert(sizeof(word_) == sizeof(std::uint32_t), "a futex is a word of 32 bits");
    return reinterpret_cast<const std::uint32_t*>(&word_);
  }

  HardwareAtomics::Cell<std::uint32_t> word_;
};

/// True while the calling thread holds every mutex of the process, across a fork. Other libraries'
/// fork handlers may call the malloc on this thread then, and must not wait for it.
[[gnu::visibility("hidden")]] inline constinit thread_local bool this_thread_holds_all = false;

/// Holds a mutex of this class, or of another with lock() and unlock(), for a scope.
/// Pre: this_thread_holds_all does not change in the scope.
template <class AnyMutex>
class Lock {
 public:
  explicit Lock(AnyMutex& mutex) noexcept : mutex_(this_thread_holds_all ? nullptr : &mutex) {
    if (mutex_ != nullptr) {
      mutex_->lock();
    }
  }
  ~Lock() {
    if (mutex_ != nullptr) {
      mutex_->unlock();
    }
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  AnyMutex* const mutex_;  ///< Null if the thread holds it already.
};

}  // namespace slabmalloc::os
