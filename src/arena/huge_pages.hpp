// SPDX-License-Identifier: MIT
//
// HugePages: the parts of the window that the system may back by huge pages.
//
//     base       base + threshold     allowed_from                    probe  end
//     | OS pages  | no more huge pages | huge pages                  | 2 MiB | (a gap, or later)
//                                      '-> rises with purges
//
// A huge page costs one fault, which takes as long as 70 faults of OS pages, for the memory of 512.
// So a heap that grows beyond the threshold asks for huge pages. A smaller one would take more
// memory.
//
// A program that writes little of what it allocates would take much more. So the first huge page of
// each growth is a probe, for which it does not ask. The next growth asks only if nearly all of the
// probe is in memory by then, and for the probe too: one mapping then covers both growths. With a
// threshold of 0 the user wants huge pages, however much of them is written.
//
// A purge ends huge pages up to its own end: else the system, which collects OS pages into huge
// ones, may back purged memory again. A huge page that is purged in part is split before: else the
// system frees none of it until all is purged, or until memory is short. Nothing of that happens in
// a heap that never asked.
//
// What follows a gap of foreign mappings gets no huge pages, so that no call reaches them. Systems
// with OS pages of other than 4 KiB have huge pages of other lengths, and are not asked.
//
// Invariants, checked by validate():
//   G1  base <= first <= allowed_from <= end, if first is not 0
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
    if (os::interface().os_page_bytes() != Tunables::os_page_bytes_of_huge_pages ||
        (old_end != 0 && start != old_end)) {
      return;
    }
    if (old_end == 0) {
      base_ = start;
    }
    end_.store(end, Order::relaxed);
    const std::uintptr_t next_probe = align_up(start, huge_bytes);
    const std::uintptr_t probe_end = next_probe + huge_bytes;
    const std::uintptr_t threshold = this->threshold();
    if (tunables.huge_threshold_bytes == 0) {
      allow(start, end);
    } else if (end > threshold && is_probe_dense()) {
      allow(greater(probe_, threshold), probe_ + huge_bytes);
      allow(greater(greater(probe_ + huge_bytes, start), threshold), lesser(next_probe, end));
      allow(greater(probe_end, threshold), end);
    }
    if (probe_end <= end) {
      probe_ = next_probe;
    }
  }

  /// Prepares a purge of [start, end); returns how many huge pages it split, if they were there.
  /// Pre: the range was noted as growth before, or lies after a gap.
  /// Thread: any; the range is the caller's.
  std::uint32_t prepare_purge(std::uintptr_t start, std::uintptr_t end) noexcept {
    const std::uintptr_t first = first_.load(Order::relaxed);
    if (first == 0 || end <= first || start >= end_.load(Order::relaxed)) {
      return 0;
    }
    end_allowance(first, end);
    // A huge page that the purge covers is freed as a whole.
    std::uint32_t splits = start % huge_bytes != 0 ? split(start) : 0;
    const std::uintptr_t last = align_down(end, huge_bytes);
    if (end != last && last >= start) {
      splits += split(last);
    }
    return splits;
  }

  /// True if the invariants hold.
  /// Thread: no other call is in progress.
  bool validate() const noexcept {
    const std::uintptr_t end = end_.load(Order::relaxed);
    const std::uintptr_t first = first_.load(Order::relaxed);
    const std::uintptr_t from = allowed_from_.load(Order::relaxed);
    return (first == 0 || (base_ <= first && first <= from && from <= end)) &&
           (probe_ == 0 || (base_ <= probe_ && probe_ + huge_bytes <= end));
  }

 private:
  static constexpr std::size_t huge_bytes = Tunables::huge_page_bytes;
  static constexpr std::size_t dense_bytes = huge_bytes - huge_bytes / Tunables::huge_waste_part;

  static constexpr std::uintptr_t greater(std::uintptr_t one, std::uintptr_t other) noexcept {
    return one > other ? one : other;
  }

  static constexpr std::uintptr_t lesser(std::uintptr_t one, std::uintptr_t other) noexcept {
    return one < other ? one : other;
  }

  /// A multiple of the huge page; the highest one if that is beyond all addresses.
  std::uintptr_t threshold() const noexcept {
    constexpr std::uintptr_t highest = ~std::uintptr_t{0} - huge_bytes + 1;
    const std::size_t bytes = tunables.huge_threshold_bytes;
    return bytes < highest - base_ ? align_up(base_ + bytes, huge_bytes) : highest;
  }

  bool is_probe_dense() const noexcept {
    return probe_ != 0 && os::interface().resident_bytes(reinterpret_cast<void*>(probe_),
                                                         huge_bytes) >= dense_bytes;
  }

  /// Splits the huge page at `address`, unless that was the last one to be split: no huge pages
  /// return below a purge's end. Returns how many it split.
  std::uint32_t split(std::uintptr_t address) noexcept {
    const std::uintptr_t page = align_down(address, huge_bytes);
    if (last_split_.load(Order::relaxed) == page) {
      return 0;
    }
    os::interface().split_huge_page(reinterpret_cast<void*>(address));
    last_split_.store(page, Order::relaxed);
    return 1;
  }

  /// Asks for huge pages in the part of [start, end) that no purge has reached.
  void allow(std::uintptr_t start, std::uintptr_t end) noexcept {
    const std::uintptr_t from = greater(start, allowed_from_.load(Order::relaxed));
    if (from >= end) {
      return;
    }
    if (first_.load(Order::relaxed) == 0) {
      allowed_from_.store(threshold(), Order::relaxed);
      first_.store(threshold(), Order::relaxed);
    }
    os::interface().allow_huge_pages(reinterpret_cast<void*>(from), end - from);
  }

  /// Ends huge pages from `first` up to the one that holds `purge_end` - 1. Of several threads, the
  /// one that moves the bound past an address makes the call for it.
  void end_allowance(std::uintptr_t first, std::uintptr_t purge_end) noexcept {
    const std::uintptr_t window_end = end_.load(Order::relaxed);
    const std::uintptr_t wanted = lesser(align_up(purge_end, huge_bytes), window_end);
    std::uintptr_t from = allowed_from_.load(Order::relaxed);
    while (from < wanted) {
      if (allowed_from_.compare_exchange(from, wanted, Order::relaxed)) {
        // A thread may see `first` before it sees the first bound.
        from = greater(from, first);
        os::interface().end_huge_pages(reinterpret_cast<void*>(from), wanted - from);
        return;
      }
    }
  }

  std::uintptr_t base_ = 0;   ///< 0 before the first growth.
  std::uintptr_t probe_ = 0;  ///< The latest probe; 0 before the first.
  // Relaxed throughout: a range comes to its purger by way of a mutex, or of its own thread. A
  // purger that sees an older bound leaves a later part of the window as it is. A page is split
  // before it becomes the last one.
  HardwareAtomics::Cell<std::uintptr_t> first_;         ///< The threshold; 0 before it first asks.
  HardwareAtomics::Cell<std::uintptr_t> allowed_from_;  ///< 0 before that.
  HardwareAtomics::Cell<std::uintptr_t> end_;           ///< Of the part before the first gap.
  HardwareAtomics::Cell<std::uintptr_t> last_split_;    ///< 0 before the first.
};

}  // namespace slabmalloc
