// SPDX-License-Identifier: MIT
//
// Decay: how much dirty memory the arena purges, and when.
//
// Dirty memory that the program soon uses again saves page faults. Dirty memory that it has not
// needed for a while is a waste. Amounts tell the two apart: of the dirty memory, the least amount
// since a moment is what nobody has needed since then.
//
//     dirty                 ____
//      |          __       /    \      ______
//      |     ____/  \     /      \____/
//      |    /        \___/                            ___ least since the third epoch: unneeded
//      |___/..............................................
//         epoch 0 | epoch 1 | … | epoch 7 | epoch 8 (now)
//
// The decay time is divided into epochs. Each records the least dirty amount, and the most memory
// in use. At the start of an epoch, memory is due for a purge: of the amount that was unneeded for
// a time, a fraction that grows with this time.
//
//     fraction      0 up to a quarter of the decay time, then rising in equal steps to 1 at its end
//     due         = the largest, over the epochs, of fraction * unneeded since the epoch
//                                                                - purged since the epoch
//
// So memory younger than a quarter of the decay time stays. No memory stays unneeded for longer
// than the decay time and an epoch. This combines jemalloc's decay curve (Evans, "jemalloc",
// decay-based purging, 2015) with the low-water mark of tcmalloc's caches (Ghemawat and Menage,
// "TCMalloc", 2007).
//
// A second bound holds at any time. The memory in use and the dirty memory together are hardly more
// than the recent peak: the most that was in use within the decay time. Fragments that fit no
// request could otherwise raise the peak size of the process.
//
//     most        = recent peak + 1/64 of it + 1 MiB               (values: tunables.hpp)
//     dirty limit = most - in use
//
// When the recent peak falls, an epoch begins. The dirty memory of that moment only decays: a call
// after a long sleep would otherwise purge all of it at once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tunables.hpp"

namespace slabmalloc {

/// The amounts of one arena over the last decay time, in bytes. Times are in milliseconds and wrap
/// around. Memory that is being purged counts as dirty.
/// Thread: every call under one mutex.
class Decay {
 public:
  constexpr Decay() noexcept = default;

  /// Notes the amounts at the end of an operation. With a decay time of 0 no dirty memory may stay.
  /// Cost: constant.
  constexpr void note(std::size_t in_use, std::size_t dirty, std::uint32_t now,
                      std::uint32_t decay_milliseconds) noexcept {
    begin_epochs(now, decay_milliseconds / steps);
    in_use_ = in_use;
    dirty_ = dirty;
    Epoch& epoch = epochs_[newest_];
    epoch.least_dirty = lesser(epoch.least_dirty, dirty + epoch.purged);
    epoch.most_in_use = greater(epoch.most_in_use, in_use);
    most_ = decay_milliseconds != 0 ? greater(most_, most_at_peak(in_use)) : in_use;
    due_ = lesser(due_, dirty);
  }

  /// Notes that `bytes` of the dirty memory were purged.
  constexpr void note_purged(std::size_t bytes) noexcept {
    epochs_[newest_].purged += bytes;
    dirty_ -= lesser(dirty_, bytes);
    due_ -= lesser(due_, bytes);
  }

  /// Leaves decayed memory that could not be purged until the next epoch.
  constexpr void postpone() noexcept { due_ = 0; }

  /// The bytes of dirty memory that have decayed.
  constexpr std::size_t due() const noexcept { return due_; }

  /// The dirty memory that may stay at the amounts of the last note().
  constexpr std::size_t limit() const noexcept { return most_ - in_use_; }

 private:
  /// Epochs in the decay time.
  static constexpr std::uint32_t steps = 8;
  /// The first of them, in which nothing decays.
  static constexpr std::uint32_t quiet_steps = 2;

  struct Epoch {
    std::size_t least_dirty = 0;  ///< The least of dirty + purged, which a purge does not change.
    std::size_t most_in_use = 0;
    std::size_t purged = 0;  ///< Since the epoch began.
  };

  /// Begins the epochs that are due, each with the last amounts, and works out what has decayed.
  constexpr void begin_epochs(std::uint32_t now, std::uint32_t epoch_milliseconds) noexcept {
    const std::uint32_t length = epoch_milliseconds != 0 ? epoch_milliseconds : 1;
    const std::uint32_t begun = (now - epoch_began_) / length;
    if (begun == 0) {
      return;
    }
    epoch_began_ += begun * length;
    for (std::uint32_t count = begun <= steps ? begun : steps + 1; count != 0; --count) {
      newest_ = (newest_ + 1) % (steps + 1);
      epochs_[newest_] = {dirty_, in_use_, 0};
    }
    std::size_t recent_peak = 0;
    due_ = 0;
    std::size_t unneeded = dirty_;
    std::size_t purged = 0;
    for (std::uint32_t age = 0; age <= steps; ++age) {
      const Epoch& epoch = epochs_[(newest_ + steps + 1 - age) % (steps + 1)];
      purged += epoch.purged;
      unneeded = lesser(epoch.least_dirty, unneeded + epoch.purged);
      const std::size_t decayed = part(unneeded, age);
      due_ = decayed > purged ? greater(due_, decayed - purged) : due_;
      recent_peak = greater(recent_peak, epoch.most_in_use);
    }
    most_ = greater(most_at_peak(recent_peak), in_use_ + dirty_);
  }

  /// The most of memory in use and dirty memory together at a recent peak of `bytes`.
  static constexpr std::size_t most_at_peak(std::size_t bytes) noexcept {
    return bytes + bytes / Tunables::dirty_part_beyond_peak + Tunables::dirty_bytes_beyond_peak;
  }

  /// The fraction of `bytes` that decays within `age` epochs.
  static constexpr std::size_t part(std::size_t bytes, std::uint32_t age) noexcept {
    if (age == steps) {
      return bytes;
    }
    return age <= quiet_steps ? 0 : bytes / (steps - quiet_steps) * (age - quiet_steps);
  }

  static constexpr std::size_t lesser(std::size_t one, std::size_t other) noexcept {
    return one < other ? one : other;
  }
  static constexpr std::size_t greater(std::size_t one, std::size_t other) noexcept {
    return one > other ? one : other;
  }

  Epoch epochs_[steps + 1] = {};  ///< A ring.
  std::uint32_t newest_ = 0;
  std::uint32_t epoch_began_ = 0;  ///< When the newest did.
  std::size_t in_use_ = 0;
  std::size_t dirty_ = 0;
  std::size_t most_ = 0;  ///< Of memory in use and dirty memory together.
  std::size_t due_ = 0;
};

}  // namespace slabmalloc
