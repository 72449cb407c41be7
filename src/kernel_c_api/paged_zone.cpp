// SPDX-License-Identifier: MIT
//
// Zones over a kernel's pager, as kernel.h declares them.
#include "kernel_c_api/pager.hpp"
#include "kernel_c_api/room.hpp"
#include "kernel_c_api/zone_counters.hpp"
#include "slabmalloc/zone/zone_allocator.hpp"

namespace {

using slabmalloc::ClientPager;
using slabmalloc::for_client;
using slabmalloc::Layout;
using slabmalloc::with_layout;
using slabmalloc::with_layout_of;
using ClientZone = slabmalloc::PagedZone<ClientPager, slabmalloc::MiddlePageConfig>;

static_assert(SLABMALLOC_MAX_ALLOC_SIZE == ClientZone::MAX_ALLOC_SIZE);

struct ZoneAndPager {
  explicit ZoneAndPager(const slabmalloc_kernel_pager* functions) noexcept
      : pager(functions != nullptr ? *functions : slabmalloc_kernel_pager{}) {}
  ClientPager pager;
  ClientZone zone{pager};
};

[[gnu::always_inline]] inline ZoneAndPager& parts_of(slabmalloc_paged_zone* self) noexcept {
  return slabmalloc::object_of<ZoneAndPager>(
      *self, [self](void* place) noexcept { ::new (place) ZoneAndPager(self->pager); });
}
[[gnu::always_inline]] inline ClientZone& zone_of(slabmalloc_paged_zone* self) noexcept {
  return parts_of(self).zone;
}

}  // namespace

extern "C" {

void* slabmalloc_paged_zone_allocate(slabmalloc_paged_zone* zone, size_t bytes, size_t alignment) {
  return for_client(
      with_layout(bytes, alignment,
                  [zone](Layout layout) noexcept { return zone_of(zone).allocate(layout); }),
      nullptr);
}
void* slabmalloc_paged_zone_allocate_zeroed(slabmalloc_paged_zone* zone, size_t bytes,
                                            size_t alignment) {
  return for_client(
      with_layout(bytes, alignment,
                  [zone](Layout layout) noexcept { return zone_of(zone).allocate_zeroed(layout); }),
      nullptr);
}
void slabmalloc_paged_zone_deallocate(slabmalloc_paged_zone* zone, void* block, size_t bytes,
                                      size_t alignment) {
  with_layout_of(block, bytes, alignment,
                 [=](Layout layout) noexcept { zone_of(zone).deallocate(block, layout); });
}
void slabmalloc_paged_zone_deallocate_remote(void* block, size_t bytes, size_t alignment) {
  with_layout_of(block, bytes, alignment,
                 [block](Layout layout) noexcept { ClientZone::deallocate_remote(block, layout); });
}
void* slabmalloc_paged_zone_reallocate(slabmalloc_paged_zone* zone, void* block, size_t old_bytes,
                                       size_t new_bytes, size_t alignment) {
  const auto old_layout = Layout::from_size_align(old_bytes, alignment);
  const auto new_layout = Layout::from_size_align(new_bytes, alignment);
  return old_layout && new_layout
             ? zone_of(zone).reallocate(block, *old_layout, *new_layout).value_or(nullptr)
             : nullptr;
}
size_t slabmalloc_paged_zone_trim(slabmalloc_paged_zone* zone) { return zone_of(zone).trim(); }
void slabmalloc_paged_zone_release_all(slabmalloc_paged_zone* zone) {
  ZoneAndPager& parts = parts_of(zone);
  parts.zone.release_all(
      [&parts](void* frame, size_t bytes) noexcept { parts.pager.deallocate_frame(frame, bytes); });
}
slabmalloc_zone_counters slabmalloc_paged_zone_counters(slabmalloc_paged_zone* zone) {
  return for_client(zone_of(zone).statistics());
}
const char* slabmalloc_paged_zone_validate(slabmalloc_paged_zone* zone) {
  return zone_of(zone).validate();
}

}  // extern "C"
