// SPDX-License-Identifier: MIT
//
// SizeClass: the pages of one object size of one owner, and everything that happens to them.
//
//              refill                    word by word
//   frame ───────────► idle ──► current ──────────────► swept
//                       ▲          ▲                     │ │
//                       │          │ front               │ └─ nothing free ──► full
//          last free    │       partial ◄──── back ──────┘                      │
//                       └──────────┴──────────────────◄────── first free ───────┘
//
// The class issues slots of the current page (current_page.hpp) and keeps the others in lists
// (class_pages.hpp). It sweeps a page again of which half is free by then. Else it leaves the page
// for the first partial one, else for an idle one.
//
// A free by the owner sets the slot's bit, and nothing else. Neither side counts: the bitmap tells
// how many slots are free. The question whether a page has become empty is asked only after a free
// that made a whole word free.
//
// Its invariants are those of its parts: P1-P3 (page_header.hpp), I1-I4 (class_pages.hpp), C1-C2
// and W1 (current_page.hpp), U1 (first_sweep.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/assert.hpp"
#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/page/allocable_page.hpp"
#include "slabmalloc/zone/class_pages.hpp"
#include "slabmalloc/zone/current_page.hpp"
#include "slabmalloc/zone/remote_free_queue.hpp"
#include "slabmalloc/zone/statistics.hpp"

namespace slabmalloc {

/// One size class of one owner over pages of type `Page`. Remote frees reach the owner by a
/// `QueueT`.
/// Thread: the owner. The queue's address must not change.
template <ClassPage Page, class QueueT = RemoteFreeQueue<typename Page::Atomics>>
class alignas(64) SizeClass {
 public:
  using Header = typename Page::Header;
  using Atomics = typename Page::Atomics;
  using Queue = QueueT;

  /// A class that has nothing, all zero. Of it only allocate_fast() may be called before
  /// configure().
  constexpr SizeClass() noexcept = default;
  SizeClass(const SizeClass&) = delete;
  SizeClass& operator=(const SizeClass&) = delete;

  /// Makes this the class number `index` of the owner of `queue`, of slots laid out by `geometry`
  /// in `frames`.
  constexpr void configure(const SlotGeometry& geometry, std::uint32_t index, Queue& queue,
                           const FramesOf<Page>& frames = {}) noexcept {
    current_.configure(geometry);
    frames_ = frames;
    index_ = index;
    queue_ = &queue;
  }

  constexpr const SlotGeometry& geometry() const noexcept { return current_.geometry(); }
  std::uint32_t index() const noexcept { return index_; }
  /// The tag of the owner's open pages.
  std::uintptr_t owner_tag() const noexcept { return queue_->tag(); }
  std::size_t frame_bytes() const noexcept { return frames().bytes_for(geometry().object_size); }
  /// True if the class's frames are as large as a page of type `P`.
  template <AllocablePage P>
  bool has_frames_of() const noexcept {
    return frame_bytes() == P::frame_bytes(geometry().object_size);
  }
  /// How the class finds its frames and headers. Thread: any; constant once it is configured.
  [[gnu::always_inline]] const FramesOf<Page>& frames() const noexcept { return frames_; }
  std::uint32_t idle_pages() const noexcept { return pages_.idle_count(); }
  /// True if a page of the class is empty, the current one included.
  bool has_empty_page() const noexcept {
    Header* const page = current_.page();
    return idle_pages() != 0 || (page != nullptr && page->is_empty(geometry().words));
  }

  // ---- allocation ------------------------------------------------------------------------------

  /// A slot that is claimed, or null. Cost: constant, no call.
  [[gnu::always_inline]] void* allocate_fast() noexcept {
    return allocate_fast(geometry().object_size);
  }
  /// The same for callers that know the class's object size.
  [[gnu::always_inline]] void* allocate_fast(std::uint32_t object_size) noexcept {
    return current_.issue(object_size);
  }

  /// Claims slots of the current page and issues one; null if the page has none free. It leaves the
  /// selected word for a later one if that word has few slots free. If another thread freed a slot
  /// that could be claimed, it drains the page: that reports the double free, and the slot's next
  /// client keeps the slot.
  /// Pre: nothing is claimed. Cost: at most the words of one page.
  [[gnu::always_inline]] void* claim() noexcept {
    const QueueLock lock(*queue_);
    Word claimable = current_.claimable();
    if (current_.is_hardly_worth(claimable)) {
      if (current_.select_next()) {
        claimable = current_.claimable();
      } else if (claimable == 0) {
        return nullptr;
      }
    }
    if (current_.has_freed_twice(claimable)) [[unlikely]] {
      drain_remote_bits(current_.page());
    }
    return current_.claim(claimable);
  }

  /// The same by a call, for slow paths.
  [[gnu::noinline]] void* claim_by_call() noexcept { return claim(); }

  /// The slots that a claim takes at most, in eighths of a word: 1 to 8.
  std::uint32_t most_claimed_eighths() const noexcept { return current_.most_claimed_eighths(); }

  /// The same look as claim(), for slots that are claimed too. Hardened zones do this before each
  /// allocation: then no double free passes of which the remote bit is set.
  void check_selected_word() noexcept {
    if (current_.has_freed_twice()) [[unlikely]] {
      drain_remote_bits(current_.page());
    }
  }

  /// A slot from another page of this class, or null if none has one. If the current page has been
  /// swept, and half of it is free again, that page serves once more.
  /// Pre: claim() found nothing. Cost: at most the words of three pages.
  void* allocate_from_pages() noexcept {
    // Claimed since: by calls of the pager, or of another thread between two sections of a CPU.
    if (void* const object = allocate_fast()) {
      return object;
    }
    const QueueLock lock(*queue_);
    if (!current_.sweep_again()) {
      leave_current();
      if (!enter_next_page()) {
        return nullptr;
      }
    }
    void* const object = claim_by_call();
    invariant(object != nullptr,
              "a page that serves again, a partial and an idle one have a free slot");
    return object;
  }

  /// Makes a sample due after `slots` more allocations than are claimed now; never, if that is
  /// CurrentPage::no_sample.
  void set_next_sample(std::size_t slots) noexcept { current_.set_next_sample(slots); }
  /// True if the next allocation is the sample: the owner must set the next one.
  [[gnu::always_inline]] bool is_sample_due() const noexcept { return current_.is_sample_due(); }

  /// True if `object` is known to be zero. Pre: it was allocated just now.
  bool is_zero(const void* object) const noexcept { return current_.is_zero(object); }

  // ---- free by the owner -----------------------------------------------------------------------

  /// Frees slot `slot`, at `object`, of a page of this class in whatever state.
  template <bool Hardened>
  void free_in_any_state(Header* page, std::uint32_t slot, void* object) noexcept {
    const std::uintptr_t state = page->tag.load(Order::relaxed) & PageState::mask;
    if (state == PageState::full) {
      free_in_full_page<Hardened>(page, slot, object);
    } else {
      conclude_free(page, slot, object,
                    state == PageState::open
                        ? page->template free_slot<Hardened>(geometry().words, slot)
                        : FreeOutcome::Rejected);
    }
  }

  /// Frees slot `slot`, at `object`, of a full page of this class: hands it to the next allocation
  /// (CurrentPage::hand_off()), or makes the page partial.
  template <bool Hardened>
  [[gnu::always_inline]] void free_in_full_page(Header* page, std::uint32_t slot,
                                                void* object) noexcept {
    if constexpr (!Hardened) {
      current_.start_hand_offs(page);
      if (current_.hand_off(page, slot, object)) {
        return;
      }
    }
    const FreeOutcome outcome = page->template free_slot<Hardened>(geometry().words, slot);
    if (outcome != FreeOutcome::Rejected) [[likely]] {
      relist(page);
    }
    conclude_free(page, slot, object, outcome);
  }

  /// Retires a partial page if it is empty. Pre: a free of one of its slots was WordEmptied.
  /// Cost: the words of one page, up to the first that is not empty.
  void word_emptied(Header* page) noexcept {
    if (!page->is_empty(geometry().words)) {
      return;
    }
    // Another thread may be freeing an object that the owner freed too: its bit, once drained, is
    // pending until its announcement, and so pins the page.
    drain_remote_bits(page);
    retire_if_empty(page);
  }

  /// True if slot `slot` of a page laid out as this class's is free as far as can be seen. Thread:
  /// any owner, for any owner's page.
  bool is_free(Header* page, std::uint32_t slot) const noexcept {
    return page->is_free(slot, geometry().words);
  }

  /// What is known of slot `slot` of a page of this class, which is_free(). Thread: owner.
  [[gnu::cold]] BlockState state_of_free(Header* page, std::uint32_t slot) const noexcept {
    const Word local = page->local(slot / word_bits).load(Order::relaxed);
    // Without its bit the slot is in use for the owner, and another thread has freed it.
    return is_set(local, slot % word_bits) ? current_.state_of_free(page, slot) : BlockState::Freed;
  }

  // ---- frees by others -------------------------------------------------------------------------

  /// Drains a page that was queued: takes its announced frees in.
  /// Order: the exchange's acquire is paired with the release of fetch_add in
  /// RemoteFree::deliver(): drain_remote_bits() sees every announced bit. Its release is paired
  /// with the acquire there: the next thread that announces writes the link after this owner read
  /// it.
  void drain_page(Header* page) noexcept {
    const std::uint32_t announced = page->announced.exchange(0, Order::acq_rel);
    const bool found_some = drain_remote_bits(page);
    page->pending = (page->pending - announced) & 0xFFFFFFu;
    pages_.counts().remote_frees.add(announced);
    if (page == current_.page()) {
      return;
    }
    const std::uintptr_t state = page->tag.load(Order::relaxed) & PageState::mask;
    if (state == PageState::idle) {
      return;  // Double frees alone, begun before the page was idle: it is where it belongs.
    }
    if (state == PageState::full && found_some) {
      relist(page);
    }
    retire_if_empty(page);
  }

  // ---- pages in and out ------------------------------------------------------------------------

  /// Makes the frame of `page` an idle page of this class. Cost: the words of one page.
  void add_page(Header* page, bool zeroed) noexcept {
    const QueueLock lock(*queue_);
    page->format(geometry(), index_);
    Page::open(page, geometry());
    pages_.add(page, owner_tag(), zeroed);
  }

  /// Takes an idle page out of the class, or null; its frame may then be used for anything. A
  /// double free may be on its way into an idle page: its bit, once drained, counts as used until
  /// it is announced, and keeps the page, which is then partial.
  Header* remove_idle_page() noexcept {
    const QueueLock lock(*queue_);
    while (Header* page = pages_.pop_idle().page) {
      drain_remote_bits(page);
      if (page->is_empty(geometry().words)) {
        dissolve(page);
        return page;
      }
      pages_.push_partial(page, owner_tag());
    }
    return nullptr;
  }

  /// Makes the current page one of the others, so that it can be idle, and cancels a hand-off.
  /// Cost: the words of one page.
  void leave_current() noexcept {
    const QueueLock lock(*queue_);
    if (Header* const handed_off = current_.handed_off_page()) {
      relist(handed_off);
      word_emptied(handed_off);
    }
    Header* const page = current_.leave();
    if (page == nullptr) {
      return;
    }
    if (page->next_free_word(geometry(), 0) == geometry().words) {
      pages_.push_full(page, owner_tag());
      return;
    }
    pages_.push_partial(page, owner_tag());
    word_emptied(page);
  }

  /// Hands at most `limit` empty pages to `give(Header*)`, the current one too if it is empty;
  /// returns how many. Cost: the words of one page for each, and of the current one.
  template <class Give>
  std::size_t remove_empty_pages(std::size_t limit, Give&& give) noexcept {
    leave_current();
    std::size_t count = 0;
    for (; count < limit; ++count) {
      Header* page = remove_idle_page();
      if (page == nullptr) {
        break;
      }
      give(page);
    }
    return count;
  }

  /// Calls `give(Header*)` for every page, whatever lives in it, and forgets them all.
  template <class Give>
  void remove_all_pages(Give&& give) noexcept {
    leave_current();
    for (;;) {
      Header* page = pages_.pop_partial();
      page = page != nullptr ? page : pages_.pop_full();
      if (page == nullptr) {
        break;
      }
      dissolve(page);
      give(page);
    }
    while (Header* page = remove_idle_page()) {
      give(page);
    }
  }

  // ---- statistics and checks -------------------------------------------------------------------

  /// Everything that is counted, without `used` and `frees`. Thread: any; others than the owner may
  /// see it lag.
  ClassStatistics counts() const noexcept {
    ClassStatistics result;
    read_counters(pages_.counts(), result);
    result.object_size = geometry().object_size;
    result.page_bytes = frame_bytes();
    result.slots = result.pages * geometry().slots;
    result.allocations = allocations();
    return result;
  }

  /// A snapshot. Thread: the owner. Cost: O(pages of the class).
  ClassStatistics statistics() const noexcept {
    ClassStatistics result = counts();
    for_each_page([&](Header* page) noexcept {
      result.used += geometry().slots - page->count_free(geometry()) + page->pending;
    });
    result.frees = result.allocations - result.used;
    return result;
  }

  /// Objects given out so far. Thread: any; others than the owner may see it a claim off.
  std::size_t allocations() const noexcept { return current_.allocations(); }
  /// Frees by others that were drained. Thread: any.
  std::size_t remote_frees() const noexcept { return pages_.counts().remote_frees.get(); }
  /// Pages of the class. Thread: any.
  std::size_t pages() const noexcept { return pages_.counts().pages.get(); }

  /// Calls `visitor(Header*)` for every page.
  template <class Visitor>
  void for_each_page(Visitor&& visitor) const noexcept {
    if (Header* page = current_.page(); page != nullptr) {
      visitor(page);
    }
    pages_.for_each(visitor);
  }

  /// Calls `visitor(void* object, std::size_t object_size)` for every live object. The visitor must
  /// not allocate or free in this zone.
  template <class Visitor>
  void visit_live(Visitor&& visitor) const noexcept {
    const std::size_t object_size = geometry().object_size;
    for_each_page([&](Header* page) noexcept {
      std::byte* const slots = Page::slots_of(page);
      page->for_each_live(geometry(), [&](std::uint32_t slot) noexcept {
        visitor(static_cast<void*>(slots + slot * object_size), object_size);
      });
    });
  }

  /// Calls visitor(object, bytes) for each slot of each page, in use or free. As visit_live().
  template <class Visitor>
  void visit_slots(Visitor&& visitor) const noexcept {
    const SlotGeometry slots = geometry();
    for_each_page([&](Header* page) noexcept {
      std::byte* object = Page::slots_of(page);
      for (std::uint32_t slot = 0; slot < slots.slots; ++slot, object += slots.object_size) {
        visitor(static_cast<void*>(object), slots.object_size);
      }
    });
  }

  /// The slots that may be in use although they look free. See CurrentPage::latest_claim().
  typename CurrentPage<Page>::ClaimedSlots latest_claim() const noexcept {
    return current_.latest_claim();
  }

  /// The first broken invariant, as an equation, or null. Cost: O(pages).
  const char* validate() const noexcept {
    if (const char* broken = current_.validate(index_, owner_tag())) {
      return broken;
    }
    if constexpr (HoleTracking<Page>) {
      const char* broken = nullptr;
      const auto claim = latest_claim();
      for_each_page([&](Header* page) noexcept {
        const char* const found =
            Page::check_holes(page, geometry(), claim.word, page == claim.page ? claim.slots : 0);
        broken = broken != nullptr ? broken : found;
      });
      if (broken != nullptr) {
        return broken;
      }
    }
    return pages_.validate(geometry(), index_, owner_tag(), current_.page() != nullptr ? 1 : 0,
                           current_.handed_off_page());
  }

 private:
  /// Holds the queue's lock for a scope. Scavengers scan only while they hold it. So they find
  /// claims, the current page and the owner's pages at rest.
  class QueueLock {
   public:
    [[gnu::always_inline]] explicit QueueLock(Queue& queue) noexcept : queue_(queue) {
      queue_.lock();
    }
    [[gnu::always_inline]] ~QueueLock() { queue_.unlock(); }
    QueueLock(const QueueLock&) = delete;
    QueueLock& operator=(const QueueLock&) = delete;

   private:
    Queue& queue_;
  };

  /// Does the rest of a free of slot `slot`, at `object`, whose page is in its list.
  [[gnu::always_inline]] void conclude_free(Header* page, std::uint32_t slot, void* object,
                                            FreeOutcome outcome) noexcept {
    if (outcome == FreeOutcome::Rejected) [[unlikely]] {
      report_double_free(page, slot, object, FoundAt::Call);
    } else if (outcome == FreeOutcome::WordEmptied) {
      word_emptied(page);
    }
  }

  /// Reports a free of slot `slot`, at `object`, which is_free().
  [[gnu::cold, gnu::noinline]] void report_double_free(Header* page, std::uint32_t slot,
                                                       const void* object,
                                                       FoundAt found_at) const noexcept {
    BlockState state = state_of_free(page, slot);
    if (found_at == FoundAt::Drain && state == BlockState::Freed) {
      // A drain may come between the selection of a word and the claim that tells what was issued.
      state = BlockState::Free;
    }
    report_misuse(
        {MisuseKind::DoubleFree, object, geometry().object_size, slot, object, state, found_at});
  }

  /// Makes the next page the current one, a partial page before an idle one; false if there is
  /// none. Pre: there is no current page.
  [[gnu::always_inline]] bool enter_next_page() noexcept {
    if (Header* const page = pages_.pop_partial()) {
      current_.enter(page, owner_tag(), false, false);
      return true;
    }
    const auto idle = pages_.pop_idle();
    if (idle.page != nullptr) {
      current_.enter(idle.page, owner_tag(), true, idle.zeroed);
    }
    return idle.page != nullptr;
  }

  /// Moves remote bits into the local bitmap; true if a slot became free by that.
  /// Order: the exchange's acquire is paired with the release of fetch_or in RemoteFree::deliver().
  /// A bit that is free locally already is a double free found at the drain: it is pending like the
  /// others until its announcement is taken.
  bool drain_remote_bits(Header* page) noexcept {
    bool found_some = false;
    for (std::uint32_t index = 0; index < geometry().words; ++index) {
      auto& remote = page->remote(index, geometry().words);
      if (remote.load(Order::relaxed) == 0) {
        continue;
      }
      const Word drained = remote.exchange(0, Order::acquire);
      auto& local = page->local(index);
      const Word before = local.load(Order::relaxed);
      const Word twice = drained & before;
      local.store(before | drained, Order::relaxed);
      page->pending = (page->pending + count_ones(drained)) & 0xFFFFFFu;
      found_some = found_some || (drained & ~before) != 0;
      for (Word slots = twice; slots != 0; slots &= slots - 1) {
        const std::uint32_t slot = index * word_bits + lowest_bit(slots);
        report_double_free(page, slot,
                           Page::slots_of(page) + std::size_t{slot} * geometry().object_size,
                           FoundAt::Drain);
      }
    }
    return found_some;
  }

  /// Makes a full page partial that has a free slot again. A slot of it that was handed off and not
  /// issued is not claimed any more.
  void relist(Header* page) noexcept {
    current_.end_hand_off(page);
    pages_.full_to_partial(page, owner_tag());
  }

  /// Makes a partial page idle if it is empty.
  void retire_if_empty(Header* page) noexcept {
    if (page->is_empty(geometry().words)) {
      pages_.partial_to_idle(page, owner_tag());
    }
  }

  /// Makes a page, which was taken off its list, a mere frame.
  void dissolve(Header* page) noexcept {
    const QueueLock lock(*queue_);
    page->tag.store(0, Order::relaxed);
    page->seal.store(0, Order::relaxed);
    Page::close(page, geometry());
    pages_.count_out();
  }

  CurrentPage<Page> current_;
  ClassPages<Header> pages_;
  Queue* queue_ = nullptr;
  std::uint32_t index_ = 0;
  [[no_unique_address]] FramesOf<Page> frames_{};
};

}  // namespace slabmalloc
