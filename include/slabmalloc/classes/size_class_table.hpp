// SPDX-License-Identifier: MIT
//
// Size classes: a generated table of object sizes, and the look-up from a size to its class.
//
//   smallest … linear_limit     in steps of linear_step (the first may be smaller)
//   linear_limit … largest      steps_per_doubling classes for each doubling
//
// validate() checks every table at compile time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/bits.hpp"

namespace slabmalloc {

/// The five numbers that define a table; sizes are in bytes.
struct SizeClassSpec {
  std::size_t smallest;
  std::size_t linear_step;         ///< A power of two.
  std::size_t linear_limit;        ///< A power of two, at least linear_step * steps_per_doubling.
  std::size_t steps_per_doubling;  ///< A power of two.
  std::size_t largest;             ///< A power of two.
};

namespace detail {

/// The smallest class of `Table` that holds `size` bytes and whose size is a multiple of
/// `alignment`, or no_class.
template <class Table>
constexpr std::uint32_t aligned_index_for(std::size_t size, std::size_t alignment) noexcept {
  if (size > Table::max_size || alignment > Table::max_size) [[unlikely]] {
    return Table::no_class;
  }
  std::uint32_t index = Table::index_for(size > alignment ? size : alignment);
  while (index < Table::count && (Table::size_of(index) & (alignment - 1)) != 0) {
    ++index;
  }
  return index < Table::count ? index : Table::no_class;
}

}  // namespace detail

/// The size classes of `Spec::value`.
template <class Spec>
struct SizeClassTable {
  static constexpr SizeClassSpec spec = Spec::value;
  static constexpr std::uint32_t no_class = ~std::uint32_t{0};
  static constexpr std::size_t max_size = spec.largest;

 private:
  /// Classes below the linear part's first multiple: one if `smallest` is no multiple of the step.
  static constexpr std::uint32_t odd_classes = spec.smallest % spec.linear_step != 0 ? 1 : 0;
  static constexpr std::uint32_t first_step =
      odd_classes != 0 ? 1 : static_cast<std::uint32_t>(spec.smallest / spec.linear_step);
  static constexpr std::uint32_t linear_classes =
      odd_classes + static_cast<std::uint32_t>(spec.linear_limit / spec.linear_step) - first_step +
      1;
  static constexpr std::uint32_t limit_bit = highest_bit(spec.linear_limit);
  static constexpr std::uint32_t step_bits = highest_bit(spec.steps_per_doubling);

 public:
  static constexpr std::uint32_t count =
      linear_classes + ((highest_bit(spec.largest) - limit_bit) << step_bits);

  /// The bytes of an object of class `index`.
  /// Pre: index < count.
  static constexpr std::size_t size_of(std::uint32_t index) noexcept { return table.sizes[index]; }

  /// The smallest class that holds `size` bytes (0 counts as 1), or no_class.
  /// Cost: constant; a look-up for sizes up to coarse_limit.
  [[gnu::always_inline]] static constexpr std::uint32_t index_for(std::size_t size) noexcept {
    if (size <= lookup_limit) [[likely]] {
      return lookup.classes[(size + granule - 1) / granule];
    }
    if (size <= coarse_limit) [[likely]] {
      return coarse_lookup.classes[(size - 1) / coarse_granule];
    }
    if constexpr (coarse_limit == spec.largest) {
      return no_class;
    }
    return compute_index(size);
  }

  /// The smallest class that holds `size` bytes and has all slots aligned to `alignment`, or
  /// no_class.
  /// Pre: `alignment` is a power of two.
  /// Cost: constant; a power of two follows within one doubling.
  static constexpr std::uint32_t index_for(std::size_t size, std::size_t alignment) noexcept {
    return detail::aligned_index_for<SizeClassTable>(size, alignment);
  }

 private:
  /// As index_for(), by arithmetic alone.
  static constexpr std::uint32_t compute_index(std::size_t size) noexcept {
    if (size <= spec.linear_limit) {
      if constexpr (odd_classes != 0) {
        if (size <= spec.smallest) {
          return 0;
        }
      }
      const std::size_t wanted = size > spec.smallest ? size : spec.smallest;
      const auto step =
          static_cast<std::uint32_t>((wanted + spec.linear_step - 1) / spec.linear_step);
      return odd_classes + step - first_step;
    }
    if (size > spec.largest) [[unlikely]] {
      return no_class;
    }
    const std::size_t last = size - 1;
    const std::uint32_t top = highest_bit(last);
    const auto step = static_cast<std::uint32_t>(last >> (top - step_bits));
    return linear_classes + ((top - limit_bit) << step_bits) +
           (step & ((std::uint32_t{1} << step_bits) - 1));
  }

  /// The largest size in the first look-up table; its granule divides every such size.
  static constexpr std::size_t lookup_limit = spec.largest < 1024 ? spec.largest : 1024;
  static constexpr std::size_t granule = [] {
    std::size_t result = natural_alignment(spec.smallest | spec.linear_step);
    const std::size_t step = spec.linear_limit / spec.steps_per_doubling;
    return step < result ? step : result;
  }();

  struct Lookup {
    std::uint8_t classes[lookup_limit / granule + 1];
  };
  static constexpr Lookup make_lookup() noexcept {
    Lookup result{};
    for (std::size_t index = 0; index * granule <= lookup_limit; ++index) {
      result.classes[index] = static_cast<std::uint8_t>(compute_index(index * granule));
    }
    return result;
  }
  static constexpr Lookup lookup = make_lookup();

  /// Larger sizes up to coarse_limit have a second table. Its coarser granule divides the sizes of
  /// all larger classes. A look-up is faster than counting leading zeros, which is slow in baseline
  /// x86-64.
  static constexpr std::size_t coarse_granule =
      lookup_limit < spec.linear_limit ? spec.linear_step : lookup_limit / spec.steps_per_doubling;
  static constexpr std::size_t coarse_entries =
      spec.largest / coarse_granule < 512 ? spec.largest / coarse_granule : 512;
  static constexpr std::size_t coarse_limit = coarse_entries * coarse_granule;

  struct CoarseLookup {
    std::uint8_t classes[coarse_entries];
  };
  static constexpr CoarseLookup make_coarse_lookup() noexcept {
    CoarseLookup result{};
    for (std::size_t index = 0; index < coarse_entries; ++index) {
      result.classes[index] =
          static_cast<std::uint8_t>(compute_index((index + 1) * coarse_granule));
    }
    return result;
  }
  static constexpr CoarseLookup coarse_lookup = make_coarse_lookup();
  static_assert(count <= 256, "a class number fits a byte");

  struct Table {
    std::uint32_t sizes[count];
  };

  static constexpr Table generate() noexcept {
    Table result{};
    std::uint32_t index = 0;
    if (odd_classes != 0) {
      result.sizes[index++] = static_cast<std::uint32_t>(spec.smallest);
    }
    for (std::uint32_t step = first_step; step * spec.linear_step <= spec.linear_limit; ++step) {
      result.sizes[index++] = static_cast<std::uint32_t>(step * spec.linear_step);
    }
    for (std::size_t base = spec.linear_limit; base < spec.largest; base *= 2) {
      for (std::size_t step = 1; step <= spec.steps_per_doubling; ++step) {
        result.sizes[index++] =
            static_cast<std::uint32_t>(base + base / spec.steps_per_doubling * step);
      }
    }
    return result;
  }

  static constexpr Table table = generate();

 public:
  /// True if the spec is sound, sizes ascend from `smallest` to `largest`, and index_for() returns
  /// the smallest fitting class on both sides of every size.
  static constexpr bool validate() noexcept {
    if (!is_power_of_two(spec.linear_step) || !is_power_of_two(spec.linear_limit) ||
        !is_power_of_two(spec.steps_per_doubling) || !is_power_of_two(spec.largest) ||
        spec.smallest < 2 || spec.smallest > spec.linear_limit || spec.largest > (1u << 30) ||
        spec.linear_limit < spec.linear_step * spec.steps_per_doubling) {
      return false;
    }
    if (size_of(0) != spec.smallest || size_of(count - 1) != spec.largest) {
      return false;
    }
    for (std::uint32_t index = 0; index < count; ++index) {
      const std::size_t size = size_of(index);
      const bool last = index + 1 == count;
      if ((!last && size >= size_of(index + 1)) || index_for(size) != index ||
          index_for(size + 1) != (last ? no_class : index + 1)) {
        return false;
      }
    }
    return index_for(0) == 0;
  }
};

/// 8 B, multiples of 16 to 128 B, then four classes per doubling to 128 KiB. Above 128 B at most 20
/// % of a slot is internal fragmentation.
struct FineSpec {
  static constexpr SizeClassSpec value{8, 16, 128, 4, 128 * 1024};
};
using FineSizeClasses = SizeClassTable<FineSpec>;

/// The powers of two from 8 B to 128 KiB.
struct PowerOfTwoSpec {
  static constexpr SizeClassSpec value{8, 8, 8, 1, 128 * 1024};
};
using PowerOfTwoSizeClasses = SizeClassTable<PowerOfTwoSpec>;

static_assert(FineSizeClasses::validate(), "index_for() and size_of() disagree");
static_assert(PowerOfTwoSizeClasses::validate(), "index_for() and size_of() disagree");

}  // namespace slabmalloc
