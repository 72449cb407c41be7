// SPDX-License-Identifier: MIT
//
// Statistics: what a zone counts, and the counter it counts with. Allocations and frees are not
// counted where they happen: slots are counted when they are claimed, many at a time, and the bitmaps
// tell how many are in use, so that the fast paths pay nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc {

/// A count written by one thread and readable by all.
template <class Atomics>
class Counter {
 public:
  constexpr Counter() noexcept = default;

  std::size_t get() const noexcept { return value_.load(Order::relaxed); }
  void add(std::size_t amount) noexcept { value_.store(get() + amount, Order::relaxed); }
  void subtract(std::size_t amount) noexcept { value_.store(get() - amount, Order::relaxed); }
  void raise_to(std::size_t amount) noexcept {
    if (amount > get()) {
      value_.store(amount, Order::relaxed);
    }
  }
  void set(std::size_t amount) noexcept { value_.store(amount, Order::relaxed); }

 private:
  typename Atomics::template Cell<std::size_t> value_;
};

/// What has happened since the beginning.
struct Turnover {
  std::size_t allocations = 0;   ///< Objects given out.
  std::size_t frees = 0;         ///< `allocations` without those that are live.
  std::size_t remote_frees = 0;  ///< Of `frees`: those by other owners that were taken in.
  std::size_t refills = 0;       ///< Pages taken in.
  std::size_t reclaims = 0;      ///< Pages given up.

  /// Adds what has happened elsewhere.
  constexpr Turnover& operator+=(const Turnover& other) noexcept {
    allocations += other.allocations;
    frees += other.frees;
    remote_frees += other.remote_frees;
    refills += other.refills;
    reclaims += other.reclaims;
    return *this;
  }
};

/// A snapshot of one size class. Exact when taken by the owner.
struct ClassStatistics : Turnover {
  std::size_t object_size = 0;       ///< Bytes of a slot.
  std::size_t page_bytes = 0;        ///< Bytes of a frame.
  std::size_t pages = 0;             ///< Pages in the class, empty ones included.
  std::size_t pages_high_water = 0;  ///< The most pages it ever had.
  std::size_t slots = 0;             ///< Slots in these pages.
  std::size_t used = 0;              ///< Live objects, including frees buffered by other zones.

  /// Adds another owner's figures of the same class. The sum of high waters is no less than that of the sum.
  constexpr ClassStatistics& operator+=(const ClassStatistics& other) noexcept {
    object_size = other.object_size;
    page_bytes = other.page_bytes;
    pages += other.pages;
    pages_high_water += other.pages_high_water;
    slots += other.slots;
    used += other.used;
    Turnover::operator+=(other);
    return *this;
  }
};

/// The sum over the classes of a zone, in bytes where not said otherwise.
struct ZoneStatistics : Turnover {
  std::size_t used_bytes = 0;
  std::size_t page_bytes = 0;   ///< In size classes.
  std::size_t depot_bytes = 0;  ///< In empty pages that belong to no class.
  std::size_t frame_bytes_high_water = 0;  ///< The most of both that the zone ever held.
  std::size_t buffered_bytes = 0;  ///< Other zones' objects whose frees wait to be delivered.

  /// Adds one class's figures.
  constexpr ZoneStatistics& operator+=(const ClassStatistics& one) noexcept {
    used_bytes += one.used * one.object_size;
    page_bytes += one.pages * one.page_bytes;
    Turnover::operator+=(one);
    return *this;
  }
  /// Adds another zone's figures. The sum of high waters is no less than that of the sum.
  constexpr ZoneStatistics& operator+=(const ZoneStatistics& other) noexcept {
    used_bytes += other.used_bytes;
    page_bytes += other.page_bytes;
    depot_bytes += other.depot_bytes;
    frame_bytes_high_water += other.frame_bytes_high_water;
    buffered_bytes += other.buffered_bytes;
    Turnover::operator+=(other);
    return *this;
  }
};

}  // namespace slabmalloc
