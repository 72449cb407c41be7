// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

constinit CpuZones<Kernel, FrameAllocator<Kernel>, CacheOptions> heap_of_a_cache(frames);
void* get() { return heap_of_a_cache.allocate(Layout::of<int>()).value_or(nullptr); }

}  // namespace slabmalloc
