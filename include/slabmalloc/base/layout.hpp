// SPDX-License-Identifier: MIT
//
// Layout: the size and alignment of a block, checked once at its construction.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/bits.hpp"
#include "slabmalloc/base/result.hpp"

namespace slabmalloc {

/// The size in bytes and the alignment of a block.
class Layout {
 public:
  /// The layout of one `T`.
  template <class T>
  static constexpr Layout of() noexcept {
    return Layout(sizeof(T), alignof(T));
  }

  /// Checks and constructs a layout; `size` may be 0.
  /// Fails: InvalidLayout if `align` is not a power of two, or if `size` rounded up to `align`
  /// exceeds PTRDIFF_MAX.
  static constexpr Result<Layout> from_size_align(std::size_t size, std::size_t align) noexcept {
    if (!is_power_of_two(align) || align > max_size || size > max_size - (align - 1)) {
      return AllocationError::InvalidLayout;
    }
    return Layout(size, align);
  }

  constexpr Layout() noexcept = default;
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr std::size_t align() const noexcept { return align_; }
  friend constexpr bool operator==(const Layout&, const Layout&) = default;

 private:
  static constexpr std::size_t max_size = PTRDIFF_MAX;
  constexpr Layout(std::size_t size, std::size_t align) noexcept : size_(size), align_(align) {}

  std::size_t size_ = 0;
  std::size_t align_ = 1;
};

}  // namespace slabmalloc
