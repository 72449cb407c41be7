// SPDX-License-Identifier: MIT
//
// ReclaimRequest: how much memory an allocation lacks, and in blocks of which size.
//
//   bytes        256 KiB, 512 KiB, …, 2 GiB, everything     a call of the reclaim callback each
//   block_bytes  the same each time: the block without which the allocation fails
//
// Nobody knows how many bytes must be free before some of them form a block. So an allocation asks
// for twice as much each time, 15 times at most, and stops as soon as it has one.
#pragma once

#include <cstddef>

#include "slabmalloc/base/bits.hpp"

namespace slabmalloc {

/// A request for memory that somebody may free.
struct ReclaimRequest {
  static constexpr std::size_t least_bytes = std::size_t{256} * 1024;
  static constexpr std::size_t most_bytes = std::size_t{2} * 1024 * 1024 * 1024;
  /// More than any machine has; and callbacks may add to it, to round up to pages.
  static constexpr std::size_t everything = ~std::size_t{0} / 2 + 1;

  std::size_t bytes = least_bytes;
  /// A power of two. Contiguous memory of so many bytes, aligned to them, suffices. 1: any memory.
  std::size_t block_bytes = 1;

  /// The first request of an allocation that needs `bytes` at `alignment`, a power of two.
  static constexpr ReclaimRequest first(std::size_t bytes, std::size_t alignment) noexcept {
    const std::size_t block =
        bytes <= alignment ? alignment : std::size_t{1} << (highest_bit(bytes - 1) + 1);
    return {block < least_bytes ? least_bytes : block, block};
  }
  /// The request after this one. Pre: not is_last().
  constexpr ReclaimRequest next() const noexcept {
    return {bytes < most_bytes ? 2 * bytes : everything, block_bytes};
  }
  constexpr bool is_first() const noexcept {
    return bytes == (block_bytes < least_bytes ? least_bytes : block_bytes);
  }
  constexpr bool is_last() const noexcept { return bytes == everything; }
  /// The request after `freed` of its bytes were freed. Pre: freed < bytes.
  constexpr ReclaimRequest without(std::size_t freed) const noexcept {
    return {is_last() ? everything : bytes - freed, block_bytes};
  }
};

}  // namespace slabmalloc
