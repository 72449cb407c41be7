// SPDX-License-Identifier: MIT
//
// Mutex: one word and the kernel's futex, for the few slow paths that threads share. A child of
// fork must reset its mutexes, and the layout of a pthread mutex is private. So this library has
// its own.
//
// The word is 0 when free, else the mark of its holder: an address that belongs to that thread. Bit
// 0 of it says that a thread may sleep. The algorithm is "mutex3" of Ulrich Drepper, "Futexes Are
// Tricky", 2011, section 6, with a name for the holder:
//
//     lock:    0 -> mark, done                     unlock:  exchange 0
//              else spin a little                           was contended: wake one sleeper
//              else set bit 0 and sleep, until
//              0 -> mark with bit 0
//
// A thread that has slept sets bit 0 when it takes the lock, since other threads may still sleep.
// This costs at most one needless wake.
//
// The mark is for forks. A signal handler may fork while the thread that it interrupts holds the
// mutex. The fork must not wait for that thread, and the child goes on as the holder:
//
//     lock_for_fork:  held by this thread: note it     after:  noted: forget the note
//                     else lock                                else unlock
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "os/os.hpp"
#include "slabmalloc/base/atomics.hpp"
#include "tunables.hpp"

namespace slabmalloc::os {

/// What the mutexes know of a thread. Its address is the thread's mark.
struct alignas(4) ThreadMark {
  /// Forks under way: the thread holds every mutex of the process. Other libraries' fork handlers
  /// may call the malloc on this thread then, and must not wait for it.
  std::uint32_t forks = 0;
  /// Such a fork came while the thread held a mutex: it waits for no other thread for long, since
  /// that one may wait for the thread.
  bool forks_inside = false;
};
[[gnu::visibility("hidden")]] inline constinit thread_local ThreadMark this_thread;

/// A non-recursive mutex that needs no constructor, no destructor and no memory.
/// Order: lock() acquires and unlock() releases: a holder sees all writes of the holders before it.
class Mutex {
 public:
  constexpr Mutex() noexcept = default;

  [[nodiscard]] bool try_lock() noexcept {
    std::uintptr_t expected = available;
    // A weak exchange may fail for no reason; the value that it read tells the cases apart.
    while (!word_.compare_exchange(expected, mark(), Order::acquire)) {
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
    if ((word_.exchange(available, Order::release) & contended) != 0) [[unlikely]] {
      interface().wake(address(), 1);
    }
  }

  /// True if the calling thread holds the mutex, and not just for a fork.
  bool is_held() const noexcept {
    return is_marked() && (this_thread.forks == 0 || holds_before_forks_ != 0);
  }

  // ---- forks, which may nest --------------------------------------------------------------------

  /// Locks for a fork.
  /// Fails: the mutex is not held if another thread keeps it for long while this thread forks
  /// inside of its own use of a mutex. Then unlock_after_fork() does nothing, and the child finds
  /// the data as that thread left it.
  void lock_for_fork() noexcept {
    if (is_marked()) {
      ++holds_before_forks_;
    } else if (!this_thread.forks_inside) {
      lock();
    } else {
      for (int nap = 0; !try_lock() && nap < Tunables::naps_before_fork; ++nap) {
        interface().sleep(Tunables::fork_nap_microseconds);
      }
    }
  }

  /// Frees the mutex in the parent, unless the thread held it before the fork.
  void unlock_after_fork() noexcept {
    if (is_marked() && holds_before_forks_ != 0) {
      --holds_before_forks_;
    } else if (is_marked()) {
      unlock();
    }
  }

  /// Frees the mutex in the child, unless the thread held it before the fork. The threads that
  /// slept do not exist, nor does any other holder.
  void unlock_in_child() noexcept {
    if (is_marked() && holds_before_forks_ != 0) {
      --holds_before_forks_;
      word_.store(mark(), Order::relaxed);
    } else {
      word_.store(available, Order::relaxed);
    }
  }

 private:
  static constexpr std::uintptr_t available = 0;
  static constexpr std::uintptr_t contended = 1;

  static std::uintptr_t mark() noexcept { return reinterpret_cast<std::uintptr_t>(&this_thread); }
  bool is_marked() const noexcept { return (word_.load(Order::relaxed) & ~contended) == mark(); }

  [[gnu::cold, gnu::noinline]] void lock_contended() noexcept {
    for (int spin = 0; spin < Tunables::mutex_spins; ++spin) {
      pause();
      if (word_.load(Order::relaxed) == available && try_lock()) {
        return;
      }
    }
    std::uintptr_t seen = word_.load(Order::relaxed);
    for (;;) {
      if (seen == available) {
        if (word_.compare_exchange(seen, mark() | contended, Order::acquire)) {
          return;
        }
      } else if ((seen & contended) != 0 ||
                 word_.compare_exchange(seen, seen | contended, Order::relaxed)) {
        interface().wait(address(), static_cast<std::uint32_t>(seen | contended));
        seen = word_.load(Order::relaxed);
      }
    }
  }

  static void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#endif
  }

  /// The half of the word that has bit 0.
  const std::uint32_t* address() const noexcept {
    const auto* const halves = reinterpret_cast<const std::uint32_t*>(&word_);
    constexpr std::size_t count = sizeof(word_) / sizeof(std::uint32_t);
    return std::endian::native == std::endian::little ? halves : halves + count - 1;
  }

  HardwareAtomics::Cell<std::uintptr_t> word_;
  /// Forks under way that found the mutex held by their thread. Thread: the holder.
  std::uint32_t holds_before_forks_ = 0;
};

/// Holds a mutex of this class, or of another with lock() and unlock(), for a scope.
/// Pre: this_thread.forks does not change in the scope.
template <class AnyMutex>
class Lock {
 public:
  explicit Lock(AnyMutex& mutex) noexcept : mutex_(this_thread.forks != 0 ? nullptr : &mutex) {
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
