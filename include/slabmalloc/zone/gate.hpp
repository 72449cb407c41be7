// SPDX-License-Identifier: MIT
//
// Gate: keeps an owner and its visitors apart, at the owner's price of two plain stores.
//
// An owner may sleep for ever, and what it holds of others then waits with it. A visitor is another
// thread that looks after such things. The owner passes often and must not pay for an atomic operation,
// visitors come rarely: so the fence that a lock needs between "I am in" and "are you?" is executed on
// both sides by the visitor, through a call that makes every other thread's processor execute one
// (membarrier in Linux, an interrupt to all processors in a kernel).
//
//   owner                            visitor
//   inside = 1                       visited: 0 → 1
//   (nothing for the processor)      fence on all processors
//   visited != 0: inside = 0, go     inside != 0: visited = 0, go
//   …                                …
//   inside = 0                       visited = 0
//
// A fence falls before or after the owner's store. Before: the owner then sees `visited`. After: the visitor
// sees `inside`. Neither waits for the other: the owner does without what is behind the gate, and a visitor
// comes again.
#pragma once

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc {

template <class Atomics>
class Gate {
 public:
  constexpr Gate() noexcept = default;
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  // ---- the owner; what it does inside must not come here again -------------------------------------

  /// Enters, unless a visitor is there: then false.
  /// Order: acquire, with the release in end_visit(): what the visitor did is seen.
  [[gnu::always_inline]] bool enter() noexcept {
    inside_.store(true, Order::relaxed);
    compiler_fence();
    if (visited_.load(Order::acquire)) [[unlikely]] {
      leave();
      return false;
    }
    return true;
  }

  /// Order: release, with the acquire in visit(): what the owner did is seen.
  [[gnu::always_inline]] void leave() noexcept { inside_.store(false, Order::release); }

  // ---- visitors: any thread but the owner ----------------------------------------------------------

  /// Enters, unless the owner or another visitor is inside: then false. `fence()` makes every processor that runs
  /// the owner execute a full fence, or returns false if that cannot be had.
  /// Order: the exchange's acquire is paired with the release in end_visit(): one visitor sees what the
  /// one before did; the load's with that in leave().
  template <class Fence>
  bool visit(Fence&& fence) noexcept {
    if (visited_.exchange(true, Order::acquire)) {
      return false;
    }
    if (fence() && !inside_.load(Order::acquire)) {
      return true;
    }
    end_visit();
    return false;
  }

  /// Pre: visit() said yes.
  void end_visit() noexcept { visited_.store(false, Order::release); }

 private:
  typename Atomics::template Cell<bool> inside_{false};
  typename Atomics::template Cell<bool> visited_{false};
};

}  // namespace slabmalloc
