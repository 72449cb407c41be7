// SPDX-License-Identifier: MIT
//
// AsymmetricLock: excludes an owner and its scavengers from each other. It costs the owner two
// plain stores and a load.
//
// An owner may sleep forever while it holds frees that other threads need. Scavengers are other
// threads that handle those frees. The owner locks often, so it must not pay for an atomic
// operation; scavengers lock rarely. So a scavenger pays for both sides. It executes the fence that
// each side needs between "I hold it" and "do you hold it?", and membarrier makes every processor
// that runs the owner execute one too.
//
//   owner                                       scavenger
//   owner_holds = 1                             scavenger_holds: 0 → 1
//   (nothing for the processor)                 fence on all processors
//   scavenger_holds: owner_holds = 0, leave        owner_holds: scavenger_holds = 0, leave
//   …                                           …
//   owner_holds = 0                             scavenger_holds = 0
//
// The fence reaches the owner's processor before or after the owner's store. If before, the owner
// sees `scavenger_holds`. If after, the scavenger sees `owner_holds`. Neither waits for the other:
// the owner continues without the lock, and a scavenger tries again later.
//
// This is Dekker's algorithm with an asymmetric fence. (Dice, Huang and Yang, "Asymmetric Dekker
// Synchronization", Sun Microsystems 2001; membarrier(2) of Linux; Goldblatt, "P1202: Asymmetric
// Fences", WG21.)
#pragma once

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc {

class AsymmetricLock {
 public:
  /// The owner's half for a single entry: it shows that the owner is working on that entry. The
  /// entry's own word tells the owner of a scavenger.
  class Mark {
   public:
    constexpr Mark() noexcept = default;

    /// Marks the entry. The compiler moves no later access before the mark.
    /// Thread: owner.
    [[gnu::always_inline]] void set() noexcept {
      set_.store(true, Order::relaxed);
      compiler_fence();
    }
    /// Unmarks the entry.
    /// Thread: owner.
    /// Order: release, with the acquire in is_set(): the scavenger sees the owner's writes.
    [[gnu::always_inline]] void clear() noexcept { set_.store(false, Order::release); }

    /// True while the owner works on the entry.
    /// Thread: a scavenger, after its fence.
    /// Order: acquire, with the release in clear().
    bool is_set() const noexcept { return set_.load(Order::acquire); }

   private:
    HardwareAtomics::Cell<bool> set_{false};
  };

  constexpr AsymmetricLock() noexcept = default;
  AsymmetricLock(const AsymmetricLock&) = delete;
  AsymmetricLock& operator=(const AsymmetricLock&) = delete;

  // ---- the owner; not recursive -----------------------------------------------------------------

  /// Locks.
  /// Order: acquire, with the release in unlock_scavenger(): the owner sees the scavenger's writes.
  /// Fails: false; a scavenger holds the lock.
  [[gnu::always_inline]] bool try_lock_owner() noexcept {
    owner_holds_.store(true, Order::relaxed);
    compiler_fence();
    if (scavenger_holds_.load(Order::acquire)) [[unlikely]] {
      unlock_owner();
      return false;
    }
    return true;
  }

  /// Unlocks.
  /// Order: release, with the acquire in try_lock_scavenger(): the scavenger sees the owner's
  /// writes.
  [[gnu::always_inline]] void unlock_owner() noexcept { owner_holds_.store(false, Order::release); }

  // ---- scavengers: any thread but the owner -----------------------------------------------------

  /// Locks. `fence()` makes every processor that runs the owner execute a full fence; it returns
  /// false if it cannot.
  /// Order: the exchange acquires, with the release in unlock_scavenger(): a scavenger sees the
  /// previous one's writes. The load acquires, with the release in unlock_owner().
  /// Fails: false; the owner or another scavenger holds the lock, or the fence failed.
  template <class Fence>
  bool try_lock_scavenger(Fence&& fence) noexcept {
    return announce_scavenger() && admit_scavenger(fence());
  }

  /// The two halves of try_lock_scavenger(), so that one fence serves many locks: announce for
  /// each, fence, admit for each. False from either: the lock is not held.
  bool announce_scavenger() noexcept { return !scavenger_holds_.exchange(true, Order::acquire); }
  /// Pre: announce_scavenger() returned true; then the fence was executed, or it failed.
  bool admit_scavenger(bool is_fenced) noexcept {
    if (is_fenced && !owner_holds_.load(Order::acquire)) {
      return true;
    }
    unlock_scavenger();
    return false;
  }

  /// True if a scavenger has announced itself, and if admitted, holds the lock.
  /// Thread: a scavenger.
  bool has_scavenger() const noexcept { return scavenger_holds_.load(Order::relaxed); }

  /// Unlocks.
  /// Pre: try_lock_scavenger() returned true.
  void unlock_scavenger() noexcept { scavenger_holds_.store(false, Order::release); }

 private:
  HardwareAtomics::Cell<bool> owner_holds_{false};
  HardwareAtomics::Cell<bool> scavenger_holds_{false};
};

}  // namespace slabmalloc
