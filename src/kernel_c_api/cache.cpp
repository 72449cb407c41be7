// SPDX-License-Identifier: MIT
//
// Object caches, as kernel.h declares them.
#include "slabmalloc/kernel/cache.hpp"

#include <cstdint>
#include <new>

#include "kernel_c_api/cpu_zones.hpp"

namespace {

using slabmalloc::CacheError;
using slabmalloc::CacheShape;
using slabmalloc::Context;
using slabmalloc::context_of;
using slabmalloc::for_client;
using Objects = slabmalloc::Cache<slabmalloc::ClientKernel, slabmalloc::ClientPager>;

constexpr slabmalloc_error error_of(CacheError error) noexcept {
  switch (error) {
    case CacheError::None:
      break;
    case CacheError::NoSize:
      return SLABMALLOC_NO_SIZE;
    case CacheError::AlignmentNotPower:
      return SLABMALLOC_ALIGNMENT_NOT_POWER;
    case CacheError::TooLarge:
      return SLABMALLOC_TOO_LARGE;
    case CacheError::OutOfMemory:
      return SLABMALLOC_OUT_OF_MEMORY;
  }
  return SLABMALLOC_OK;
}

}  // namespace

struct slabmalloc_cache {
  slabmalloc_cache(slabmalloc_cpu_zones* home, const slabmalloc_cache_parameters& given,
                   const CacheShape& shape) noexcept
      : zones(home),
        parameters(given),
        objects(given.name, home->pager, shape,
                {given.construct != nullptr ? &construct : nullptr,
                 given.destroy != nullptr ? &destroy : nullptr, this}),
        entry(objects) {
    objects.set_reclaim(home->reclaimer.reclaim_for, &home->reclaimer);
    if (given.shrink != nullptr) {
      entry.set_shrink(given.shrink, given.argument);
    }
  }

  slabmalloc_cpu_zones* zones;
  slabmalloc_cache_parameters parameters;
  Objects objects;
  slabmalloc::Reclaimable entry;

 private:
  static bool construct(void* place, Context context, void* self) {
    const auto& given = static_cast<const slabmalloc_cache*>(self)->parameters;
    return given.construct(place, for_client(context), given.argument);
  }
  static void destroy(void* object, void* self) {
    const auto& given = static_cast<const slabmalloc_cache*>(self)->parameters;
    given.destroy(object, given.argument);
  }
};

namespace {

constexpr slabmalloc::Layout cache_layout = slabmalloc::Layout::of<slabmalloc_cache>();

}  // namespace

extern "C" {

slabmalloc_cache* slabmalloc_cache_create(slabmalloc_cpu_zones* zones,
                                          const slabmalloc_cache_parameters* parameters,
                                          slabmalloc_error* error) {
  const std::size_t alignment = parameters->alignment != 0 ? parameters->alignment : 8;
  const CacheShape shape = Objects::shape_for(parameters->object_bytes, alignment);
  void* const place = shape.error == CacheError::None
                          ? zones->heap.allocate(cache_layout).value_or(nullptr)
                          : nullptr;
  if (place == nullptr) {
    if (error != nullptr) {
      *error = error_of(shape.error != CacheError::None ? shape.error : CacheError::OutOfMemory);
    }
    return nullptr;
  }
  auto* const cache = ::new (place) slabmalloc_cache(zones, *parameters, shape);
  zones->reclaimer.add(cache->entry);
  return cache;
}

size_t slabmalloc_cache_destroy(slabmalloc_cache* cache) {
  slabmalloc_cpu_zones* const zones = cache->zones;
  if (!zones->reclaimer.remove(cache->entry)) {
    return SIZE_MAX;
  }
  const std::size_t used = cache->objects.destroy();
  if (used == 0) {
    zones->heap.deallocate(cache, cache_layout);
  } else {
    zones->reclaimer.add(cache->entry);
  }
  return used;
}

void* slabmalloc_cache_allocate(slabmalloc_cache* cache, slabmalloc_context context) {
  return cache->objects.allocate(context_of(context));
}
void slabmalloc_cache_deallocate(slabmalloc_cache* cache, void* object) {
  cache->objects.deallocate(object);
}
size_t slabmalloc_cache_allocate_many(slabmalloc_cache* cache, void** objects, size_t count,
                                      slabmalloc_context context) {
  return cache->objects.allocate_many(objects, count, context_of(context));
}
void slabmalloc_cache_deallocate_many(slabmalloc_cache* cache, void* const* objects, size_t count) {
  cache->objects.deallocate_many(objects, count);
}

slabmalloc_error slabmalloc_cache_reserve(slabmalloc_cache* cache, size_t objects) {
  return for_client(cache->objects.reserve(objects));
}
slabmalloc_error slabmalloc_cache_reserve_for_interrupts(slabmalloc_cache* cache,
                                                         uint32_t objects) {
  return for_client(cache->objects.reserve_for_interrupts(objects));
}
void slabmalloc_cache_set_limit(slabmalloc_cache* cache, size_t objects,
                                slabmalloc_limit_callback callback, void* argument) {
  cache->objects.set_limit(objects, callback, argument);
}
void slabmalloc_cache_set_waiting(slabmalloc_cache* cache, bool waits) {
  cache->objects.set_waiting(waits);
}

slabmalloc_cache_counters slabmalloc_cache_counters_of(slabmalloc_cache* cache) {
  const slabmalloc::CacheStatistics now = cache->objects.statistics();
  return {now.objects_in_use,   now.objects,      now.object_bytes,
          now.objects_per_page, now.page_bytes,   now.pages,
          now.pages_high_water, now.remote_frees, now.failures};
}
const char* slabmalloc_cache_validate(slabmalloc_cache* cache) { return cache->objects.validate(); }

}  // extern "C"
