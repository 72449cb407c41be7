// SPDX-License-Identifier: MIT
//
// The kernel's command line: words NAME or NAME=VALUE, separated by blanks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/text.hpp"

namespace boot {

/// Calls `visit` with each non-empty piece of `list` between separators.
template <class Visit>
constexpr void for_each_piece(Text list, char separator, Visit visit) {
  while (!list.empty()) {
    const std::size_t length = list.find(separator);
    if (length > 0) {
      visit(list.part(0, length));
    }
    list = list.from(length + 1);
  }
}

/// Sets `number` to the value of `digits`, if they are decimal digits of a 64-bit number and
/// nothing else.
constexpr bool parse(Text digits, std::uint64_t& number) noexcept {
  std::uint64_t value = 0;
  for (const char digit : digits) {
    if (digit < '0' || digit > '9') {
      return false;
    }
    const auto units = static_cast<std::uint64_t>(digit - '0');
    if (value > (~std::uint64_t{0} - units) / 10) {
      return false;
    }
    value = value * 10 + units;
  }
  if (digits.empty()) {
    return false;
  }
  number = value;
  return true;
}

class CommandLine {
 public:
  constexpr CommandLine() noexcept = default;

  /// Copies `line`. Fails: false if it is longer than a command line may be; then it is cut.
  constexpr bool set(Text line) noexcept {
    const Text kept = line.part(0, capacity);
    length_ = kept.length();
    for (std::size_t index = 0; index < length_; ++index) {
      text_[index] = kept[index];
    }
    return length_ == line.length();
  }

  constexpr Text text() const noexcept { return {text_, length_}; }

  /// True if there is a word `name` or `name=...`.
  constexpr bool has(Text name) const noexcept {
    Text value;
    return find(name, value);
  }

  /// The value of the last word `name=VALUE`, or `otherwise`.
  constexpr Text value(Text name, Text otherwise) const noexcept {
    find(name, otherwise);
    return otherwise;
  }

  /// The same as a number. A value that is no number counts as absent.
  constexpr std::uint64_t number(Text name, std::uint64_t otherwise) const noexcept {
    parse(value(name, ""), otherwise);
    return otherwise;
  }

 private:
  static constexpr std::size_t capacity = 1024;

  constexpr bool find(Text name, Text& found) const noexcept {
    bool any = false;
    for_each_piece(text(), ' ', [&](Text word) {
      const std::size_t length = word.find('=');
      if (word.part(0, length) == name) {
        found = word.from(length + 1);
        any = true;
      }
    });
    return any;
  }

  char text_[capacity] = {};
  std::size_t length_ = 0;
};

}  // namespace boot
