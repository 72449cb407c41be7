// SPDX-License-Identifier: MIT
//
// Text: a view of characters that another object owns, with their number. It needs no terminating
// zero, so a part of a text is a text too.
#pragma once

#include <cstddef>
#include <cstdint>

namespace boot {

class Text {
 public:
  constexpr Text() noexcept = default;
  constexpr Text(const char* data, std::size_t length) noexcept : data_(data), length_(length) {}
  /// A literal.
  template <std::size_t extent>
  consteval Text(const char (&literal)[extent]) noexcept : data_(literal), length_(extent - 1) {}

  /// The characters before a zero; none if there is no memory at all.
  static constexpr Text zero_terminated(const char* data) noexcept {
    std::size_t length = 0;
    while (data != nullptr && data[length] != '\0') {
      ++length;
    }
    return data == nullptr ? Text() : Text(data, length);
  }

  constexpr const char* begin() const noexcept { return data_; }
  constexpr const char* end() const noexcept { return data_ + length_; }
  constexpr std::size_t length() const noexcept { return length_; }
  constexpr bool empty() const noexcept { return length_ == 0; }
  constexpr char operator[](std::size_t index) const noexcept { return data_[index]; }

  /// The `length` characters from `first` on, or as many of them as there are.
  constexpr Text part(std::size_t first, std::size_t length) const noexcept {
    first = first < length_ ? first : length_;
    return {data_ + first, length < length_ - first ? length : length_ - first};
  }
  constexpr Text from(std::size_t first) const noexcept { return part(first, length_); }

  /// The index of the first `wanted`, or length().
  constexpr std::size_t find(char wanted) const noexcept {
    std::size_t index = 0;
    while (index < length_ && data_[index] != wanted) {
      ++index;
    }
    return index;
  }

  constexpr bool starts_with(Text prefix) const noexcept {
    return part(0, prefix.length_) == prefix;
  }

  friend constexpr bool operator==(Text left, Text right) noexcept {
    if (left.length_ != right.length_) {
      return false;
    }
    for (std::size_t index = 0; index < left.length_; ++index) {
      if (left.data_[index] != right.data_[index]) {
        return false;
      }
    }
    return true;
  }

 private:
  const char* data_ = "";
  std::size_t length_ = 0;
};

}  // namespace boot
