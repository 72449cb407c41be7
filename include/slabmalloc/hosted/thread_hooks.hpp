// SPDX-License-Identifier: MIT
//
// ThreadHooks: hooks under which the threads of a process are the CPUs of a CpuZones.
//
//   number   0 … exclusive_numbers - 1   one thread each, from its first call until it ends
//            … Threads - 1               of all further threads: each takes the number's lock for
//                                        as long as it has saved interrupts
//
// A thread with an exclusive number takes no lock: nobody else runs on its "CPU". Signal handlers
// are the interrupts of these CPUs, and save_interrupts() does not block them. A lock knows its
// holder, so a handler that interrupts the holder goes on without it.
//
// When a thread ends, it marks its part of each heap as idle (CpuZones::enter_idle()), so that
// other threads drain it. Then its number is free for another thread. It owns the numbers, their
// locks, and the list of all heaps whose parts they number.
//
// fork(): the child has the number of the thread that forked, and all others are free. A heap may
// be used in the child if no other thread was in a call to it, as in a process of one thread.
//
// The C library calls functions of this header when threads end, and in fork(). So a library that
// contains it must not be unloaded.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "slabmalloc/base/atomics.hpp"
#include "slabmalloc/kernel/hooks.hpp"

namespace slabmalloc {

/// Numbers for `Threads` threads, one of eight of them shared. Heaps of the same `Threads` have the
/// same numbers. A library whose symbols are hidden has numbers of its own: no other one may call
/// its heaps but through its functions. Thread: any; the first call of a thread is not in a signal
/// handler.
template <std::uint32_t Threads>
class ThreadHooks {
  static_assert(Threads >= 1 && Threads <= 64, "threads have 1 to 64 numbers");

 public:
  static constexpr std::uint32_t maximum_cpus = Threads;
  static constexpr std::uint32_t shared_numbers = (Threads + 7) / 8;
  static constexpr std::uint32_t exclusive_numbers = Threads - shared_numbers;

  /// True if restore_interrupts() unlocks the caller's number.
  using InterruptState = bool;

  [[gnu::always_inline]] static std::uint32_t cpu() noexcept {
    return self_.number.load(Order::relaxed);
  }
  [[gnu::always_inline]] static InterruptState save_interrupts() noexcept {
    return self_.number.load(Order::relaxed) < exclusive_numbers ? false : lock_number();
  }
  [[gnu::always_inline]] static void restore_interrupts(InterruptState unlocks) noexcept {
    if (unlocks) [[unlikely]] {
      unlock_number();
    }
  }
  [[noreturn]] static void panic(const char* line) noexcept {
    log(line);
    std::abort();
  }
  static void log(const char* line) noexcept {
    write_error(line, __builtin_strlen(line));
    write_error("\n", 1);
  }
  static void relax() noexcept { ::sched_yield(); }

  // ---- heaps -----------------------------------------------------------------------------------

  /// A heap in the list.
  struct Member {
    void (*enter_idle)(Member& heap) noexcept = nullptr;
    Member* next = nullptr;
    Member* previous = nullptr;
  };

  /// From here on, `heap.enter_idle()` is called in each thread that ends. Pre: it is set.
  static void add(Member& heap) noexcept {
    const ListGuard guard;
    heap.next = first_;
    heap.previous = nullptr;
    if (first_ != nullptr) {
      first_->previous = &heap;
    }
    first_ = &heap;
  }
  /// Pre: add() had it.
  static void remove(Member& heap) noexcept {
    const ListGuard guard;
    (heap.previous != nullptr ? heap.previous->next : first_) = heap.next;
    if (heap.next != nullptr) {
      heap.next->previous = heap.previous;
    }
  }

  // ---- for tests -------------------------------------------------------------------------------

  /// Exclusive numbers that no thread has.
  static std::uint32_t free_numbers() noexcept {
    return static_cast<std::uint32_t>(
        __builtin_popcountll(free_.load(Order::relaxed) & all_exclusive));
  }

 private:
  static constexpr std::uint32_t none = ~std::uint32_t{0};
  static constexpr std::uint64_t all_exclusive = (std::uint64_t{1} << exclusive_numbers) - 1;
  template <class T>
  using Cell = HardwareAtomics::Cell<T>;

  struct Self {
    Cell<std::uint32_t> number{none};
    bool has_ended = false;  ///< Its number was given back once.
  };

  struct ListGuard {
    ListGuard() noexcept { ::pthread_mutex_lock(&list_mutex_); }
    ~ListGuard() { ::pthread_mutex_unlock(&list_mutex_); }
    ListGuard(const ListGuard&) = delete;
    ListGuard& operator=(const ListGuard&) = delete;
  };

  static void write_error(const char* text, std::size_t bytes) noexcept {
    // A report that cannot be written has no other place to go.
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, bytes);
  }

  // ---- locks of shared numbers -----------------------------------------------------------------

  /// Locks the number of a thread that shares one, and gives a number to a thread that has none.
  /// False if the thread has an exclusive number, or holds the lock already.
  /// Order: acquire, with the release in unlock_number(): the caller sees the part as the last
  /// holder left it.
  [[gnu::cold]] static bool lock_number() noexcept {
    if (cpu() == none) {
      take_number();
    }
    if (cpu() < exclusive_numbers) {
      return false;
    }
    Cell<Self*>& holder = holders_[cpu() - exclusive_numbers];
    for (Self* found = holder.load(Order::relaxed); found != &self_;) {
      if (found != nullptr) {
        relax();
        found = holder.load(Order::relaxed);
      } else if (holder.compare_exchange(found, &self_, Order::acquire)) {
        return true;
      }
    }
    return false;
  }
  /// Order: release, with the acquire in lock_number().
  [[gnu::cold]] static void unlock_number() noexcept {
    holders_[cpu() - exclusive_numbers].store(nullptr, Order::release);
  }

  // ---- numbers ---------------------------------------------------------------------------------

  /// A handler may take the thread's number at any point.
  static void take_number() noexcept {
    ::pthread_once(&has_begun_, &begin_process);
    const std::uint32_t number = self_.has_ended || !has_key_ ? none : claim();
    const std::uint32_t shared =
        exclusive_numbers + next_shared_.fetch_add(1, Order::relaxed) % shared_numbers;
    std::uint32_t found = none;
    while (found == none && !self_.number.compare_exchange(found, number != none ? number : shared,
                                                           Order::relaxed)) {
    }
    if (found != none) {
      give_back(number);
    } else if (has_key_ && !self_.has_ended) {
      ::pthread_setspecific(key_, &self_);
    }
  }
  /// The lowest free number, or none.
  /// Order: acquire, with the release in give_back(): the caller sees the parts of its number as
  /// the thread before left them.
  static std::uint32_t claim() noexcept {
    std::uint64_t free = free_.load(Order::relaxed);
    while (free != 0) {
      if (free_.compare_exchange(free, free & (free - 1), Order::acquire)) {
        return static_cast<std::uint32_t>(__builtin_ctzll(free));
      }
    }
    return none;
  }
  /// Order: release, with the acquire in claim().
  static void give_back(std::uint32_t number) noexcept {
    if (number < exclusive_numbers) {
      free_.fetch_or(std::uint64_t{1} << number, Order::release);
    }
  }

  // ---- threads and processes -------------------------------------------------------------------

  static void begin_process() noexcept {
    has_key_ = ::pthread_key_create(&key_, &end_thread) == 0;
    ::pthread_atfork(&prepare_fork, &parent_after_fork, &child_after_fork);
  }
  /// Destructors of other keys may still call a heap. Then the thread shares a number.
  static void end_thread(void*) noexcept {
    {
      const ListGuard guard;
      for (Member* heap = first_; heap != nullptr; heap = heap->next) {
        heap->enter_idle(*heap);
      }
    }
    self_.has_ended = true;
    give_back(self_.number.exchange(none, Order::relaxed));
  }

  static void prepare_fork() noexcept { ::pthread_mutex_lock(&list_mutex_); }
  static void parent_after_fork() noexcept { ::pthread_mutex_unlock(&list_mutex_); }
  static void child_after_fork() noexcept {
    const std::uint32_t own = cpu();
    free_.store(
        own < exclusive_numbers ? all_exclusive & ~(std::uint64_t{1} << own) : all_exclusive,
        Order::relaxed);
    for (Cell<Self*>& holder : holders_) {
      if (holder.load(Order::relaxed) != &self_) {
        holder.store(nullptr, Order::relaxed);
      }
    }
    ::pthread_mutex_unlock(&list_mutex_);
  }

  static inline constinit thread_local Self self_;
  static inline constinit Cell<std::uint64_t> free_{all_exclusive};
  static inline constinit Cell<std::uint32_t> next_shared_;
  static inline constinit Cell<Self*> holders_[shared_numbers];

  static inline constinit pthread_once_t has_begun_ = PTHREAD_ONCE_INIT;
  static inline constinit pthread_key_t key_{};
  static inline constinit bool has_key_ = false;
  static inline constinit pthread_mutex_t list_mutex_ = PTHREAD_MUTEX_INITIALIZER;
  static inline constinit Member* first_ = nullptr;
};
static_assert(KernelHooks<ThreadHooks<1>>);

}  // namespace slabmalloc
