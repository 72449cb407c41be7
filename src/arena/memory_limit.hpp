// SPDX-License-Identifier: MIT
//
// MemoryLimit: what the soft and the hard limit allow the arena (options soft_limit, hard_limit).
//
// A limit counts the memory in use and the dirty memory: runs of chunks, each chunk with its
// record, and direct mappings. A run in a large-object cache counts as in use, until the cache is
// cleared.
//
//     | in use      | dirty |                     |
//     0                     ^ soft limit          ^ hard limit
//
//     soft    the arena keeps no more dirty memory than fits below it; if nothing fits, it keeps
//             no cached object either
//     hard    the same, and a request that would raise the memory in use above it fails
//
// So dirty memory and caches go first, and a request fails only for memory in use. Not counted:
// records of chunks that are clean, thread zones, and the register of direct mappings.
//
// Invariant, checked by Arena::validate() as M6:
//   in use <= hard limit, if that was set before the first allocation
#pragma once

#include <cstddef>

#include "arena/chunk.hpp"
#include "arena/run_tag.hpp"
#include "tunables.hpp"

namespace slabmalloc {

/// The limits, in bytes.
struct MemoryLimit {
  std::size_t soft_bytes = Tunables::no_limit;
  std::size_t hard_bytes = Tunables::no_limit;

  /// What a chunk counts: its data and the record of it.
  static constexpr std::size_t counted_chunk_bytes = chunk_bytes + sizeof(Chunk) + sizeof(RunTag);

  /// The limits that the options have set.
  static MemoryLimit in_force() noexcept {
    return {tunables.soft_limit_bytes, tunables.hard_limit_bytes};
  }

  constexpr bool is_set() const noexcept { return lower() != Tunables::no_limit; }

  /// The dirty bytes that fit beside `in_use` counted bytes, of `usual` without a limit.
  constexpr std::size_t dirty_bytes(std::size_t in_use, std::size_t usual) const noexcept {
    if (!is_set()) {
      return usual;
    }
    const std::size_t room = lower() > in_use ? lower() - in_use : 0;
    const std::size_t fitting = room / counted_chunk_bytes * chunk_bytes;
    return fitting < usual ? fitting : usual;
  }

  /// True if no free memory fits beside `in_use` counted bytes.
  constexpr bool keeps_nothing(std::size_t in_use) const noexcept {
    return dirty_bytes(in_use, chunk_bytes) < chunk_bytes;
  }

  /// True if the hard limit allows `more` counted bytes in use beside `in_use`.
  constexpr bool admits(std::size_t in_use, std::size_t more) const noexcept {
    return hard_bytes == Tunables::no_limit ||
           (in_use <= hard_bytes && more <= hard_bytes - in_use);
  }

 private:
  constexpr std::size_t lower() const noexcept {
    return soft_bytes < hard_bytes ? soft_bytes : hard_bytes;
  }
};

}  // namespace slabmalloc
