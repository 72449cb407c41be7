// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

constinit ObjectCache<int, Kernel, FrameAllocator<Kernel>, KernelConfig> cache_of_a_heap("int",
                                                                                         frames);
int* get() { return cache_of_a_heap.allocate(); }

}  // namespace slabmalloc
