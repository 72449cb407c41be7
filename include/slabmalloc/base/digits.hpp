// SPDX-License-Identifier: MIT
//
// Digits: a number as text, for programs without a C library.
#pragma once

#include <cstddef>

#include "slabmalloc/base/language.hpp"

namespace slabmalloc {

/// The digits of one number, in its own memory.
class Digits {
 public:
  /// Writes the digits of `number`.
  /// Pre: `base` is 10 or 16.
  constexpr explicit Digits(std::size_t number, std::size_t base = 10) noexcept {
    do {
      prepend("0123456789abcdef"[number % base]);
      number /= base;
    } while (number != 0);
  }

  /// Inserts `character` before the digits.
  /// Pre: at most 4 calls.
  constexpr void prepend(char character) noexcept { text_[--first_] = character; }

  constexpr const char* begin() const noexcept { return text_ + first_; }
  constexpr const char* end() const noexcept { return text_ + capacity; }
  constexpr std::size_t size() const noexcept { return capacity - first_; }

 private:
  static constexpr std::size_t capacity = 24;  // the 20 digits of 2^64, and 4 prepended

  char text_[capacity] = {};
  std::size_t first_ = capacity;
};

}  // namespace slabmalloc
