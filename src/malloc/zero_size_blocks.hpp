// SPDX-License-Identifier: MIT
//
// ZeroSizeBlocks: blocks of no bytes, at addresses that nobody can read or write.
//
//   region    | 16 bytes | 16 bytes | …      1 GiB of addresses without memory
//   live      one bit for each
//
// The addresses are given out in order and in turn, so that one is used again only after all others
// were. A block costs a bit.
//
// Invariant:
//   Z1  the bit of a block is set if and only if the block is live
#pragma once

#include <cstddef>
#include <cstdint>

#include "os/os.hpp"
#include "slabmalloc/base/atomics.hpp"
#include "slabmalloc/base/bits.hpp"

namespace slabmalloc {

/// Thread: any; lock-free.
class ZeroSizeBlocks {
 public:
  static constexpr std::size_t distance = 16;
  static constexpr std::size_t region_bytes = std::size_t{1} << 30;
  static constexpr std::size_t blocks = region_bytes / distance;

  constexpr ZeroSizeBlocks() noexcept = default;

  /// A block, at a multiple of `distance`.
  /// Fails: null if the system has no addresses, or if many blocks in a row are live.
  void* allocate() noexcept {
    const Region* const region = this->region();
    for (std::size_t tries = region != nullptr ? most_tries : 0; tries != 0; --tries) {
      const std::size_t number = next_.fetch_add(1, Order::relaxed) % blocks;
      const Word bit = Word{1} << number % word_bits;
      if ((live(number).fetch_or(bit, Order::relaxed) & bit) == 0) {
        return reinterpret_cast<void*>(region->start + number * distance);
      }
    }
    return nullptr;
  }

  /// True if `address` lies in the region.
  bool contains(const void* address) const noexcept {
    const Region* const region = known_region();
    return region != nullptr && offset_of(address, *region) < region_bytes;
  }

  /// True if a live block starts at `address`.
  /// Pre: contains(address).
  bool is_live(const void* address) const noexcept {
    const std::size_t offset = offset_of(address, *known_region());
    const std::size_t number = offset / distance;
    return offset % distance == 0 && is_set(live(number).load(Order::relaxed), number % word_bits);
  }

  /// Frees the block at `address`.
  /// Pre: contains(address).
  /// Fails: false if no live block starts there.
  bool deallocate(const void* address) noexcept {
    const std::size_t offset = offset_of(address, *known_region());
    const std::size_t number = offset / distance;
    const Word bit = Word{1} << number % word_bits;
    Live& word = live(number);
    for (Word found = word.load(Order::relaxed); offset % distance == 0 && (found & bit) != 0;) {
      if (word.compare_exchange(found, found & ~bit, Order::relaxed)) {
        return true;
      }
    }
    return false;
  }

 private:
  using Live = HardwareAtomics::Cell<Word>;

  /// It lies before the bits.
  struct Region {
    std::uintptr_t start;
  };

  /// The attempts of one allocation: so many live blocks in a row, of all, are rare.
  static constexpr std::size_t most_tries = 4096;
  /// Before the bits, which begin at a cache line.
  static constexpr std::size_t header_bytes = 64;
  static constexpr std::size_t bitmap_bytes = blocks / 8;

  static std::size_t offset_of(const void* address, const Region& region) noexcept {
    return reinterpret_cast<std::uintptr_t>(address) - region.start;
  }

  /// Pre: there is a region.
  Live& live(std::size_t number) const noexcept {
    auto* const bits = reinterpret_cast<std::byte*>(known_region()) + header_bytes;
    return reinterpret_cast<Live*>(bits)[number / word_bits];
  }

  /// The region; null if there is none yet.
  /// Order: acquire, with the release in region(): who finds the region finds its start.
  Region* known_region() const noexcept { return region_.load(Order::acquire); }

  /// The region, mapped at the first call; null if that fails.
  /// Order: release, with the acquire in known_region().
  const Region* region() noexcept {
    Region* region = known_region();
    if (region != nullptr) {
      return region;
    }
    const os::Interface& os = os::interface();
    const std::size_t table_bytes = align_up(header_bytes + bitmap_bytes, os.os_page_bytes());
    void* const start = os.map(region_bytes);
    void* const table = start != nullptr ? os.map(table_bytes) : nullptr;
    if (table == nullptr || !os.forbid_access(start, region_bytes)) {
      give_back(start, table, table_bytes);
      return nullptr;
    }
    os.name(start, region_bytes, "slabmalloc blocks of no bytes");
    auto* const made = static_cast<Region*>(table);
    made->start = reinterpret_cast<std::uintptr_t>(start);
    while (region == nullptr) {
      if (region_.compare_exchange(region, made, Order::release)) {
        return made;
      }
    }
    give_back(start, table, table_bytes);  // Another thread was first.
    return known_region();
  }

  static void give_back(void* start, void* table, std::size_t table_bytes) noexcept {
    if (start != nullptr) {
      os::interface().unmap(start, region_bytes);
    }
    if (table != nullptr) {
      os::interface().unmap(table, table_bytes);
    }
  }

  HardwareAtomics::Cell<Region*> region_{nullptr};
  HardwareAtomics::Cell<std::size_t> next_{};
};

}  // namespace slabmalloc
