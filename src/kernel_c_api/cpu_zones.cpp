// SPDX-License-Identifier: MIT
//
// Zones of CPUs, as kernel.h declares them.
#include "kernel_c_api/cpu_zones.hpp"

#include <cstdint>
#include <new>

#include "slabmalloc/kernel/slabinfo.hpp"

namespace {

using slabmalloc::context_of;
using slabmalloc::for_client;
using slabmalloc::Layout;
using slabmalloc::with_layout;
using slabmalloc::with_layout_of;

static_assert(alignof(slabmalloc_cpu_zones) == SLABMALLOC_CPU_ZONES_ALIGNMENT);

}  // namespace

extern "C" {

uint32_t slabmalloc_maximum_cpus(void) { return slabmalloc::ClientKernel::maximum_cpus; }
size_t slabmalloc_cpu_zones_bytes(void) { return sizeof(slabmalloc_cpu_zones); }

slabmalloc_cpu_zones* slabmalloc_cpu_zones_create(void* memory, const char* name,
                                                  const slabmalloc_kernel_pager* pager) {
  if (memory == nullptr ||
      reinterpret_cast<std::uintptr_t>(memory) % SLABMALLOC_CPU_ZONES_ALIGNMENT != 0) {
    return nullptr;
  }
  slabmalloc::use_misuse_hook();
  return ::new (memory) slabmalloc_cpu_zones(name, *pager);
}

// ---- blocks -------------------------------------------------------------------------------------

void* slabmalloc_cpu_zones_allocate(slabmalloc_cpu_zones* zones, size_t bytes, size_t alignment,
                                    slabmalloc_context context) {
  return for_client(with_layout(bytes, alignment,
                                [=](Layout layout) noexcept {
                                  return zones->heap.allocate(layout, context_of(context));
                                }),
                    nullptr);
}
void* slabmalloc_cpu_zones_allocate_zeroed(slabmalloc_cpu_zones* zones, size_t bytes,
                                           size_t alignment, slabmalloc_context context) {
  return for_client(with_layout(bytes, alignment,
                                [=](Layout layout) noexcept {
                                  return zones->heap.allocate_zeroed(layout, context_of(context));
                                }),
                    nullptr);
}
void slabmalloc_cpu_zones_deallocate(slabmalloc_cpu_zones* zones, void* block, size_t bytes,
                                     size_t alignment, slabmalloc_context context) {
  with_layout_of(block, bytes, alignment, [=](Layout layout) noexcept {
    zones->heap.deallocate(block, layout, context_of(context));
  });
}
void slabmalloc_cpu_zones_free(slabmalloc_cpu_zones* zones, void* block,
                               slabmalloc_context context) {
  zones->heap.deallocate(block, context_of(context));
}
size_t slabmalloc_cpu_zones_usable_size(slabmalloc_cpu_zones* zones, void* block) {
  return zones->heap.usable_size(block);
}
void* slabmalloc_cpu_zones_reallocate(slabmalloc_cpu_zones* zones, void* block, size_t bytes,
                                      size_t alignment, slabmalloc_context context) {
  return for_client(with_layout(bytes, alignment,
                                [=](Layout layout) noexcept {
                                  return zones->heap.reallocate(block, layout, context_of(context));
                                }),
                    nullptr);
}

// ---- reserves and limits ------------------------------------------------------------------------

slabmalloc_error slabmalloc_cpu_zones_reserve_for_interrupts(slabmalloc_cpu_zones* zones,
                                                             size_t bytes, size_t alignment,
                                                             uint32_t objects) {
  return for_client(with_layout(bytes, alignment, [=](Layout layout) noexcept {
    return zones->heap.reserve_for_interrupts(layout, objects);
  }));
}
slabmalloc_error slabmalloc_cpu_zones_reserve_frames(slabmalloc_cpu_zones* zones, size_t bytes,
                                                     size_t alignment, uint32_t frames) {
  return for_client(with_layout(bytes, alignment, [=](Layout layout) noexcept {
    return zones->heap.reserve_frames(layout, frames);
  }));
}
void slabmalloc_cpu_zones_set_limit(slabmalloc_cpu_zones* zones, size_t bytes,
                                    slabmalloc_limit_callback callback, void* argument) {
  zones->heap.set_limit(bytes, callback, argument);
}
void slabmalloc_cpu_zones_set_waiting(slabmalloc_cpu_zones* zones, bool waits) {
  zones->heap.set_waiting(waits);
}
void slabmalloc_cpu_zones_set_shrink(slabmalloc_cpu_zones* zones,
                                     slabmalloc_shrink_callback callback, void* argument) {
  slabmalloc::require<slabmalloc::ClientKernel>(zones->reclaimer.remove(zones->entry),
                                                "set_shrink() comes before reclaim");
  zones->entry.set_shrink(callback, argument);
  zones->reclaimer.add(zones->entry);
}

// ---- memory pressure ----------------------------------------------------------------------------

bool slabmalloc_cpu_zones_enter_idle(slabmalloc_cpu_zones* zones) {
  return zones->reclaimer.enter_idle();
}
bool slabmalloc_cpu_zones_drain_this_cpu(slabmalloc_cpu_zones* zones) {
  return zones->reclaimer.drain_this_cpu();
}
size_t slabmalloc_cpu_zones_trim(slabmalloc_cpu_zones* zones) { return zones->reclaimer.trim(); }
size_t slabmalloc_cpu_zones_reclaim(slabmalloc_cpu_zones* zones, size_t bytes) {
  return zones->reclaimer.reclaim(bytes);
}
size_t slabmalloc_cpu_zones_drain_all(slabmalloc_cpu_zones* zones) {
  zones->heap.drain_and_leave_current();
  zones->heap.give_back();
  return zones->heap.frame_bytes();
}

// ---- statistics ---------------------------------------------------------------------------------

slabmalloc_cpu_zones_counters slabmalloc_cpu_zones_counters_of(slabmalloc_cpu_zones* zones) {
  const slabmalloc::CpuZonesStatistics now = zones->heap.statistics();
  return {now.zones.used_bytes,
          now.frame_bytes,
          now.frame_bytes_high_water,
          now.cached_frame_bytes,
          now.reserved_frame_bytes,
          now.run_bytes,
          now.deferred_bytes,
          now.zones.allocations,
          now.zones.frees,
          now.zones.remote_frees,
          now.nested_allocations,
          now.nested_frees,
          now.searches,
          now.sleeps,
          now.failures};
}
size_t slabmalloc_cpu_zones_frame_bytes(slabmalloc_cpu_zones* zones) {
  return zones->heap.frame_bytes();
}
void slabmalloc_cpu_zones_slabinfo(slabmalloc_cpu_zones* zones, slabmalloc_line_callback callback,
                                   void* argument) {
  write_slabinfo(zones->reclaimer, [=](const char* line) noexcept {
    if (callback != nullptr) {
      callback(argument, line);
    } else {
      slabmalloc_hook_log(line);
    }
  });
}
const char* slabmalloc_cpu_zones_validate(slabmalloc_cpu_zones* zones) {
  const char* const broken = zones->heap.validate();
  return broken != nullptr ? broken : zones->reclaimer.validate();
}

}  // extern "C"
