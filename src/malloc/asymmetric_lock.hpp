// SPDX-License-Identifier: MIT
//
// AsymmetricLock: keeps an owner and its scavengers apart, and costs the owner two plain stores and a
// load.
//
// An owner may sleep for ever with frees that other threads wait for. A scavenger is another thread
// that takes care of them. The owner locks often and must not pay for an atomic operation; scavengers
// lock rarely. So the scavenger pays for both: it executes the fence that a lock needs between "I am
// in" and "are you?", and has every processor that runs the owner execute one too (membarrier).
//
//   owner                                       scavenger
//   owner_holds = 1                             scavenger_holds: 0 → 1
//   (nothing for the processor)                 fence on all processors
//   scavenger_holds: owner_holds = 0, go        owner_holds: scavenger_holds = 0, go
//   …                                           …
//   owner_holds = 0                             scavenger_holds = 0
//
// The fence reaches the owner's processor before or after the owner's store. Before: the owner then
// sees `scavenger_holds`. After: the scavenger sees `owner_holds`. Neither waits for the other: the
// owner does without the lock, and a scavenger comes again.
//
// This is Dekker's algorithm with an asymmetric fence. (Dice, Huang and Yang, "Asymmetric Dekker
// Synchronization", Sun Microsystems 2001; membarrier(2) of Linux; Goldblatt, "P1202: Asymmetric
// Fences", WG21.)
#pragma once

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc {

class AsymmetricLock {
 public:
  /// The owner's half for a single word: it shows that the owner is at one entry. The word by which
  /// the owner learns of a scavenger is the entry's own.
  class Mark {
   public:
    constexpr Mark() noexcept = default;

    /// Thread: owner. What follows is not moved before it by the compiler.
    [[gnu::always_inline]] void set() noexcept {
      set_.store(true, Order::relaxed);
      compiler_fence();
    }
    /// Thread: owner. Order: release, with the acquire in is_set(): the scavenger sees what was done.
    [[gnu::always_inline]] void clear() noexcept { set_.store(false, Order::release); }

    /// Thread: a scavenger, after its fence. Order: acquire, with the release in clear().
    bool is_set() const noexcept { return set_.load(Order::acquire); }

   private:
    HardwareAtomics::Cell<bool> set_{false};
  };

  constexpr AsymmetricLock() noexcept = default;
  AsymmetricLock(const AsymmetricLock&) = delete;
  AsymmetricLock& operator=(const AsymmetricLock&) = delete;

  // ---- the owner; not recursive ------------------------------------------------------------------

  /// Locks; false if a scavenger holds the lock.
  /// Order: acquire, with the release in unlock_scavenger(): the owner sees what the scavenger did.
  [[gnu::always_inline]] bool try_lock_owner() noexcept {
    owner_holds_.store(true, Order::relaxed);
    compiler_fence();
    if (scavenger_holds_.load(Order::acquire)) [[unlikely]] {
      unlock_owner();
      return false;
    }
    return true;
  }

  /// Order: release, with the acquire in try_lock_scavenger(): the scavenger sees what the owner did.
  [[gnu::always_inline]] void unlock_owner() noexcept {
    owner_holds_.store(false, Order::release);
  }

  // ---- scavengers: any thread but the owner ------------------------------------------------------

  /// Locks; false if the owner or another scavenger holds the lock. `fence()` makes every processor
  /// that runs the owner execute a full fence, or returns false if it cannot.
  /// Order: the exchange's acquire is paired with the release in unlock_scavenger(): one scavenger
  /// sees what the one before did. The load's is paired with the release in unlock_owner().
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

  /// Pre: try_lock_scavenger() returned true.
  void unlock_scavenger() noexcept { scavenger_holds_.store(false, Order::release); }

 private:
  HardwareAtomics::Cell<bool> owner_holds_{false};
  HardwareAtomics::Cell<bool> scavenger_holds_{false};
};

}  // namespace slabmalloc
