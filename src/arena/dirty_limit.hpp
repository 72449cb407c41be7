// SPDX-License-Identifier: MIT
//
// DirtyLimit: how much dirty memory the arena keeps for reuse; what is more is purged at once.
//
//     kept at most = the largest of      (the figures are in tunables.hpp)
//       1 MiB + 1/32 of the peak    whatever happens
//       1/2 of what is in use       for the ordinary come and go
//       the reserve                 by experience; at most 4 MiB or 4 times what is in use,
//                                   whichever is more
//
// The last two are bounded such that what is in use and dirty together is no more than 9/8 of the
// peak (but for those 4 MiB): keeping memory hardly makes the process larger than it was already.
// And they go down with what is in use: little is kept once everything is freed.
//
// The reserve grows by refault, which is memory that was purged as excess and is faulted in again
// within the refault time. It shrinks by memory that nobody wanted while it was kept, and by a
// quarter of each excess: a program that winds down purges and does not come back.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tunables.hpp"

namespace slabmalloc {

/// Amounts are in bytes, times in milliseconds, wrapping. Thread: every call under one mutex.
class DirtyLimit {
 public:
  constexpr DirtyLimit() noexcept = default;

  /// Dirty memory that may be kept while `in_use` is in use.
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

  /// `in_use` bytes are in use, `faulted` of which are clean memory that was handed out just now.
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

  /// Memory was purged since it was beyond the dirty limit.
  constexpr void note_excess(std::size_t purged, std::uint32_t now) noexcept {
    const bool is_lately = now - purged_at_ < Tunables::refault_milliseconds;
    refaultable_ = is_lately ? refaultable_ + purged : purged;
    purged_at_ = now;
    learned_ -= lesser(learned_, purged / Tunables::dirty_part_forgotten);
  }

  /// Memory was purged since it had been dirty for long.
  constexpr void note_expired(std::size_t purged) noexcept { learned_ -= lesser(learned_, purged); }

 private:
  static constexpr std::size_t lesser(std::size_t one, std::size_t other) noexcept {
    return one < other ? one : other;
  }
  static constexpr std::size_t greater(std::size_t one, std::size_t other) noexcept {
    return one > other ? one : other;
  }

  std::size_t peak_ = 0;         ///< The most that was in use.
  std::size_t learned_ = 0;      ///< What experience says is worth keeping.
  std::size_t refaultable_ = 0;  ///< Purged as excess lately and not faulted in since.
  std::uint32_t purged_at_ = 0;  ///< The last purge of excess.
};

}  // namespace slabmalloc
