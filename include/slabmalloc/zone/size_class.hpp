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
// Allocation selects one word of the current page's local bitmap, claims its free slots and issues them one by
// one (selected_word.hpp); then it claims from the same word again, if bits are left or frees have set some, or from
// the next, or in a page's first sweep from one before (first_sweep.hpp). A swept page goes to the back of `partial`,
// so that pages gather free slots before their next scavenge.
//
// Free by the owner sets the bit, and nothing else. Neither side counts: how many slots are free the bitmap
// tells, and whether a page may have become empty is asked when a free has made a whole word free.
// A free into a full page may pass its slot on to the next allocation (size_class_hand_off.hpp).
//
// What is done when is told here; how pages come, go and change lists in size_class_pages.hpp, how frees by others
// are taken in in size_class_remote.hpp, and how it all is looked at in size_class_inspect.hpp.
//
// Invariants, each with its line in validate():
//   I1  pages = |current| + |partial| + |full| + |idle|
//   I2  partial: state = open, 0 < free, used > 0
//   I3  full:    state = full, free = passed
//   I4  idle:    state = idle, used = 0, announced = 0
//   I5  every page: at or above `slots` every bit of local is set and none of remote; seal and class are right
//   I6  current: state = open, previous = itself
//   I7  the selected word is of the current page, or of a full page one of whose slots was handed off
// and those of the selected word and of the current page's first sweep.
// free = ones of local below `slots`; used = slots - free + pending, where pending counts bits that were
// drained before their announcement was taken (page_header.hpp); passed is 1 for the page of a slot that
// was handed off and is not issued, else 0.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/assert.hpp"
#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/page/allocable_page.hpp"
#include "slabmalloc/zone/first_sweep.hpp"
#include "slabmalloc/zone/owner.hpp"
#include "slabmalloc/zone/page_list.hpp"
#include "slabmalloc/zone/remote_buffer.hpp"
#include "slabmalloc/zone/selected_word.hpp"
#include "slabmalloc/zone/statistics.hpp"

namespace slabmalloc {

/// What a free by the owner led to.
enum class FreeOutcome : std::uint8_t {
  Freed,        ///< The slot is free.
  WordEmptied,  ///< The slot is free, and so are all of its word: the caller calls word_emptied().
  Rejected,     ///< The slot was free already; nothing changed.
};

/// One size class of one owner over pages of type `Page`.
/// Thread: the owner, but for the static functions. The owner's address must not change.
template <AllocablePage Page>
class alignas(64) SizeClass {
 public:
  using Header = typename Page::Header;
  using Atomics = typename Page::Atomics;

  /// A class that has nothing, all zero. Of it only allocate_fast() may be called before configure().
  constexpr SizeClass() noexcept = default;
  SizeClass(const SizeClass&) = delete;
  SizeClass& operator=(const SizeClass&) = delete;

  /// Makes this the class number `index` of `owner`, of slots laid out by `geometry`.
  constexpr void configure(const SlotGeometry& geometry, std::uint32_t index,
                           Owner<Atomics>& owner) noexcept {
    selected_.configure(geometry.object_size);
    geometry_ = geometry;
    index_ = index;
    owner_ = &owner;
  }

  constexpr const SlotGeometry& geometry() const noexcept { return geometry_; }
  std::uint32_t index() const noexcept { return index_; }
  std::size_t frame_bytes() const noexcept { return Page::frame_bytes(geometry_.object_size); }
  std::uint32_t idle_pages() const noexcept { return idle_count_; }
  /// True if a page of the class is empty, the current one included. Thread: the owner.
  bool has_empty_page() const noexcept {
    Header* const page = current_.load(Order::relaxed);
    return idle_count_ != 0 || (page != nullptr && is_empty(page));
  }

  // ---- allocation ------------------------------------------------------------------------------

  /// A slot that is claimed, or null. Cost: constant, no call.
  [[gnu::always_inline]] void* allocate_fast() noexcept {
    return allocate_fast(geometry_.object_size);
  }
  /// The same for who knows the class's object size.
  [[gnu::always_inline]] void* allocate_fast(std::uint32_t object_size) noexcept {
    return selected_.issue(object_size);
  }

  /// Claims from the selected word, and issues a slot; null if the word has none. Pre: nothing is claimed.
  void* claim() noexcept {
    const Word claimable = selected_.claimable();
    if (claimable == 0) {
      return nullptr;
    }
    const Word slots = selected_.one_claim_of(claimable);
    allocations_.add(count_ones(slots));
    if (first_sweep_.is_fresh()) {
      first_sweep_.claim_to(selected_.end_of(slots, geometry_.object_size));
    }
    return selected_.claim(slots, geometry_.object_size);
  }

  /// A slot from the selected word of the current page or a later one, or null. Pre: nothing is claimed.
  /// Cost: at most the words of one page.
  void* allocate_from_current() noexcept {
    if (void* object = claim()) {
      return object;
    }
    Header* page = current_.load(Order::relaxed);
    if (page == nullptr) {
      return nullptr;
    }
    if (first_sweep_.has_untouched(geometry_.words)) {
      select(page, first_sweep_.next_word(page));
      check_selected_word();
      return claim();
    }
    // A word that was deselected to hand slots off may have gained bits since.
    const bool is_deselected = hand_off_page_ != nullptr || !selected_.is_selected();
    std::uint32_t index = is_deselected ? word_index_ : word_index_ + 1;
    for (; index < geometry_.words; ++index) {
      if ((page->local(index).load(Order::relaxed) & geometry_.word_mask(index)) != 0) {
        select(page, index);
        check_selected_word();
        return claim();
      }
    }
    return nullptr;
  }

  /// Drains the current page if someone else freed a slot that is free already and could be issued
  /// next: that is reported, and the slot's next client keeps it. Done whenever a word is selected, and
  /// by hardened zones before each allocation.
  void check_selected_word() noexcept {
    Header* page = current_.load(Order::relaxed);
    if (page == nullptr) {
      return;
    }
    const Word free = selected_.free();
    if ((free & page->remote(word_index_, geometry_.words).load(Order::relaxed)) != 0)
        [[unlikely]] {
      // While a scavenger is there nothing is drained.
      if (owner_->try_lock()) {
        drain_remote_bits(page);
        owner_->unlock();
      }
    }
  }

  /// A slot from another page of this class, or null if none has one.
  /// Pre: allocate_from_current() found nothing. Cost: at most the words of two pages.
  void* allocate_from_pages() noexcept {
    leave_current();
    Header* page = partial_.pop_front();
    bool fresh = false;
    const bool was_idle = page == nullptr;
    if (was_idle) {
      page = take_from_idle(fresh);
    }
    if (page == nullptr) {
      return nullptr;
    }
    enter(page, fresh, was_idle);
    void* object = allocate_from_current();
    invariant(object != nullptr, "a page of partial or idle has a free slot");
    return object;
  }

  /// True if `object` has never been in use since the pager gave its frame zeroed. Asked right after its
  /// allocation.
  bool is_zero(const void* object) const noexcept { return first_sweep_.is_zero(object); }

  // ---- free by the owner -----------------------------------------------------------------------

  /// Frees slot `slot` of an open page of the owner's, laid out in `words` words. Cost: constant, no call.
  /// Fails: Rejected if the slot is free; free_in_any_state() then reports it. Not if that is not `Checked`,
  /// which is for measuring what the check costs.
  template <bool Hardened, bool Checked = true>
  [[gnu::always_inline]] static FreeOutcome free_slot(Header* page, std::uint32_t words,
                                                      std::uint32_t slot) noexcept {
    Cell& word = page->local(slot / word_bits);
    Word free = word.load(Order::relaxed);
    if (test_and_set(free, slot) && Checked) [[unlikely]] {
      return FreeOutcome::Rejected;
    }
    if constexpr (Hardened) {
      // A bit here that this owner has not drained: someone else freed the slot first.
      if (is_set(page->remote(slot / word_bits, words).load(Order::relaxed), slot)) [[unlikely]] {
        return FreeOutcome::Rejected;
      }
    }
    word.store(free, Order::relaxed);
    return free == ~Word{0} && !page->is_current() ? FreeOutcome::WordEmptied : FreeOutcome::Freed;
  }

  /// Frees slot `slot`, at `object`, of a full page of this class by claiming the slot for the next
  /// allocation. False, and nothing changed, unless slots are handed off and that one has none, or if the
  /// page has an announced free that may be of this slot. Cost: constant, no call.
  [[gnu::always_inline]] bool hand_off(Header* page, std::uint32_t slot, void* object) noexcept;

  /// Frees slot `slot`, at `object`, of a page of this class in whatever state.
  template <bool Hardened>
  void free_in_any_state(Header* page, std::uint32_t slot, void* object) noexcept {
    const std::uintptr_t state = page->tag.load(Order::relaxed) & PageState::mask;
    FreeOutcome outcome = FreeOutcome::Rejected;
    if (state == PageState::open) {
      outcome = free_slot<Hardened>(page, geometry_.words, slot);
    } else if (state == PageState::full) {
      outcome = free_in_full_page<Hardened>(page, slot, object);
    }
    if (outcome == FreeOutcome::Rejected) {
      report_misuse({MisuseKind::DoubleFree, object, geometry_.object_size, slot});
    } else if (outcome == FreeOutcome::WordEmptied) {
      word_emptied(page);
    }
  }

  /// Retires a partial page if it is empty. Cost: the words of one page, up to the first that is not empty.
  void word_emptied(Header* page) noexcept;

  /// True if slot `slot` of a page laid out as this class's is free as far as can be seen. Thread: any
  /// owner, for any owner's page.
  bool is_free(Header* page, std::uint32_t slot) const noexcept {
    return page->is_free(slot, geometry_.words);
  }

  // ---- frees by others -------------------------------------------------------------------------

  /// Takes in the announced frees of a page that was queued on the owner's inbox.
  /// Order: the exchange's acquire is paired with the release of fetch_add in RemoteFree::deliver():
  /// every announced bit is visible to drain(); its release with the acquire there: the next to
  /// announce writes the link after this owner read it.
  void drain_page(Header* page) noexcept;

  // ---- pages in and out ------------------------------------------------------------------------

  /// Makes the frame of `page` an idle page of this class. Cost: the words of one page.
  void add_page(Header* page, bool zeroed) noexcept;

  /// Takes an idle page out of the class, or null; its frame may then be used for anything.
  /// A double free may be on its way into an idle page: its bit, once drained, counts as used until
  /// it is announced, and keeps the page, which is then partial.
  Header* remove_idle_page() noexcept;

  /// Makes the current page one of the others, so that it can be idle, and takes back a slot that was
  /// handed off. Cost: the words of one page.
  void leave_current() noexcept;

  /// Hands at most `limit` empty pages to `give(Header*)`, the current one too if it is empty; returns how many.
  /// Cost: the words of one page for each, and of the current one.
  template <class Give>
  std::size_t remove_empty_pages(std::size_t limit, Give&& give) noexcept;

  /// Calls `give(Header*)` for every page, whatever lives in it, and forgets them all.
  template <class Give>
  void remove_all_pages(Give&& give) noexcept;

  // ---- looking ---------------------------------------------------------------------------------

  /// What is counted, without `used` and `frees`. Thread: any; others than the owner may see it lag.
  ClassStatistics counts() const noexcept;

  /// A snapshot. Thread: the owner. Cost: O(pages of the class).
  ClassStatistics statistics() const noexcept;

  /// Objects given out so far. Thread: any; others than the owner may see it a claim off.
  std::size_t allocations() const noexcept {
    const std::size_t claimed = count_ones(selected_.claimed());
    const std::size_t all = allocations_.get();
    return all > claimed ? all - claimed : 0;
  }
  std::size_t remote_frees() const noexcept { return counts_.remote_frees.get(); }
  std::size_t pages() const noexcept { return counts_.pages.get(); }

  /// Calls `visitor(Header*)` for every page. Thread: the owner.
  template <class Visitor>
  void for_each_page(Visitor&& visitor) const noexcept;

  /// Calls `visitor(void* object, std::size_t object_size)` for every live object.
  /// Thread: the owner; the scavenger must not allocate or free in this zone.
  template <class Visitor>
  void visit_live(Visitor&& visitor) const noexcept;

  /// The first broken invariant, as an equation, or null. Thread: the owner. Cost: O(pages).
  const char* validate() const noexcept;

 private:
  using Cell = typename Atomics::template Cell<Word>;

  /// Selects word `index` of the current page.
  void select(Header* page, std::uint32_t index) noexcept {
    selected_.select(page->local(index),
                     Page::slots_of(page) + std::size_t{index} * word_bits * geometry_.object_size,
                     geometry_.word_mask(index));
    word_index_ = index;
    hand_off_page_ = nullptr;
  }

  /// Frees slot `slot` of a full page, which is then partial unless the slot was handed off.
  template <bool Hardened>
  FreeOutcome free_in_full_page(Header* page, std::uint32_t slot, void* object) noexcept;

  /// Deselects the current page's word, if it is empty, so that slots are handed off from now on. Not on a
  /// page's first sweep, whose zeroed slots are worth more, nor where a free empties a page.
  void start_handing_off(Header* page) noexcept;

  /// True if a slot was handed off and is not issued yet.
  bool has_handed_off_slot() const noexcept;

  /// Frees a slot that was handed off and not issued in its page, which is then not full any more.
  void cancel_hand_off() noexcept;

  /// Makes `page` the current one. One that was idle begins its first sweep.
  void enter(Header* page, bool fresh, bool was_idle) noexcept;

  /// The free slots of a page.
  std::uint32_t count_free(Header* page) const noexcept {
    std::uint32_t free = 0;
    for (std::uint32_t word = 0; word < geometry_.words; ++word) {
      // Most words of a page that is left are empty.
      const Word bits = page->local(word).load(Order::relaxed) & geometry_.word_mask(word);
      free += bits != 0 ? count_ones(bits) : 0;
    }
    return free;
  }

  /// True if no slot of a page is live and no free of one is under way.
  bool is_empty(Header* page) const noexcept {
    // Objects that are freed in the order of their addresses, up or down, leave the one or the other end last.
    if (page->local(geometry_.words - 1).load(Order::relaxed) != ~Word{0}) {
      return false;
    }
    for (std::uint32_t word = 0; word + 1 < geometry_.words; ++word) {
      if (page->local(word).load(Order::relaxed) != ~Word{0}) {
        return false;
      }
    }
    return page->pending == 0;
  }

  /// Moves remote bits into the local bitmap; true if a slot became free by that.
  /// Order: the exchange's acquire is paired with the release of fetch_or in RemoteFree::deliver().
  /// A bit that is free locally already is a double free found at the merge: it is pending like the others
  /// until its announcement is taken.
  bool drain_remote_bits(Header* page) noexcept;

  /// Makes a full page partial that has a free slot again. A slot of it that was handed off and not issued
  /// is not claimed any more.
  void relist(Header* page) noexcept;

  /// Makes a partial page idle if it is empty.
  void retire_if_empty(Header* page) noexcept;

  void push_idle(Header* page) noexcept;

  Header* take_from_idle(bool& fresh) noexcept;

  void format(Header* page) noexcept;

  void dissolve(Header* page) noexcept;

  const char* validate_page(Header* page, std::uintptr_t state) const noexcept;

  // The allocation's line.
  SelectedWord<Atomics> selected_;  ///< Of the current page, or a handed-off slot's.
  SlotGeometry geometry_{};
  Header* hand_off_page_ = nullptr;  ///< While slots are handed off: the page of the last one.

  // The pages.
  FirstSweep first_sweep_;        ///< Of the current page.
  std::uint32_t word_index_ = 0;  ///< The word of the current page that was selected last.
  typename Atomics::template Cell<Header*> current_{nullptr};
  PageList<Header> partial_;
  PageList<Header> full_;
  Header* idle_ = nullptr;
  Header* fresh_idle_ = nullptr;  ///< The idle page whose frame came zeroed, if it is the newest.
  Owner<Atomics>* owner_ = nullptr;
  std::uint32_t idle_count_ = 0;
  std::uint32_t index_ = 0;

  // The counts.
  Counter<Atomics> allocations_;  ///< Slots ever claimed, but those that were given up.
  SizeClassCounters<Counter<Atomics>> counts_;
};

}  // namespace slabmalloc

#include "slabmalloc/zone/size_class_inspect.hpp"
#include "slabmalloc/zone/size_class_pages.hpp"
#include "slabmalloc/zone/size_class_hand_off.hpp"
#include "slabmalloc/zone/size_class_remote.hpp"
