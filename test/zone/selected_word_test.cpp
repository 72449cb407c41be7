// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "slabmalloc/zone/current_page.hpp"

namespace slabmalloc {
namespace {

using Selected = SelectedWord<HardwareAtomics>;
constexpr std::uint32_t object_size = 16;

class SelectedWordTest : public ::testing::Test {
 protected:
  SelectedWordTest() { selected_.configure(object_size); }

  void select(Word free, Word mask = ~Word{0}) {
    word_.store(free, Order::relaxed);
    selected_.select(word_, slots_, mask);
  }
  /// Claims once; returns the slots until the claim is used up.
  std::vector<std::ptrdiff_t> issued_by_one_claim() {
    std::vector<std::ptrdiff_t> result;
    const Word claimable = selected_.claimable();
    if (claimable != 0) {
      result.push_back(slot_of(selected_.claim(selected_.one_claim_of(claimable), object_size)));
    }
    while (void* object = selected_.issue(object_size)) {
      EXPECT_EQ(selected_.validate(), nullptr);
      result.push_back(slot_of(object));
    }
    return result;
  }
  std::ptrdiff_t slot_of(void* object) const {
    return (static_cast<std::byte*>(object) - slots_) / std::ptrdiff_t{object_size};
  }

  std::byte slots_[word_bits * object_size];
  Selected::Cell word_{};
  Selected selected_;
};

TEST_F(SelectedWordTest, nothing_is_issued_before_a_word_is_selected) {
  static constinit Selected of_nobody;
  EXPECT_EQ(of_nobody.issue(object_size), nullptr);
  EXPECT_FALSE(selected_.is_selected());
  EXPECT_EQ(selected_.issue(object_size), nullptr);
  EXPECT_EQ(selected_.claimable(), 0u);
  EXPECT_EQ(selected_.validate(), nullptr);
}

TEST_F(SelectedWordTest, slots_are_issued_lowest_first_and_then_leave_the_word) {
  select(0b110'1000);
  EXPECT_TRUE(selected_.is_selected());
  EXPECT_EQ(slot_of(selected_.claim(selected_.claimable(), object_size)), 3);
  EXPECT_EQ(word_.load(Order::relaxed), Word{0b110'0000});
  EXPECT_EQ(selected_.claimed(), Word{0b110'0000});
  EXPECT_EQ(slot_of(selected_.issue(object_size)), 5);
  EXPECT_EQ(slot_of(selected_.issue(object_size)), 6);
  EXPECT_EQ(word_.load(Order::relaxed), 0u);
  EXPECT_EQ(selected_.issue(object_size), nullptr);
}

TEST_F(SelectedWordTest, bits_outside_of_the_mask_are_not_claimed) {
  select(~Word{0}, 0b11);
  EXPECT_EQ(issued_by_one_claim(), (std::vector<std::ptrdiff_t>{0, 1}));
  EXPECT_EQ(selected_.claimable(), 0u);
  EXPECT_EQ(word_.load(Order::relaxed), ~Word{0b11});
}

TEST_F(SelectedWordTest, a_slot_that_is_freed_after_the_claim_waits_for_the_next_one) {
  select(0b10'0100);
  selected_.claim(selected_.claimable(), object_size);
  word_.store(word_.load(Order::relaxed) | 0b01, Order::relaxed);
  EXPECT_EQ(slot_of(selected_.issue(object_size)), 5);
  EXPECT_EQ(selected_.issue(object_size), nullptr);
  EXPECT_EQ(issued_by_one_claim(), std::vector<std::ptrdiff_t>{0});
}

TEST_F(SelectedWordTest, a_claim_takes_the_lowest_slots_that_make_so_many_bytes) {
  struct Case {
    std::uint32_t object_size;
    Word first;
    Word late;
  };
  constexpr Word free = ~Word{0} << 4;
  for (const Case& one :
       {Case{16, free, free}, Case{1024, 0b1111'0000, Word{0xFFFFFFFF} << 4},
        Case{4096, 0b1'0000, 0xFF0}, Case{8 * 1024, 0b1'0000, 0b1111'0000},
        Case{12 * 1024, 0b1'0000, 0b0011'0000}, Case{32 * 1024, 0b1'0000, 0b1'0000},
        Case{128 * 1024, 0b1'0000, 0b1'0000}}) {
    selected_.configure(one.object_size);
    EXPECT_EQ(selected_.one_claim_of(free), one.first) << one.object_size;
    selected_.limit_claims(one.object_size, Selected::most_claim_bytes);
    EXPECT_EQ(selected_.one_claim_of(free), one.late) << one.object_size;
  }
}

TEST_F(SelectedWordTest, a_freed_slot_can_be_claimed_alone) {
  Selected::Cell full{};
  full.store(0b1000, Order::relaxed);
  selected_.claim_freed(full, 5, slots_ + 5 * std::ptrdiff_t{object_size}, object_size);
  EXPECT_EQ(full.load(Order::relaxed), Word{0b10'1000}) << "it is free until it is issued";
  EXPECT_EQ(selected_.validate(), nullptr);
  EXPECT_EQ(selected_.claimable(), 0u) << "others of that word are not claimed";
  EXPECT_EQ(slot_of(selected_.issue(object_size)), 5);
  EXPECT_EQ(full.load(Order::relaxed), Word{0b1000});
  EXPECT_EQ(selected_.issue(object_size), nullptr);
}

TEST_F(SelectedWordTest, slots_that_are_given_up_are_counted_and_stay_free) {
  select(0b1'1010);
  selected_.claim(selected_.claimable(), object_size);
  EXPECT_EQ(selected_.give_up(), 2u);
  EXPECT_EQ(selected_.claimed(), 0u);
  EXPECT_EQ(word_.load(Order::relaxed), Word{0b1'1000});
  EXPECT_EQ(selected_.give_up(), 0u);
  selected_.deselect();
  EXPECT_EQ(selected_.claimable(), 0u);
}

TEST_F(SelectedWordTest, the_end_of_a_claim_is_that_of_its_highest_slot) {
  select(0b1010);
  EXPECT_EQ(selected_.end_of(0b1010, object_size), slots_ + 4 * std::ptrdiff_t{object_size});
}

TEST_F(SelectedWordTest, a_claimed_slot_that_is_not_free_is_found) {
  select(0b111);
  selected_.claim(selected_.claimable(), object_size);
  EXPECT_EQ(selected_.validate(), nullptr);
  word_.store(0b100, Order::relaxed);
  EXPECT_STREQ(selected_.validate(), "W1: what is claimed is free in the selected word");
}

}  // namespace
}  // namespace slabmalloc
