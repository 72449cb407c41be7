// SPDX-License-Identifier: MIT
//
// Allocators of one size, as kernel.h declares them.
#include "slabmalloc/zone/sc_allocator.hpp"

#include "kernel_c_api/room.hpp"
#include "slabmalloc/kernel.h"

namespace {

using slabmalloc::for_client;
using slabmalloc::LargeObjectPage;
using slabmalloc::Layout;
using slabmalloc::ObjectPage;
using slabmalloc::SCAllocator;

static_assert(sizeof(ObjectPage) == SLABMALLOC_BASE_PAGE &&
              sizeof(LargeObjectPage) == SLABMALLOC_LARGE_PAGE);

template <class Page>
[[gnu::always_inline]] inline SCAllocator<Page>& over(slabmalloc_sc_allocator& self) noexcept {
  return slabmalloc::object_of<SCAllocator<Page>>(self, [&self](void* place) noexcept {
    ::new (place) SCAllocator<Page>(self.object_bytes, self.alignment != 0 ? self.alignment : 8);
  });
}

/// Calls f(allocator, page), where `page` is a null pointer to the page type.
template <class F>
[[gnu::always_inline]] inline auto with(slabmalloc_sc_allocator* self, F&& f) noexcept {
  if (self->page_bytes == SLABMALLOC_LARGE_PAGE) {
    return f(over<LargeObjectPage>(*self), static_cast<LargeObjectPage*>(nullptr));
  }
  return f(over<ObjectPage>(*self), static_cast<ObjectPage*>(nullptr));
}

}  // namespace

extern "C" {

void* slabmalloc_sc_allocator_allocate(slabmalloc_sc_allocator* self, size_t bytes,
                                       size_t alignment, slabmalloc_error* error) {
  return for_client(slabmalloc::with_layout(bytes, alignment,
                                            [&](Layout layout) noexcept {
                                              return with(self,
                                                          [&](auto& allocator, auto*) noexcept {
                                                            return allocator.allocate(layout);
                                                          });
                                            }),
                    error);
}
void slabmalloc_sc_allocator_deallocate(slabmalloc_sc_allocator* self, void* object, size_t bytes,
                                        size_t alignment) {
  slabmalloc::with_layout_of(object, bytes, alignment, [&](Layout layout) noexcept {
    with(self,
         [&](auto& allocator, auto*) noexcept { return allocator.deallocate(object, layout); });
  });
}
void slabmalloc_sc_allocator_deallocate_remote(slabmalloc_sc_allocator* self, void* object,
                                               size_t bytes, size_t alignment) {
  slabmalloc::with_layout_of(object, bytes, alignment, [&](Layout layout) noexcept {
    with(self, [&](auto& allocator, auto*) noexcept {
      return allocator.deallocate_remote(object, layout);
    });
  });
}
slabmalloc_error slabmalloc_sc_allocator_refill(slabmalloc_sc_allocator* self, void* page) {
  return with(self, [page](auto& allocator, auto* type) noexcept {
    return for_client(allocator.refill(static_cast<decltype(type)>(page)));
  });
}
size_t slabmalloc_sc_allocator_try_reclaim_pages(slabmalloc_sc_allocator* self, size_t limit,
                                                 slabmalloc_page_callback callback,
                                                 void* argument) {
  return with(self, [&](auto& allocator, auto*) noexcept {
    return allocator.try_reclaim_pages(limit,
                                       [&](void* page) noexcept { callback(argument, page); });
  });
}
size_t slabmalloc_sc_allocator_usable_size(slabmalloc_sc_allocator* self) {
  return with(self, [](auto& allocator, auto*) noexcept { return allocator.usable_size(); });
}
slabmalloc_zone_counters slabmalloc_sc_allocator_counters(slabmalloc_sc_allocator* self) {
  const slabmalloc::ClassStatistics now =
      with(self, [](auto& allocator, auto*) noexcept { return allocator.statistics(); });
  return {now.used * now.object_size,
          now.pages * now.page_bytes,
          now.allocations,
          now.frees,
          now.remote_frees,
          now.refills,
          now.reclaims};
}
const char* slabmalloc_sc_allocator_validate(slabmalloc_sc_allocator* self) {
  return with(self, [](auto& allocator, auto*) noexcept { return allocator.validate(); });
}

}  // extern "C"
