// SPDX-License-Identifier: MIT
//
// NodeStatistics: the frames of a NUMA node, and who got them.
#pragma once

#include <cstddef>

#include "slabmalloc/base/counters.hpp"
#include "slabmalloc/kernel/frame_statistics.hpp"

namespace slabmalloc {

/// A snapshot.
struct NodeStatistics : FrameStatistics {
  std::size_t local_allocations = 0;
  std::size_t remote_allocations = 0;

  using Base = FrameStatistics;
  using Self = NodeStatistics;
  static constexpr CounterEntry<Self> counters[] = {
      {&Self::local_allocations, "local_allocations", "calls", CounterKind::Total,
       "Frames and runs for CPUs of the node."},
      {&Self::remote_allocations, "remote_allocations", "calls", CounterKind::Total,
       "Frames and runs for CPUs of other nodes."},
  };
};
static_assert(has_entry_for_each_counter<NodeStatistics, std::size_t[FrameStatistics::orders]>());

}  // namespace slabmalloc
