// SPDX-License-Identifier: MIT
//
// MemoryMap: finds the whole frames that a list of memory regions holds. A boot loader's list may
// be in any order. Its regions may be empty, overlap, adjoin in the middle of a frame, or hold no
// whole frame:
//
//   regions        [ a )[  b   )          [ c )     [  d  )
//                                              [  e   )
//   frames       |     |     |     |     |     |     |     |     |
//   ranges             [ a and b   )                 [ e   )
//
// It first joins regions that adjoin or overlap, and then rounds them inwards to frames.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/bits.hpp"

namespace slabmalloc {

/// Usable memory, at addresses by which the kernel reaches it.
struct MemoryRegion {
  std::uintptr_t address;
  std::size_t bytes;
};

/// Frames by number, which is address / base frame bytes: first … end - 1.
struct FrameRange {
  std::uintptr_t first = 0;
  std::uintptr_t end = 0;

  constexpr std::size_t frames() const noexcept { return end - first; }
  constexpr bool is_empty() const noexcept { return first == end; }
};

/// A list of regions, seen as ranges of frames. It sorts nothing, and only reads the list. It
/// leaves out the frame at address 0, since a null pointer is no frame, and the last frame of the
/// address space.
template <std::size_t BaseBytes>
class MemoryMap {
  static_assert(is_power_of_two(BaseBytes), "a base frame is a power of two of bytes");

 public:
  static constexpr std::uint32_t base_bits = highest_bit(BaseBytes);

  /// Only the parts of the regions that lie `within` a region count.
  constexpr MemoryMap(const MemoryRegion* regions, std::size_t count,
                      MemoryRegion within = {0, none}) noexcept
      : regions_(regions), count_(count), begin_(within.address), end_(end_of(within)) {}

  /// The lowest range of whole frames from frame `from` on, as long as possible; empty if there is
  /// none. Cost: O(regions) for each region that is part of the range, or has no whole frame.
  constexpr FrameRange next(std::uintptr_t from) const noexcept {
    std::uintptr_t position = from == 0 ? BaseBytes : from << base_bits;
    for (;;) {
      const std::uintptr_t begin = lowest_at_or_after(position);
      if (begin == none) {
        return {};
      }
      position = end_of(begin);
      const std::uintptr_t first = (begin >> base_bits) + (begin % BaseBytes != 0 ? 1 : 0);
      const std::uintptr_t end = position >> base_bits;
      if (first < end) {
        return {first, end};
      }
    }
  }

 private:
  static constexpr std::uintptr_t none = ~std::uintptr_t{0};

  static constexpr std::uintptr_t end_of(const MemoryRegion& region) noexcept {
    return region.bytes < none - region.address ? region.address + region.bytes : none;
  }
  constexpr std::uintptr_t lowest_at_or_after(std::uintptr_t position) const noexcept {
    std::uintptr_t lowest = none;
    position = position < begin_ ? begin_ : position;
    for (std::size_t index = 0; index < count_; ++index) {
      const std::uintptr_t address = regions_[index].address;
      const std::uintptr_t begin = address < position ? position : address;
      if (begin < end_of(regions_[index]) && begin < lowest) {
        lowest = begin;
      }
    }
    return lowest < end_ ? lowest : none;
  }
  /// The end of the memory that continues without a gap from `begin`, which lies in a region.
  constexpr std::uintptr_t end_of(std::uintptr_t begin) const noexcept {
    std::uintptr_t end = begin;
    for (bool extended = true; extended;) {
      extended = false;
      for (std::size_t index = 0; index < count_; ++index) {
        if (regions_[index].address <= end && end_of(regions_[index]) > end) {
          end = end_of(regions_[index]);
          extended = true;
        }
      }
    }
    return end < end_ ? end : end_;
  }

  const MemoryRegion* regions_;
  std::size_t count_;
  std::uintptr_t begin_;
  std::uintptr_t end_;
};

}  // namespace slabmalloc
