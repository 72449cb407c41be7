// SPDX-License-Identifier: MIT
//
// FrameStatistics: the frames that a frame allocator has, and the calls that it served.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/counters.hpp"

namespace slabmalloc {

/// The calls it served.
struct FrameCounters {
  std::size_t allocations = 0;
  std::size_t frees = 0;
  std::size_t failures = 0;

  using Self = FrameCounters;
  static constexpr CounterEntry<Self> counters[] = {
      {&Self::allocations, "allocations", "calls", CounterKind::Total,
       "Frames and runs given out."},
      {&Self::frees, "frees", "calls", CounterKind::Total, "Frames and runs taken back."},
      {&Self::failures, "failures", "calls", CounterKind::Total,
       "Allocations for which there was nothing."},
  };
};

/// A snapshot.
struct FrameStatistics : FrameCounters {
  static constexpr std::uint32_t orders = 32;

  std::size_t managed_bytes = 0;
  std::size_t free_bytes = 0;
  std::size_t used_bytes = 0;
  std::size_t used_bytes_high_water = 0;
  std::size_t metadata_bytes = 0;
  std::size_t offline_bytes = 0;
  std::size_t free_blocks[orders] = {};  ///< Of 2^index base frames.

  using Base = FrameCounters;
  using Self = FrameStatistics;
  static constexpr CounterEntry<Self> counters[] = {
      {&Self::managed_bytes, "managed_bytes", "bytes", CounterKind::Current,
       "Whole frames of all regions: free, used and meta-data."},
      {&Self::free_bytes, "free_bytes", "bytes", CounterKind::Current, "Free frames."},
      {&Self::used_bytes, "used_bytes", "bytes", CounterKind::Current, "Frames of clients."},
      {&Self::used_bytes_high_water, "used_bytes_high_water", "bytes", CounterKind::Peak,
       "The most that clients ever had."},
      {&Self::metadata_bytes, "metadata_bytes", "bytes", CounterKind::Current,
       "Frames of the allocator's own."},
      {&Self::offline_bytes, "offline_bytes", "bytes", CounterKind::Current,
       "Frames out of service, which managed_bytes leaves out."},
  };
};
static_assert(has_entry_for_each_counter<FrameStatistics, std::size_t[FrameStatistics::orders]>());

}  // namespace slabmalloc
