// SPDX-License-Identifier: MIT
//
// Turn: lets one thread at a time do something that may sleep, allocate, and come back here.
//
//   thread_  ──► has the turn
//   first_   ──► waiter ◄──► waiter ◄── last_     each on the stack of its thread
//
// The thread that ends its turn gives it to the first waiter. Threads that come later cannot take
// it meanwhile, even if the waiter takes long to wake. A waiter leaves at its deadline.
//
// Invariants, with their lines in validate():
//   T1  waiters exist only while a thread has the turn
//   T2  next and previous lead to each other, from the first waiter to the last
#pragma once

#include <cstdint>

#include "slabmalloc/kernel/spin_lock.hpp"
#include "slabmalloc/kernel/waiting.hpp"

namespace slabmalloc {

/// Thread: any, in the contexts in which a spin lock may be taken.
template <KernelHooks Hooks, class Atomics = HardwareAtomics>
class Turn {
 public:
  constexpr Turn() noexcept = default;
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

  /// Begins a turn of the caller. If another thread has it and the caller may wait, it waits, and
  /// `has_waited` is true afterwards. False if the caller itself has the turn already, if it may
  /// not wait, or at the deadline.
  bool begin(bool may_wait, bool& has_waited) noexcept {
    Waiter self;
    has_waited = false;
    {
      const Guard guard(lock_);
      self.thread = running_thread<Hooks>();
      require<Hooks>(self.thread != 0, "thread() is not 0");
      if (thread_ == 0) {
        thread_ = self.thread;
        return true;
      }
      if (!may_wait || thread_ == self.thread) {
        return false;
      }
      add(self);
    }
    has_waited = true;
    wait_until<Hooks>({&Waiter::has_turn_now, &self});
    // The turn may have come after the deadline. The lock also makes end() finish with `self`.
    const Guard guard(lock_);
    if (Waiter::has_turn_now(&self)) {
      return true;
    }
    remove(self);
    return false;
  }

  /// Pre: begin() returned true to this thread.
  void end() noexcept {
    bool has_waiter = false;
    {
      const Guard guard(lock_);
      thread_ = 0;
      if (Waiter* const next = first_) {
        remove(*next);
        thread_ = next->thread;
        next->has_turn.store(1, Order::relaxed);
        has_waiter = true;
      }
    }
    if (has_waiter) {
      wake_waiters<Hooks>();
    }
  }

  /// The first broken invariant, as an equation, or null.
  const char* validate() noexcept {
    const Guard guard(lock_);
    if (first_ != nullptr && thread_ == 0) {
      return "T1: waiters exist only while a thread has the turn";
    }
    const Waiter* previous = nullptr;
    for (const Waiter* waiter = first_; waiter != nullptr; waiter = waiter->next) {
      if (waiter->previous != previous) {
        return "T2: next and previous lead to each other";
      }
      previous = waiter;
    }
    return previous == last_ ? nullptr : "T2: the last waiter is at the end of the list";
  }

 private:
  using Guard = typename SpinLock<Hooks, Atomics>::Guard;

  struct Waiter {
    std::uintptr_t thread = 0;
    Waiter* next = nullptr;
    Waiter* previous = nullptr;
    /// 1 once it has the turn. The lock orders all else.
    typename Atomics::template Cell<std::uint32_t> has_turn;

    static bool has_turn_now(const void* self) noexcept {
      return static_cast<const Waiter*>(self)->has_turn.load(Order::relaxed) != 0;
    }
  };

  // Thread, for both: holder of the lock.
  void add(Waiter& waiter) noexcept {
    waiter.previous = last_;
    (last_ != nullptr ? last_->next : first_) = &waiter;
    last_ = &waiter;
  }
  void remove(Waiter& waiter) noexcept {
    (waiter.previous != nullptr ? waiter.previous->next : first_) = waiter.next;
    (waiter.next != nullptr ? waiter.next->previous : last_) = waiter.previous;
  }

  SpinLock<Hooks, Atomics> lock_;
  std::uintptr_t thread_ = 0;  ///< The one whose turn it is, or 0.
  Waiter* first_ = nullptr;
  Waiter* last_ = nullptr;
};

}  // namespace slabmalloc
