// SPDX-License-Identifier: MIT
//
// DirtyLimit: the dirty memory that the arena keeps for reuse. The arena purges the excess at once.
//
// The dirty limit adapts to memory in use and to recent refaults:
//
//     limit = max of      (the values are in tunables.hpp)
//       1 MiB + 1/32 of the peak    always
//       1/2 of the memory in use    for ordinary frees and allocations
//       the reserve                 by refaults; at most the larger of 4 MiB and 4 times the
//                                   memory in use
//
// Two bounds apply to the last two, except for those 4 MiB. Memory in use and dirty memory together
// are at most 9/8 of the peak: the heap is then hardly larger than it was before. And both shrink
// with the memory in use: little stays once the program has freed everything.
//
// A refault is a page fault, within the refault time, on memory that was purged as excess. Refaults
// grow the reserve. Memory that expires unused shrinks it. Each purge of excess shrinks it by a
// quarter of the purged bytes: a program that winds down purges memory and does not reuse it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tunables.hpp"

namespace slabmalloc {

/// The limit. Amounts are in bytes; times are in milliseconds and wrap around.
/// Thread: every call under one mutex.
class DirtyLimit {
 public:
  constexpr DirtyLimit() noexcept = default;

  /// The dirty limit while `in_use` bytes are in use.
  constexpr std::size_t amount(std::size_t in_use) const noexcept {
    const std::size_t room = peak_ + peak_ / Tunables::dirty_part_beyond_peak - in_use;
    const std::size_t least =
        Tunables::dirty_least_bytes + peak_ / Tunables::dirty_least_part_of_peak;
    const std::size_t usual = lesser(in_use / Tunables::dirty_usual_part_of_use, room);
    constexpr std::size_t times = Tunables::dirty_learned_times_use;
    const std::size_t learned = lesser(
        learned_, greater(Tunables::dirty_learned_bytes, times * lesser(in_use, room / times)));
    return greater(least, greater(usual, learned));
  }

  /// Notes an allocation: `in_use` bytes are now in use, of which `faulted` bytes were clean.
  constexpr void note_taken(std::size_t in_use, std::size_t faulted, std::uint32_t now) noexcept {
    peak_ = greater(peak_, in_use);
    if (faulted == 0 || refaultable_ == 0) {
      return;
    }
    if (now - purged_at_ >= Tunables::refault_milliseconds) {
      refaultable_ = 0;
      return;
    }
    const std::size_t refault = lesser(faulted, refaultable_);
    refaultable_ -= refault;
    learned_ = lesser(learned_ + refault, peak_);
  }

  /// Notes a purge of memory beyond the dirty limit.
  constexpr void note_excess(std::size_t purged, std::uint32_t now) noexcept {
    const bool is_lately = now - purged_at_ < Tunables::refault_milliseconds;
    refaultable_ = is_lately ? refaultable_ + purged : purged;
    purged_at_ = now;
    learned_ -= lesser(learned_, purged / Tunables::dirty_part_forgotten);
  }

  /// Notes a purge of expired memory.
  constexpr void note_expired(std::size_t purged) noexcept { learned_ -= lesser(learned_, purged); }

 private:
  static constexpr std::size_t lesser(std::size_t one, std::size_t other) noexcept {
    return one < other ? one : other;
  }
  static constexpr std::size_t greater(std::size_t one, std::size_t other) noexcept {
    return one > other ? one : other;
  }

  std::size_t peak_ = 0;         ///< The most that was in use.
  std::size_t learned_ = 0;      ///< The reserve, which refaults grow.
  std::size_t refaultable_ = 0;  ///< Purged as excess recently and not refaulted since.
  std::uint32_t purged_at_ = 0;  ///< The last purge of excess.
};

}  // namespace slabmalloc
