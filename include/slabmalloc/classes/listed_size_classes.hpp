// SPDX-License-Identifier: MIT
//
// Size classes in an explicit list, where the sizes that fit a page well follow no formula.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/classes/size_class_table.hpp"

namespace slabmalloc {

/// The size classes `Sizes`, in bytes: ascending multiples of `Granule`, a power of two. It has the
/// interface of SizeClassTable.
/// Cost: a table of one byte for each granule; a look-up for each size.
template <std::size_t Granule, std::size_t... Sizes>
struct ListedSizeClasses {
  static constexpr std::uint32_t no_class = ~std::uint32_t{0};
  static constexpr std::uint32_t count = sizeof...(Sizes);
  static_assert(count != 0 && count <= 256, "a class number fits a byte");

  /// The bytes of an object of class `index`.
  /// Pre: index < count.
  static constexpr std::size_t size_of(std::uint32_t index) noexcept { return table.sizes[index]; }

 private:
  struct Table {
    std::uint32_t sizes[count];
  };
  static constexpr Table table{{static_cast<std::uint32_t>(Sizes)...}};

 public:
  static constexpr std::size_t max_size = table.sizes[count - 1];

  /// The smallest class that holds `size` bytes (0 counts as 1), or no_class.
  [[gnu::always_inline]] static constexpr std::uint32_t index_for(std::size_t size) noexcept {
    return size <= max_size ? lookup.classes[(size + Granule - 1) / Granule] : no_class;
  }

  /// The smallest class that holds `size` bytes and has all slots aligned to `alignment`, or
  /// no_class.
  /// Pre: `alignment` is a power of two.
  /// Cost: O(classes).
  static constexpr std::uint32_t index_for(std::size_t size, std::size_t alignment) noexcept {
    return detail::aligned_index_for<ListedSizeClasses>(size, alignment);
  }

  /// True if sizes are ascending multiples of the granule.
  static constexpr bool validate() noexcept {
    std::size_t before = 0;
    for (const std::size_t size : table.sizes) {
      if (size <= before || size % Granule != 0) {
        return false;
      }
      before = size;
    }
    return is_power_of_two(Granule) && size_of(0) >= 2 && max_size <= 64 * 1024;
  }

 private:
  struct Lookup {
    std::uint8_t classes[max_size / Granule + 1];
  };
  static constexpr Lookup make_lookup() noexcept {
    Lookup result{};
    std::uint8_t index = 0;
    for (std::size_t size = 0; size <= max_size; size += Granule) {
      while (table.sizes[index] < size) {
        ++index;
      }
      result.classes[size / Granule] = index;
    }
    return result;
  }
  static constexpr Lookup lookup = make_lookup();
};

}  // namespace slabmalloc
