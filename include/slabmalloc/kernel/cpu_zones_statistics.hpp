// SPDX-License-Identifier: MIT
//
// CpuZonesStatistics: the counters of a kernel's heap, summed over all CPUs.
#pragma once

#include <cstddef>

#include "slabmalloc/base/counters.hpp"
#include "slabmalloc/zone/statistics.hpp"

namespace slabmalloc {

/// A snapshot.
struct CpuZonesStatistics {
  ZoneStatistics zones;
  std::size_t cached_frame_bytes = 0;
  std::size_t reserved_frame_bytes = 0;
  std::size_t parked_frame_bytes = 0;
  std::size_t run_bytes = 0;
  std::size_t deferred_bytes = 0;
  std::size_t frame_bytes = 0;
  std::size_t frame_bytes_high_water = 0;
  std::size_t nested_allocations = 0;
  std::size_t nested_frees = 0;
  std::size_t idle_drains = 0;
  std::size_t growths = 0;
  std::size_t searches = 0;
  std::size_t sleeps = 0;
  std::size_t failures = 0;

  using Self = CpuZonesStatistics;
  static constexpr CounterEntry<Self> counters[] = {
      {&Self::cached_frame_bytes, "cached_frame_bytes", "bytes", CounterKind::Current,
       "Empty frames in the CPUs' frame caches."},
      {&Self::reserved_frame_bytes, "reserved_frame_bytes", "bytes", CounterKind::Current,
       "Reserved frames."},
      {&Self::parked_frame_bytes, "parked_frame_bytes", "bytes", CounterKind::Current,
       "Empty frames of a type-stable cache that wait for a grace period."},
      {&Self::run_bytes, "run_bytes", "bytes", CounterKind::Current,
       "Runs of clients, and those that wait, in whole frames."},
      {&Self::deferred_bytes, "deferred_bytes", "bytes", CounterKind::Current,
       "Freed runs that wait for a caller of the pager."},
      {&Self::frame_bytes, "frame_bytes", "bytes", CounterKind::Current,
       "All frames and runs of the pager."},
      {&Self::frame_bytes_high_water, "frame_bytes_high_water", "bytes", CounterKind::Peak,
       "The most that `frame_bytes` ever was."},
      {&Self::nested_allocations, "nested_allocations", "calls", CounterKind::Total,
       "Allocations that came while their CPU's part was in use."},
      {&Self::nested_frees, "nested_frees", "calls", CounterKind::Total,
       "Frees that came while their CPU's part was in use."},
      {&Self::idle_drains, "idle_drains", "steps", CounterKind::Total,
       "Steps of drains that CPUs did for idle ones."},
      {&Self::growths, "growths", "calls", CounterKind::Total, "Calls for frames that got some."},
      {&Self::searches, "searches", "calls", CounterKind::Total,
       "Allocations for which the pager had nothing."},
      {&Self::sleeps, "sleeps", "calls", CounterKind::Total,
       "Allocations that waited until memory became free."},
      {&Self::failures, "failures", "calls", CounterKind::Total,
       "Allocations that ended as `OutOfMemory`."},
  };
};
static_assert(has_entry_for_each_counter<CpuZonesStatistics, ZoneStatistics>());

}  // namespace slabmalloc
