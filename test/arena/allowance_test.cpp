// SPDX-License-Identifier: MIT
#include "arena/allowance.hpp"

#include <gtest/gtest.h>

namespace slabmalloc {
namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;

/// One that has seen `peak` in use, and its reserve raised to `reserve` at time 0.
Allowance experienced(std::size_t peak, std::size_t reserve) {
  Allowance allowance;
  allowance.note_taken(peak, 0, 0);
  allowance.note_excess(reserve, 0);
  allowance.note_taken(0, reserve, 0);
  return allowance;
}

TEST(Allowance, without_experience_it_is_half_of_what_is_in_use_but_not_little) {
  Allowance allowance;
  EXPECT_EQ(allowance.amount(0), mebibyte);
  allowance.note_taken(320 * mebibyte, 320 * mebibyte, 0);
  EXPECT_EQ(allowance.amount(0), 11 * mebibyte);
  EXPECT_EQ(allowance.amount(8 * mebibyte), 11 * mebibyte);
  EXPECT_EQ(allowance.amount(160 * mebibyte), 80 * mebibyte);
}

TEST(Allowance, with_what_is_in_use_it_stays_near_the_peak) {
  for (const std::size_t reserve : {0u, 300u}) {
    const Allowance allowance = experienced(320 * mebibyte, reserve * mebibyte);
    for (std::size_t in_use = 64; in_use <= 320; ++in_use) {
      ASSERT_LE(in_use * mebibyte + allowance.amount(in_use * mebibyte), 360 * mebibyte);
    }
    EXPECT_EQ(allowance.amount(320 * mebibyte), 40 * mebibyte);
  }
}

TEST(Allowance, regret_raises_it_to_four_times_what_is_in_use) {
  const Allowance allowance = experienced(320 * mebibyte, 200 * mebibyte);
  EXPECT_EQ(allowance.amount(100 * mebibyte), 200 * mebibyte) << "the whole reserve";
  EXPECT_EQ(allowance.amount(20 * mebibyte), 80 * mebibyte);
  EXPECT_EQ(allowance.amount(0), 11 * mebibyte);
}

TEST(Allowance, regret_keeps_four_mebibytes_where_nothing_is_in_use) {
  EXPECT_EQ(experienced(10 * mebibyte, 3 * mebibyte).amount(0), 3 * mebibyte);
  EXPECT_EQ(experienced(10 * mebibyte, 9 * mebibyte).amount(0), 4 * mebibyte);
}

TEST(Allowance, only_what_was_purged_is_regretted_and_once) {
  Allowance allowance;
  allowance.note_taken(64 * mebibyte, 64 * mebibyte, 0);
  EXPECT_EQ(allowance.amount(0), 3 * mebibyte) << "nothing was purged";
  allowance.note_excess(mebibyte, 0);
  for (int repeat = 0; repeat < 10; ++repeat) {
    allowance.note_taken(0, 16 * mebibyte, 0);
  }
  EXPECT_EQ(allowance.amount(0), 3 * mebibyte) << "a reserve of 1 MiB is less than what is kept";
  allowance.note_excess(4 * mebibyte, 0);
  allowance.note_taken(0, 16 * mebibyte, 0);
  EXPECT_EQ(allowance.amount(0), 4 * mebibyte);
}

TEST(Allowance, what_is_faulted_in_late_is_not_regretted) {
  for (const bool late : {false, true}) {
    Allowance allowance;
    allowance.note_taken(16 * mebibyte, 0, 0);
    // The clock wraps on the way.
    const std::uint32_t purged_at = ~std::uint32_t{0} - 10;
    allowance.note_excess(4 * mebibyte, purged_at);
    const std::uint32_t delay = Allowance::regret_milliseconds - (late ? 0 : 1);
    allowance.note_taken(0, 4 * mebibyte, purged_at + delay);
    EXPECT_EQ(allowance.amount(0), late ? 3 * mebibyte / 2 : 4 * mebibyte);
  }
}

TEST(Allowance, what_was_purged_long_ago_is_forgotten) {
  Allowance allowance;
  allowance.note_taken(16 * mebibyte, 0, 0);
  allowance.note_excess(4 * mebibyte, 1000);
  allowance.note_excess(2 * mebibyte, 1000 + Allowance::regret_milliseconds);
  allowance.note_taken(0, 8 * mebibyte, 1000 + Allowance::regret_milliseconds);
  EXPECT_EQ(allowance.amount(0), 2 * mebibyte);
}

TEST(Allowance, what_nobody_wanted_lowers_the_reserve) {
  Allowance allowance = experienced(320 * mebibyte, 200 * mebibyte);
  allowance.note_expired(50 * mebibyte);
  EXPECT_EQ(allowance.amount(100 * mebibyte), 150 * mebibyte);
  allowance.note_excess(200 * mebibyte, 5000);
  EXPECT_EQ(allowance.amount(100 * mebibyte), 100 * mebibyte);
  allowance.note_expired(1000 * mebibyte);
  EXPECT_EQ(allowance.amount(100 * mebibyte), 50 * mebibyte) << "half of what is in use";
}

}  // namespace
}  // namespace slabmalloc
