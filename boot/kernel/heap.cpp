// SPDX-License-Identifier: MIT
#include "kernel/heap.hpp"

namespace boot {

void take_memory(Frames& frames, std::size_t most_bytes) noexcept {
  slabmalloc::MemoryRegion regions[decltype(machine.memory)::maximum_regions];
  std::size_t count = 0;
  for (const Region& region : machine.memory) {
    const std::size_t bytes = region.bytes < most_bytes ? region.bytes : most_bytes;
    regions[count++] = {region.start, bytes};
    most_bytes -= bytes;
  }
  if (!frames.add(regions, count)) {
    panic("there is too little memory for the frame allocator");
  }
}

}  // namespace boot
