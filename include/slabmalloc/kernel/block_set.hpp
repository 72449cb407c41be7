// SPDX-License-Identifier: MIT
//
// BlockSet: a set of small numbers that finds its least one fast; the free blocks of one order.
//
//   level 2                     [ 1 0 … ]                  a bit for each word below that is not 0
//   level 1          [ 0 1 … ]  [ 0 0 … ]  …
//   level 0  [ … ] [ 1 0 1 … ]  …                          bit n: n is in the set
//
//   words:   | level 0 | level 1 | … | top level: one word |
//
// With 64 bits to a word a set of 2^30 numbers has five levels, and costs 1.02 bits per number.
// No number links to another, so removing one touches only its own words.
//
// Invariants:
//   B1  bit n of level l+1 is set  <=>  word n of level l is not 0
//   B2  count() = bits set in level 0, all of which are below the size
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/bits.hpp"

namespace slabmalloc {

/// A subset of 0 … size - 1. Its words are the client's.
/// Cost: each operation touches at most one word of each level; contains() touches one word.
class BlockSet {
 public:
  constexpr BlockSet() noexcept = default;
  /// An empty set. Pre: `words` are words_for(size), all 0; `size` is at least 1.
  BlockSet(Word* words, std::size_t size) noexcept : words_(words), last_(size - 1) {}

  /// Words that a set of numbers below `size` needs, for all levels. Pre: `size` is at least 1.
  static constexpr std::size_t words_for(std::size_t size) noexcept {
    std::size_t words = 0;
    std::size_t last = size - 1;
    do {
      last >>= level_bits;
      words += last + 1;
    } while (last != 0);
    return words;
  }

  /// How many numbers are in the set.
  std::size_t count() const noexcept { return count_; }
  /// Whether `number` is in the set; false for any number beyond the size.
  bool contains(std::size_t number) const noexcept {
    return number <= last_ && is_set(words_[number >> level_bits], low(number));
  }

  /// Pre: `number` is below the size and not in the set.
  void insert(std::size_t number) noexcept {
    ++count_;
    Word* level = words_;
    for (std::size_t last = last_;; number >>= level_bits) {
      last >>= level_bits;
      Word& word = level[number >> level_bits];
      const Word before = word;
      word = before | bit(number);
      if (before != 0 || last == 0) {
        return;
      }
      level += last + 1;
    }
  }

  /// Pre: `number` is in the set.
  void erase(std::size_t number) noexcept {
    --count_;
    Word* level = words_;
    for (std::size_t last = last_;; number >>= level_bits) {
      last >>= level_bits;
      Word& word = level[number >> level_bits];
      word &= ~bit(number);
      if (word != 0 || last == 0) {
        return;
      }
      level += last + 1;
    }
  }

  /// The least number of the set. Pre: it is not empty.
  std::size_t first() const noexcept {
    std::uint32_t shift = 0;
    while ((last_ >> shift) >> level_bits != 0) {
      shift += level_bits;
    }
    const Word* level = words_ + words_for(last_ + 1) - 1;
    std::size_t number = lowest_bit(*level);
    while (shift != 0) {
      level -= (last_ >> shift) + 1;
      shift -= level_bits;
      number = (number << level_bits) + lowest_bit(level[number]);
    }
    return number;
  }

  static constexpr std::size_t none = ~std::size_t{0};
  /// The least number of the set that is at least `number`, or `none`.
  std::size_t next(std::size_t number) const noexcept {
    const Word* level = words_;
    std::uint32_t shift = 0;
    Word rest = 0;
    // Up to a word with a later bit, then down along the lowest ones.
    for (std::size_t last = last_; number <= last; level += last + 1) {
      rest = level[number >> level_bits] & ~Word{0} << low(number);
      if (rest != 0) {
        break;
      }
      last >>= level_bits;
      number = (number >> level_bits) + 1;
      shift += level_bits;
    }
    if (rest == 0) {
      return none;
    }
    number = (number & ~std::size_t{word_bits - 1}) + lowest_bit(rest);
    for (; shift != 0; shift -= level_bits) {
      level -= (last_ >> shift) + 1;
      number = (number << level_bits) + lowest_bit(level[number]);
    }
    return number;
  }

  /// The first of B1 and B2 that does not hold, or null. Cost: O(size).
  const char* validate() const noexcept {
    const Word* level = words_;
    std::size_t last = last_;
    std::size_t bits = 0;
    for (std::size_t word = 0; word <= last >> level_bits; ++word) {
      bits += count_ones(level[word]);
    }
    if (bits != count_ || (level[last >> level_bits] & ~up_to(last)) != 0) {
      return "B2: count = bits set in level 0, all of which are below the size";
    }
    while ((last >> level_bits) != 0) {
      last >>= level_bits;
      const Word* above = level + last + 1;
      for (std::size_t number = 0; number <= (last | (word_bits - 1)); ++number) {
        const bool expected = number <= last && level[number] != 0;
        if (is_set(above[number >> level_bits], low(number)) != expected) {
          return "B1: a bit of the level above is set <=> the word is not 0";
        }
      }
      level = above;
    }
    return nullptr;
  }

 private:
  static constexpr std::uint32_t level_bits = highest_bit(word_bits);
  static constexpr std::uint32_t low(std::size_t number) noexcept {
    return static_cast<std::uint32_t>(number % word_bits);
  }
  static constexpr Word bit(std::size_t number) noexcept { return Word{1} << low(number); }
  /// The bits of a word up to that of `number`.
  static constexpr Word up_to(std::size_t number) noexcept {
    return ~Word{0} >> (word_bits - 1 - low(number));
  }

  Word* words_ = nullptr;
  std::size_t last_ = 0;  ///< The largest number that the set can hold.
  std::size_t count_ = 0;
};

}  // namespace slabmalloc
