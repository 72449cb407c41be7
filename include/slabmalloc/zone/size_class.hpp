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
// Allocation claims one word of the current page's local bitmap as a whole, or of large objects a few
// of its bits, and issues them one by one; then it claims from the same word again, if bits are left or
// frees have set some, or from the next. What is claimed is a copy: a bit leaves the page's word when its
// slot is issued, so that the word always tells what is free. Choosing slots by the copy keeps the word,
// which frees write, off the path from one allocation to the next.
// Words are visited in order; a swept page goes to the back of `partial`, so that pages gather free
// slots before their next visit. But before a word is touched for the first time since the page was idle, two
// of the words before it are looked at: one that has become mostly free serves again. So a class with few live
// objects stays within a few cache lines and OS pages of a large page.
//
// Free by the owner sets the bit, and nothing else. Neither side counts: how many slots are free the bitmap
// tells, and whether a page may have become empty is asked when a free has made a whole word free.
//
// A free into a full page while nothing is claimed passes the slot on: it is claimed at once, by itself,
// for the next allocation, and the page stays full. So where single objects of a full heap are replaced,
// no page moves between lists.
//
// Invariants, each with its line in validate():
//   I1  pages = |current| + |partial| + |full| + |idle|
//   I2  partial: state = open, 0 < free, used > 0
//   I3  full:    state = full, free = passed
//   I4  idle:    state = idle, used = 0, announced = 0
//   I5  every page: at or above `slots` every bit of local is set and none of remote; seal and class are right
//   I6  current: state = open, previous = itself
//   I7  claimed & ~word = 0 for the selected word; that is of the current page, or of a full page one of
//       whose slots was passed on
//   I8  current: every bit of the untouched words of local is set
// free = ones of local below `slots`; used = slots - free + pending, where pending counts bits that were
// collected before their announcement was taken (page_header.hpp); passed is 1 for the page of a slot that
// was passed on and is not issued, else 0.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/assert.hpp"
#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/page/allocable_page.hpp"
#include "slabmalloc/zone/owner.hpp"
#include "slabmalloc/zone/page_list.hpp"
#include "slabmalloc/zone/remote_buffer.hpp"
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
    claim_ = claim_of(geometry.object_size);
    geometry_ = geometry;
    index_ = index;
    owner_ = &owner;
    deselect();
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
    const Word free = claimed_.load(Order::relaxed);
    return free != 0 ? issue(free, object_size) : nullptr;
  }

  /// Claims from the selected word, and issues a slot; null if the word has none. Pre: nothing is claimed.
  void* claim() noexcept {
    Word free = word_->load(Order::relaxed) & word_mask_;
    if (free == 0) {
      return nullptr;
    }
    free &= claim_ << lowest_bit(free);
    allocations_.add(count_ones(free));
    if (fresh_) {
      fresh_from_ = swept_to_;
      std::byte* const end = word_base_ + (highest_bit(free) + 1) * geometry_.object_size;
      swept_to_ = end > swept_to_ ? end : swept_to_;
    }
    return issue(free, geometry_.object_size);
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
    if (untouched_ < geometry_.words) {
      select(page, next_in_first_sweep(page));
      check_selected_word();
      return claim();
    }
    // A word that was deselected to pass slots on may have gained bits since.
    const bool is_deselected = passed_page_ != nullptr || word_ == &no_free_slots;
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

  /// Collects the current page if someone else freed a slot that is free already and could be issued
  /// next: that is reported, and the slot's next client keeps it. Done whenever a word is selected, and
  /// by hardened zones before each allocation.
  void check_selected_word() noexcept {
    Header* page = current_.load(Order::relaxed);
    if (page == nullptr) {
      return;
    }
    const Word free = word_->load(Order::relaxed);
    if ((free & page->remote(word_index_, geometry_.words).load(Order::relaxed)) != 0)
        [[unlikely]] {
      // While a visitor is there nothing is collected.
      if (owner_->enter()) {
        collect(page);
        owner_->leave();
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
  bool is_zero(const void* object) const noexcept { return fresh_ && object >= fresh_from_; }

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
      // A bit here that this owner has not collected: someone else freed the slot first.
      if (is_set(page->remote(slot / word_bits, words).load(Order::relaxed), slot)) [[unlikely]] {
        return FreeOutcome::Rejected;
      }
    }
    word.store(free, Order::relaxed);
    return free == ~Word{0} && !page->is_current() ? FreeOutcome::WordEmptied : FreeOutcome::Freed;
  }

  /// Frees slot `slot`, at `object`, of a full page of this class by claiming the slot for the next
  /// allocation. False, and nothing changed, unless slots are passed on and that one has none, or if the
  /// page has an announced free that may be of this slot. Cost: constant, no call.
  [[gnu::always_inline]] bool pass_on(Header* page, std::uint32_t slot, void* object) noexcept {
    if (passed_page_ == nullptr || claimed_.load(Order::relaxed) != 0 ||
        page->announced.load(Order::relaxed) != 0) {
      return false;
    }
    passed_page_ = page;
    const std::uint32_t bit = slot % word_bits;
    word_ = &page->local(slot / word_bits);
    word_->store(word_->load(Order::relaxed) | Word{1} << bit, Order::relaxed);
    word_base_ = static_cast<std::byte*>(object) - std::size_t{bit} * geometry_.object_size;
    claimed_.store(Word{1} << bit, Order::relaxed);
    allocations_.add(1);
    return true;
  }

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
  /// every announced bit is visible to collect(); its release with the acquire there: the next to
  /// announce writes the link after this owner read it.
  void absorb(Header* page) noexcept;

  // ---- pages in and out ------------------------------------------------------------------------

  /// Makes the frame of `page` an idle page of this class. Cost: the words of one page.
  void add_page(Header* page, bool zeroed) noexcept;

  /// Takes an idle page out of the class, or null; its frame may then be used for anything.
  /// A double free may be on its way into an idle page: its bit, once collected, counts as used until
  /// it is announced, and keeps the page, which is then partial.
  Header* remove_idle_page() noexcept;

  /// Makes the current page one of the others, so that it can be idle, and takes back a slot that was
  /// passed on. Cost: the words of one page.
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
    const std::size_t claimed = count_ones(claimed_.load(Order::relaxed));
    const std::size_t all = allocations_.get();
    return all > claimed ? all - claimed : 0;
  }
  std::size_t remote_frees() const noexcept { return remote_frees_.get(); }
  std::size_t pages() const noexcept { return pages_.get(); }

  /// Calls `visitor(Header*)` for every page. Thread: the owner.
  template <class Visitor>
  void for_each_page(Visitor&& visitor) const noexcept;

  /// Calls `visitor(void* object, std::size_t object_size)` for every live object.
  /// Thread: the owner; the visitor must not allocate or free in this zone.
  template <class Visitor>
  void visit_live(Visitor&& visitor) const noexcept;

  /// The first broken invariant, as an equation, or null. Thread: the owner. Cost: O(pages).
  const char* validate() const noexcept;

 private:
  using Cell = typename Atomics::template Cell<Word>;

  /// A mask of the slots that make up claim_bytes: at least one, at most a word.
  static constexpr Word claim_of(std::uint32_t object_size) noexcept {
    const std::uint32_t size = object_size != 0 ? object_size : 1;
    const std::uint32_t slots = claim_bytes > size ? claim_bytes / size : 1;
    return slots < word_bits ? (Word{1} << slots) - 1 : ~Word{0};
  }

  /// A claim takes slots of about so many bytes, so that large objects are issued again from what was
  /// freed a moment ago, which is in a cache, before fresh memory is touched.
  static constexpr std::uint32_t claim_bytes = 32 * 1024;

  /// What `word_` points to while no word is selected. Never written.
  static inline constinit Cell no_free_slots{};

  /// True if a slot was passed on and is not issued yet.
  bool has_passed_slot() const noexcept {
    return passed_page_ != nullptr && claimed_.load(Order::relaxed) != 0;
  }

  /// Selects word `index` of the current page.
  void select(Header* page, std::uint32_t index) noexcept {
    word_ = &page->local(index);
    word_base_ = Page::slots_of(page) + std::size_t{index} * word_bits * geometry_.object_size;
    word_mask_ = geometry_.word_mask(index);
    word_index_ = index;
    passed_page_ = nullptr;
  }

  /// Selects no word.
  constexpr void deselect() noexcept {
    word_ = &no_free_slots;
    word_mask_ = 0;
  }

  /// Issues the lowest slot of `claimed`, which is not 0.
  [[gnu::always_inline]] void* issue(Word claimed, std::uint32_t object_size) noexcept {
    const Word rest = claimed & (claimed - 1);
    claimed_.store(rest, Order::relaxed);
    word_->toggle(claimed ^ rest);
    std::byte* const object = word_base_ + lowest_bit(claimed) * object_size;
    if (object == nullptr) {
      __builtin_unreachable();  // The compiler need not test what it was not told.
    }
    return object;
  }

  /// Frees slot `slot` of a full page, which is then partial unless the slot was passed on.
  template <bool Hardened>
  FreeOutcome free_in_full_page(Header* page, std::uint32_t slot, void* object) noexcept {
    if constexpr (!Hardened) {
      start_passing_on(page);
      if (pass_on(page, slot, object)) {
        return FreeOutcome::Freed;
      }
    }
    const std::uint32_t index = slot / word_bits;
    const Word mask = Word{1} << (slot % word_bits);
    const Word free = page->local(index).load(Order::relaxed);
    Word seen_free = free;
    if constexpr (Hardened) {
      seen_free |= page->remote(index, geometry_.words).load(Order::relaxed);
    }
    if ((seen_free & mask) != 0) {
      return FreeOutcome::Rejected;
    }
    page->local(index).store(free | mask, Order::relaxed);
    relist(page);
    return (free | mask) == ~Word{0} ? FreeOutcome::WordEmptied : FreeOutcome::Freed;
  }

  /// Deselects the current page's word, if it is empty, so that slots are passed on from now on. Not on a
  /// page's first sweep, whose zeroed slots are worth more, nor where a free empties a page.
  void start_passing_on(Header* page) noexcept {
    const Word free = claimed_.load(Order::relaxed) | (word_->load(Order::relaxed) & word_mask_);
    if (free == 0 && !fresh_ && geometry_.slots != 1) {
      deselect();
      passed_page_ = page;
    }
  }

  /// Frees a slot that was passed on and not issued in its page, which is then not full any more.
  void take_back_passed_slot() noexcept;

  /// The word to sweep next of a page that was idle: an earlier one of which three quarters are free, or the
  /// first that is untouched. Two are looked at, in turn. Pre: there are untouched words.
  std::uint32_t next_in_first_sweep(Header* page) noexcept;

  /// Makes `page` the current one. Of one that was idle all words are untouched.
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
  bool collect(Header* page) noexcept;

  /// Makes a full page partial that has a free slot again. A slot of it that was passed on and not issued
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
  Cell claimed_{};                  ///< Bits of *word_ that are to be issued next.
  Cell* word_ = nullptr;            ///< The selected word of the current page, or a passed slot's.
  std::byte* word_base_ = nullptr;  ///< The slot of bit 0 of claimed_.
  Word claim_ = 0;                  ///< What one claim may take, from the lowest free slot on.
  SlotGeometry geometry_{};
  Word word_mask_ = 0;              ///< The bits of *word_ that may be claimed.

  // The current page.
  Header* passed_page_ = nullptr;   ///< While slots are passed on: the page of the last one.
  std::byte* fresh_from_ = nullptr; ///< While fresh_: what lies from here on was not issued before the
                                    ///< latest claim.
  std::byte* swept_to_ = nullptr;   ///< While fresh_: the end of what was ever claimed.
  std::uint32_t word_index_ = 0;    ///< The word that was selected last.
  std::uint32_t untouched_ = 0;     ///< The first word of the current page that was not selected since it was idle.
  std::uint32_t looked_at_ = 0;     ///< The one before it that was considered last.
  bool fresh_ = false;              ///< The page came zeroed and is on its first sweep.

  // The pages.
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
  Counter<Atomics> remote_frees_;
  Counter<Atomics> pages_;
  Counter<Atomics> pages_high_water_;
  Counter<Atomics> refills_;
  Counter<Atomics> reclaims_;
};

}  // namespace slabmalloc

#include "slabmalloc/zone/size_class_inspect.hpp"
#include "slabmalloc/zone/size_class_pages.hpp"
#include "slabmalloc/zone/size_class_remote.hpp"
