// SPDX-License-Identifier: MIT
//
// Owner: the identity of whoever allocates from a set of pages, and the inbox through which everyone
// else tells it of frees.
//
//   any thread: push ──► inbox (stack, lock-free) ──exchange──► taken (the owner's own list)
//
// A page is pushed by whoever raises its `announced` from 0, and `announced` stays above 0 until the
// owner has taken the page off and looked: so a page is queued at most once, needs one link only, and
// is pinned (its frees are not yet subtracted from `used`) for as long as it is queued.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/page/page_header.hpp"

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

  /// Takes one queued page off, or null. Thread: owner.
  /// The link is read before the caller can take the page's announcements: from then on anyone may
  /// queue the page again, and write the link.
  Header* take() noexcept {
    if (taken_ == nullptr) {
      if (inbox_.load(Order::relaxed) == nullptr) {
        return nullptr;
      }
      taken_ = inbox_.exchange(nullptr, Order::acquire);
    }
    Header* page = taken_;
    taken_ = page->inbox_next;
    return page;
  }

  /// True if a page is queued that take() has not seen yet. Thread: any; a hint.
  bool has_mail() const noexcept { return inbox_.load(Order::relaxed) != nullptr; }

 private:
  template <class T>
  using Cell = typename Atomics::template Cell<T>;

  Cell<Header*> inbox_;
  Header* taken_ = nullptr;
};

}  // namespace slabmalloc
