// SPDX-License-Identifier: MIT
//
// ClassPages: the pages of a size class but the current one, in three lists.
//
//   partial   FIFO: pages with free slots and live ones; swept pages go to the back, so that they
//             gather free slots before the class sweeps them again
//   full      FIFO: pages without a free slot
//   idle      LIFO: pages without a live slot
//
// The lists lead through the pages' headers. A page's tag shows its list (page_header.hpp), so this
// class writes the tag whenever a page enters one.
//
// Invariants, each with its line in validate():
//   I1  pages = |current| + |partial| + |full| + |idle|
//   I2  partial: state = open, 0 < free, used > 0
//   I3  full:    state = full, free = handed off
//   I4  idle:    state = idle, used = 0, announced = 0
// free = ones of local below `slots`; used = slots - free + pending, where pending counts bits that
// were drained before their announcement was taken; handed off is 1 for the page of a slot that was
// handed off and is not issued, else 0.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/page/page_header.hpp"
#include "slabmalloc/zone/statistics.hpp"

namespace slabmalloc {

/// A doubly linked FIFO of pages through their headers; any page leaves it in constant time.
/// Thread: the owner.
template <class Header>
class PageList {
 public:
  constexpr PageList() noexcept = default;

  Header* front() const noexcept { return front_; }

  void push_back(Header* page) noexcept {
    page->next = nullptr;
    page->previous = back_;
    (back_ != nullptr ? back_->next : front_) = page;
    back_ = page;
  }

  /// Pre: `page` is in this list.
  void remove(Header* page) noexcept {
    (page->previous != nullptr ? page->previous->next : front_) = page->next;
    (page->next != nullptr ? page->next->previous : back_) = page->previous;
    page->next = page->previous = nullptr;
  }

  /// Takes the page that came first, or null.
  Header* pop_front() noexcept {
    Header* page = front_;
    if (page != nullptr) {
      remove(page);
    }
    return page;
  }

 private:
  Header* front_ = nullptr;
  Header* back_ = nullptr;
};

/// The lists of one size class. Thread: the owner, but for the counts.
template <class Header>
class ClassPages {
  using Atomics = typename Header::Atomics;

 public:
  /// An idle page, and whether its frame came zeroed and no slot of it was ever issued.
  struct IdlePage {
    Header* page = nullptr;
    bool zeroed = false;
  };

  constexpr ClassPages() noexcept = default;

  // ---- in and out of the class ------------------------------------------------------------------

  /// Takes a formatted page in, as an idle one of the owner with tag `owner`.
  void add(Header* page, std::uintptr_t owner, bool zeroed) noexcept {
    counts_.pages.add(1);
    counts_.pages_high_water.raise_to(counts_.pages.get());
    counts_.refills.add(1);
    push_idle(page, owner);
    zeroed_idle_ = zeroed ? page : nullptr;
  }

  /// Counts a page out that pop_partial(), pop_full() or pop_idle() returned.
  void count_out() noexcept {
    counts_.pages.subtract(1);
    counts_.reclaims.add(1);
  }

  // ---- from list to list ------------------------------------------------------------------------

  /// Lists `page`, which was in no list, as a partial one of the owner with tag `owner`.
  /// Order: release, for scavengers. One that sees an open page sees that a slot of it, which was
  /// handed off when the page was full, is no longer free or no longer claimed.
  void push_partial(Header* page, std::uintptr_t owner) noexcept {
    page->tag.store(owner, Order::release);
    partial_.push_back(page);
  }
  void push_full(Header* page, std::uintptr_t owner) noexcept {
    page->tag.store(owner | PageState::full, Order::relaxed);
    full_.push_back(page);
  }
  void push_idle(Header* page, std::uintptr_t owner) noexcept {
    page->tag.store(owner | PageState::idle, Order::relaxed);
    page->next = idle_;
    idle_ = page;
    ++idle_count_;
  }

  Header* pop_partial() noexcept { return partial_.pop_front(); }
  Header* pop_full() noexcept { return full_.pop_front(); }
  IdlePage pop_idle() noexcept {
    IdlePage result;
    if (idle_ != nullptr) {
      result = {idle_, idle_ == zeroed_idle_};
      idle_ = idle_->next;
      result.page->next = nullptr;
      --idle_count_;
      zeroed_idle_ = nullptr;
    }
    return result;
  }

  /// A full page has a free slot again.
  void full_to_partial(Header* page, std::uintptr_t owner) noexcept {
    full_.remove(page);
    push_partial(page, owner);
  }
  /// The last live slot of a partial page was freed.
  void partial_to_idle(Header* page, std::uintptr_t owner) noexcept {
    partial_.remove(page);
    push_idle(page, owner);
  }

  // ---- statistics and checks --------------------------------------------------------------------

  std::uint32_t idle_count() const noexcept { return idle_count_; }

  /// The counters of the class. Thread: any reads; others than the owner may see them lag.
  SizeClassCounters<Counter<Atomics>>& counts() noexcept { return counts_; }
  const SizeClassCounters<Counter<Atomics>>& counts() const noexcept { return counts_; }

  /// Calls `visitor(Header*)` for every listed page.
  template <class Visitor>
  void for_each(Visitor&& visitor) const noexcept {
    Header* const lists[] = {partial_.front(), full_.front(), idle_};
    for (Header* first : lists) {
      for (Header* page = first; page != nullptr; page = page->next) {
        visitor(page);
      }
    }
  }

  /// The first broken invariant, as an equation, or null. The class is number `index` of the owner
  /// with tag `owner`; it has `current` pages beside those of the lists; a slot of `handed_off`, if
  /// that is a page, was handed off. Cost: O(pages).
  const char* validate(const SlotGeometry& geometry, std::uint32_t index, std::uintptr_t owner,
                       std::size_t current, const Header* handed_off) const noexcept {
    std::size_t listed = current;
    for (Header* page = partial_.front(); page != nullptr; page = page->next, ++listed) {
      if (const char* broken = page->validate(geometry, index, owner)) {
        return broken;
      }
      if (page->count_free(geometry) == 0 || page->is_empty(geometry.words)) {
        return "I2: a partial page has free slots and used ones";
      }
    }
    for (Header* page = full_.front(); page != nullptr; page = page->next, ++listed) {
      if (const char* broken = page->validate(geometry, index, owner | PageState::full)) {
        return broken;
      }
      if (page->count_free(geometry) != (page == handed_off ? 1 : 0)) {
        return "I3: a full page has no free slot but one that was handed off";
      }
    }
    std::size_t idle = 0;
    for (Header* page = idle_; page != nullptr; page = page->next, ++idle) {
      if (const char* broken = page->validate(geometry, index, owner | PageState::idle)) {
        return broken;
      }
      if (!page->is_empty(geometry.words) || page->announced.load(Order::relaxed) != 0) {
        return "I4: an idle page has nothing used, announced or pending";
      }
    }
    return idle == idle_count_ && listed + idle == counts_.pages.get()
               ? nullptr
               : "I1: pages = |current| + |partial| + |full| + |idle|";
  }

 private:
  PageList<Header> partial_;
  PageList<Header> full_;
  Header* idle_ = nullptr;
  Header* zeroed_idle_ = nullptr;  ///< The newest idle page, if its frame came zeroed.
  std::uint32_t idle_count_ = 0;

  SizeClassCounters<Counter<Atomics>> counts_;
};

}  // namespace slabmalloc
