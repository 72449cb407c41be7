// SPDX-License-Identifier: MIT
//
// Early memory, as kernel.h declares it.
#include "slabmalloc/kernel/early_memory.hpp"

#include "kernel_c_api/frame_allocator.hpp"

namespace {

slabmalloc::EarlyMemory<>& memory_of(slabmalloc_early_memory* early) noexcept {
  return slabmalloc::object_of<slabmalloc::EarlyMemory<>>(*early);
}

}  // namespace

extern "C" {

slabmalloc_error slabmalloc_early_memory_add(slabmalloc_early_memory* early,
                                             slabmalloc_region region) {
  return slabmalloc::for_client(memory_of(early).add({region.address, region.bytes}));
}
slabmalloc_error slabmalloc_early_memory_reserve(slabmalloc_early_memory* early,
                                                 slabmalloc_region region) {
  return slabmalloc::for_client(memory_of(early).reserve({region.address, region.bytes}));
}
void* slabmalloc_early_memory_allocate(slabmalloc_early_memory* early, size_t bytes,
                                       size_t alignment, uintptr_t limit) {
  if (!slabmalloc::is_power_of_two(alignment)) {
    return nullptr;
  }
  return memory_of(early).allocate(bytes, alignment, limit);
}
slabmalloc_error slabmalloc_early_memory_hand_over(slabmalloc_early_memory* early,
                                                   slabmalloc_frame_allocator* frames) {
  return slabmalloc::for_client(memory_of(early).hand_over(slabmalloc::frames_of(frames)));
}

}  // extern "C"
