// SPDX-License-Identifier: MIT
//
// LeakScan: the live blocks of a heap in debug mode to which no pointer leads.
//
//   roots ──words──► pager: block_at ─► page: slot around ─► record: Live ─► Reached, on the list
//                                                             ▲                     │
//                                                             └─── words of these ──┘
//   sweep: Live   ─► a leak
//          Reached ─► Live again
//
// The records hold the marks and the list, so a scan needs no memory and no recursion. A block that
// is free, delayed, or reserved has another state: it is neither followed nor reported. A pointer
// may lead into a block, or just behind its last byte.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/assert.hpp"
#include "slabmalloc/base/bits.hpp"
#include "slabmalloc/kernel/block_checks.hpp"
#include "slabmalloc/zone/pager.hpp"

namespace slabmalloc {

/// Memory in which clients keep pointers: a kernel's data, its stacks, blocks of other heaps.
struct LeakRoot {
  const void* begin;
  std::size_t bytes;
};

/// Aligned words.
struct WordSpan {
  std::uintptr_t first;
  std::size_t count;
};
/// The words in `bytes` bytes from `begin` on. Their end may be that of the address space, 0.
constexpr WordSpan words_within(std::uintptr_t begin, std::size_t bytes) noexcept {
  const std::uintptr_t first = align_up(begin, sizeof(void*));
  const std::uintptr_t skipped = first - begin;
  return {first, bytes > skipped ? (bytes - skipped) / sizeof(void*) : 0};
}

/// A live block that no root leads to.
struct Leak {
  void* block;
  std::size_t size;  ///< Bytes that the client asked for.
  const char* heap;  ///< Null if the heap has no name.
  BlockUser allocated;
};

/// The marks of one scan. Thread: one, while nobody allocates or frees in the heap.
template <class Slots, FindingPager PagerT, class Blocks>
class LeakScan {
 public:
  using Block = DebugBlock<Blocks>;
  using State = typename Blocks::Record::State;

  /// Pre: `owner` is that of a heap over `pager`.
  LeakScan(const PagerT& pager, const Slots& slots, const BlockOwner& owner) noexcept
      : pager_(pager), slots_(slots), owner_(owner) {}
  LeakScan(const LeakScan&) = delete;
  LeakScan& operator=(const LeakScan&) = delete;

  /// Marks all blocks to which words of `root` lead, at any distance.
  /// Pre: its memory is readable. Cost: a look-up at the pager for each word of what it reaches.
  void mark(const LeakRoot& root) noexcept {
    follow_words(root.begin, root.bytes);
    while (void* const begin = top_) {
      const Block block = linked_block(begin);
      top_ = block.record->link();
      block.record->set_link(nullptr);
      if (block.is_run) {
        block.record->set_link(runs_);
        runs_ = begin;
      }
      follow_words(begin, block.record->size());
    }
  }

  /// Takes the mark off `block`. True if it is a leak.
  bool sweep(const Block& block) noexcept {
    const State state = block.record->state();
    if (state == State::Reached) {
      block.record->set_state(State::Live);
    }
    return state == State::Live && block.record->owner() == &owner_;
  }
  /// Takes the marks off all runs. The heap has no list of runs, so it reports none.
  void sweep_runs() noexcept {
    while (void* const begin = runs_) {
      const Block block = linked_block(begin);
      runs_ = block.record->link();
      block.record->set_link(nullptr);
      block.record->set_state(State::Live);
    }
  }

 private:
  void follow_words(const void* begin, std::size_t bytes) noexcept {
    WordSpan words = words_within(reinterpret_cast<std::uintptr_t>(begin), bytes);
    for (; words.count != 0; --words.count, words.first += sizeof(void*)) {
      void* word = nullptr;
      __builtin_memcpy(&word, reinterpret_cast<const void*>(words.first), sizeof(word));
      reach(word);
    }
  }
  void reach(void* address) noexcept {
    const Block block = block_around(address);
    if (block && block.record->owner() == &owner_ &&
        static_cast<std::byte*>(address) <= block.begin + block.record->size() &&
        block.record->change_state(State::Live, State::Reached)) {
      block.record->set_link(top_);
      top_ = block.begin;
    }
  }
  /// The block that begins at `begin`, which is in a list.
  Block linked_block(void* begin) const noexcept {
    const Block block = block_around(begin);
    invariant(static_cast<bool>(block), "a block in a list has a record");
    return block;
  }
  /// The slot or run with a record around `address`, whatever its state.
  Block block_around(void* address) const noexcept {
    const PagerBlock place = pager_.block_at(address);
    if (Slots::has_runs && place.use == PagerUse::Run && place.bytes > Blocks::overhead_bytes) {
      return Block(place.address, place.bytes, true);
    }
    if (place.use != PagerUse::Frame) {
      return {};
    }
    const FoundAround around = slots_.in_frame(place.address, place.bytes, address);
    return around.begin != nullptr && around.bytes > Blocks::overhead_bytes
               ? Block(around.begin, around.bytes, false)
               : Block();
  }

  const PagerT& pager_;
  const Slots& slots_;
  const BlockOwner& owner_;
  void* top_ = nullptr;   ///< Reached blocks whose words are not followed yet.
  void* runs_ = nullptr;  ///< Runs that were.
};

}  // namespace slabmalloc
