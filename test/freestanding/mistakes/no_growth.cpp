// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

struct NoGrowth : KernelConfig {
  static constexpr std::uint32_t growth_frames = 0;
};
constinit CpuZones<Kernel, FrameAllocator<Kernel>, NoGrowth> heap_without_frames(frames);
void* get() { return heap_without_frames.allocate(Layout::of<int>()).value_or(nullptr); }

}  // namespace slabmalloc
