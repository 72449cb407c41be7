// SPDX-License-Identifier: MIT
//
// ScavengedQueue: a remote-free queue whose owner may sleep forever, or drain it too rarely.
//
// The owner of the queue owns pages, and slots of them that nobody uses. While it sleeps, a
// scavenger gives the memory of such slots back to the system (hole_scan.hpp). A lock excludes the
// two from each other. Under it the owner claims slots, changes its current page and gives pages
// away. Frees, issues of claimed slots and drains need no lock: none of them makes a free slot
// used that was not claimed.
#pragma once

#include <cstdint>

#include "malloc/asymmetric_lock.hpp"
#include "malloc/scavenger_mutex.hpp"
#include "slabmalloc/base/assert.hpp"
#include "slabmalloc/zone/remote_free_queue.hpp"

namespace slabmalloc {

struct ThreadZone;

/// The queue policy of the malloc's zones.
/// Thread: the owner, unless stated otherwise.
class ScavengedQueue : public RemoteFreeQueue<HardwareAtomics> {
 public:
  using Lock = AsymmetricLock;

  constexpr ScavengedQueue() noexcept = default;

  /// The queue in `tag`, whatever the page's state; null for no owner.
  static ScavengedQueue* of(std::uintptr_t tag) noexcept {
    return static_cast<ScavengedQueue*>(RemoteFreeQueue::of(tag));
  }

  /// Names the zone that has this queue. Scavengers find zones by the tags of pages.
  void set_zone(ThreadZone* zone) noexcept { zone_ = zone; }
  ThreadZone* zone() const noexcept { return zone_; }

  /// Locks; nests. It sleeps while a scavenger holds the lock, for a step of a scan.
  /// Pre: the caller does not hold scavenger_mutex.
  [[gnu::always_inline]] void lock() noexcept {
    if (depth_ == 0 && !lock_.try_lock_owner()) [[unlikely]] {
      lock_after_scavenger();
    }
    ++depth_;
  }
  [[gnu::always_inline]] void unlock() noexcept {
    if (--depth_ == 0) {
      lock_.unlock_owner();
    }
  }

  /// Counts units of the owner's pages that went back to the system and were claimed again.
  void note_refault(std::uint32_t units) noexcept { refaulted_units_ += units; }
  /// The number of these since the last call.
  std::uint32_t take_refaults() noexcept {
    const std::uint32_t result = refaulted_units_;
    refaulted_units_ = 0;
    return result;
  }

  /// The scavengers' side of the lock. Pre: the caller holds scavenger_mutex.
  AsymmetricLock& scavenger_lock() noexcept { return lock_; }

 private:
  [[gnu::cold, gnu::noinline]] void lock_after_scavenger() noexcept {
    const os::Lock no_scavenger(scavenger_mutex);
    const bool is_locked = lock_.try_lock_owner();
    invariant(is_locked, "a scavenger holds the scavengers' mutex");
  }

  std::uint32_t depth_ = 0;  ///< The number of the owner's nested locks.
  AsymmetricLock lock_;
  std::uint32_t refaulted_units_ = 0;
  ThreadZone* zone_ = nullptr;
};

}  // namespace slabmalloc
