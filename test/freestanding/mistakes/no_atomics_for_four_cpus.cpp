// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

constinit FrameAllocator<Kernel, 4096, SingleCpuAtomics> frames_without_atomics;
constinit CpuZones<Kernel, FrameAllocator<Kernel>, GranuleKernelConfig<4096, SingleCpuAtomics>>
    heap_without_atomics(frames);

}  // namespace slabmalloc
