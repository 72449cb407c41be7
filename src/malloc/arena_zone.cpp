// SPDX-License-Identifier: MIT
//
// Opens a page in the chunk records, and requests memory from the arena and then from ended
// threads.
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

bool ArenaTable::purge_if_empty(Header* header) noexcept {
  const ChunkInfo info = Chunk::of(header)->snapshot();
  const std::uint32_t words = info.words();
  // Acquire, with the release in RemoteFree::deliver(): the freeing thread's writes come first.
  const auto freed_by_others = [&](std::uint32_t word) noexcept {
    const Word remote = header->remote(word, words).load(Order::acquire);
    return remote & ~header->local(word).load(Order::relaxed);
  };
  for (std::uint32_t word = 0; word < words; ++word) {
    if ((header->local(word).load(Order::relaxed) | freed_by_others(word)) != ~Word{0}) {
      return false;
    }
  }
  const std::size_t slot_bytes = MallocConfig::SizeClasses::size_of(info.class_index);
  std::uint32_t first = 0;
  for (std::uint32_t slot = 0; slot <= info.slots; ++slot) {
    if (slot < info.slots && is_set(freed_by_others(slot / word_bits), slot)) {
      continue;
    }
    process_arena.purge_part(frame_of(header) + first * slot_bytes, (slot - first) * slot_bytes);
    first = slot + 1;
  }
  return true;
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
