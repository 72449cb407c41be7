// SPDX-License-Identifier: MIT
//
// Zones over a client's pager, as slabmalloc.h declares them.
#include <new>

#include "malloc/front.hpp"
#include "slabmalloc/slabmalloc.h"
#include "slabmalloc/zone/zone_allocator.hpp"

namespace {

using slabmalloc::Frame;
using slabmalloc::Layout;

/// The client's functions as a pager.
class ClientPager {
 public:
  explicit ClientPager(const slabmalloc_pager& functions) noexcept : functions_(functions) {}

  Frame allocate_frame(std::size_t bytes) noexcept {
    return functions_.allocate_frame(functions_.context, bytes);
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    functions_.deallocate_frame(functions_.context, frame, bytes);
  }
  Frame allocate_run(std::size_t bytes, std::size_t alignment) noexcept {
    return functions_.allocate_run != nullptr
               ? functions_.allocate_run(functions_.context, bytes, alignment)
               : nullptr;
  }
  void deallocate_run(void* run, std::size_t bytes, std::size_t alignment) noexcept {
    functions_.deallocate_run(functions_.context, run, bytes, alignment);
  }

 private:
  slabmalloc_pager functions_;
};

using ClientZone = slabmalloc::PagedZone<ClientPager, slabmalloc::MiddlePageConfig>;

bool is_sound(const slabmalloc_pager& pager) noexcept {
  return pager.allocate_frame != nullptr && pager.deallocate_frame != nullptr &&
         (pager.allocate_run == nullptr) == (pager.deallocate_run == nullptr);
}

}  // namespace

struct slabmalloc_zone {
  explicit slabmalloc_zone(const slabmalloc_pager& functions) noexcept
      : pager(functions), zone(pager) {}
  ClientPager pager;
  ClientZone zone;
};

#pragma GCC visibility push(default)
extern "C" {

slabmalloc_zone* slabmalloc_zone_create(const slabmalloc_pager* pager) {
  if (pager == nullptr || !is_sound(*pager)) {
    return nullptr;
  }
  void* memory =
      slabmalloc::front::allocate_aligned(sizeof(slabmalloc_zone), alignof(slabmalloc_zone));
  return memory != nullptr ? new (memory) slabmalloc_zone(*pager) : nullptr;
}

void slabmalloc_zone_destroy(slabmalloc_zone* zone) {
  if (zone != nullptr) {
    zone->zone.release_all([zone](void* frame, std::size_t bytes) noexcept {
      zone->pager.deallocate_frame(frame, bytes);
    });
    slabmalloc::front::deallocate<slabmalloc::Call::ZoneDestroy>(zone);
  }
}

void* slabmalloc_zone_allocate(slabmalloc_zone* zone, size_t bytes, size_t alignment) {
  const auto layout = Layout::from_size_align(bytes, alignment);
  return layout ? zone->zone.allocate(*layout).value_or(nullptr) : nullptr;
}

void* slabmalloc_zone_allocate_zeroed(slabmalloc_zone* zone, size_t bytes, size_t alignment) {
  const auto layout = Layout::from_size_align(bytes, alignment);
  return layout ? zone->zone.allocate_zeroed(*layout).value_or(nullptr) : nullptr;
}

void* slabmalloc_zone_reallocate(slabmalloc_zone* zone, void* block, size_t old_bytes,
                                 size_t new_bytes, size_t alignment) {
  const auto old_layout = Layout::from_size_align(old_bytes, alignment);
  const auto new_layout = Layout::from_size_align(new_bytes, alignment);
  if (!old_layout || !new_layout) {
    return nullptr;
  }
  return block == nullptr
             ? zone->zone.allocate(*new_layout).value_or(nullptr)
             : zone->zone.reallocate(block, *old_layout, *new_layout).value_or(nullptr);
}

void slabmalloc_zone_deallocate(slabmalloc_zone* zone, void* block, size_t bytes,
                                size_t alignment) {
  const auto layout = Layout::from_size_align(bytes, alignment);
  if (block != nullptr) {
    // An impossible layout counts as one with the wrong size.
    zone->zone.deallocate(block, layout ? *layout : Layout());
  }
}

void slabmalloc_zone_deallocate_remote(void* block, size_t bytes, size_t alignment) {
  const auto layout = Layout::from_size_align(bytes, alignment);
  if (block != nullptr) {
    ClientZone::deallocate_remote(block, layout ? *layout : Layout());
  }
}

void slabmalloc_zone_drain(slabmalloc_zone* zone) { zone->zone.drain(); }

size_t slabmalloc_zone_trim(slabmalloc_zone* zone) { return zone->zone.trim(); }

void slabmalloc_zone_statistics(const slabmalloc_zone* zone, slabmalloc_statistics* result) {
  const slabmalloc::ZoneStatistics sum = zone->zone.statistics();
  *result = {sum.used_bytes,
             sum.page_bytes + sum.depot_bytes,
             sum.frame_bytes_high_water,
             sum.allocations,
             sum.frees,
             sum.remote_frees};
}

}  // extern "C"
#pragma GCC visibility pop
