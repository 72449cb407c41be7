// SPDX-License-Identifier: MIT
//
// Opening a page in the chunk records, and asking the arena, then ended threads, for memory.
#include "malloc/arena_zone.hpp"

#include "malloc/thread_zones.hpp"

namespace slabmalloc {

void ArenaTable::open(Header* header, const SlotGeometry& geometry) noexcept {
  Chunk* head = Chunk::of(header);
  const std::size_t chunks = frame_bytes(geometry.object_size) / chunk_bytes;
  for (std::size_t number = 1; number < chunks; ++number) {
    head[number].publish(ChunkInfo::slab_tail(static_cast<std::uint16_t>(number)));
  }
  head->publish(ChunkInfo::slab_head(geometry.object_size, geometry.slots,
                                     static_cast<std::uint8_t>(header->class_index)));
}

Frame ArenaPager::allocate_frame(std::size_t bytes) noexcept {
  thread_zones.drain_some();
  const std::size_t chunks = bytes / chunk_bytes;
  Extent extent = process_arena.allocate(chunks, bytes);
  if (!extent && thread_zones.drain_all()) {
    extent = process_arena.allocate(chunks, bytes);
  }
  return {extent.address, extent.zeroed};
}

}  // namespace slabmalloc
