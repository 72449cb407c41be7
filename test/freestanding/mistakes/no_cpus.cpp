// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

struct NoCpus : Kernel {
  static constexpr std::uint32_t maximum_cpus = 0;
};
constinit CpuZones<NoCpus, FrameAllocator<Kernel>> heap_of_none(frames);

}  // namespace slabmalloc
