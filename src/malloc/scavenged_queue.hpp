// SPDX-License-Identifier: MIT
//
// ScavengedQueue: a remote-free queue whose owner may sleep forever, or drain it too rarely.
//
// The owner cannot issue the slots that others freed in queued pages before it drains those pages.
// Until then a scavenger may purge the slots' memory. A lock excludes owner and scavenger from each
// other. A purged page stays queued, in its own list:
//
//   pushed ──► taken ──scavenge──► purged
//                ▲ └─────────────► unpurged ┐   checked again after all others
//                └──────────────────────────┘   the owner takes the purged pages last
#pragma once

#include <cstdint>

#include "malloc/asymmetric_lock.hpp"
#include "os/mutex.hpp"
#include "slabmalloc/base/assert.hpp"
#include "slabmalloc/zone/remote_free_queue.hpp"

namespace slabmalloc {

/// Held while any queue is scavenged. An owner that must drain everything sleeps on it: if it spun
/// at a higher priority, a scavenger on its processor could never run.
[[gnu::visibility("hidden")]] extern constinit os::Mutex scavenger_mutex;

/// The queue policy of the malloc's zones.
/// Thread: the owner, unless stated otherwise.
class ScavengedQueue : public RemoteFreeQueue<HardwareAtomics> {
 public:
  using Lock = AsymmetricLock;

  constexpr ScavengedQueue() noexcept = default;

  /// Locks; nests. False if a scavenger holds the lock.
  bool try_lock() noexcept {
    if (depth_ == 0 && !lock_.try_lock_owner()) [[unlikely]] {
      return false;
    }
    ++depth_;
    return true;
  }
  void unlock() noexcept {
    if (--depth_ == 0) {
      lock_.unlock_owner();
    }
  }
  /// Locks, and sleeps while a scavenger holds the lock.
  /// Pre: the caller does not hold scavenger_mutex.
  void lock() noexcept {
    if (!try_lock()) [[unlikely]] {
      const os::Lock scavengers(scavenger_mutex);
      const bool is_locked = try_lock();
      invariant(is_locked, "a scavenger holds the scavengers' mutex");
    }
  }

  /// Takes one queued page, or null.
  /// Pre: locked.
  Header* take() noexcept {
    Header* page = taken_.load(Order::relaxed);
    if (page == nullptr) {
      page = take_pushed();
      if (page == nullptr) {
        Cell<Header*>& rest = unpurged_.load(Order::relaxed) != nullptr ? unpurged_ : purged_;
        page = rest.load(Order::relaxed);
        rest.store(nullptr, Order::relaxed);
      }
      if (page == nullptr) {
        return nullptr;
      }
    }
    taken_.store(page->queue_next, Order::relaxed);
    const bool is_last = is_empty();
    count_taken(is_last);
    if (is_last) {
      was_emptied_.store(true, Order::relaxed);
    }
    return page;
  }

  /// False if take() would find a page. A hint.
  /// Thread: any.
  bool is_empty() const noexcept {
    return !has_unscavenged() && unpurged_.load(Order::relaxed) == nullptr &&
           purged_.load(Order::relaxed) == nullptr;
  }

  // ---- scavengers: any thread but the owner -----------------------------------------------------

  /// True if scavenge() would find a page. A hint.
  bool has_unscavenged() const noexcept { return !RemoteFreeQueue::is_empty(); }

  /// True if the owner has emptied the queue since the last such call. A hint.
  bool was_emptied_since() noexcept {
    const bool result = was_emptied_.load(Order::relaxed);
    was_emptied_.store(false, Order::relaxed);
    return result;
  }

  /// Calls `purge(Header*)` for the next `most` queued pages, and lists those for which it returns
  /// true as purged. No thread drains them meanwhile. `fence` is as in
  /// AsymmetricLock::try_lock_scavenger(). Returns true after the last page; the next call then
  /// starts again.
  /// Pre: the caller holds scavenger_mutex.
  /// Fails: true, without a call of `purge`, if the owner holds the lock or the fence fails.
  template <class Fence, class Purge>
  bool scavenge(Fence&& fence, std::uint32_t most, Purge&& purge) noexcept {
    if (!lock_.try_lock_scavenger(fence)) {
      return true;
    }
    Header* page = taken_.load(Order::relaxed);
    if (page == nullptr) {
      page = take_pushed();
    }
    for (; page != nullptr && most != 0; --most) {
      Header* const next = page->queue_next;
      auto& list = purge(page) ? purged_ : unpurged_;
      page->queue_next = list.load(Order::relaxed);
      list.store(page, Order::relaxed);
      page = next;
    }
    const bool is_end = page == nullptr && pushed_.load(Order::relaxed) == nullptr;
    if (is_end) {
      page = unpurged_.load(Order::relaxed);
      unpurged_.store(nullptr, Order::relaxed);
    }
    taken_.store(page, Order::relaxed);
    lock_.unlock_scavenger();
    return is_end;
  }

 private:
  template <class T>
  using Cell = HardwareAtomics::Cell<T>;

  Cell<Header*> unpurged_;  ///< Guarded by lock_. Checked, but not purged.
  Cell<Header*> purged_;    ///< Guarded by lock_.
  Cell<bool> was_emptied_{false};
  std::uint32_t depth_ = 0;  ///< The number of the owner's nested locks.
  AsymmetricLock lock_;
};

}  // namespace slabmalloc
