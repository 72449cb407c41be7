// SPDX-License-Identifier: MIT
//
// HugePages: the parts of the window that the system may back by huge pages.
//
//     base       base + threshold     allowed_from                          end
//     | OS pages  | no more huge pages | probe | huge | probe | huge         | (a gap, or later)
//                                      '-> rises with purges  '-- a growth --'
//
// A huge page costs one fault, which takes as long as 70 faults of OS pages, for the memory of 512.
// So a heap that grows beyond the threshold asks for huge pages. A smaller one would take more
// memory.
//
// A program that writes little of what it allocates would take much more. So the first huge page of
// each growth is a probe, which gets OS pages. The next growth asks for huge pages only if nearly
// all of that probe is backed by memory.
//
// A purge ends huge pages up to its own end: else the system, which collects OS pages into huge
// ones, may back purged memory again. A huge page that is purged in part is split before: else the
// system frees none of it until all is purged, or until memory is short.
//
// What follows a gap of foreign mappings gets no huge pages, so that no call reaches them.
//
// Invariants, checked by validate():
//   G1  base <= allowed_from <= end, if allowed_from is not 0
//   G2  base <= probe and probe + huge page <= end, if probe is not 0
#pragma once

#include <cstddef>
#include <cstdint>

#include "os/os.hpp"
#include "slabmalloc/base/atomics.hpp"
#include "slabmalloc/base/bits.hpp"
#include "tunables.hpp"

namespace slabmalloc {

/// See the top of the file. Addresses are multiples of the OS page.
class HugePages {
 public:
  constexpr HugePages() noexcept = default;

  /// The window grew by [start, end), at a higher address than before.
  /// Thread: calls are under one mutex.
  /// Cost: two system calls beyond the threshold.
  void note_growth(std::uintptr_t start, std::uintptr_t end) noexcept {
    const std::uintptr_t old_end = end_.load(Order::relaxed);
    if (old_end == 0) {
      base_.store(start, Order::relaxed);
    } else if (start != old_end) {
      return;
    }
    end_.store(end, Order::relaxed);
    const bool is_wanted = end > threshold() && is_probe_dense();
    const std::uintptr_t next_probe = align_up(start, huge_bytes);
    if (next_probe + huge_bytes <= end) {
      probe_ = next_probe;
    }
    const std::uintptr_t from = greater(next_probe + huge_bytes, first_allowed());
    if (is_wanted && from < end) {
      os::interface().allow_huge_pages(reinterpret_cast<void*>(from), end - from);
    }
  }

  /// Prepares a purge of [start, end).
  /// Pre: the range was noted as growth before, or lies after a gap.
  /// Thread: any; the range is the caller's.
  void prepare_purge(std::uintptr_t start, std::uintptr_t end) noexcept {
    if (end <= threshold() || start >= end_.load(Order::relaxed)) {
      return;
    }
    end_allowance(end);
    // A huge page that the purge covers is freed as a whole.
    if (start % huge_bytes != 0) {
      os::interface().split_huge_page(reinterpret_cast<void*>(start));
    }
    const std::uintptr_t last = align_down(end, huge_bytes);
    if (end != last && last >= start) {
      os::interface().split_huge_page(reinterpret_cast<void*>(last));
    }
  }

  /// True if the invariants hold.
  /// Thread: no other call is in progress.
  bool validate() const noexcept {
    const std::uintptr_t base = base_.load(Order::relaxed);
    const std::uintptr_t end = end_.load(Order::relaxed);
    const std::uintptr_t from = allowed_from_.load(Order::relaxed);
    return (from == 0 || (base <= from && from <= end)) &&
           (probe_ == 0 || (base <= probe_ && probe_ + huge_bytes <= end));
  }

 private:
  static constexpr std::size_t huge_bytes = Tunables::huge_page_bytes;
  static constexpr std::size_t dense_bytes = huge_bytes - huge_bytes / Tunables::huge_waste_part;

  static constexpr std::uintptr_t greater(std::uintptr_t one, std::uintptr_t other) noexcept {
    return one > other ? one : other;
  }

  std::uintptr_t threshold() const noexcept {
    return base_.load(Order::relaxed) + tunables.huge_threshold_bytes;
  }
  std::uintptr_t first_allowed() const noexcept {
    return greater(threshold(), allowed_from_.load(Order::relaxed));
  }

  /// With a threshold of 0 the user wants huge pages, however much of them is written.
  bool is_probe_dense() const noexcept {
    return tunables.huge_threshold_bytes == 0 ||
           (probe_ != 0 && os::interface().resident_bytes(reinterpret_cast<void*>(probe_),
                                                          huge_bytes) >= dense_bytes);
  }

  /// Ends the allowance up to the huge page that holds `purge_end` - 1. Of several threads, the one
  /// that moves the bound past an address makes the call for it.
  void end_allowance(std::uintptr_t purge_end) noexcept {
    const std::uintptr_t window_end = end_.load(Order::relaxed);
    const std::uintptr_t rounded = align_up(purge_end, huge_bytes);
    const std::uintptr_t wanted = rounded < window_end ? rounded : window_end;
    std::uintptr_t from = allowed_from_.load(Order::relaxed);
    while (from < wanted) {
      if (allowed_from_.compare_exchange(from, wanted, Order::relaxed)) {
        from = greater(from, threshold());
        os::interface().end_huge_pages(reinterpret_cast<void*>(from), wanted - from);
        return;
      }
    }
  }

  std::uintptr_t probe_ = 0;  ///< The latest probe; 0 before the first.
  // Relaxed throughout: a range comes to its purger by way of a mutex, or of its own thread. A
  // purger that sees an older bound leaves a later part of the window as it is.
  HardwareAtomics::Cell<std::uintptr_t> base_;          ///< 0 before the first growth.
  HardwareAtomics::Cell<std::uintptr_t> allowed_from_;  ///< 0 before the first purge.
  HardwareAtomics::Cell<std::uintptr_t> end_;           ///< Of the part before the first gap.
};

}  // namespace slabmalloc
