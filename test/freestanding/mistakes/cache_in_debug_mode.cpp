// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

struct DebugOptions : CacheOptions {
  using Debug = KernelDebug;
};
constinit ObjectCache<int, Kernel, FrameAllocator<Kernel>, DebugOptions> cache_in_debug_mode(
    "int", frames);
int* get() { return cache_in_debug_mode.allocate(); }

}  // namespace slabmalloc
