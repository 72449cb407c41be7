// SPDX-License-Identifier: MIT
//
// Statistics of the arena.
#pragma once

#include <cstddef>

#include "slabmalloc/base/counters.hpp"

namespace slabmalloc {

/// Counters of large objects.
template <class Number = std::size_t>
struct LargeCounters {
  Number count{};
  Number allocations{};
  Number frees{};

  using Self = LargeCounters;
  static constexpr CounterEntry<Self, Number> counters[] = {
      {&Self::count, "count", "objects", CounterKind::Current, "Live large objects."},
      {&Self::allocations, "allocations", "objects", CounterKind::Total, "Given out."},
      {&Self::frees, "frees", "objects", CounterKind::Total, "Freed."},
  };
};

/// What statistics() says of large objects. It adds up their bytes, so that no object need count
/// them.
struct LargeStatistics : LargeCounters<> {
  std::size_t bytes = 0;

  using Base = LargeCounters<>;
  using Self = LargeStatistics;
  static constexpr CounterEntry<Self> counters[] = {
      {&Self::bytes, "bytes", "bytes", CounterKind::Current, "Usable bytes of live large objects."},
  };
};
static_assert(has_entry_for_each_counter<LargeStatistics>());

/// Counters that the arena updates as it works.
template <class Number = std::size_t>
struct ArenaCounters {
  Number dirty_bytes{};
  Number dirty_limit_bytes{};
  Number clean_bytes{};
  Number metadata_bytes{};
  Number purged_bytes{};
  Number purges{};
  Number hole_bytes{};
  Number holes_dropped_bytes{};
  Number holes_refaulted_bytes{};
  Number limit_purges{};
  Number limit_refusals{};
  Number class_changes{};

  using Self = ArenaCounters;
  static constexpr CounterEntry<Self, Number> counters[] = {
      {&Self::dirty_bytes, "dirty_bytes", "bytes", CounterKind::Current,
       "Free, but backed by memory."},
      {&Self::dirty_limit_bytes, "dirty_limit_bytes", "bytes", CounterKind::Current,
       "More than that is purged at once."},
      {&Self::clean_bytes, "clean_bytes", "bytes", CounterKind::Current,
       "Free, and not backed by memory."},
      {&Self::metadata_bytes, "metadata_bytes", "bytes", CounterKind::Current,
       "Usable for records and tags; backed where touched."},
      {&Self::purged_bytes, "purged_bytes", "bytes", CounterKind::Total,
       "Given back to the operating system, by whichever call."},
      {&Self::purges, "purges", "calls", CounterKind::Total,
       "System calls that gave these bytes back."},
      {&Self::hole_bytes, "hole_bytes", "bytes", CounterKind::Current,
       "Given back within pages in use, and not claimed since."},
      {&Self::holes_dropped_bytes, "holes_dropped_bytes", "bytes", CounterKind::Total,
       "Given back within pages in use; purged_bytes has these too."},
      {&Self::holes_refaulted_bytes, "holes_refaulted_bytes", "bytes", CounterKind::Total,
       "Of these, what was claimed again."},
      {&Self::limit_purges, "limit_purges", "calls", CounterKind::Total,
       "Calls that purged memory for which the soft or the hard limit had no room."},
      {&Self::limit_refusals, "limit_refusals", "requests", CounterKind::Total,
       "Requests for runs or mappings that the hard limit refused."},
      {&Self::class_changes, "class_changes", "runs", CounterKind::Total,
       "Runs of the hardened library that serve another size class than before, since the window "
       "is bounded or could not grow."},
  };
};

/// A snapshot of the arena's counters, taken without a lock. Each number is right by itself; sums
/// may be off by the operations in progress.
struct ArenaStatistics : ArenaCounters<> {
  std::size_t committed_bytes = 0;
  std::size_t committed_peak_bytes = 0;
  std::size_t in_use_bytes = 0;
  std::size_t in_use_peak_bytes = 0;
  std::size_t soft_limit_bytes = 0;
  std::size_t hard_limit_bytes = 0;
  LargeStatistics large;

  using Base = ArenaCounters<>;
  using Self = ArenaStatistics;
  static constexpr CounterEntry<Self> counters[] = {
      {&Self::committed_bytes, "committed_bytes", "bytes", CounterKind::Current,
       "Usable, backed or not: data, records, mappings."},
      {&Self::committed_peak_bytes, "committed_peak_bytes", "bytes", CounterKind::Peak,
       "The most that was ever committed."},
      {&Self::in_use_bytes, "in_use_bytes", "bytes", CounterKind::Current,
       "Handed out, direct mappings included."},
      {&Self::in_use_peak_bytes, "in_use_peak_bytes", "bytes", CounterKind::Peak,
       "The most that was ever in use."},
      {&Self::soft_limit_bytes, "soft_limit_bytes", "bytes", CounterKind::Constant,
       "The option `soft_limit`; 0 if it is not set."},
      {&Self::hard_limit_bytes, "hard_limit_bytes", "bytes", CounterKind::Constant,
       "The option `hard_limit`; 0 if it is not set."},
  };
};
static_assert(has_entry_for_each_counter<ArenaStatistics, LargeStatistics>());

}  // namespace slabmalloc
