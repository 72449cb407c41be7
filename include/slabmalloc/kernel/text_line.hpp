// SPDX-License-Identifier: MIT
//
// TextLine: builds a line of text in a buffer of its own, for reports of kernels, which have no
// library for that.
//
//   | text | padding | number | … | 0 | unused |
//          ▲ a column ends where the widths so far end
//
// Columns stay aligned as long as their contents fit. A wider text appears whole, after a blank,
// and later columns realign where they can. The line omits text that does not fit the buffer.
#pragma once

#include <cstddef>

#include "slabmalloc/base/digits.hpp"

namespace slabmalloc {

/// A line of at most `Capacity` - 1 characters.
template <std::size_t Capacity>
class TextLine {
 public:
  /// Null-terminated. It is valid until the next change.
  const char* c_str() const noexcept { return characters_; }

  void clear() noexcept {
    size_ = column_ = 0;
    characters_[0] = 0;
  }

  /// Appends without a column.
  void append(char character) noexcept {
    if (size_ + 1 < Capacity) {
      characters_[size_++] = character;
      characters_[size_] = 0;
    }
  }
  void append(const char* text) noexcept {
    while (*text != 0) {
      append(*text++);
    }
  }
  void append(std::size_t number) noexcept { append(Digits(number)); }
  void append_hexadecimal(std::size_t number) noexcept {
    append("0x");
    append(Digits(number, 16));
  }

  /// Ends a column of `width`, whose text the caller appended.
  void end_column(std::size_t width) noexcept {
    column_ += width;
    pad_to(column_);
  }
  /// A column of `width`, with `text` or `number` at its right end.
  void right(const char* text, std::size_t width) noexcept {
    std::size_t length = 0;
    while (text[length] != 0) {
      ++length;
    }
    begin_right(length, width);
    append(text);
  }
  void right(std::size_t number, std::size_t width) noexcept {
    const Digits digits(number);
    begin_right(digits.size(), width);
    append(digits);
  }

 private:
  void append(const Digits& digits) noexcept {
    for (const char digit : digits) {
      append(digit);
    }
  }
  void pad_to(std::size_t size) noexcept {
    while (size_ < size && size_ + 1 < Capacity) {
      append(' ');
    }
  }
  void begin_right(std::size_t length, std::size_t width) noexcept {
    column_ += width;
    append(' ');
    if (column_ > length) {
      pad_to(column_ - length);
    }
  }

  char characters_[Capacity] = {};
  std::size_t size_ = 0;
  std::size_t column_ = 0;  ///< The end that the columns so far should have.
};

}  // namespace slabmalloc
