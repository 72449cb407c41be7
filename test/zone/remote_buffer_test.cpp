// SPDX-License-Identifier: MIT
#include "slabmalloc/zone/remote_buffer.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "support/random.hpp"
#include "zone/remote_buffer_fixture.hpp"

namespace slabmalloc {
namespace {

TEST_F(RemoteBufferTest, a_delivered_free_is_marked_and_announced_once) {
  Header* page = add_page();
  free_of(page, 70).deliver();
  EXPECT_EQ(remote(page, 70 / word_bits), Word{1} << (70 % word_bits));
  EXPECT_EQ(announced(page), 1u);
  free_of(page, 71).deliver();
  EXPECT_EQ(announced(page), 2u);
  EXPECT_EQ(queue_.take(), page);
  EXPECT_EQ(queue_.take(), nullptr) << "the second free found the page queued";
}

TEST_F(RemoteBufferTest, a_slot_that_is_delivered_twice_is_reported_and_announced_once) {
  Header* page = add_page();
  free_of(page, 5).deliver();
  RemoteFree<HardwareAtomics> several = free_of(page, 5);
  several.mask |= 0b11;
  several.deliver();
  EXPECT_EQ(announced(page), 3u);
  const std::vector<Misuse> reports = misuse_.take();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].kind, MisuseKind::DoubleFree);
  EXPECT_EQ(reports[0].address, Page::frame_of(page) + 5 * object_bytes);
  EXPECT_EQ(reports[0].object_size, object_bytes);
  EXPECT_EQ(reports[0].slot, 5u);
}

TEST_F(RemoteBufferTest, reports_tell_frees_of_this_call_from_those_of_earlier_ones) {
  Header* page = add_page();
  RemoteBuffer<HardwareAtomics, 1> buffer;
  free_of(page, 1).deliver();
  free_of(page, 1).deliver();
  buffer.add(free_of(page, 1), no_limit);
  buffer.add(free_of(page, 2), no_limit);
  free_of(page, 2).deliver();
  buffer.flush_all();
  // The last of these uses the entry's room up, and so delivers both.
  buffer.add(free_of(page, 3), object_bytes);
  free_of(page, 3).deliver();
  buffer.add(free_of(page, 4), object_bytes);
  // The last of these replaces the first.
  buffer.add(free_of(page, 5), no_limit);
  free_of(page, 5).deliver();
  buffer.add(free_of(page, word_bits), no_limit);
  std::vector<std::pair<std::size_t, FoundAt>> found;
  for (const Misuse& misuse : misuse_.take()) {
    found.emplace_back(misuse.slot, misuse.found_at);
    EXPECT_EQ(misuse.block, misuse.address);
    EXPECT_NE(misuse.state, BlockState::InUse);
  }
  EXPECT_EQ(found, (std::vector<std::pair<std::size_t, FoundAt>>{{1, FoundAt::Call},
                                                                 {1, FoundAt::Delivery},
                                                                 {2, FoundAt::Delivery},
                                                                 {3, FoundAt::Delivery},
                                                                 {5, FoundAt::Delivery}}));
}

TEST_F(RemoteBufferTest, a_free_on_a_page_without_live_objects_is_reported_and_not_marked) {
  Header* page = add_page();
  page->tag.store(queue_.tag() | PageState::idle, Order::relaxed);
  free_of(page, 5).deliver();
  EXPECT_EQ(misuse_.take_count(MisuseKind::DoubleFree), 1u);
  EXPECT_EQ(remote(page, 0), Word{0});
  EXPECT_EQ(announced(page), 0u);
  EXPECT_EQ(queue_.take(), nullptr);
}

TEST_F(RemoteBufferTest, frees_of_one_word_become_one_announcement) {
  Header* page = add_page();
  RemoteBuffer<HardwareAtomics, 4> buffer;
  for (std::uint32_t slot = 0; slot < word_bits; ++slot) {
    buffer.add(free_of(page, slot), no_limit);
    ASSERT_EQ(remote(page, 0), Word{0}) << "gathered, not delivered";
    ASSERT_EQ(announced(page), 0u);
    ASSERT_EQ(buffer.buffered_bytes(), (slot + 1) * object_bytes);
  }
  buffer.flush_all();
  EXPECT_EQ(remote(page, 0), ~Word{0});
  EXPECT_EQ(announced(page), word_bits);
  EXPECT_EQ(buffer.buffered_bytes(), 0u);
  EXPECT_EQ(queue_.take(), page);
  EXPECT_EQ(queue_.take(), nullptr);
}

TEST_F(RemoteBufferTest, a_free_merges_with_those_of_its_word_alone) {
  Header* page = add_page();
  RemoteBuffer<HardwareAtomics, 4> buffer;
  EXPECT_FALSE(buffer.merge(page, 3)) << "nothing is gathered yet";
  buffer.add(free_of(page, 3), no_limit);
  EXPECT_TRUE(buffer.merge(page, 4));
  EXPECT_FALSE(buffer.merge(page, 4)) << "it is there already";
  EXPECT_FALSE(buffer.merge(page, 3));
  EXPECT_FALSE(buffer.merge(page, word_bits + 4));
  EXPECT_FALSE(buffer.merge(add_page(), 4));
  EXPECT_EQ(buffer.buffered_bytes(), 2 * object_bytes);
  buffer.flush_all();
  EXPECT_FALSE(buffer.merge(page, 5)) << "what was delivered is gathered no more";
  EXPECT_EQ(remote(page, 0), Word{0b11000});
  EXPECT_EQ(announced(page), 2u);
}

TEST_F(RemoteBufferTest, a_word_is_delivered_when_its_share_of_the_bytes_is_used_up) {
  Header* page = add_page();
  RemoteBuffer<HardwareAtomics, 2> buffer;
  buffer.add(free_of(page, 0), 6 * object_bytes);
  EXPECT_TRUE(buffer.merge(page, 1));
  EXPECT_TRUE(buffer.merge(page, 2));
  EXPECT_FALSE(buffer.merge(page, 3)) << "three of six are for the other entry";
  EXPECT_EQ(announced(page), 0u);
  buffer.add(free_of(page, 3), 6 * object_bytes);
  EXPECT_EQ(announced(page), 4u);
  EXPECT_EQ(buffer.buffered_bytes(), 0u);
}

TEST_F(RemoteBufferTest, flushing_twice_delivers_once) {
  Header* page = add_page();
  RemoteBuffer<HardwareAtomics, 4> buffer;
  buffer.add(free_of(page, 9), no_limit);
  buffer.flush_all();
  buffer.flush_all();
  EXPECT_EQ(announced(page), 1u);
}

TEST_F(RemoteBufferTest, a_free_that_needs_the_place_of_others_delivers_them) {
  Header* first = add_page();
  Header* second = add_page();
  RemoteBuffer<HardwareAtomics, 1> buffer;
  buffer.add(free_of(first, 0), no_limit);
  buffer.add(free_of(first, 1), no_limit);
  buffer.add(free_of(second, 2), no_limit);
  EXPECT_EQ(announced(first), 2u);
  EXPECT_EQ(announced(second), 0u);
  EXPECT_EQ(buffer.buffered_bytes(), object_bytes);
  buffer.add(free_of(second, word_bits + 2), no_limit);
  EXPECT_EQ(announced(second), 1u) << "another word of the same page";
}

TEST_F(RemoteBufferTest, a_second_free_of_a_gathered_slot_is_reported_and_forgotten) {
  Header* page = add_page();
  RemoteBuffer<HardwareAtomics, 4> buffer;
  buffer.add(free_of(page, 3), no_limit);
  buffer.add(free_of(page, 3), no_limit);
  const std::vector<Misuse> reports = misuse_.take();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].kind, MisuseKind::DoubleFree);
  EXPECT_EQ(reports[0].address, Page::frame_of(page) + 3 * object_bytes);
  EXPECT_EQ(reports[0].slot, 3u);
  EXPECT_EQ(buffer.buffered_bytes(), object_bytes);
  buffer.flush_all();
  EXPECT_EQ(announced(page), 1u);
}

TEST_F(RemoteBufferTest, a_second_free_of_a_slot_delivered_before_is_reported_on_delivery) {
  Header* page = add_page();
  RemoteBuffer<HardwareAtomics, 4> buffer;
  buffer.add(free_of(page, 3), no_limit);
  buffer.flush_all();
  buffer.add(free_of(page, 3), no_limit);
  buffer.flush_all();
  EXPECT_EQ(misuse_.take_count(MisuseKind::DoubleFree), 1u);
  EXPECT_EQ(announced(page), 1u);
}

TEST_F(RemoteBufferTest, withholds_no_more_bytes_than_the_limit) {
  Header* page = add_page();
  for (const std::size_t limit : {std::size_t{0}, object_bytes, 5 * object_bytes}) {
    RemoteBuffer<HardwareAtomics, 8> buffer;
    const std::uint32_t before = announced(page);
    const auto first = static_cast<std::uint32_t>(limit / object_bytes * 20);
    for (std::uint32_t slot = first; slot < first + 20; ++slot) {
      buffer.add(free_of(page, slot), limit);
      ASSERT_LE(buffer.buffered_bytes(), limit);
      ASSERT_EQ((announced(page) - before) * object_bytes + buffer.buffered_bytes(),
                (slot - first + 1) * object_bytes);
    }
  }
}

TEST_F(RemoteBufferTest, every_free_is_delivered_exactly_once_whatever_the_order) {
  test::Random random;
  for (int round = 0; round < 20; ++round) {
    std::vector<Header*> pages;
    std::vector<std::pair<Header*, std::uint32_t>> live;
    for (std::size_t index = 0; index < 12; ++index) {
      pages.push_back(add_page());
      for (std::uint32_t slot = 0; slot < geometry.slots; ++slot) {
        live.emplace_back(pages.back(), slot);
      }
    }
    RemoteBuffer<HardwareAtomics, 16> buffer;
    std::map<Header*, std::uint32_t> freed;
    std::size_t total = 0;
    while (!live.empty()) {
      std::swap(live[random.below(live.size())], live.back());
      const auto [page, slot] = live.back();
      live.pop_back();
      buffer.add(free_of(page, slot), 100 * object_bytes);
      ++freed[page];
      ++total;
      if (random.one_in(500)) {
        buffer.flush_all();
      }
      if (random.one_in(50)) {
        std::size_t delivered = 0;
        for (Header* one : pages) {
          ASSERT_LE(announced(one), freed[one]);
          delivered += announced(one);
        }
        ASSERT_EQ(delivered * object_bytes + buffer.buffered_bytes(), total * object_bytes);
      }
    }
    buffer.flush_all();
    std::set<Header*> queued;
    while (Header* page = queue_.take()) {
      ASSERT_TRUE(queued.insert(page).second);
    }
    ASSERT_EQ(queued.size(), pages.size());
    for (Header* page : pages) {
      ASSERT_EQ(announced(page), geometry.slots);
      for (std::uint32_t word = 0; word < geometry.words; ++word) {
        ASSERT_EQ(remote(page, word), geometry.word_mask(word));
      }
    }
  }
}

}  // namespace
}  // namespace slabmalloc
