// SPDX-License-Identifier: MIT
//
// ScavengedQueue: a remote-free queue whose owner may sleep for ever.
//
// Others' frees in the queued pages cannot be issued before the owner drains them. Until then a
// scavenger may let the operating system have their memory. A lock keeps the two apart; a page that a
// scavenger has purged stays queued, in a list of its own:
//
//   pushed ──► taken ──scavenge──► purged
//                ▲ └─────────────► unpurged ┐   looked at again when all others were looked at
//                └──────────────────────────┘   the owner takes the purged pages last
#pragma once

#include <cstdint>

#include "malloc/asymmetric_lock.hpp"
#include "os/mutex.hpp"
#include "slabmalloc/base/assert.hpp"
#include "slabmalloc/zone/remote_free_queue.hpp"

namespace slabmalloc {

/// Held while any queue is scavenged. An owner that must drain everything sleeps on it. It cannot
/// spin: a scavenger on the processor of a more urgent owner does not run before that one sleeps.
[[gnu::visibility("hidden")]] extern constinit os::Mutex scavenger_mutex;

/// The queue policy of the malloc's zones. Thread: the owner, where nothing else is said.
class ScavengedQueue : public RemoteFreeQueue<HardwareAtomics> {
 public:
  using Lock = AsymmetricLock;

  constexpr ScavengedQueue() noexcept = default;

  /// Locks; false if a scavenger holds the lock. The owner may lock once more from within.
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
  /// Locks, and sleeps while a scavenger holds the lock. Pre: the caller holds no scavenger_mutex.
  void lock() noexcept {
    if (!try_lock()) [[unlikely]] {
      const os::Lock scavengers(scavenger_mutex);
      const bool is_locked = try_lock();
      invariant(is_locked, "a scavenger holds the scavengers' mutex");
    }
  }

  /// Takes one queued page off, or null. Pre: locked.
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
    has_taken_.store(true, Order::relaxed);
    taken_.store(page->queue_next, Order::relaxed);
    return page;
  }

  /// False if take() would find a page. Thread: any; a hint.
  bool is_empty() const noexcept {
    return !has_unscavenged() && unpurged_.load(Order::relaxed) == nullptr &&
           purged_.load(Order::relaxed) == nullptr;
  }

  // ---- scavengers: any thread but the owner ------------------------------------------------------

  /// True if scavenge() would find a page. A hint.
  bool has_unscavenged() const noexcept { return !RemoteFreeQueue::is_empty(); }

  /// True if the owner has taken a page off since this was asked last. A hint.
  bool has_taken_since() noexcept {
    const bool result = has_taken_.load(Order::relaxed);
    has_taken_.store(false, Order::relaxed);
    return result;
  }

  /// Calls `purge(Header*)` for the next `most` queued pages and remembers those for which it returns
  /// true; for none if the owner holds the lock, or without a fence. Nobody drains them meanwhile.
  /// `fence` is as in AsymmetricLock::try_lock_scavenger(). True if all pages were looked at; the next
  /// call then begins anew. Pre: the caller holds scavenger_mutex.
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

  Cell<Header*> unpurged_;  ///< Locked. Looked at, and not purged.
  Cell<Header*> purged_;    ///< Locked.
  Cell<bool> has_taken_{false};
  std::uint32_t depth_ = 0;  ///< How often the owner has locked.
  AsymmetricLock lock_;
};

}  // namespace slabmalloc
