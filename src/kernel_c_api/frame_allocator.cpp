// SPDX-License-Identifier: MIT
//
// Frame allocators, as kernel.h declares them.
#include "kernel_c_api/frame_allocator.hpp"

#include <cstddef>

namespace {

using slabmalloc::frames_of;
using slabmalloc::MemoryRegion;

static_assert(sizeof(MemoryRegion) == sizeof(slabmalloc_region) &&
                  offsetof(MemoryRegion, bytes) == offsetof(slabmalloc_region, bytes),
              "a list of regions of C is one of C++");

slabmalloc_frame_allocator* self_of(void* argument) noexcept {
  return static_cast<slabmalloc_frame_allocator*>(argument);
}

void* allocate_frame(void* self, size_t bytes, slabmalloc_context) noexcept {
  return frames_of(self_of(self)).allocate_frame(bytes).address;
}
void deallocate_frame(void* self, void* frame, size_t bytes) noexcept {
  frames_of(self_of(self)).deallocate_frame(frame, bytes);
}
void* allocate_run(void* self, size_t bytes, size_t alignment, slabmalloc_context) noexcept {
  return frames_of(self_of(self)).allocate_run(bytes, alignment).address;
}
bool deallocate_run(void* self, void* run, size_t bytes) noexcept {
  return frames_of(self_of(self)).deallocate_run(run, bytes, 1);
}
slabmalloc_block find(void* self, const void* address) noexcept {
  const slabmalloc::PagerBlock block = frames_of(self_of(self)).block_at(address);
  return {block.address, block.bytes, static_cast<slabmalloc_use>(block.use)};
}

}  // namespace

extern "C" {

slabmalloc_error slabmalloc_frame_allocator_add(slabmalloc_frame_allocator* frames,
                                                const slabmalloc_region* regions, size_t count) {
  return slabmalloc::for_client(
      frames_of(frames).add(reinterpret_cast<const MemoryRegion*>(regions), count));
}

void* slabmalloc_frame_allocator_allocate_frame(slabmalloc_frame_allocator* frames, size_t bytes) {
  return frames_of(frames).allocate_frame(bytes).address;
}
void slabmalloc_frame_allocator_deallocate_frame(slabmalloc_frame_allocator* frames, void* frame,
                                                 size_t bytes) {
  frames_of(frames).deallocate_frame(frame, bytes);
}

void* slabmalloc_frame_allocator_allocate_run(slabmalloc_frame_allocator* frames, size_t bytes,
                                              size_t alignment) {
  return slabmalloc::is_power_of_two(alignment)
             ? frames_of(frames).allocate_run(bytes, alignment).address
             : nullptr;
}
void* slabmalloc_frame_allocator_allocate_run_at(slabmalloc_frame_allocator* frames, void* address,
                                                 size_t bytes) {
  return frames_of(frames).allocate_run_at(address, bytes).address;
}
bool slabmalloc_frame_allocator_deallocate_run(slabmalloc_frame_allocator* frames, void* run,
                                               size_t bytes) {
  return deallocate_run(frames, run, bytes);
}

bool slabmalloc_frame_allocator_owns(slabmalloc_frame_allocator* frames, const void* address) {
  return frames_of(frames).owns(address);
}
slabmalloc_block slabmalloc_frame_allocator_find(slabmalloc_frame_allocator* frames,
                                                 const void* address) {
  return find(frames, address);
}
slabmalloc_kernel_pager slabmalloc_frame_allocator_pager(slabmalloc_frame_allocator* frames) {
  return {frames, &allocate_frame, &deallocate_frame, &allocate_run, &deallocate_run, &find};
}

slabmalloc_frame_counters slabmalloc_frame_allocator_counters(slabmalloc_frame_allocator* frames) {
  const slabmalloc::FrameStatistics now = frames_of(frames).statistics();
  return {now.managed_bytes,  now.free_bytes,  now.used_bytes, now.used_bytes_high_water,
          now.metadata_bytes, now.allocations, now.frees,      now.failures};
}
const char* slabmalloc_frame_allocator_validate(slabmalloc_frame_allocator* frames) {
  return frames_of(frames).validate();
}

}  // extern "C"
