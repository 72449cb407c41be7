// SPDX-License-Identifier: MIT
//
// SelectedWord: the bitmap word that a size class issues slots from, and what is claimed of it.
//
//   word      … 1 0 1 1 0 1 1 0     of a page, 1 = free: a free sets its slot's bit, issuing a slot clears it
//   claimed   … 0 0 0 0 0 1 1 0     a copy of the lowest of them; these slots are issued next
//                             ▲
//                             └── bit 0: the slot at base
//
// What is claimed are all free slots of the word as it is found, or of large objects a few. A bit leaves the page's
// word when its slot is issued, so that the word always tells what is free. Choosing slots by the copy keeps the word,
// which frees write, off the path from one allocation to the next.
//
// Invariant, with its line in validate():
//   W1  claimed & ~word = 0
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/atomics.hpp"
#include "slabmalloc/base/bits.hpp"

namespace slabmalloc {

/// Slots of one word of one page, or none. Thread: the page's owner, but for claimed().
template <class Atomics>
class SelectedWord {
 public:
  using Cell = typename Atomics::template Cell<Word>;

  /// Nothing is claimed, all zero. Of it only issue() may be called before configure().
  constexpr SelectedWord() noexcept = default;

  /// Makes it one for slots of `object_size` bytes, and selects no word.
  constexpr void configure(std::uint32_t object_size) noexcept {
    most_ = most_of(object_size);
    deselect();
  }

  /// Selects `word`, of which the bits of `mask` may be claimed; bit 0 is for the slot at `base`.
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

  /// The slots that are issued next. Thread: any.
  Word claimed() const noexcept { return claimed_.load(Order::relaxed); }

  /// The slots that can be claimed; 0 if there are none.
  Word claimable() const noexcept { return free() & mask_; }

  /// The lowest of `slots`, of which there is one, as many as one claim takes.
  Word one_claim_of(Word slots) const noexcept { return slots & most_ << lowest_bit(slots); }

  /// Issues the lowest slot that is claimed, or null. Cost: constant, no call.
  [[gnu::always_inline]] void* issue(std::uint32_t object_size) noexcept {
    const Word claimed = claimed_.load(Order::relaxed);
    return claimed != 0 ? claim(claimed, object_size) : nullptr;
  }

  /// Claims `slots`, which are one_claim_of() those that can be, and issues the lowest. Pre: there is one.
  [[gnu::always_inline]] void* claim(Word slots, std::uint32_t object_size) noexcept {
    const Word rest = slots & (slots - 1);
    claimed_.store(rest, Order::relaxed);
    word_->toggle(slots ^ rest);
    std::byte* const object = base_ + lowest_bit(slots) * object_size;
    if (object == nullptr) {
      __builtin_unreachable();  // The compiler need not test what it was not told.
    }
    return object;
  }

  /// Selects `word`, frees the slot of its bit `bit`, at `object`, and claims that one, which must be live. No other
  /// slot of the word can be claimed. Pre: no word is selected, and nothing claimed. Cost: constant, no call.
  [[gnu::always_inline]] void claim_freed(Cell& word, std::uint32_t bit, void* object,
                                          std::uint32_t object_size) noexcept {
    word_ = &word;
    word_->store(word_->load(Order::relaxed) | Word{1} << bit, Order::relaxed);
    base_ = static_cast<std::byte*>(object) - std::size_t{bit} * object_size;
    claimed_.store(Word{1} << bit, Order::relaxed);
  }

  /// Claims nothing any more; returns how many slots were claimed, which stay free.
  std::uint32_t give_up() noexcept {
    const std::uint32_t count = count_ones(claimed());
    claimed_.store(0, Order::relaxed);
    return count;
  }

  /// Where the highest of `slots`, of which there is one, ends.
  std::byte* end_of(Word slots, std::uint32_t object_size) const noexcept {
    return base_ + (highest_bit(slots) + 1) * object_size;
  }

  /// The broken invariant, as an equation, or null.
  const char* validate() const noexcept {
    return (claimed() & ~free()) != 0 ? "W1: what is claimed is free in the selected word"
                                      : nullptr;
  }

 private:
  /// A claim takes slots of about so many bytes, so that large objects are issued again from what was
  /// freed a moment ago, which is in a cache, before fresh memory is touched.
  static constexpr std::uint32_t claim_bytes = 32 * 1024;

  /// A mask of the slots that make up claim_bytes: at least one, at most a word.
  static constexpr Word most_of(std::uint32_t object_size) noexcept {
    const std::uint32_t size = object_size != 0 ? object_size : 1;
    const std::uint32_t slots = claim_bytes > size ? claim_bytes / size : 1;
    return slots < word_bits ? (Word{1} << slots) - 1 : ~Word{0};
  }

  /// What `word_` points to while no word is selected. Never written.
  static inline constinit Cell no_free_slots{};

  Cell claimed_{};  ///< Bits of *word_ that are to be issued next.
  Cell* word_ = nullptr;
  std::byte* base_ = nullptr;  ///< The slot of bit 0 of *word_.
  Word most_ = 0;              ///< What one claim may take, from the lowest free slot on.
  Word mask_ = 0;              ///< The bits of *word_ that may be claimed.
};

}  // namespace slabmalloc
