// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

constinit CpuZones<Kernel, FrameAllocator<Kernel>, DefaultConfig> heap_of_a_zone(frames);
void* get() { return heap_of_a_zone.allocate(Layout::of<int>()).value_or(nullptr); }

}  // namespace slabmalloc
