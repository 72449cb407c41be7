// SPDX-License-Identifier: MIT
//
// Formats values as text: write(sink, value) for each kind of value. A sink has put(char).
//
//   write(sink, 42)                  42
//   write(sink, hex(42))             0x2a
//   write(sink, size(3 << 20))       3 MiB
//   write(sink, column(6, 42))       "    42"    numbers to the right
//   write(sink, column(6, "cpu"))    "cpu   "    texts to the left
//
// slabmalloc::TextLine does not serve here. It leaves out what is beyond its buffer, which lies on
// the stack. The console takes lines of any length, and from kernels whose stack is nearly used up.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "kernel/text.hpp"
#include "slabmalloc/base/digits.hpp"

namespace boot {

/// A number to be written in hexadecimal.
struct Hex {
  std::uint64_t value;
};
constexpr Hex hex(std::uint64_t value) noexcept { return {value}; }
template <class Pointee>
Hex hex(Pointee* address) noexcept {
  return {reinterpret_cast<std::uintptr_t>(address)};
}

/// A number of bytes to be written in the largest unit that divides it.
struct Size {
  std::uint64_t bytes;
};
constexpr Size size(std::uint64_t bytes) noexcept { return {bytes}; }

using slabmalloc::Digits;

template <std::integral Integer>
constexpr Digits digits_of(Integer value) noexcept {
  if (value < 0) {
    Digits digits(std::uint64_t{0} - static_cast<std::uint64_t>(value));
    digits.prepend('-');
    return digits;
  }
  return Digits(static_cast<std::uint64_t>(value));
}
constexpr Digits digits_of(Hex number) noexcept {
  Digits digits(number.value, 16);
  digits.prepend('x');
  digits.prepend('0');
  return digits;
}

template <class Sink>
constexpr void write(Sink& sink, Text text) noexcept {
  for (const char character : text) {
    sink.put(character);
  }
}

template <class Sink>
constexpr void write(Sink& sink, char character) noexcept {
  sink.put(character);
}

template <class Sink>
constexpr void write(Sink& sink, const Digits& digits) noexcept {
  write(sink, Text(digits.begin(), digits.size()));
}

template <class Sink, std::integral Integer>
constexpr void write(Sink& sink, Integer value) noexcept {
  write(sink, digits_of(value));
}

template <class Sink>
constexpr void write(Sink& sink, Hex number) noexcept {
  write(sink, digits_of(number));
}

template <class Sink>
constexpr void write(Sink& sink, Size size) noexcept {
  constexpr Text units[] = {" B", " KiB", " MiB", " GiB"};
  std::size_t unit = 0;
  while (unit < 3 && size.bytes != 0 && size.bytes % 1024 == 0) {
    size.bytes /= 1024;
    ++unit;
  }
  write(sink, size.bytes);
  write(sink, units[unit]);
}

/// A value to be padded with blanks to `width` characters. A longer one is written in full.
template <class Value>
struct Column {
  std::size_t width;
  Value value;
};
template <class Value>
constexpr Column<Value> column(std::size_t width, Value value) noexcept {
  return {width, value};
}
template <std::size_t extent>
constexpr Column<Text> column(std::size_t width, const char (&literal)[extent]) noexcept {
  return {width, Text(literal, extent - 1)};
}

/// A sink that counts.
struct Measure {
  std::size_t length = 0;
  constexpr void put(char) noexcept { ++length; }
};

template <class Sink, class Value>
constexpr void write(Sink& sink, const Column<Value>& column) noexcept {
  Measure measure;
  write(measure, column.value);
  const std::size_t blanks = column.width > measure.length ? column.width - measure.length : 0;
  constexpr bool to_the_left = std::same_as<Value, Text>;
  for (std::size_t blank = 0; !to_the_left && blank < blanks; ++blank) {
    sink.put(' ');
  }
  write(sink, column.value);
  for (std::size_t blank = 0; to_the_left && blank < blanks; ++blank) {
    sink.put(' ');
  }
}

}  // namespace boot
