// SPDX-License-Identifier: MIT
//
// Bit operations on machine words that never call a compiler's support library: freestanding code
// must not need __popcountdi2, __ctzdi2 or __clzdi2.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/language.hpp"

namespace slabmalloc {

/// The unit of bitmaps: as wide as a pointer, so that every target has atomics for it.
using Word = std::uintptr_t;

inline constexpr std::uint32_t word_bits = sizeof(Word) * 8;

/// True where the compiler counts zeros by instructions instead of a library call.
#if defined(__riscv) && !defined(__riscv_zbb)
inline constexpr bool has_count_zeros = false;
#else
inline constexpr bool has_count_zeros = true;
#endif

/// The number of set bits in `word`: the SWAR count (Warren, Hacker's Delight, 5-1).
constexpr std::uint32_t count_ones(Word word) noexcept {
  constexpr Word all = ~Word{0};
  word -= (word >> 1) & (all / 3);
  word = (word & (all / 15 * 3)) + ((word >> 2) & (all / 15 * 3));
  word = (word + (word >> 4)) & (all / 255 * 15);
  return static_cast<std::uint32_t>((word * (all / 255)) >> (word_bits - 8));
}

namespace detail {

/// A de Bruijn sequence with one bit for each bit of a word, and the shift of each of its windows.
/// After a left shift by n, the highest bits are a number that no other shift produces. (Leiserson,
/// Prokop, Randall, "Using de Bruijn Sequences to Index a 1 in a Computer Word", 1998.)
template <class T>
struct DeBruijn {
  static constexpr std::uint32_t bits = sizeof(T) * 8;
  static constexpr T sequence = static_cast<T>(bits == 64 ? 0x03F79D71B4CB0A89 : 0x077CB531);
  static constexpr std::uint32_t shift = bits - (bits == 64 ? 6 : 5);

  std::uint8_t shift_of_window[bits] = {};

  constexpr DeBruijn() noexcept {
    for (std::uint32_t bit = 0; bit < bits; ++bit) {
      shift_of_window[static_cast<T>(sequence << bit) >> shift] = static_cast<std::uint8_t>(bit);
    }
  }
};

template <class T>
inline constexpr DeBruijn<T> de_bruijn;

/// lowest_bit() without an instruction for it: the isolated bit shifts a de Bruijn sequence.
template <class T>
constexpr std::uint32_t lowest_bit_by_table(T word) noexcept {
  const T lowest = word & (~word + 1);
  return de_bruijn<T>.shift_of_window[static_cast<T>(lowest * DeBruijn<T>::sequence) >>
                                      DeBruijn<T>::shift];
}

/// highest_bit() without an instruction for it: sets all lower bits, then counts them.
constexpr std::uint32_t highest_bit_by_counting(Word word) noexcept {
  for (std::uint32_t shift = 1; shift < word_bits; shift *= 2) {
    word |= word >> shift;
  }
  return count_ones(word) - 1;
}

}  // namespace detail

/// The inverse of an odd number modulo 2^bits of `T`. Newton's iteration doubles the number of
/// right bits, 5 at first (Warren, Hacker's Delight, 10-16).
template <class T>
constexpr T inverse_of_odd(T odd) noexcept {
  T inverse = (3 * odd) ^ 2;
  inverse *= 2 - odd * inverse;
  inverse *= 2 - odd * inverse;
  inverse *= 2 - odd * inverse;
  return static_cast<T>(inverse * (2 - odd * inverse));
}

/// `word` with its lowest `count` bits moved to the top. Pre: count < word_bits.
constexpr Word rotate_right(Word word, std::uint32_t count) noexcept {
  return word >> count | word << (word_bits - count) % word_bits;
}

/// The index of the lowest set bit.
/// Pre: `word` is not 0.
constexpr std::uint32_t lowest_bit(Word word) noexcept {
  if constexpr (!has_count_zeros) {
    return detail::lowest_bit_by_table(word);
  } else if constexpr (sizeof(Word) == sizeof(unsigned long long)) {
    return static_cast<std::uint32_t>(__builtin_ctzll(word));
  } else {
    return static_cast<std::uint32_t>(__builtin_ctz(static_cast<unsigned>(word)));
  }
}

/// The index of the highest set bit.
/// Pre: `word` is not 0.
constexpr std::uint32_t highest_bit(Word word) noexcept {
  if constexpr (!has_count_zeros) {
    return detail::highest_bit_by_counting(word);
  } else if constexpr (sizeof(Word) == sizeof(unsigned long long)) {
    return static_cast<std::uint32_t>(63 ^ __builtin_clzll(word));
  } else {
    return static_cast<std::uint32_t>(31 ^ __builtin_clz(static_cast<unsigned>(word)));
  }
}

/// True if bit `number` modulo word_bits of `word` is set.
constexpr bool is_set(Word word, std::uint32_t number) noexcept {
  return ((word >> (number % word_bits)) & 1) != 0;
}

/// Sets bit `number` modulo word_bits of `word`; true if it was set already.
[[gnu::always_inline]] inline bool test_and_set(Word& word, std::uint32_t number) noexcept {
#if defined(__x86_64__) && defined(__GCC_ASM_FLAG_OUTPUTS__)
  // One instruction, which compilers do not find.
  bool was_set;
  __asm__("btsq %2, %0" : "+r"(word), "=@ccc"(was_set) : "r"(Word{number}));
  return was_set;
#else
  const Word before = word;
  word |= Word{1} << (number % word_bits);
  return word == before;
#endif
}

constexpr bool is_power_of_two(std::size_t value) noexcept {
  return value != 0 && (value & (value - 1)) == 0;
}

/// `value` rounded down to a multiple of `alignment`, a power of two.
constexpr std::uintptr_t align_down(std::uintptr_t value, std::size_t alignment) noexcept {
  return value & ~(static_cast<std::uintptr_t>(alignment) - 1);
}

/// `value` rounded up to a multiple of `alignment`, a power of two.
/// Pre: the result is representable.
constexpr std::uintptr_t align_up(std::uintptr_t value, std::size_t alignment) noexcept {
  return align_down(value + (alignment - 1), alignment);
}

/// The largest power of two that divides `value`: the alignment of every multiple of it.
/// Pre: `value` is not 0.
constexpr std::size_t natural_alignment(std::size_t value) noexcept { return value & (~value + 1); }

}  // namespace slabmalloc
