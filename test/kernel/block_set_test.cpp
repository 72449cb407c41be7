// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/block_set.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <set>
#include <vector>

#include "support/random.hpp"

namespace slabmalloc::test {
namespace {

TEST(BlockSet, needs_a_word_for_each_word_below_up_to_one) {
  EXPECT_EQ(BlockSet::words_for(1), 1u);
  EXPECT_EQ(BlockSet::words_for(word_bits), 1u);
  EXPECT_EQ(BlockSet::words_for(word_bits + 1), 2u + 1);
  EXPECT_EQ(BlockSet::words_for(std::size_t{word_bits} * word_bits), word_bits + 1);
  EXPECT_EQ(BlockSet::words_for(std::size_t{word_bits} * word_bits + 1), word_bits + 1 + 2 + 1);
}

TEST(BlockSet, says_no_of_any_number_beyond_its_size) {
  std::vector<Word> words(BlockSet::words_for(70));
  BlockSet set(words.data(), 70);
  set.insert(69);
  EXPECT_TRUE(set.contains(69));
  EXPECT_FALSE(set.contains(70));
  EXPECT_FALSE(set.contains(~std::size_t{0}));
}

/// Every size up to some words, with each number alone in the set.
TEST(BlockSet, holds_each_number_alone) {
  for (std::size_t size = 1; size <= 3 * word_bits; ++size) {
    std::vector<Word> words(BlockSet::words_for(size));
    BlockSet set(words.data(), size);
    for (std::size_t number = 0; number < size; ++number) {
      set.insert(number);
      ASSERT_EQ(set.first(), number) << "of " << size;
      for (std::size_t from = 0; from <= size; from += size > 70 ? 13 : 1) {
        ASSERT_EQ(set.next(from), from <= number ? number : BlockSet::none) << from;
      }
      ASSERT_EQ(set.count(), 1u);
      ASSERT_EQ(set.validate(), nullptr);
      set.erase(number);
    }
    ASSERT_EQ(words, std::vector<Word>(words.size())) << "of " << size;
  }
}

TEST(BlockSet, agrees_with_a_set_of_numbers_under_random_calls) {
  Random random;
  for (const std::size_t size : {1u, 63u, 64u, 65u, 4096u, 4097u, 300'000u}) {
    std::vector<Word> words(BlockSet::words_for(size));
    BlockSet set(words.data(), size);
    std::set<std::size_t> model;
    for (int step = 0; step < 4000; ++step) {
      const bool shrinks = !model.empty() && random.one_in(step < 2000 ? 3 : 1);
      const std::size_t number = shrinks && random.one_in(2) ? *model.begin() : random.below(size);
      if (model.contains(number)) {
        set.erase(number);
        model.erase(number);
      } else if (!shrinks) {
        set.insert(number);
        model.insert(number);
      }
      ASSERT_EQ(set.contains(number), model.contains(number));
      ASSERT_EQ(set.count(), model.size());
      if (!model.empty()) {
        ASSERT_EQ(set.first(), *model.begin());
        const std::size_t from = random.below(size);
        const auto next = model.lower_bound(from);
        ASSERT_EQ(set.next(from), next != model.end() ? *next : BlockSet::none) << from;
      }
    }
    EXPECT_EQ(set.validate(), nullptr) << "of " << size;
  }
}

/// Each bit of each level, and the count, is covered by an invariant.
TEST(BlockSet, validate_sees_every_flipped_bit) {
  constexpr std::size_t size = 4097;
  std::vector<Word> words(BlockSet::words_for(size));
  BlockSet set(words.data(), size);
  for (const std::size_t number : {3u, 64u, 65u, 4000u, 4096u}) {
    set.insert(number);
  }
  ASSERT_EQ(set.validate(), nullptr);
  for (Word& word : words) {
    for (std::uint32_t bit = 0; bit < word_bits; ++bit) {
      word ^= Word{1} << bit;
      ASSERT_NE(set.validate(), nullptr) << "word " << &word - words.data() << ", bit " << bit;
      word ^= Word{1} << bit;
    }
  }
  EXPECT_EQ(set.validate(), nullptr);
}

}  // namespace
}  // namespace slabmalloc::test
