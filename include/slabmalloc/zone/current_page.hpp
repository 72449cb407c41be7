// SPDX-License-Identifier: MIT
//
// CurrentPage: the page that a size class allocates from. SelectedWord: the word of its local
// bitmap whose slots are issued next.
//
//   page      | word 0 | word 1 | … | word n-1 |      swept in order; in the first sweep a mostly
//                         │                           free word comes before an untouched one
//   word      … 1 0 1 1 0 1 1 0    1 = free: a free sets its slot's bit, issuing a slot clears it
//   claimed   … 0 0 0 0 0 1 1 0    a copy of the lowest of them: these slots are issued next
//                             ▲
//                             └─── bit 0: the slot at base
//
// A claim takes all free slots of the word as it finds it, or a few of large objects. Issuing a
// slot clears its bit in the page's word, so the word always tells the free slots. The copy chooses
// the slot: so the word, which frees write, stays off the path from one allocation to the next.
//
// Slot hand-off. Where all pages are full, each free would make its page partial. The next
// allocation would then leave the current page for it. Instead, such a free may hand its slot to
// the next allocation. Then that slot alone becomes claimed, and its page stays full and keeps its
// place in the list.
//
//   free into a full page ─► something is claimed or claimable? ─ yes ─► the page becomes partial
//                                  │ no
//                                  ▼
//                            the slot alone is claimed ─ allocation ─► issued; the page stays full
//                                  └─ a second free in that page, or a look for empty ones ─► ended
//
// While slots are handed off, no word of the current page is selected. The next allocation that
// finds nothing claimed selects one.
//
// Samples (SampledPage). The owner may set after how many more slots a sample is due. A claim takes
// only the slots before it, and none is handed off then. So the fast path finds nothing claimed
// when the sample is due, and costs nothing for it.
//
// Invariants, each with its line in validate(), besides those of FirstSweep:
//   W1  claimed & ~word = 0
//   S1  slots ever claimed, except those given up <= slots before the next sample
//   C1  page: state = open, previous = itself
//   C2  the selected word is of the page, or of a full page one of whose slots was handed off
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "slabmalloc/base/atomics.hpp"
#include "slabmalloc/base/bits.hpp"
#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/base/result.hpp"
#include "slabmalloc/page/allocable_page.hpp"
#include "slabmalloc/zone/first_sweep.hpp"
#include "slabmalloc/zone/statistics.hpp"

namespace slabmalloc {

/// Slots of one word of one page, or none. Thread: the page's owner, but for claimed().
template <class Atomics>
class SelectedWord {
 public:
  using Cell = typename Atomics::template Cell<Word>;

  /// A claim takes slots of about so many bytes: the first claims of a class the least. So large
  /// objects reuse recent frees, which are in a cache, before a client touches fresh memory.
  static constexpr std::uint32_t least_claim_bytes = 4 * 1024;
  static constexpr std::uint32_t most_claim_bytes = 32 * 1024;

  /// Claims nothing, all zero. Before configure(), a caller may call only issue().
  constexpr SelectedWord() noexcept = default;

  /// Prepares for slots of `object_size` bytes; selects no word.
  constexpr void configure(std::uint32_t object_size) noexcept {
    limit_claims(object_size, least_claim_bytes);
    deselect();
  }

  /// Lets a claim take slots of about `bytes`.
  constexpr void limit_claims(std::uint32_t object_size, std::uint32_t bytes) noexcept {
    most_ = most_of(object_size, bytes);
  }

  /// Selects `word`, from which a claim may take the bits of `mask`; bit 0 is for the slot at
  /// `base`.
  /// Pre: nothing is claimed.
  void select(Cell& word, std::byte* base, Word mask) noexcept {
    word_ = &word;
    base_ = base;
    mask_ = mask;
  }

  /// Selects no word. Pre: nothing is claimed.
  constexpr void deselect() noexcept {
    word_ = &no_free_slots;
    mask_ = 0;
  }
  bool is_selected() const noexcept { return word_ != &no_free_slots; }

  /// The free slots of the word, claimed ones too.
  Word free() const noexcept { return word_->load(Order::relaxed); }

  /// The slots that issue() returns next. Thread: any.
  Word claimed() const noexcept { return claimed_.load(Order::relaxed); }

  /// The slots that a claim can take; 0 if there are none.
  Word claimable() const noexcept { return free() & mask_; }

  /// The lowest of `slots`, which is not empty, as many as one claim takes.
  constexpr Word one_claim_of(Word slots) const noexcept {
    return slots & most_ << lowest_bit(slots);
  }

  /// Issues the lowest claimed slot, or null. Cost: constant, no call.
  [[gnu::always_inline]] void* issue(std::uint32_t object_size) noexcept {
    const Word claimed = claimed_.load(Order::relaxed);
    return claimed != 0 ? claim(claimed, object_size) : nullptr;
  }

  /// Claims `slots`, which are one_claim_of() claimable slots, and issues the lowest. Pre: there is
  /// one.
  [[gnu::always_inline]] void* claim(Word slots, std::uint32_t object_size) noexcept {
    const Word rest = slots & (slots - 1);
    claimed_.store(rest, Order::relaxed);
    word_->toggle(slots ^ rest);
    std::byte* const object = base_ + lowest_bit(slots) * object_size;
    if (!Result<void*>(object)) {
      __builtin_unreachable();  // No object lies at the address of an error: this spares a test.
    }
    return object;
  }

  /// Selects `word`, frees the slot of its bit `bit`, at `object`, and claims that one, which must
  /// be live. A claim can take no other slot of the word. Pre: no word is selected, and nothing
  /// claimed. Cost: constant, no call.
  [[gnu::always_inline]] void claim_freed(Cell& word, std::uint32_t bit, void* object,
                                          std::uint32_t object_size) noexcept {
    word_ = &word;
    word_->store(word_->load(Order::relaxed) | Word{1} << bit, Order::relaxed);
    base_ = static_cast<std::byte*>(object) - std::size_t{bit} * object_size;
    claimed_.store(Word{1} << bit, Order::relaxed);
  }

  /// Drops all claims; returns how many slots were claimed, which stay free.
  std::uint32_t give_up() noexcept {
    const Word slots = claimed();
    if (slots == 0) {
      return 0;
    }
    claimed_.store(0, Order::relaxed);
    return count_ones(slots);
  }

  /// The end of the highest of `slots`, which is not empty.
  std::byte* end_of(Word slots, std::uint32_t object_size) const noexcept {
    return base_ + (highest_bit(slots) + 1) * object_size;
  }

  /// The broken invariant, as an equation, or null.
  const char* validate() const noexcept {
    return (claimed() & ~free()) != 0 ? "W1: what is claimed is free in the selected word"
                                      : nullptr;
  }

 private:
  /// A mask of the slots that make up `bytes`: at least one, at most a word.
  static constexpr Word most_of(std::uint32_t object_size, std::uint32_t bytes) noexcept {
    const std::uint32_t size = object_size != 0 ? object_size : 1;
    const std::uint32_t slots = bytes > size ? bytes / size : 1;
    return slots < word_bits ? (Word{1} << slots) - 1 : ~Word{0};
  }

  /// The word to which `word_` points while no word is selected. Nothing writes it.
  static inline constinit Cell no_free_slots{};

  Cell claimed_{};  ///< Bits of *word_ that issue() returns next.
  Cell* word_ = nullptr;
  std::byte* base_ = nullptr;  ///< The slot of bit 0 of *word_.
  Word most_ = 0;              ///< The slots that one claim may take, from the lowest free slot on.
  Word mask_ = 0;              ///< The bits of *word_ that a claim may take.
};

/// A page of type `Page` with slots of one size, or none. Thread: the owner, but for allocations().
template <ClassPage Page>
class CurrentPage {
 public:
  using Header = typename Page::Header;
  using Atomics = typename Page::Atomics;

  /// No page, all zero. Before configure(), a caller may call only issue().
  constexpr CurrentPage() noexcept = default;

  constexpr void configure(const SlotGeometry& geometry) noexcept {
    selected_.configure(geometry.object_size);
    geometry_ = geometry;
    claim_bytes_ = SelectedWord<Atomics>::least_claim_bytes;
    claims_until_growth_ = claims_of_a_size;
    note_most_claimed();
    if constexpr (SampledPage<Page>) {
      sample_at_ = no_sample;
    }
  }
  constexpr const SlotGeometry& geometry() const noexcept { return geometry_; }

  /// The page, or null.
  Header* page() const noexcept { return page_.load(Order::relaxed); }

  // ---- allocation -------------------------------------------------------------------------------

  /// A claimed slot, or null. Pre: `object_size` is that of the geometry. Cost: constant.
  [[gnu::always_inline]] void* issue(std::uint32_t object_size) noexcept {
    return selected_.issue(object_size);
  }

  /// The slots of the selected word that a claim can take; 0 if there are none.
  Word claimable() const noexcept { return selected_.claimable(); }

  /// True if a claim of `claimable` slots is small beside its cost: less than an eighth of the most
  /// that one takes. Claims are branches that are hard to predict, and spoil the prediction of the
  /// program's own.
  [[gnu::always_inline]] bool is_hardly_worth(Word claimable) const noexcept {
    return count_ones(claimable) < least_claim_;
  }

  /// The slots that a claim takes at most, in eighths of a word.
  std::uint32_t most_claimed_eighths() const noexcept { return least_claim_; }

  /// Claims from the selected word, of which `claimable` can be claimed, and issues a slot.
  /// Pre: claimable() returned `claimable`, which is not 0; nothing is claimed.
  [[gnu::always_inline]] void* claim(Word claimable) noexcept {
    Word slots = selected_.one_claim_of(choose(claimable));
    std::size_t count = count_ones(slots);
    if constexpr (SampledPage<Page>) {
      if (allocations_.get() + count > sample_at_) [[unlikely]] {
        slots = before_sample(slots);
        count = count_ones(slots);
      }
    }
    allocations_.add(count);
    latest_claim_ = slots;
    if (claims_until_growth_ != 0 && --claims_until_growth_ == 0) [[unlikely]] {
      double_claims();
    }
    const bool is_zero = claim_holes(slots);
    if (first_sweep_.is_fresh()) {
      first_sweep_.claim_to(selected_.end_of(slots, geometry_.object_size));
    } else if constexpr (HoleTracking<Page>) {
      first_sweep_.claim(is_zero);
    }
    return selected_.claim(slots, geometry_.object_size);
  }

  /// Selects the next word of the sweep that has free slots; false if there is none.
  /// Pre: nothing is claimed. Cost: O(words).
  [[gnu::always_inline]] bool select_next() noexcept {
    Header* const page = this->page();
    if (page == nullptr) {
      return false;
    }
    if (first_sweep_.has_untouched(geometry_.words)) {
      select(page, first_sweep_.next_word(page));
      return true;
    }
    // A word that was deselected for hand-offs may have gained bits since.
    const bool is_deselected = hand_off_page_ != nullptr || !selected_.is_selected();
    const std::uint32_t index =
        page->next_free_word(geometry_, is_deselected ? word_index_ : word_index_ + 1);
    if (index == geometry_.words) {
      return false;
    }
    select(page, index);
    return true;
  }

  /// Begins the sweep anew if at least half of the page's slots are free again; else false. So a
  /// class with few live objects stays on its page, whose memory is in use, while others drain.
  /// Pre: select_next() found nothing, and nothing is claimed. Cost: O(words).
  bool sweep_again() noexcept {
    Header* const page = this->page();
    // The only word of a page was claimed from until nothing in it was free.
    if (page == nullptr || geometry_.words == 1 ||
        page->count_free(geometry_) < geometry_.slots / 2) {
      return false;
    }
    selected_.deselect();
    latest_claim_ = 0;
    word_index_ = 0;
    return true;
  }

  /// True if another thread freed one of the slots `claimable`, which are free already. That is a
  /// double free, and a claim could issue its slot.
  /// Pre: claimable() returned `claimable`, which is not 0.
  /// Order: relaxed. It finds each bit whose free happens before this call, and clears none: the
  /// drain does that.
  [[gnu::always_inline]] bool has_freed_twice(Word claimable) const noexcept {
    return (claimable & page()->remote(word_index_, geometry_.words).load(Order::relaxed)) != 0;
  }

  /// The same for all free slots of the selected word, claimed ones too; false if there is no page.
  /// Pre: no slot is handed off.
  bool has_freed_twice() const noexcept {
    return page() != nullptr && has_freed_twice(selected_.free());
  }

  /// True if `object` is known to be zero: no client used it since the pager gave its frame zeroed,
  /// or its memory was a hole. Pre: it was issued just now.
  bool is_zero(const void* object) const noexcept { return first_sweep_.is_zero(object); }

  /// What is known of slot `slot`, which is free for the owner, of a page of this class.
  [[gnu::cold]] BlockState state_of_free(const Header* page, std::uint32_t slot) const noexcept {
    const std::uint32_t word = slot / word_bits;
    if (page != this->page()) {
      return BlockState::Free;
    }
    if (first_sweep_.is_untouched(word)) {
      return BlockState::NeverAllocated;
    }
    const bool is_selected = word == word_index_ && hand_off_page_ == nullptr;
    const bool is_claimed = is_selected && is_set(selected_.claimed(), slot % word_bits);
    if (first_sweep_.is_fresh() &&
        first_sweep_.was_never_issued(slots_ + std::size_t{slot} * geometry_.object_size,
                                      is_claimed)) {
      return BlockState::NeverAllocated;
    }
    const bool is_issued = is_selected && is_set(latest_claim_, slot % word_bits) && !is_claimed;
    return is_issued ? BlockState::Freed : BlockState::Free;
  }

  // ---- samples ----------------------------------------------------------------------------------

  /// The value of set_next_sample() for no sample.
  static constexpr std::size_t no_sample = ~std::size_t{0};

  /// Makes the next sample due after `slots` more than are claimed now. Nothing, if the page type
  /// has no samples.
  void set_next_sample([[maybe_unused]] std::size_t slots) noexcept {
    if constexpr (SampledPage<Page>) {
      const std::size_t claimed = allocations_.get();
      sample_at_ = slots < no_sample - claimed ? claimed + slots : no_sample;
    }
  }

  /// True if the next allocation is the sample. It stays due until set_next_sample(), or until the
  /// caller takes a slot all the same.
  [[gnu::always_inline]] bool is_sample_due() const noexcept {
    if constexpr (SampledPage<Page>) {
      return allocations_.get() == sample_at_ && selected_.claimed() == 0;
    }
    return false;
  }

  // ---- the page ---------------------------------------------------------------------------------

  /// Makes `page` the current one of the owner with tag `owner`. Pre: there is none. A page that
  /// `was_idle` begins its first sweep; its slots are all zero if it is `zeroed`.
  void enter(Header* page, std::uintptr_t owner, bool was_idle, bool zeroed) noexcept {
    page->tag.store(owner, Order::relaxed);
    page->previous = page;
    slots_ = Page::slots_of(page);
    word_index_ = 0;
    if (was_idle) {
      first_sweep_.begin(slots_, zeroed);
    } else {
      first_sweep_.skip(geometry_.words);
    }
    page_.store(page, Order::relaxed);
  }

  /// Makes it hold no page; returns the one it held. Pre: no slot is handed off.
  Header* leave() noexcept {
    allocations_.subtract(selected_.give_up());
    selected_.deselect();
    hand_off_page_ = nullptr;
    latest_claim_ = 0;
    first_sweep_.end();
    Header* const page = this->page();
    page_.store(nullptr, Order::relaxed);
    return page;
  }

  // ---- slot hand-off ----------------------------------------------------------------------------

  /// Frees slot `slot`, at `object`, of the full page `page` by claiming it for the next
  /// allocation. False, with no effect, unless slots are handed off and none waits. False too if
  /// the page has an announced free, which may be of this slot, or if a sample is due. Cost:
  /// constant, no call.
  [[gnu::always_inline]] bool hand_off(Header* page, std::uint32_t slot, void* object) noexcept {
    if (hand_off_page_ == nullptr || selected_.claimed() != 0 ||
        page->announced.load(Order::relaxed) != 0 || is_sample_due()) {
      return false;
    }
    hand_off_page_ = page;
    selected_.claim_freed(page->local(slot / word_bits), slot % word_bits, object,
                          geometry_.object_size);
    allocations_.add(1);
    return true;
  }

  /// Deselects the current page's word if it is empty, so that frees hand slots off from now on:
  /// the first may be of `page`. It refuses in a page's first sweep, whose zeroed slots are worth
  /// more, and where a free empties a page.
  void start_hand_offs(Header* page) noexcept {
    const Word free = selected_.claimed() | selected_.claimable();
    if (free == 0 && !first_sweep_.is_fresh() && geometry_.slots != 1) {
      selected_.deselect();
      first_sweep_.end();
      hand_off_page_ = page;
    }
  }

  /// The page of a slot that was handed off and not issued yet, or null.
  Header* handed_off_page() const noexcept {
    return selected_.claimed() != 0 ? hand_off_page_ : nullptr;
  }

  /// Gives up a slot of `page` that was handed off: it stays free. Nothing reads its word any more,
  /// since the page may go back before the next selection of a word.
  void end_hand_off(const Header* page) noexcept {
    if (page != hand_off_page_) {
      return;
    }
    if (selected_.claimed() != 0) {
      selected_.give_up();
      allocations_.subtract(1);
    }
    selected_.deselect();
  }

  // ---- holes ------------------------------------------------------------------------------------

  /// Slots of one word of one page; of none if that is null.
  struct ClaimedSlots {
    const Header* page = nullptr;
    std::uint32_t word = 0;
    Word slots = 0;
  };

  /// The slots of the latest claim: those that are claimed still, and those that were issued since.
  /// It includes the latter since an issue takes two steps: for a moment the slot is not claimed
  /// any more, and still looks free. Slots that were handed off are not included.
  /// Thread: the owner, or a scavenger that holds the lock of the owner's queue.
  ClaimedSlots latest_claim() const noexcept { return {page(), word_index_, latest_claim_}; }

  // ---- statistics and checks --------------------------------------------------------------------

  /// Objects issued so far. Thread: any; all but the owner may see it a claim off.
  std::size_t allocations() const noexcept {
    const std::size_t claimed = count_ones(selected_.claimed());
    const std::size_t all = allocations_.get();
    return all > claimed ? all - claimed : 0;
  }

  /// The first broken invariant, as an equation, or null; the class is number `index` of the owner
  /// with tag `owner`.
  const char* validate(std::uint32_t index, std::uintptr_t owner) const noexcept {
    if (Header* const page = this->page(); page != nullptr) {
      if (const char* broken = page->validate(geometry_, index, owner)) {
        return broken;
      }
      if (!page->is_current()) {
        return "C1: the current page shows that it is";
      }
      if (const char* broken = first_sweep_.validate(page, geometry_.words)) {
        return broken;
      }
    }
    if (hand_off_page_ != nullptr && selected_.is_selected() &&
        hand_off_page_->tag.load(Order::relaxed) != (owner | PageState::full)) {
      return "C2: the word of a slot that was handed off is of a full page";
    }
    if constexpr (SampledPage<Page>) {
      if (allocations_.get() > sample_at_) {
        return "S1: claims end at the next sample";
      }
    }
    return selected_.validate();
  }

 private:
  /// Those of `slots` that come before the next sample. If it is due, the caller did not take it:
  /// then the first, and the sample is due again.
  [[gnu::cold, gnu::noinline]] Word before_sample(Word slots) noexcept {
    if (sample_at_ == allocations_.get()) {
      ++sample_at_;
    }
    Word rest = slots;
    for (std::size_t count = sample_at_ - allocations_.get(); count != 0; --count) {
      rest &= rest - 1;
    }
    return slots & ~rest;
  }

  /// The slots of `claimable` that the page's type lets a claim take.
  [[gnu::always_inline]] static Word choose(Word claimable) noexcept {
    if constexpr (requires { Page::choose(claimable); }) {
      return Page::choose(claimable);
    }
    return claimable;
  }

  /// Tells the page that `slots` of the selected word are claimed; true if all are zero.
  [[gnu::always_inline]] bool claim_holes([[maybe_unused]] Word slots) noexcept {
    if constexpr (HoleTracking<Page>) {
      const std::uint32_t first_of_word = word_index_ * word_bits;
      return Page::claim(page(), geometry_.object_size, first_of_word + lowest_bit(slots),
                         first_of_word + highest_bit(slots) + 1);
    }
    return false;
  }

  /// Claims of one size before the next ones are twice as large. A thread that allocates little in
  /// a new zone then touches little.
  static constexpr std::uint32_t claims_of_a_size = 8;

  [[gnu::cold, gnu::noinline]] void double_claims() noexcept {
    claim_bytes_ *= 2;
    claims_until_growth_ =
        claim_bytes_ < SelectedWord<Atomics>::most_claim_bytes ? claims_of_a_size : 0;
    selected_.limit_claims(geometry_.object_size, claim_bytes_);
    note_most_claimed();
  }
  constexpr void note_most_claimed() noexcept {
    least_claim_ = (count_ones(selected_.one_claim_of(~Word{0})) + 7) / 8;
  }

  void select(Header* page, std::uint32_t index) noexcept {
    selected_.select(page->local(index),
                     slots_ + std::size_t{index} * word_bits * geometry_.object_size,
                     geometry_.word_mask(index));
    word_index_ = index;
    hand_off_page_ = nullptr;
  }

  // The allocation's cache line.
  SelectedWord<Atomics> selected_;  ///< Of the page, or of a handed-off slot.
  SlotGeometry geometry_{};
  Header* hand_off_page_ = nullptr;  ///< While slots are handed off: the page of the last one.

  FirstSweep first_sweep_;
  std::uint32_t word_index_ = 0;           ///< The word of the page that was selected last.
  std::uint32_t least_claim_ = 0;          ///< See is_hardly_worth().
  std::uint32_t claim_bytes_ = 0;          ///< A claim takes about so many.
  std::uint32_t claims_until_growth_ = 0;  ///< 0: claims grow no more.
  Word latest_claim_ = 0;                  ///< Of that word: what the latest claim took.
  typename Atomics::template Cell<Header*> page_{nullptr};
  std::byte* slots_ = nullptr;    ///< The first slot of the page.
  Counter<Atomics> allocations_;  ///< Slots ever claimed, except those given up.
  struct NoSamples {};
  /// The value of allocations_ at which a sample is due.
  [[no_unique_address]] std::conditional_t<SampledPage<Page>, std::size_t, NoSamples> sample_at_{};
};

}  // namespace slabmalloc
