// SPDX-License-Identifier: MIT
//
// PageHeader: the meta-data of one page, and the information in its bitmaps.
//
// The header lies at a fixed place for each page type. The bitmaps lie directly below it:
//
//        remote[w-1] … remote[0] | local[w-1] … local[0] | PageHeader
//                                                         ^ header address
//
// Bit 1 means free. Only the owner writes `local`, with plain stores. All other threads write
// `remote`: a set bit is a free that the owner has not drained yet. A slot is live if and only if
// neither bit is set. The bits of `local` beyond the last slot are always set. So a word whose
// slots are all free has all bits set.
//
// On 64-bit targets the header has 48 bytes. With one word of each bitmap it fills a cache line of
// 64 bytes: a page of 4 KiB holds 63 objects of 64 bytes.
//
// Remote free, by any thread:              Drain, by the owner:
//   mask &= ~local[w], a double free         take a page off the queue
//   remote[w] |= mask          (release)
//   old = announced += n       (acq_rel)     n = announced.exchange(0)          (acq_rel)
//   old == 0: push on the queue (release)    bits = remote[w].exchange(0)       (acquire)
//                                            local |= bits, pending += |bits| - n
//
// The announcement, with the push if it was the first, is the freeing thread's last access to the
// page. If all slots are free in `local` and `pending` is 0, no access is outstanding. Then the
// page may go back to its pager. No counter holds the number of slots in use; the bitmap tells.
//
// Invariants of a page in a size class, each with its line in validate():
//   P1  tag = owner's address | state of the list that the page is in
//   P2  seal and class are those of the size class
//   P3  at or above `slots` every bit of local is set and none of remote
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/atomics.hpp"
#include "slabmalloc/base/bits.hpp"
#include "slabmalloc/classes/slot_geometry.hpp"

namespace slabmalloc {

/// The states of a page, in the low bits of its owner tag. So one compare with the plain tag covers
/// "mine, and an ordinary free will do".
struct PageState {
  static constexpr std::uintptr_t open = 0;  ///< Current or partial.
  static constexpr std::uintptr_t full = 1;  ///< No free slot: the first free must relist it.
  static constexpr std::uintptr_t idle = 2;  ///< No live slot: every free is a double free.
  static constexpr std::uintptr_t mask = 63;
};

/// The result of a free by the owner.
enum class FreeOutcome : std::uint8_t {
  Freed,        ///< The slot is free.
  WordEmptied,  ///< The slot is free, and so are all of its word: the page may be empty.
  Rejected,     ///< The slot was free already; nothing changed.
};

/// The meta-data of a page. The picture above shows the place of the bitmaps.
template <class AtomicsT>
struct PageHeader {
  using Atomics = AtomicsT;
  template <class T>
  using Cell = typename Atomics::template Cell<T>;

  Cell<std::uintptr_t> tag;          ///< Owner's address | PageState; 0: in no size class.
  PageHeader* next = nullptr;        ///< The owner's lists.
  PageHeader* previous = nullptr;    ///< The page itself while it is current, and in no list.
  PageHeader* queue_next = nullptr;  ///< Written by the thread that pushes the page on a queue.
  Cell<std::uint32_t> announced;     ///< Remote frees told to the owner, not yet drained.
  std::uint32_t pending : 24;        ///< Bits drained whose announcement the owner has not taken.
  std::uint32_t class_index : 8;     ///< Size class within the owner.
  Cell<std::uint32_t> seal;          ///< Proves that this is a page of slots of a given size.

  /// True of the page that its size class allocates from. Thread: owner.
  bool is_current() const noexcept { return previous == this; }

  /// True if the page belongs to the owner with `owner_tag`, whatever its state. Thread: any.
  bool is_owned_by(std::uintptr_t owner_tag) const noexcept {
    return (tag.load(Order::relaxed) & ~PageState::mask) == owner_tag;
  }

  Cell<Word>& local(std::uint32_t word) noexcept {
    return bitmap()[-1 - static_cast<std::ptrdiff_t>(word)];
  }
  Cell<Word>& remote(std::uint32_t word, std::uint32_t words) noexcept {
    return bitmap()[-1 - static_cast<std::ptrdiff_t>(words + word)];
  }

  /// Frees slot `slot` of an open page of `words` words. Thread: owner. Cost: constant, no call.
  /// Fails: Rejected if the slot is free. Without `Checked` it never fails, so that a benchmark can
  /// measure the cost of the check. Only `Hardened` uses `words`.
  template <bool Hardened, bool Checked = true>
  [[gnu::always_inline]] FreeOutcome free_slot(std::uint32_t words, std::uint32_t slot) noexcept {
    Cell<Word>& word = local(slot / word_bits);
    Word free = word.load(Order::relaxed);
    if (test_and_set(free, slot) && Checked) [[unlikely]] {
      return FreeOutcome::Rejected;
    }
    if constexpr (Hardened) {
      // A bit here means that another thread freed the slot first, and the owner has not drained
      // it.
      if (is_set(remote(slot / word_bits, words).load(Order::relaxed), slot)) [[unlikely]] {
        return FreeOutcome::Rejected;
      }
    }
    word.store(free, Order::relaxed);
    return free == ~Word{0} && !is_current() ? FreeOutcome::WordEmptied : FreeOutcome::Freed;
  }

  /// True if slot `slot` of a page of `words` words appears free. Thread: any.
  bool is_free(std::uint32_t slot, std::uint32_t words) noexcept {
    const std::uint32_t word = slot / word_bits;
    // Remote bits neither drained nor about to be announced are already announced.
    return is_set(local(word).load(Order::relaxed), slot) ||
           (announced.load(Order::relaxed) != 0 &&
            is_set(remote(word, words).load(Order::relaxed), slot));
  }

  /// True if no slot is live and no free of one is under way. Thread: owner. Cost: O(words).
  bool is_empty(std::uint32_t words) noexcept {
    // Frees in address order, up or down, leave one end last. So look at that end first.
    if (local(words - 1).load(Order::relaxed) != ~Word{0}) {
      return false;
    }
    for (std::uint32_t word = 0; word + 1 < words; ++word) {
      if (local(word).load(Order::relaxed) != ~Word{0}) {
        return false;
      }
    }
    return pending == 0;
  }

  /// The slots that are free for the owner. Thread: owner. Cost: O(words).
  std::uint32_t count_free(const SlotGeometry& geometry) noexcept {
    std::uint32_t free = 0;
    for (std::uint32_t word = 0; word < geometry.words; ++word) {
      // Most words of a page that its class leaves are 0.
      const Word bits = local(word).load(Order::relaxed) & geometry.word_mask(word);
      free += bits != 0 ? count_ones(bits) : 0;
    }
    return free;
  }

  /// The first word from `word` on, at most the number of words, in which a slot is free for the
  /// owner; the number of words if there is none. Thread: owner. Cost: O(words).
  [[gnu::always_inline]] std::uint32_t next_free_word(const SlotGeometry& geometry,
                                                      std::uint32_t word) noexcept {
    const std::uint32_t last = geometry.words - 1;
    while (word < last && local(word).load(Order::relaxed) == 0) {
      ++word;
    }
    // Bits beyond the last slot are always set.
    if (word == last && (local(last).load(Order::relaxed) & geometry.word_mask(last)) == 0) {
      ++word;
    }
    return word;
  }

  /// Makes the header one of an empty page of class `index`, in no list, without an owner.
  void format(const SlotGeometry& geometry, std::uint32_t index) noexcept {
    next = previous = queue_next = nullptr;
    announced.store(0, Order::relaxed);
    pending = 0;
    class_index = index & 0xFFu;
    for (std::uint32_t word = 0; word < geometry.words; ++word) {
      local(word).store(~Word{0}, Order::relaxed);
      remote(word, geometry.words).store(0, Order::relaxed);
    }
    seal.store(seal_for(geometry.object_size), Order::relaxed);
  }

  /// Calls `visitor(slot)` for each slot that is in neither bitmap. Thread: owner. Cost: O(slots).
  template <class Visitor>
  void for_each_live(const SlotGeometry& geometry, Visitor&& visitor) noexcept {
    for (std::uint32_t word = 0; word < geometry.words; ++word) {
      Word live = geometry.word_mask(word) & ~local(word).load(Order::relaxed) &
                  ~remote(word, geometry.words).load(Order::relaxed);
      for (; live != 0; live &= live - 1) {
        visitor(word * word_bits + lowest_bit(live));
      }
    }
  }

  /// The value of `seal` for a header here over slots of `object_size` bytes. Never 0.
  std::uint32_t seal_for(std::size_t object_size) const noexcept {
    const auto address = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(this));
    const std::uint64_t mixed = (address ^ (std::uint64_t{object_size} << 40)) * seal_factor;
    return static_cast<std::uint32_t>(mixed >> 32) | 1;
  }
  /// The one size below 2^24 that the header may be sealed for; only has_seal_for() proves it.
  /// Thread: any. Cost: constant.
  std::size_t size_to_prove() const noexcept {
    // In seal_for(), bits 40 … 63 of the product are those of the address's low bits, plus
    // (size ^ address's high bits) * factor mod 2^24. The factor is odd, so it has an inverse.
    constexpr std::uint64_t low_bits = (std::uint64_t{1} << 40) - 1;
    const auto address = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(this));
    const std::uint64_t high =
        std::uint64_t{seal.load(Order::relaxed) >> 8} - ((address & low_bits) * seal_factor >> 40);
    return static_cast<std::size_t>((high * inverse_of_seal_factor ^ address >> 40) & 0xFFFFFFu);
  }
  /// True if the header is sealed for slots of `object_size` bytes. Thread: any.
  bool has_seal_for(std::size_t object_size) const noexcept {
    return seal.load(Order::relaxed) == seal_for(object_size);
  }

  /// The broken invariant of a page of class `index` with the tag `expected_tag`, or null.
  const char* validate(const SlotGeometry& geometry, std::uint32_t index,
                       std::uintptr_t expected_tag) noexcept {
    if (tag.load(Order::relaxed) != expected_tag) {
      return "P1: a page's tag is its owner's and shows its list";
    }
    if (!has_seal_for(geometry.object_size) || class_index != (index & 0xFFu)) {
      return "P2: a page's seal and class are those of its size class";
    }
    for (std::uint32_t word = 0; word < geometry.words; ++word) {
      const Word beyond = ~geometry.word_mask(word);
      if ((local(word).load(Order::relaxed) & beyond) != beyond ||
          (remote(word, geometry.words).load(Order::relaxed) & beyond) != 0) {
        return "P3: at or above `slots` every bit of local is set and none of remote";
      }
    }
    return nullptr;
  }

 private:
  static constexpr std::uint64_t seal_factor = 0x9E3779B97F4A7C15;
  static constexpr std::uint64_t inverse_of_seal_factor = inverse_of_odd(seal_factor);
  static_assert(seal_factor * inverse_of_seal_factor == 1);

  Cell<Word>* bitmap() noexcept { return reinterpret_cast<Cell<Word>*>(this); }
};

static_assert(sizeof(void*) != 8 || sizeof(PageHeader<HardwareAtomics>) == 48,
              "the header and one word of each bitmap fill a cache line");

}  // namespace slabmalloc
