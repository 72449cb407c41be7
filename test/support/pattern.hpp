// SPDX-License-Identifier: MIT
//
// Patterns that show whether someone else has written to a block.
#pragma once

#include <cstddef>
#include <cstdint>

namespace slabmalloc::test {

namespace detail {

inline std::uint8_t pattern_byte(std::uint64_t key, std::size_t position) noexcept {
  const std::uint64_t mixed = (key + position / 8) * std::uint64_t{0x9E3779B97F4A7C15};
  return static_cast<std::uint8_t>(mixed >> (8 * (position % 8)));
}

}  // namespace detail

/// Fills `bytes` at `block` with a pattern that `key` determines.
inline void fill_pattern(void* block, std::size_t bytes, std::uint64_t key) noexcept {
  auto* byte = static_cast<std::uint8_t*>(block);
  for (std::size_t position = 0; position < bytes; ++position) {
    byte[position] = detail::pattern_byte(key, position);
  }
}

/// True if `bytes` at `block` still hold the pattern of fill_pattern() with `key`.
inline bool holds_pattern(const void* block, std::size_t bytes, std::uint64_t key) noexcept {
  const auto* byte = static_cast<const std::uint8_t*>(block);
  for (std::size_t position = 0; position < bytes; ++position) {
    if (byte[position] != detail::pattern_byte(key, position)) {
      return false;
    }
  }
  return true;
}

/// True if `bytes` at `block` are 0.
inline bool holds_zeroes(const void* block, std::size_t bytes) noexcept {
  const auto* byte = static_cast<const std::uint8_t*>(block);
  for (std::size_t position = 0; position < bytes; ++position) {
    if (byte[position] != 0) {
      return false;
    }
  }
  return true;
}

}  // namespace slabmalloc::test
