// SPDX-License-Identifier: MIT
#include "slabmalloc/base/bits.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <set>

#include "support/random.hpp"

namespace slabmalloc {
namespace {

static_assert(sizeof(Word) == sizeof(void*));
static_assert(count_ones(0b1011) == 3 && lowest_bit(0b1000) == 3 && highest_bit(0b1010) == 3,
              "usable where programs are compiled");

/// Calls check(word) for words with few ones, few zeroes, and random ones.
template <class Check>
void for_many_words(Check check) {
  for (std::uint32_t first = 0; first < word_bits; ++first) {
    for (std::uint32_t last = first; last < word_bits; ++last) {
      const Word two = (Word{1} << first) | (Word{1} << last);
      const Word run = (~Word{0} << first) & (~Word{0} >> (word_bits - 1 - last));
      for (const Word word : {two, static_cast<Word>(~two), run, static_cast<Word>(~run)}) {
        check(word);
      }
    }
  }
  test::Random random;
  for (std::uint32_t round = 0; round < 200'000; ++round) {
    const auto word = static_cast<Word>(random.next());
    check(word);
    check(static_cast<Word>(word >> (round % word_bits)));
    check(static_cast<Word>(word << (round % word_bits)));
  }
}

TEST(Bits, count_ones_agrees_with_the_standard_library) {
  ASSERT_EQ(count_ones(0), 0u);
  ASSERT_EQ(count_ones(~Word{0}), word_bits);
  for_many_words([](Word word) {
    ASSERT_EQ(count_ones(word), static_cast<std::uint32_t>(std::popcount(word))) << word;
  });
}

TEST(Bits, lowest_bit_agrees_with_the_standard_library_in_both_forms) {
  for_many_words([](Word word) {
    if (word != 0) {
      const auto expected = static_cast<std::uint32_t>(std::countr_zero(word));
      ASSERT_EQ(lowest_bit(word), expected) << word;
      ASSERT_EQ(detail::lowest_bit_by_table(word), expected) << word;
    }
  });
}

template <class T>
class LowestBitByTable : public testing::Test {};
using Words = testing::Types<std::uint32_t, std::uint64_t>;
TYPED_TEST_SUITE(LowestBitByTable, Words);

TYPED_TEST(LowestBitByTable, finds_every_bit_whatever_is_above_it) {
  constexpr std::uint32_t bits = sizeof(TypeParam) * 8;
  test::Random random;
  for (std::uint32_t bit = 0; bit < bits; ++bit) {
    const auto single = static_cast<TypeParam>(TypeParam{1} << bit);
    ASSERT_EQ(detail::lowest_bit_by_table(single), bit);
    ASSERT_EQ(detail::lowest_bit_by_table(static_cast<TypeParam>(~TypeParam{0} << bit)), bit);
    for (int round = 0; round < 10'000; ++round) {
      const auto above = static_cast<TypeParam>(random.next() << bit);
      ASSERT_EQ(detail::lowest_bit_by_table(static_cast<TypeParam>(above | single)), bit) << above;
    }
  }
}

TYPED_TEST(LowestBitByTable, has_a_window_of_its_own_for_every_bit) {
  std::set<int> shifts;
  for (const std::uint8_t shift : detail::de_bruijn<TypeParam>.shift_of_window) {
    EXPECT_TRUE(shifts.insert(shift).second) << "two windows agree";
  }
  EXPECT_EQ(*shifts.rbegin(), static_cast<int>(sizeof(TypeParam) * 8 - 1));
}

TEST(Bits, highest_bit_agrees_with_the_standard_library_in_both_forms) {
  for_many_words([](Word word) {
    if (word != 0) {
      const auto expected = static_cast<std::uint32_t>(std::bit_width(word)) - 1;
      ASSERT_EQ(highest_bit(word), expected) << word;
      ASSERT_EQ(detail::highest_bit_by_counting(word), expected) << word;
    }
  });
}

TEST(Bits, recognises_powers_of_two) {
  EXPECT_FALSE(is_power_of_two(0));
  for (std::uint32_t bit = 0; bit < word_bits; ++bit) {
    const std::size_t power = std::size_t{1} << bit;
    EXPECT_TRUE(is_power_of_two(power));
    EXPECT_EQ(is_power_of_two(power + 1), bit == 0) << power;
    if (bit >= 2) {
      EXPECT_FALSE(is_power_of_two(power - 1)) << power;
    }
  }
}

TEST(Bits, align_down_and_up_enclose_the_value) {
  for (std::size_t alignment = 1; alignment <= 64; alignment *= 2) {
    for (std::uintptr_t value = 0; value < 300; ++value) {
      const std::uintptr_t down = align_down(value, alignment);
      const std::uintptr_t up = align_up(value, alignment);
      ASSERT_EQ(down % alignment, 0u);
      ASSERT_EQ(up % alignment, 0u);
      ASSERT_TRUE(down <= value && value - down < alignment);
      ASSERT_TRUE(value <= up && up - value < alignment);
    }
  }
  const std::uintptr_t last = ~std::uintptr_t{0};
  EXPECT_EQ(align_down(last, std::size_t{1} << (word_bits - 1)),
            std::uintptr_t{1} << (word_bits - 1));
  EXPECT_EQ(align_up(last - 4095, 4096), last - 4095);
}

TEST(Bits, natural_alignment_is_the_largest_power_of_two_that_divides) {
  for (std::size_t value = 1; value < 70'000; ++value) {
    const std::size_t alignment = natural_alignment(value);
    ASSERT_TRUE(is_power_of_two(alignment));
    ASSERT_EQ(value % alignment, 0u);
    ASSERT_NE(value % (2 * alignment), 0u);
  }
}

TEST(Bits, inverse_of_odd_times_the_number_is_one) {
  for (std::uint32_t number = 0; number < 0x10000; ++number) {
    const auto odd = static_cast<std::uint16_t>(2 * number + 1);
    ASSERT_EQ(static_cast<std::uint16_t>(inverse_of_odd(std::uint64_t{odd}) * odd), 1u) << odd;
    const Word high = Word{odd} << (word_bits - 17) | 1;
    ASSERT_EQ(inverse_of_odd(high) * high, 1u) << high;
  }
}

TEST(Bits, rotate_right_moves_the_lowest_bits_to_the_top) {
  for (std::uint32_t count = 0; count < word_bits; ++count) {
    EXPECT_EQ(rotate_right(Word{1} << count | Word{6}, count) & 1, 1u) << count;
    EXPECT_EQ(rotate_right(Word{1}, count), Word{1} << (word_bits - count) % word_bits) << count;
  }
}

}  // namespace
}  // namespace slabmalloc
