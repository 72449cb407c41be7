// SPDX-License-Identifier: MIT
//
// AsymmetricLock: keeps an owner and its scavengers apart, at the owner's price of two plain stores.
//
// An owner may sleep for ever, and what it holds of others then waits with it. A scavenger is another
// thread that looks after such things. The owner passes often and must not pay for an atomic operation,
// scavengers come rarely: so the fence that a lock needs between "I am in" and "are you?" is executed on
// both sides by the scavenger, through a call that makes every other thread's processor execute one
// (membarrier in Linux, an interrupt to all processors in a kernel).
//
//   owner                            scavenger
//   owner_holds = 1                       scavenger_holds: 0 → 1
//   (nothing for the processor)      fence on all processors
//   scavenger_holds != 0: owner_holds = 0, go     owner_holds != 0: scavenged = 0, go
//   …                                …
//   owner_holds = 0                       scavenged = 0
//
// A fence falls before or after the owner's store. Before: the owner then sees `scavenged`. After: the scavenger
// sees `inside`. Neither waits for the other: the owner does without what is behind the lock, and a scavenger
// comes again.
#pragma once

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc {

template <class Atomics>
class AsymmetricLock {
 public:
  constexpr AsymmetricLock() noexcept = default;
  AsymmetricLock(const AsymmetricLock&) = delete;
  AsymmetricLock& operator=(const AsymmetricLock&) = delete;

  // ---- the owner; what it does inside must not come here again -------------------------------------

  /// Enters, unless a scavenger is there: then false.
  /// Order: acquire, with the release in unlock_scavenger(): what the scavenger did is seen.
  [[gnu::always_inline]] bool try_lock_owner() noexcept {
    owner_holds_.store(true, Order::relaxed);
    compiler_fence();
    if (scavenger_holds_.load(Order::acquire)) [[unlikely]] {
      unlock_owner();
      return false;
    }
    return true;
  }

  /// Order: release, with the acquire in try_lock_scavenger(): what the owner did is seen.
  [[gnu::always_inline]] void unlock_owner() noexcept { owner_holds_.store(false, Order::release); }

  // ---- scavengers: any thread but the owner ----------------------------------------------------------

  /// Enters, unless the owner or another scavenger is owner_holds: then false. `fence()` makes every processor that runs
  /// the owner execute a full fence, or returns false if that cannot be had.
  /// Order: the exchange's acquire is paired with the release in unlock_scavenger(): one scavenger sees what the
  /// one before did; the load's with that in unlock_owner().
  template <class Fence>
  bool try_lock_scavenger(Fence&& fence) noexcept {
    if (scavenger_holds_.exchange(true, Order::acquire)) {
      return false;
    }
    if (fence() && !owner_holds_.load(Order::acquire)) {
      return true;
    }
    unlock_scavenger();
    return false;
  }

  /// Pre: try_lock_scavenger() said yes.
  void unlock_scavenger() noexcept { scavenger_holds_.store(false, Order::release); }

 private:
  typename Atomics::template Cell<bool> owner_holds_{false};
  typename Atomics::template Cell<bool> scavenger_holds_{false};
};

}  // namespace slabmalloc
