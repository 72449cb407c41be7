// SPDX-License-Identifier: MIT
//
// PageHeader: the meta-data of one page and the protocol of remote frees on it.
//
// The header lies at a fixed place per page type; the bitmaps lie directly below it, going down:
//
//        remote[w-1] … remote[0] | local[w-1] … local[0] | PageHeader
//                                                         ^ header address
//
// Bit 1 means free. `local` is written by the owner alone with plain stores. `remote` is written by
// everyone else: a set bit is a free that the owner has not drained yet. A slot is live if and only
// if neither bit is set. Bits of `local` beyond the last slot are always set, so that a word whose slots
// are all free has all bits set.
//
// On 64-bit targets the header has 48 bytes, so that with one word of each bitmap it fills a cache
// line of 64: 63 objects of 64 B in a page of 4 KiB.
//
// Remote free, by any thread:              Draining, by the owner:
//   remote[w] |= mask          (release)     take a page off the inbox
//   old = announced += n       (acq_rel)     n = announced.exchange(0)          (acq_rel)
//   old == 0: push on the inbox (release)    bits = remote[w].exchange(0)       (acquire)
//                                            local |= bits, pending += |bits| - n
//
// The announcement, with the push if it was the first, is the freeing thread's last access to the page.
// So if all slots are free in `local` and pending is 0, no access is outstanding and the page may be
// given back. Nothing counts how many slots are in use; the bitmap tells.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/atomics.hpp"
#include "slabmalloc/base/bits.hpp"

namespace slabmalloc {

/// The states of a page, kept in the low bits of its owner tag so that one compare with the plain
/// tag covers "mine, and an ordinary free will do".
struct PageState {
  static constexpr std::uintptr_t open = 0;  ///< Current or partial.
  static constexpr std::uintptr_t full = 1;  ///< No free slot: the first free must relist it.
  static constexpr std::uintptr_t idle = 2;  ///< No live slot: every free is a double free.
  static constexpr std::uintptr_t mask = 63;
};

/// The meta-data of a page. See the picture above for where the bitmaps are.
template <class AtomicsT>
struct PageHeader {
  using Atomics = AtomicsT;
  template <class T>
  using Cell = typename Atomics::template Cell<T>;

  Cell<std::uintptr_t> tag;       ///< Owner's address | PageState; 0: in no size class.
  PageHeader* next = nullptr;     ///< Owner's lists.
  PageHeader* previous = nullptr;       ///< The page itself while it is current, and in no list.
  PageHeader* inbox_next = nullptr;     ///< Written by whoever pushes the page on an inbox.
  Cell<std::uint32_t> announced;        ///< Remote frees told to the owner, not yet taken.
  std::uint32_t pending : 24;           ///< Bits drained whose announcement was not yet taken.
  std::uint32_t class_index : 8;        ///< Size class within the owner.
  Cell<std::uint32_t> seal;             ///< Proves that this is a page of slots of a given size.

  /// True of the page that its size class allocates from. Thread: owner.
  bool is_current() const noexcept { return previous == this; }

  Cell<Word>& local(std::uint32_t word) noexcept {
    return bitmap()[-1 - static_cast<std::ptrdiff_t>(word)];
  }
  Cell<Word>& remote(std::uint32_t word, std::uint32_t words) noexcept {
    return bitmap()[-1 - static_cast<std::ptrdiff_t>(words + word)];
  }

  /// True if slot `slot` of a page of `words` words is free as far as can be seen. Thread: any.
  bool is_free(std::uint32_t slot, std::uint32_t words) noexcept {
    const std::uint32_t word = slot / word_bits;
    // Remote bits that are neither drained nor about to be announced have been.
    return is_set(local(word).load(Order::relaxed), slot) ||
           (announced.load(Order::relaxed) != 0 &&
            is_set(remote(word, words).load(Order::relaxed), slot));
  }

  /// The value of `seal` for a header here over slots of `object_size` bytes. Never 0.
  std::uint32_t seal_for(std::size_t object_size) const noexcept {
    const auto address = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(this));
    const std::uint64_t mixed =
        (address ^ (std::uint64_t{object_size} << 40)) * std::uint64_t{0x9E3779B97F4A7C15};
    return static_cast<std::uint32_t>(mixed >> 32) | 1;
  }

 private:
  Cell<Word>* bitmap() noexcept { return reinterpret_cast<Cell<Word>*>(this); }
};

static_assert(sizeof(void*) != 8 || sizeof(PageHeader<HardwareAtomics>) == 48,
              "the header and one word of each bitmap fill a cache line");

}  // namespace slabmalloc
