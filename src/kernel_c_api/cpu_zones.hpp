// SPDX-License-Identifier: MIT
//
// The heap of slabmalloc_cpu_zones, and the list of it and its caches.
#pragma once

#include "kernel_c_api/pager.hpp"
#include "slabmalloc/kernel.h"
#include "slabmalloc/kernel/cpu_zones.hpp"
#include "slabmalloc/kernel/reclaimer.hpp"

namespace slabmalloc {

using ClientHeap = CpuZones<ClientKernel, ClientPager>;

}  // namespace slabmalloc

struct slabmalloc_cpu_zones {
  slabmalloc_cpu_zones(const char* name, const slabmalloc_kernel_pager& functions) noexcept
      : pager(functions), heap(pager), entry(name, heap) {
    heap.set_reclaim(reclaimer.reclaim_for, &reclaimer);
    reclaimer.add(entry);
  }

  slabmalloc::ClientPager pager;
  slabmalloc::ClientHeap heap;
  slabmalloc::Reclaimer<slabmalloc::ClientKernel> reclaimer;
  slabmalloc::Reclaimable entry;
};
