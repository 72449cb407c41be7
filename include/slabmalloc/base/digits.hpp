// SPDX-License-Identifier: MIT
//
// Digits: a number as text, where there is no C library that would make it.
#pragma once

#include <cstddef>

namespace slabmalloc {

/// The digits of one number, in memory of their own.
class Digits {
 public:
  /// Pre: `base` is 10 or 16.
  constexpr explicit Digits(std::size_t number, std::size_t base = 10) noexcept {
    do {
      prepend("0123456789abcdef"[number % base]);
      number /= base;
    } while (number != 0);
  }

  /// Pre: at most 4 times.
  constexpr void prepend(char character) noexcept { text_[--first_] = character; }

  constexpr const char* begin() const noexcept { return text_ + first_; }
  constexpr const char* end() const noexcept { return text_ + capacity; }
  constexpr std::size_t size() const noexcept { return capacity - first_; }

 private:
  static constexpr std::size_t capacity = 24;  // the 20 digits of 2^64, and what is prepended

  char text_[capacity] = {};
  std::size_t first_ = capacity;
};

}  // namespace slabmalloc
