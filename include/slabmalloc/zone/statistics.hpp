// SPDX-License-Identifier: MIT
//
// Statistics: the figures that a zone counts, and its counters. No fast path counts allocations or
// frees, so counting costs the fast paths nothing. A claim counts its slots, many at a time, and
// the bitmaps tell how many are in use.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/atomics.hpp"
#include "slabmalloc/base/counters.hpp"

namespace slabmalloc {

/// A count that one thread writes and all can read.
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

/// A count that all write and read.
template <class Atomics>
class SharedCounter {
 public:
  constexpr SharedCounter() noexcept = default;

  std::size_t get() const noexcept { return value_.load(Order::relaxed); }
  void add(std::size_t amount) noexcept { value_.fetch_add(amount, Order::relaxed); }
  void subtract(std::size_t amount) noexcept { value_.fetch_sub(amount, Order::relaxed); }
  void set(std::size_t amount) noexcept { value_.store(amount, Order::relaxed); }

 private:
  typename Atomics::template Cell<std::size_t> value_;
};

/// The counters of a size class, which zones, CPUs and processes sum up.
template <class Number = std::size_t>
struct SizeClassCounters {
  Number remote_frees{};
  Number pages{};
  Number pages_high_water{};
  Number refills{};
  Number reclaims{};

  using Self = SizeClassCounters;
  static constexpr CounterEntry<Self, Number> counters[] = {
      {&Self::remote_frees, "remote_frees", "objects", CounterKind::Total,
       "Of `frees`: those by other owners, drained by this one."},
      {&Self::pages, "pages", "pages", CounterKind::Current,
       "Pages of slots, empty ones included."},
      {&Self::pages_high_water, "pages_high_water", "pages", CounterKind::Peak,
       "The most pages that there ever were."},
      {&Self::refills, "refills", "pages", CounterKind::Total, "Pages taken in."},
      {&Self::reclaims, "reclaims", "pages", CounterKind::Total, "Pages given up."},
  };
};

/// The same, plus the figures that are not counted where they happen.
struct Turnover : SizeClassCounters<> {
  std::size_t allocations = 0;
  std::size_t frees = 0;

  using Base = SizeClassCounters<>;
  using Self = Turnover;
  static constexpr CounterEntry<Self> counters[] = {
      {&Self::allocations, "allocations", "objects", CounterKind::Total, "Objects given out."},
      {&Self::frees, "frees", "objects", CounterKind::Total,
       "`allocations` without those that are live."},
  };
};
static_assert(has_entry_for_each_counter<Turnover>());

/// A snapshot of one size class. Exact when taken by the owner.
struct ClassStatistics : Turnover {
  std::size_t object_size = 0;
  std::size_t page_bytes = 0;
  std::size_t slots = 0;
  std::size_t used = 0;

  using Base = Turnover;
  using Self = ClassStatistics;
  static constexpr CounterEntry<Self> counters[] = {
      {&Self::object_size, "size", "bytes", CounterKind::Constant, "A slot: `object_size` in C++."},
      {&Self::page_bytes, "page_bytes", "bytes", CounterKind::Constant, "A frame."},
      {&Self::slots, "slots", "objects", CounterKind::Current, "Slots of all pages."},
      {&Self::used, "used", "objects", CounterKind::Current,
       "Live objects, frees buffered by other zones included."},
  };

  /// Adds another owner's figures of the same class.
  constexpr ClassStatistics& operator+=(const ClassStatistics& other) noexcept {
    return add_counters(*this, other);
  }
};
static_assert(has_entry_for_each_counter<ClassStatistics>());

/// The sums over the classes of a zone.
struct ZoneStatistics : Turnover {
  std::size_t used_bytes = 0;
  std::size_t page_bytes = 0;
  std::size_t depot_bytes = 0;
  std::size_t frame_bytes_high_water = 0;
  std::size_t buffered_bytes = 0;

  using Base = Turnover;
  using Self = ZoneStatistics;
  static constexpr CounterEntry<Self> counters[] = {
      {&Self::used_bytes, "used_bytes", "bytes", CounterKind::Current, "Slots of live objects."},
      {&Self::page_bytes, "page_bytes", "bytes", CounterKind::Current, "Pages of size classes."},
      {&Self::depot_bytes, "depot_bytes", "bytes", CounterKind::Current,
       "Empty pages that belong to no class."},
      {&Self::frame_bytes_high_water, "frame_bytes_high_water", "bytes", CounterKind::Peak,
       "The most in pages and depots that a zone ever held."},
      {&Self::buffered_bytes, "buffered_bytes", "bytes", CounterKind::Current,
       "Other zones' objects whose frees wait to be delivered."},
  };

  /// Adds one class's figures.
  constexpr ZoneStatistics& operator+=(const ClassStatistics& one) noexcept {
    used_bytes += one.used * one.object_size;
    page_bytes += one.pages * one.page_bytes;
    add_counters<Turnover>(*this, one);
    return *this;
  }
  /// Adds another zone's figures.
  constexpr ZoneStatistics& operator+=(const ZoneStatistics& other) noexcept {
    return add_counters(*this, other);
  }
};
static_assert(has_entry_for_each_counter<ZoneStatistics>());

}  // namespace slabmalloc
