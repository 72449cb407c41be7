// SPDX-License-Identifier: MIT
//
// Quarantine: freed blocks of a thread that rest before their slots are free again.
//
//   a free ─► takes a random place ─► the block that rested there leaves
//
//   places    | b | - | b | b | … | b |   b: the address of a block; -: empty
//
// The frees until a block leaves are geometrically distributed, with as many as there are places in
// the mean. So nobody can tell when its memory is used again. Blocks above small_bytes have places
// of their own, few of them, so that what rests is little memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace slabmalloc {

/// Thread: one.
class Quarantine {
 public:
  static constexpr std::size_t small_bytes = 1024;
  static constexpr std::size_t small_places = 64;
  static constexpr std::size_t large_places = 8;

  constexpr Quarantine() noexcept = default;

  /// Makes `block`, of `bytes`, rest at the place that the bits of `random` choose. Returns the
  /// block that rested there, or null.
  [[gnu::always_inline]] void* exchange(void* block, std::size_t bytes,
                                        std::uint64_t random) noexcept {
    void*& place =
        bytes <= small_bytes ? small_[random % small_places] : large_[random % large_places];
    void* const rested = place;
    place = block;
    return rested;
  }

  /// Calls `leave(void* block)` for each block, which does not rest any more.
  template <class Leave>
  void release(Leave&& leave) noexcept {
    for (void*& place : small_) {
      release_place(place, leave);
    }
    for (void*& place : large_) {
      release_place(place, leave);
    }
  }

 private:
  template <class Leave>
  static void release_place(void*& place, Leave& leave) noexcept {
    if (void* const block = place) {
      place = nullptr;  // First, since `leave` may report misuse to a handler that frees.
      leave(block);
    }
  }

  void* small_[small_places] = {};
  void* large_[large_places] = {};
};

}  // namespace slabmalloc
