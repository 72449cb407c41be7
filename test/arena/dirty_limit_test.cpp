// SPDX-License-Identifier: MIT
#include "arena/dirty_limit.hpp"

#include <gtest/gtest.h>

namespace slabmalloc {
namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;

/// A limit that has seen `peak` bytes in use and has raised its reserve to `reserve` at time 0.
DirtyLimit experienced(std::size_t peak, std::size_t reserve) {
  DirtyLimit limit;
  limit.note_taken(peak, 0, 0);
  limit.note_excess(reserve, 0);
  limit.note_taken(0, reserve, 0);
  return limit;
}

TEST(DirtyLimit, without_refaults_it_is_half_of_the_memory_in_use_above_a_minimum) {
  DirtyLimit limit;
  EXPECT_EQ(limit.amount(0), mebibyte);
  limit.note_taken(320 * mebibyte, 320 * mebibyte, 0);
  EXPECT_EQ(limit.amount(0), 11 * mebibyte);
  EXPECT_EQ(limit.amount(8 * mebibyte), 11 * mebibyte);
  EXPECT_EQ(limit.amount(160 * mebibyte), 80 * mebibyte);
}

TEST(DirtyLimit, the_limit_plus_the_memory_in_use_stays_near_the_peak) {
  for (const std::size_t reserve : {0u, 300u}) {
    const DirtyLimit limit = experienced(320 * mebibyte, reserve * mebibyte);
    for (std::size_t in_use = 64; in_use <= 320; ++in_use) {
      ASSERT_LE(in_use * mebibyte + limit.amount(in_use * mebibyte), 360 * mebibyte);
    }
    EXPECT_EQ(limit.amount(320 * mebibyte), 40 * mebibyte);
  }
}

TEST(DirtyLimit, refaults_raise_it_to_four_times_the_memory_in_use) {
  const DirtyLimit limit = experienced(320 * mebibyte, 200 * mebibyte);
  EXPECT_EQ(limit.amount(100 * mebibyte), 200 * mebibyte) << "the whole reserve";
  EXPECT_EQ(limit.amount(20 * mebibyte), 80 * mebibyte);
  EXPECT_EQ(limit.amount(0), 11 * mebibyte);
}

TEST(DirtyLimit, refaults_raise_it_to_four_mebibytes_if_nothing_is_in_use) {
  EXPECT_EQ(experienced(10 * mebibyte, 3 * mebibyte).amount(0), 3 * mebibyte);
  EXPECT_EQ(experienced(10 * mebibyte, 9 * mebibyte).amount(0), 4 * mebibyte);
}

TEST(DirtyLimit, only_purged_memory_is_refaulted_and_only_once) {
  DirtyLimit limit;
  limit.note_taken(64 * mebibyte, 64 * mebibyte, 0);
  EXPECT_EQ(limit.amount(0), 3 * mebibyte) << "nothing was purged";
  limit.note_excess(mebibyte, 0);
  for (int repeat = 0; repeat < 10; ++repeat) {
    limit.note_taken(0, 16 * mebibyte, 0);
  }
  EXPECT_EQ(limit.amount(0), 3 * mebibyte) << "a reserve of 1 MiB is less than what is kept";
  limit.note_excess(4 * mebibyte, 0);
  limit.note_taken(0, 16 * mebibyte, 0);
  EXPECT_EQ(limit.amount(0), 4 * mebibyte);
}

TEST(DirtyLimit, memory_faulted_in_late_is_not_refaulted) {
  for (const bool late : {false, true}) {
    DirtyLimit limit;
    limit.note_taken(16 * mebibyte, 0, 0);
    // The clock wraps on the way.
    const std::uint32_t purged_at = ~std::uint32_t{0} - 10;
    limit.note_excess(4 * mebibyte, purged_at);
    const std::uint32_t delay = Tunables::refault_milliseconds - (late ? 0 : 1);
    limit.note_taken(0, 4 * mebibyte, purged_at + delay);
    EXPECT_EQ(limit.amount(0), late ? 3 * mebibyte / 2 : 4 * mebibyte);
  }
}

TEST(DirtyLimit, memory_purged_long_ago_is_forgotten) {
  DirtyLimit limit;
  limit.note_taken(16 * mebibyte, 0, 0);
  limit.note_excess(4 * mebibyte, 1000);
  limit.note_excess(2 * mebibyte, 1000 + Tunables::refault_milliseconds);
  limit.note_taken(0, 8 * mebibyte, 1000 + Tunables::refault_milliseconds);
  EXPECT_EQ(limit.amount(0), 2 * mebibyte);
}

TEST(DirtyLimit, unused_dirty_memory_lowers_the_reserve) {
  DirtyLimit limit = experienced(320 * mebibyte, 200 * mebibyte);
  limit.note_expired(50 * mebibyte);
  EXPECT_EQ(limit.amount(100 * mebibyte), 150 * mebibyte);
  limit.note_excess(200 * mebibyte, 5000);
  EXPECT_EQ(limit.amount(100 * mebibyte), 100 * mebibyte);
  limit.note_expired(1000 * mebibyte);
  EXPECT_EQ(limit.amount(100 * mebibyte), 50 * mebibyte) << "half of what is in use";
}

}  // namespace
}  // namespace slabmalloc
