// SPDX-License-Identifier: MIT
//
// Region: a stretch of memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace boot {

/// The `bytes` bytes of memory from `start` on, both with any alignment.
struct Region {
  std::uintptr_t start;
  std::size_t bytes;

  constexpr std::uintptr_t end() const noexcept { return start + bytes; }
  constexpr bool overlaps(const Region& other) const noexcept {
    return start < other.end() && other.start < end();
  }
  /// The region from `start` to `end`; an empty one if `end` is below `start`.
  static constexpr Region between(std::uintptr_t start, std::uintptr_t end) noexcept {
    return {start, end > start ? end - start : 0};
  }
  friend constexpr bool operator==(const Region&, const Region&) noexcept = default;
};

}  // namespace boot
