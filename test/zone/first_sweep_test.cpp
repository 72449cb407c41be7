// SPDX-License-Identifier: MIT
#include "slabmalloc/zone/first_sweep.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace slabmalloc {
namespace {

constexpr std::uint32_t words = 6;
constexpr Word three_quarters = ~Word{0} >> word_bits / 4;

/// The part of a page that a sweep reads.
struct Bitmap {
  HardwareAtomics::Cell<Word> words_[words]{};
  auto& local(std::uint32_t index) { return words_[index]; }
  void set(std::uint32_t index, Word free) { local(index).store(free, Order::relaxed); }
};

class FirstSweepTest : public ::testing::Test {
 protected:
  FirstSweepTest() {
    for (std::uint32_t index = 0; index < words; ++index) {
      page_.set(index, ~Word{0});
    }
    sweep_.begin(slots_, true);
  }
  /// Selects the next word and claims all of it.
  std::uint32_t sweep_one() {
    const std::uint32_t index = sweep_.next_word(&page_);
    page_.set(index, 0);
    return index;
  }

  Bitmap page_;
  std::byte slots_[100];
  FirstSweep sweep_;
};

TEST_F(FirstSweepTest, selects_words_in_order) {
  for (std::uint32_t index = 0; index < words; ++index) {
    ASSERT_TRUE(sweep_.has_untouched(words));
    EXPECT_EQ(sweep_.validate(&page_, words), nullptr);
    EXPECT_EQ(sweep_one(), index);
  }
  EXPECT_FALSE(sweep_.has_untouched(words));
}

TEST_F(FirstSweepTest, a_word_of_which_three_quarters_are_free_serves_again) {
  sweep_one();
  sweep_one();
  page_.set(0, three_quarters);
  EXPECT_EQ(sweep_one(), 0u);
  page_.set(0, three_quarters >> 1);
  page_.set(1, three_quarters >> 1);
  EXPECT_EQ(sweep_one(), 2u);
}

TEST_F(FirstSweepTest, examines_two_words_in_turn) {
  for (std::uint32_t index = 0; index < 5; ++index) {
    EXPECT_EQ(sweep_one(), index);
  }
  // Each free word serves in its turn, …
  std::vector<std::uint32_t> visited;
  for (std::uint32_t index = 0; index < 5; ++index) {
    page_.set(index, ~Word{0});
  }
  for (std::uint32_t turn = 0; turn < 5; ++turn) {
    visited.push_back(sweep_.next_word(&page_));
  }
  EXPECT_EQ(visited, (std::vector<std::uint32_t>{1, 2, 3, 4, 0}));

  // … but if neither 1 nor 2 is free, the sweep does not examine later words.
  page_.set(1, 0);
  page_.set(2, 0);
  EXPECT_EQ(sweep_one(), 5u);
}

TEST_F(FirstSweepTest, a_page_that_was_swept_before_has_no_first_sweep) {
  sweep_.skip(words);
  EXPECT_FALSE(sweep_.has_untouched(words));
  EXPECT_FALSE(sweep_.is_fresh());
  EXPECT_EQ(sweep_.validate(&page_, words), nullptr);
}

TEST_F(FirstSweepTest, slots_beyond_all_earlier_claims_are_zero) {
  sweep_.claim_to(slots_ + 10);
  EXPECT_TRUE(sweep_.is_zero(slots_));
  sweep_.claim_to(slots_ + 20);
  EXPECT_FALSE(sweep_.is_zero(slots_ + 9));
  EXPECT_TRUE(sweep_.is_zero(slots_ + 10));
}

TEST_F(FirstSweepTest, slots_claimed_again_are_not_zero) {
  sweep_.claim_to(slots_ + 20);
  sweep_.claim_to(slots_ + 10);
  EXPECT_FALSE(sweep_.is_zero(slots_ + 5));
  sweep_.claim_to(slots_ + 30);
  EXPECT_FALSE(sweep_.is_zero(slots_ + 19));
  EXPECT_TRUE(sweep_.is_zero(slots_ + 20));
}

TEST_F(FirstSweepTest, no_slot_is_zero_on_a_page_that_came_dirty_or_was_left) {
  sweep_.claim_to(slots_ + 10);
  sweep_.end();
  EXPECT_FALSE(sweep_.is_zero(slots_));
  sweep_.begin(slots_, false);
  EXPECT_FALSE(sweep_.is_fresh());
  EXPECT_FALSE(sweep_.is_zero(slots_));
}

TEST_F(FirstSweepTest, an_untouched_word_with_a_slot_in_use_is_found) {
  sweep_one();
  page_.set(3, ~Word{1});
  EXPECT_STREQ(sweep_.validate(&page_, words),
               "U1: every bit of the current page's untouched words is set");
}

}  // namespace
}  // namespace slabmalloc
