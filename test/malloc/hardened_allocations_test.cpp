// SPDX-License-Identifier: MIT
//
// Each way to allocate from a heap with MallocConfig::hardened looks for double frees first.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "malloc/blocks.hpp"
#include "malloc/heap.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

static_assert(MallocConfig::hardened);

using Allocate = void* (*)(std::size_t);

constexpr Allocate ways[] = {
    [](std::size_t bytes) { return heap::allocate(bytes); },
    [](std::size_t bytes) { return heap::allocate_zeroed(bytes); },
    [](std::size_t bytes) { return heap::allocate_aligned(bytes, heap::minimum_alignment); },
    [](std::size_t bytes) { return heap::reallocate(heap::allocate(bytes * 2), bytes); },
};

/// A slot that the calling thread's next allocation of its class issues.
struct NextSlot {
  ArenaTable::Header* page = nullptr;
  std::uint32_t word = 0;
  Word bit = 0;
};

/// Allocates until something is claimed, and returns what comes next.
/// Pre: no block of the word was freed.
NextSlot find_next_slot(std::size_t bytes, std::vector<void*>& blocks) {
  const ArenaClass& size_class =
      thread_heap.zone->class_at(MallocConfig::SizeClasses::index_for(bytes));
  for (std::size_t tries = 0; tries < 2 * word_bits; ++tries) {
    blocks.push_back(heap::allocate(bytes));
    const auto claim = size_class.latest_claim();
    auto* const page = const_cast<ArenaTable::Header*>(claim.page);
    const Word rest = claim.slots & page->local(claim.word).load(Order::relaxed);
    if (rest != 0) {
      return {page, claim.word, rest & (~rest + 1)};
    }
  }
  return {};
}

/// The second free is of a thread that looked at the local word before the first free was over. It
/// sets its bit after the owner has claimed the slot.
TEST(HardenedAllocations, find_a_double_free_under_way_in_claimed_slots) {
  get_own_zone();
  test::MisuseRecorder misuse;
  for (const std::size_t bytes : {16u, 48u, 500u, 1024u, 2048u, 4000u}) {
    thread_heap.zone->trim();
    std::vector<void*> blocks;
    for (const Allocate& allocate : ways) {
      const NextSlot next = find_next_slot(bytes, blocks);
      ASSERT_NE(next.bit, Word{0});
      const std::uint32_t words = Chunk::of(next.page)->info.words();
      next.page->remote(next.word, words).fetch_or(next.bit, Order::release);
      blocks.push_back(allocate(bytes));
      EXPECT_EQ(misuse.take_count(MisuseKind::DoubleFree), 1u)
          << bytes << " B, way " << &allocate - ways;
      if (next.page->announced.fetch_add(1, Order::acq_rel) == 0) {
        thread_heap.zone->queue().push(next.page);
      }
      thread_heap.zone->drain();
    }
    free_all(blocks);
    EXPECT_EQ(thread_heap.zone->validate(), nullptr);
  }
}

}  // namespace
}  // namespace slabmalloc
