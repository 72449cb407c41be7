// SPDX-License-Identifier: MIT
#include "kernel/heap.hpp"

namespace boot {
namespace {

void require_room(const slabmalloc::Result<void>& result) noexcept {
  if (!result) {
    panic("there are more memory regions than fit");
  }
}

}  // namespace

void add_memory(Region region) noexcept {
  require_room(machine.memory.add({region.start, region.bytes}));
}
void reserve_memory(Region region) noexcept {
  require_room(machine.memory.reserve({region.start, region.bytes}));
}

void find_memory(slabmalloc::EarlyMemory<page_bytes>& early, std::size_t most_bytes) noexcept {
  for_each_free([&](Region region) {
    const std::size_t bytes = region.bytes < most_bytes ? region.bytes : most_bytes;
    require_room(early.add({region.start, bytes}));
    most_bytes -= bytes;
  });
}

}  // namespace boot
