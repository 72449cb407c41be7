// SPDX-License-Identifier: MIT
#include "slabmalloc/page/page_header.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

#include "slabmalloc/classes/size_class_table.hpp"
#include "slabmalloc/zone/remote_free_queue.hpp"

namespace slabmalloc {
namespace {

using Header = PageHeader<HardwareAtomics>;

TEST(PageHeader, with_a_word_of_each_bitmap_it_fills_a_cache_line) {
  if constexpr (sizeof(void*) == 8) {
    EXPECT_EQ(sizeof(Header) + 2 * sizeof(Word), 64u);
  } else {
    EXPECT_LE(sizeof(Header) + 2 * sizeof(Word), 64u);
  }
}

TEST(PageHeader, a_seal_tells_the_one_size_that_it_may_be_for) {
  std::vector<Header> headers(1000);  // The address counts.
  for (Header& header : headers) {
    for (std::size_t size = 1; size < std::size_t{1} << 24; size += 1 + size / 9) {
      header.seal.store(header.seal_for(size), Order::relaxed);
      ASSERT_EQ(header.size_to_prove(), size);
    }
  }
}

TEST(PageHeader, bitmaps_lie_directly_below_it_and_do_not_overlap) {
  constexpr std::uint32_t words = 5;
  alignas(Header) std::byte memory[2 * words * sizeof(Word) + sizeof(Header)];
  auto* header = new (memory + 2 * words * sizeof(Word)) Header;
  std::set<void*> places;
  for (std::uint32_t word = 0; word < words; ++word) {
    places.insert(&header->local(word));
    places.insert(&header->remote(word, words));
  }
  EXPECT_EQ(places.size(), 2 * words);
  EXPECT_EQ(*places.begin(), static_cast<void*>(memory));
  EXPECT_EQ(*places.rbegin(), static_cast<void*>(&header->local(0)));
  EXPECT_EQ(reinterpret_cast<std::byte*>(&header->local(0)) + sizeof(Word),
            reinterpret_cast<std::byte*>(header));
}

TEST(PageHeader, the_next_free_word_has_a_free_slot_wherever_the_search_starts) {
  for (const std::uint32_t slots :
       {1u, word_bits - 1, word_bits, word_bits + 1, 3 * word_bits - 4, 3 * word_bits}) {
    const SlotGeometry geometry = SlotGeometry::fit(16, std::size_t{16} * slots, 0, false);
    alignas(Header) std::byte memory[2 * 3 * sizeof(Word) + sizeof(Header)];
    auto* header = new (memory + 2 * 3 * sizeof(Word)) Header;
    // Every set of words with a free slot. Bits beyond the last slot are always set.
    for (std::uint32_t set = 0; set < 1u << geometry.words; ++set) {
      for (std::uint32_t word = 0; word < geometry.words; ++word) {
        const Word free = (set >> word & 1) != 0 ? Word{1} : 0;
        header->local(word).store(~geometry.word_mask(word) | free, Order::relaxed);
      }
      for (std::uint32_t from = 0; from <= geometry.words; ++from) {
        std::uint32_t expected = from;
        while (expected < geometry.words && (set >> expected & 1) == 0) {
          ++expected;
        }
        ASSERT_EQ(header->next_free_word(geometry, from), expected)
            << slots << " slots, set " << set << ", from " << from;
      }
    }
  }
}

TEST(PageHeader, a_seal_is_never_zero_and_differs_between_sizes) {
  std::vector<Header> headers(200);
  for (const Header& header : headers) {
    std::set<std::uint32_t> seals;
    for (std::uint32_t index = 0; index < FineSizeClasses::count; ++index) {
      seals.insert(header.seal_for(FineSizeClasses::size_of(index)));
    }
    ASSERT_EQ(seals.size(), FineSizeClasses::count);
    ASSERT_EQ(seals.count(0), 0u);
  }
}

TEST(PageHeader, a_seal_differs_between_all_sizes_to_128_kib) {
  const Header header{};
  std::set<std::uint32_t> seals;
  for (std::size_t size = 1; size <= 128 * 1024; ++size) {
    ASSERT_TRUE(seals.insert(header.seal_for(size)).second) << size;
  }
}

TEST(PageHeader, a_seal_copied_from_another_page_is_not_valid_here) {
  std::vector<Header> headers(1000);
  std::set<std::uint32_t> seals;
  for (const Header& header : headers) {
    seals.insert(header.seal_for(64));
  }
  EXPECT_EQ(seals.size(), headers.size());
}

TEST(PageState, states_are_distinct_and_leave_the_owner_readable) {
  RemoteFreeQueue<HardwareAtomics> owner;
  EXPECT_EQ(owner.tag() & PageState::mask, 0u);
  std::set<std::uintptr_t> tags;
  for (const std::uintptr_t state : {PageState::open, PageState::full, PageState::idle}) {
    const std::uintptr_t tag = owner.tag() | state;
    tags.insert(tag);
    EXPECT_EQ(RemoteFreeQueue<HardwareAtomics>::of(tag), &owner);
    EXPECT_EQ(tag & PageState::mask, state);
  }
  EXPECT_EQ(tags.size(), 3u);
  EXPECT_EQ(RemoteFreeQueue<HardwareAtomics>::of(0), nullptr);
}

}  // namespace
}  // namespace slabmalloc
