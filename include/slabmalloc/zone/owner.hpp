// SPDX-License-Identifier: MIT
//
// Owner: the identity of whoever allocates from a set of pages, and the inbox through which everyone
// else tells it of frees.
//
//   any thread: push ──► inbox (stack, lock-free) ──exchange──► taken (the owner's own list)
//
// A page is pushed by whoever raises its `announced` from 0, and `announced` stays above 0 until the
// owner has taken the page off and looked: so a page is queued at most once, needs one link only, and
// is pinned (its frees are not drained, or pending) for as long as it is queued.
//
// An owner may sleep for ever with pages on its inbox. What is free in them by others' doing cannot be issued
// before the owner has drained it, so a scavenger may let the operating system have the memory. A lock keeps
// the two apart, and a page that a scavenger has done with is put with the purged ones, still queued:
//
//   inbox ──► taken ──scavenge_queue──► put with the purged ones
//               ▲ └────────────────► kept ┐    what is kept is looked at again when all else was,
//               └─────────────────────────┘    and the owner takes the one and the other last
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/page/page_header.hpp"
#include "slabmalloc/zone/asymmetric_lock.hpp"

namespace slabmalloc {

/// The inbox of a zone or of a stand-alone size class. Its address is the owner tag of its pages, so
/// an owner never moves, and outlives its pages.
template <class Atomics>
class alignas(64) Owner {
 public:
  using Header = PageHeader<Atomics>;

  constexpr Owner() noexcept = default;
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;

  /// The tag of an open page of this owner.
  [[gnu::always_inline]] std::uintptr_t tag() const noexcept {
    return reinterpret_cast<std::uintptr_t>(this);
  }

  /// The owner in `tag`, whatever the page's state; null for no owner.
  static Owner* of(std::uintptr_t tag) noexcept {
    return reinterpret_cast<Owner*>(tag & ~PageState::mask);
  }

  /// Queues `page`. Thread: any; lock-free, callable from interrupt handlers.
  /// Pre: the caller raised page->announced from 0. Post: the caller touches the page no more.
  /// Order: release, with the acquire in take(): the owner sees the link.
  void push(Header* page) noexcept {
    Header* head = inbox_.load(Order::relaxed);
    do {
      page->inbox_next = head;
    } while (!inbox_.compare_exchange(head, page, Order::release));
  }

  /// Enters the lock, behind which pages are taken off and drained; false if a scavenger is there. Once
  /// inside, the owner may enter again. Thread: owner.
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

  /// Takes one queued page off, or null. Thread: owner, inside its lock if there are scavengers.
  /// The link is read before the caller can take the page's announcements: from then on anyone may
  /// queue the page again, and write the link.
  Header* take() noexcept {
    Header* page = taken_.load(Order::relaxed);
    if (page == nullptr) {
      if (inbox_.load(Order::relaxed) != nullptr) {
        page = inbox_.exchange(nullptr, Order::acquire);
      } else {
        Cell<Header*>& rest = unpurged_.load(Order::relaxed) != nullptr ? unpurged_ : purged_;
        page = rest.load(Order::relaxed);
        rest.store(nullptr, Order::relaxed);
      }
      if (page == nullptr) {
        return nullptr;
      }
    }
    has_drained_.store(true, Order::relaxed);
    taken_.store(page->inbox_next, Order::relaxed);
    return page;
  }

  /// True if take() would find a page. Thread: any; a hint.
  bool has_remote_frees() const noexcept {
    return has_queued_pages() || unpurged_.load(Order::relaxed) != nullptr ||
           purged_.load(Order::relaxed) != nullptr;
  }

  // ---- scavengers: any thread but the owner ----------------------------------------------------------

  /// True if scavenge_queue() would find a page. A hint.
  bool has_queued_pages() const noexcept {
    return inbox_.load(Order::relaxed) != nullptr || taken_.load(Order::relaxed) != nullptr;
  }

  /// True if the owner has looked at its inbox, and found something, since this was asked last. A hint.
  bool has_drained_since() noexcept {
    const bool result = has_drained_.load(Order::relaxed);
    has_drained_.store(false, Order::relaxed);
    return result;
  }

  /// Shows the next `most` queued pages to `done(Header*)`, and puts those with the purged ones for which it says yes; shows
  /// none if the owner is inside, or if there is no fence. None of them is drained meanwhile. `fence` is as in
  /// AsymmetricLock::try_lock_scavenger(). True if no page is left that was not shown; the next scavenge then begins anew.
  template <class Fence, class Done>
  bool scavenge_queue(Fence&& fence, std::uint32_t most, Done&& done) noexcept {
    if (!lock_.try_lock_scavenger(fence)) {
      return true;
    }
    Header* page = taken_.load(Order::relaxed);
    if (page == nullptr) {
      page = inbox_.exchange(nullptr, Order::acquire);
    }
    for (; page != nullptr && most != 0; --most) {
      Header* const next = page->inbox_next;
      auto& list = done(page) ? purged_ : unpurged_;
      page->inbox_next = list.load(Order::relaxed);
      list.store(page, Order::relaxed);
      page = next;
    }
    const bool is_end = page == nullptr && inbox_.load(Order::relaxed) == nullptr;
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
  using Cell = typename Atomics::template Cell<T>;

  Cell<Header*> inbox_;
  Cell<Header*> taken_;      ///< Behind the lock.
  Cell<Header*> unpurged_;       ///< Behind the lock. Shown to scavengers, and not done with.
  Cell<Header*> purged_;  ///< Behind the lock.
  Cell<bool> has_drained_{false};
  std::uint32_t depth_ = 0;  ///< How often the owner is inside.
  AsymmetricLock<Atomics> lock_;
};

}  // namespace slabmalloc
