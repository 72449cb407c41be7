// SPDX-License-Identifier: MIT
//
// RemoteFreeQueue: how frees by other threads reach the owner of a page. RemoteFree is the freeing
// thread's half of the protocol that page_header.hpp draws; the queue leads from there to the
// owner.
//
//   any thread: deliver ─► push ─► pushed (stack, lock-free) ─exchange─► taken (the owner's list)
//
// The thread that raises a page's `announced` from 0 pushes the page. `announced` stays above 0
// until the owner has taken the page off and drained it. So a page is queued at most once, needs
// one link only, and is pinned while it is queued: its frees are not drained, or pending.
//
// The queue is also the identity of its owner: its address is the tag of all the owner's pages.
//
// The queue is a policy. A configuration may name another type in its place (zone/config.hpp) if
// threads other than the owner look after the queue of an owner that sleeps. Such a type adds a
// lock that keeps them apart from the owner; here the lock is empty, since there is only the owner.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/page/page_header.hpp"

namespace slabmalloc {

/// The lock of an owner that nobody shares anything with: always free, and no code.
struct OwnerOnlyLock {
  /// Tells others that the owner is at one entry of something that they may take away.
  struct Mark {
    static constexpr void set() noexcept {}
    static constexpr void clear() noexcept {}
  };

  static constexpr bool try_lock_owner() noexcept { return true; }
  static constexpr void unlock_owner() noexcept {}
};

/// The queue of a zone or of a stand-alone size class. It never moves, and outlives its pages.
template <class AtomicsT>
class alignas(64) RemoteFreeQueue {
 public:
  using Atomics = AtomicsT;
  using Header = PageHeader<Atomics>;
  /// The type of the remote buffer's lock. The queue's own lock is lock() below.
  using Lock = OwnerOnlyLock;

  constexpr RemoteFreeQueue() noexcept = default;
  RemoteFreeQueue(const RemoteFreeQueue&) = delete;
  RemoteFreeQueue& operator=(const RemoteFreeQueue&) = delete;

  /// The tag of an open page of this owner.
  [[gnu::always_inline]] std::uintptr_t tag() const noexcept {
    return reinterpret_cast<std::uintptr_t>(this);
  }

  /// The queue in `tag`, whatever the page's state; null for no owner.
  static RemoteFreeQueue* of(std::uintptr_t tag) noexcept {
    return reinterpret_cast<RemoteFreeQueue*>(tag & ~PageState::mask);
  }

  /// Queues `page`. Thread: any; lock-free, callable from interrupt handlers.
  /// Pre: the caller raised page->announced from 0. Post: the caller touches the page no more.
  /// Order: release, with the acquire in take_pushed(): the owner sees the link.
  void push(Header* page) noexcept {
    Header* head = pushed_.load(Order::relaxed);
    do {
      page->queue_next = head;
    } while (!pushed_.compare_exchange(head, page, Order::release));
  }

  /// Takes one queued page off, or null. Thread: owner.
  /// The link is read before the caller can take the page's announcements: from then on any thread
  /// may queue the page again, and write the link.
  Header* take() noexcept {
    Header* page = taken_.load(Order::relaxed);
    if (page == nullptr) {
      page = take_pushed();
      if (page == nullptr) {
        return nullptr;
      }
    }
    taken_.store(page->queue_next, Order::relaxed);
    return page;
  }

  /// False if take() would find a page. Thread: any; a hint.
  bool is_empty() const noexcept {
    return pushed_.load(Order::relaxed) == nullptr && taken_.load(Order::relaxed) == nullptr;
  }

  // ---- the lock, which a queue with scavengers has ----------------------------------------------

  /// Between these the owner claims slots, changes its current page, and gives pages away. They
  /// nest. lock() waits until no scavenger is there.
  static constexpr void lock() noexcept {}
  static constexpr void unlock() noexcept {}

 protected:
  /// Takes all pushed pages, linked, or null. Thread: owner, or under its lock.
  /// Order: acquire, with the release in push(): the links are seen.
  Header* take_pushed() noexcept {
    return pushed_.load(Order::relaxed) != nullptr ? pushed_.exchange(nullptr, Order::acquire)
                                                   : nullptr;
  }

  typename Atomics::template Cell<Header*> pushed_;
  typename Atomics::template Cell<Header*> taken_;
};

/// Slots of one bitmap word of one page, freed by a thread that does not own it.
template <class Atomics>
struct RemoteFree {
  PageHeader<Atomics>* page = nullptr;
  std::byte* first_slot = nullptr;
  const SlotGeometry* geometry = nullptr;
  std::uint32_t word = 0;
  Word mask = 0;

  /// Reports each slot of `slots` in this word as freed twice. The calls for `late` were earlier.
  [[gnu::cold, gnu::noinline]] void report_double_frees(Word slots, Word late,
                                                        BlockState state) const noexcept {
    for (; slots != 0; slots &= slots - 1) {
      const std::uint32_t bit = lowest_bit(slots);
      const std::size_t slot = std::size_t{word} * word_bits + bit;
      const std::byte* const object = first_slot + slot * geometry->object_size;
      report_misuse({MisuseKind::DoubleFree, object, geometry->object_size, slot, object, state,
                     is_set(late, bit) ? FoundAt::Delivery : FoundAt::Call});
    }
  }

  /// The slots that their owner shows as free: this is the second free of each. A live slot never
  /// has its local bit set. Thread: any.
  /// Order: relaxed. The issue that cleared a live slot's bit happens before the client's free. So
  /// the load finds the bit clear, or what the owner stored later: it sets the bit again when the
  /// slot is freed. A free that happens before this call is seen until the slot is issued again.
  Word free_at_owner() const noexcept { return mask & page->local(word).load(Order::relaxed); }

  /// Frees the slots: sets their bits and tells the owner. Thread: any; lock-free and never waits,
  /// so interrupt handlers on any processor may call it.
  /// Order: the fetch_or's release is paired with the acquire in SizeClass::drain_remote_bits():
  /// the owner sees the last writes to the objects. The fetch_add's release makes the bits visible
  /// to the thread that takes the announcement. Its acquire is paired with the release half of the
  /// exchange in SizeClass::drain_page(): the link may be written since the owner has read it.
  /// Post: the announcement, with the push if it was the first, was the last access to the page.
  /// The slots of `late` were freed by earlier calls, as a report must say.
  void deliver(Word late = 0) const noexcept {
    // A live object pins its page: there is one, of this class, with an owner, and not idle.
    // Otherwise another thread freed the object while this free was buffered or under way.
    const std::uintptr_t tag = page->tag.load(Order::relaxed);
    if (tag == 0 || (tag & PageState::mask) == PageState::idle ||
        !page->has_seal_for(geometry->object_size)) [[unlikely]] {
      report_double_frees(mask, late, BlockState::Free);
      return;
    }
    // A claim may have taken such a slot: then it would be issued, and the drain free it again.
    const Word twice = free_at_owner();
    const Word once = mask & ~twice;
    const Word before = page->remote(word, geometry->words).fetch_or(once, Order::release);
    if ((twice | (before & once)) != 0) [[unlikely]] {
      report_double_frees(twice, late, BlockState::Free);
      report_double_frees(before & once, late, BlockState::Freed);
    }
    const std::uint32_t freed = count_ones(once & ~before);
    if (freed == 0) [[unlikely]] {
      return;
    }
    if (page->announced.fetch_add(freed, Order::acq_rel) == 0) {
      RemoteFreeQueue<Atomics>::of(tag)->push(page);
    }
  }
};

/// The free of slot `slot` of `page`, laid out by `geometry`, which outlives the free.
template <class Page>
RemoteFree<typename Page::Atomics> free_of_slot(typename Page::Header* page,
                                                const SlotGeometry& geometry,
                                                std::uint32_t slot) noexcept {
  return {page, Page::slots_of(page), &geometry, slot / word_bits, Word{1} << (slot % word_bits)};
}

}  // namespace slabmalloc
