// SPDX-License-Identifier: MIT
//
// OneSizeClass: a table of a single object size, for allocators that serve one type.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/bits.hpp"

namespace slabmalloc {

/// The class of objects of `Bytes` bytes, aligned to `Alignment`. It has the interface of
/// SizeClassTable.
template <std::size_t Bytes, std::size_t Alignment>
struct OneSizeClass {
  static_assert(is_power_of_two(Alignment), "an alignment is a power of two");
  static_assert(Bytes % Alignment == 0, "slots follow one another at the object's alignment");

  static constexpr std::uint32_t no_class = ~std::uint32_t{0};
  static constexpr std::uint32_t count = 1;
  static constexpr std::size_t max_size = Bytes;

  static constexpr std::size_t size_of(std::uint32_t) noexcept { return Bytes; }

  /// Class 0 if it holds `size` bytes, or no_class.
  [[gnu::always_inline]] static constexpr std::uint32_t index_for(std::size_t size) noexcept {
    return size <= Bytes ? 0 : no_class;
  }
  /// Class 0 if it also has that alignment, or no_class.
  /// Pre: `alignment` is a power of two.
  static constexpr std::uint32_t index_for(std::size_t size, std::size_t alignment) noexcept {
    return alignment <= Alignment ? index_for(size) : no_class;
  }

  static constexpr bool validate() noexcept {
    return index_for(0) == 0 && index_for(Bytes, Alignment) == 0 &&
           index_for(Bytes + 1) == no_class && index_for(Bytes, 2 * Alignment) == no_class;
  }
};

}  // namespace slabmalloc
