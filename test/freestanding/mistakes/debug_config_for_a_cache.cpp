// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

// The remedy: DebugCacheOptions.
constinit ObjectCache<int, Kernel, FrameAllocator<Kernel>, DebugKernelConfig> cache_of_a_heap(
    "int", frames);
int* get() { return cache_of_a_heap.allocate(); }

}  // namespace slabmalloc
