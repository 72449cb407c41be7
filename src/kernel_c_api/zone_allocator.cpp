// SPDX-License-Identifier: MIT
//
// Zones without a pager, as kernel.h declares them.
#include "slabmalloc/zone/zone_allocator.hpp"

#include "kernel_c_api/room.hpp"
#include "kernel_c_api/zone_counters.hpp"

namespace {

using slabmalloc::for_client;
using slabmalloc::LargeObjectPage;
using slabmalloc::Layout;
using slabmalloc::ObjectPage;
using slabmalloc::with_layout;
using slabmalloc::with_layout_of;
using Zone = slabmalloc::ZoneAllocator;

static_assert(SLABMALLOC_MAX_ALLOC_SIZE == Zone::MAX_ALLOC_SIZE &&
              SLABMALLOC_MAX_BASE_ALLOC_SIZE == Zone::MAX_BASE_ALLOC_SIZE);

[[gnu::always_inline]] inline Zone& zone_of(slabmalloc_zone_allocator* zone) noexcept {
  return slabmalloc::object_of<Zone>(*zone);
}

}  // namespace

extern "C" {

void* slabmalloc_zone_allocator_allocate(slabmalloc_zone_allocator* zone, size_t bytes,
                                         size_t alignment, slabmalloc_error* error) {
  return for_client(
      with_layout(bytes, alignment,
                  [zone](Layout layout) noexcept { return zone_of(zone).allocate(layout); }),
      error);
}
void slabmalloc_zone_allocator_deallocate(slabmalloc_zone_allocator* zone, void* block,
                                          size_t bytes, size_t alignment) {
  with_layout_of(block, bytes, alignment,
                 [=](Layout layout) noexcept { zone_of(zone).deallocate(block, layout); });
}
void slabmalloc_zone_allocator_deallocate_remote(void* block, size_t bytes, size_t alignment) {
  with_layout_of(block, bytes, alignment,
                 [block](Layout layout) noexcept { Zone::deallocate_remote(block, layout); });
}
void* slabmalloc_zone_allocator_reallocate(slabmalloc_zone_allocator* zone, void* block,
                                           size_t old_bytes, size_t new_bytes, size_t alignment,
                                           slabmalloc_error* error) {
  return for_client(with_layout(old_bytes, alignment,
                                [&](Layout old_layout) noexcept {
                                  return with_layout(
                                      new_bytes, alignment, [&](Layout layout) noexcept {
                                        return zone_of(zone).reallocate(block, old_layout, layout);
                                      });
                                }),
                    error);
}

slabmalloc_error slabmalloc_zone_allocator_refill(slabmalloc_zone_allocator* zone, size_t bytes,
                                                  size_t alignment, void* page) {
  return for_client(with_layout(bytes, alignment, [=](Layout layout) noexcept {
    return zone_of(zone).refill(layout, static_cast<ObjectPage*>(page));
  }));
}
slabmalloc_error slabmalloc_zone_allocator_refill_large(slabmalloc_zone_allocator* zone,
                                                        size_t bytes, size_t alignment,
                                                        void* page) {
  return for_client(with_layout(bytes, alignment, [=](Layout layout) noexcept {
    return zone_of(zone).refill_large(layout, static_cast<LargeObjectPage*>(page));
  }));
}
size_t slabmalloc_zone_allocator_page_bytes(size_t bytes, size_t alignment) {
  const auto layout = Layout::from_size_align(bytes, alignment);
  return layout ? Zone::frame_bytes(*layout) : 0;
}
size_t slabmalloc_zone_allocator_try_reclaim_base_pages(slabmalloc_zone_allocator* zone,
                                                        size_t limit,
                                                        slabmalloc_page_callback callback,
                                                        void* argument) {
  return zone_of(zone).try_reclaim_base_pages(
      limit, [=](ObjectPage* page) noexcept { callback(argument, page); });
}
size_t slabmalloc_zone_allocator_try_reclaim_large_pages(slabmalloc_zone_allocator* zone,
                                                         size_t limit,
                                                         slabmalloc_page_callback callback,
                                                         void* argument) {
  return zone_of(zone).try_reclaim_large_pages(
      limit, [=](LargeObjectPage* page) noexcept { callback(argument, page); });
}
size_t slabmalloc_get_max_size(size_t bytes) { return Zone::get_max_size(bytes).value_or(0); }

slabmalloc_zone_counters slabmalloc_zone_allocator_counters(slabmalloc_zone_allocator* zone) {
  return for_client(zone_of(zone).statistics());
}
const char* slabmalloc_zone_allocator_validate(slabmalloc_zone_allocator* zone) {
  return zone_of(zone).validate();
}

}  // extern "C"
