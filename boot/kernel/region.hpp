// SPDX-License-Identifier: MIT
//
// Lists of memory regions: the loader's memory, less the parts that are in use.
//
//   add      |---------------------|
//   remove          |----|
//   left     |-----|      |--------|
//
// Invariants, for neighbours i and i + 1 of a list:
//   R1  regions[i].bytes > 0
//   R2  regions[i].end() <= regions[i + 1].start     ascending, none overlaps
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

/// Up to `capacity` regions in ascending order.
template <std::size_t capacity>
class RegionList {
 public:
  static constexpr std::size_t maximum_regions = capacity;

  constexpr const Region* begin() const noexcept { return regions_; }
  constexpr const Region* end() const noexcept { return regions_ + count_; }
  constexpr std::size_t count() const noexcept { return count_; }
  constexpr const Region& operator[](std::size_t index) const noexcept { return regions_[index]; }

  constexpr std::size_t bytes() const noexcept {
    std::size_t sum = 0;
    for (const Region& region : *this) {
      sum += region.bytes;
    }
    return sum;
  }

  /// Adds a region, except the parts that are in the list already.
  /// Fails: false if the list is full, or the region goes beyond the last address. The list then
  /// has the part for which there was room.
  constexpr bool add(Region region) noexcept {
    if (region.end() < region.start) {
      return false;
    }
    for (std::size_t index = 0; region.bytes > 0 && index < count_; ++index) {
      const Region other = regions_[index];
      if (!region.overlaps(other)) {
        continue;
      }
      const Region below = Region::between(region.start, other.start);
      if (below.bytes > 0 && !insert(index++, below)) {
        return false;
      }
      region = Region::between(other.end(), region.end());
    }
    if (region.bytes == 0) {
      return true;
    }
    std::size_t index = 0;
    while (index < count_ && regions_[index].start < region.start) {
      ++index;
    }
    return insert(index, region);
  }

  /// Takes `taken` out of all regions.
  /// Fails: false if a region falls into two and the list is full. The list then loses the upper
  /// part.
  constexpr bool remove(Region taken) noexcept {
    bool complete = true;
    for (std::size_t index = 0; index < count_;) {
      const Region region = regions_[index];
      if (!region.overlaps(taken)) {
        ++index;
        continue;
      }
      const Region below = Region::between(region.start, taken.start);
      const Region above = Region::between(taken.end(), region.end());
      erase(index);
      if (below.bytes > 0) {
        complete &= insert(index++, below);
      }
      if (above.bytes > 0) {
        complete &= insert(index++, above);
      }
    }
    return complete;
  }

  /// Keeps only whole pages of `bytes_per_page` bytes, aligned to their size.
  /// Pre: bytes_per_page is a power of two.
  constexpr void keep_whole_pages(std::size_t bytes_per_page) noexcept {
    for (std::size_t index = 0; index < count_;) {
      Region& region = regions_[index];
      const std::uintptr_t end = region.end() / bytes_per_page * bytes_per_page;
      const std::size_t lead = (0 - region.start) % bytes_per_page;
      region = lead < region.bytes ? Region::between(region.start + lead, end) : Region{};
      if (region.bytes > 0) {
        ++index;
      } else {
        erase(index);
      }
    }
  }

  /// The number of the first invariant that does not hold, or 0.
  constexpr int validate() const noexcept {
    for (std::size_t index = 0; index < count_; ++index) {
      if (regions_[index].bytes == 0) {
        return 1;
      }
      if (index + 1 < count_ && regions_[index].end() > regions_[index + 1].start) {
        return 2;
      }
    }
    return 0;
  }

 private:
  constexpr bool insert(std::size_t index, Region region) noexcept {
    if (count_ == capacity) {
      return false;
    }
    for (std::size_t moved = count_++; moved > index; --moved) {
      regions_[moved] = regions_[moved - 1];
    }
    regions_[index] = region;
    return true;
  }
  constexpr void erase(std::size_t index) noexcept {
    for (--count_; index < count_; ++index) {
      regions_[index] = regions_[index + 1];
    }
  }

  Region regions_[capacity] = {};
  std::size_t count_ = 0;
};

}  // namespace boot
