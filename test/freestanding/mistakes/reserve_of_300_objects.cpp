// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

struct LargeReserve : KernelConfig {
  static constexpr std::uint32_t reserve_objects = 300;
};
constinit CpuZones<Kernel, FrameAllocator<Kernel>, LargeReserve> heap_with_a_reserve(frames);

}  // namespace slabmalloc
