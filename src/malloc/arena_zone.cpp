// SPDX-License-Identifier: MIT
//
// Opens a page in the chunk records, and requests memory from the arena and then from ended
// threads.
#include "malloc/arena_zone.hpp"

#include "malloc/hole_scan.hpp"
#include "malloc/random.hpp"
#include "malloc/thread_zones.hpp"
#include "os/os.hpp"

namespace slabmalloc {

namespace {

/// The sizes that blocks of class `index` serve, 0 among those of the first.
constexpr std::uint16_t sizes_of_class(std::uint32_t index) noexcept {
  using SizeClasses = MallocConfig::SizeClasses;
  const std::size_t size = SizeClasses::size_of(index);
  return static_cast<std::uint16_t>(index == 0 ? size + 1 : size - SizeClasses::size_of(index - 1));
}

}  // namespace

ChunkInfo ArenaTable::info_for(const SlotGeometry& geometry, std::uint32_t class_index) noexcept {
  return ChunkInfo::slab_head(static_cast<std::uint16_t>(geometry.object_size),
                              static_cast<std::uint16_t>(geometry.slots),
                              static_cast<std::uint8_t>(class_index), sizes_of_class(class_index));
}

void ArenaTable::open(Header* header, const SlotGeometry& geometry) noexcept {
  Chunk* head = Chunk::of(header);
  const std::size_t chunks = frame_bytes(geometry.object_size) / chunk_bytes;
  for (std::size_t number = 1; number < chunks; ++number) {
    head[number].publish(ChunkInfo::slab_tail(static_cast<std::uint16_t>(number)));
    head[number].set_holes({});
  }
  head->set_holes({});
  head->publish(info_for(geometry, header->class_index));
}

void ArenaTable::close(Header* header, const SlotGeometry& geometry) noexcept {
  Chunk* const head = Chunk::of(header);
  const std::size_t chunks = frame_bytes(geometry.object_size) / chunk_bytes;
  std::uint32_t units = 0;
  for (std::size_t number = 0; number < chunks; ++number) {
    units += count_ones(head[number].holes().dropped);
  }
  if (units != 0) {
    process_arena.note_hole_gone(units * unit_bytes);
  }
}

Word ArenaTable::random_word() noexcept {
  return tunables.random_order ? static_cast<Word>(thread_random_bits()) : ~Word{0};
}

/// The units of chunk `chunk` of a page that the bytes [begin, end) of the page touch; the bytes
/// touch the chunk.
constexpr UnitSet units_touched(std::uint32_t chunk, std::uint32_t begin,
                                std::uint32_t end) noexcept {
  const auto from = chunk * static_cast<std::uint32_t>(chunk_bytes);
  const std::uint32_t first = begin > from ? (begin - from) / unit_bytes : 0;
  const std::uint32_t last = (end - 1 - from) / unit_bytes;
  const std::uint32_t above = last + 1 < units_per_chunk ? ~std::uint32_t{0} << (last + 1) : 0;
  return static_cast<UnitSet>(~above & ~std::uint32_t{0} << first);
}

bool ArenaTable::claim_holes(Header* header, std::uint32_t object_size, std::uint32_t first,
                             std::uint32_t end) noexcept {
  Chunk* const head = Chunk::of(header);
  const std::uint32_t begin_byte = first * object_size;
  const std::uint32_t end_byte = end * object_size;
  std::uint32_t refaulted = 0;
  bool is_zero = true;
  for (std::uint32_t chunk = begin_byte >> chunk_shift; chunk <= (end_byte - 1) >> chunk_shift;
       ++chunk) {
    const UnitSet touched = units_touched(chunk, begin_byte, end_byte);
    const Holes holes = head[chunk].holes();
    is_zero = is_zero && (touched & ~holes.dropped) == 0;
    if ((touched & (holes.dropped | holes.seen)) != 0) {
      // An OS page faults in as a whole.
      const auto kept = static_cast<UnitSet>(~os_pages_around(touched));
      refaulted += count_ones(static_cast<UnitSet>(holes.dropped & ~kept));
      head[chunk].set_holes(
          {static_cast<UnitSet>(holes.dropped & kept), static_cast<UnitSet>(holes.seen & kept)});
    }
  }
  if (refaulted != 0) {
    process_arena.note_refault(refaulted * unit_bytes);
    ScavengedQueue::of(header->tag.load(Order::relaxed))->note_refault(refaulted);
  }
  return is_zero;
}

const char* ArenaTable::check_holes(Header* header, const SlotGeometry& geometry,
                                    std::uint32_t word, Word claimed) noexcept {
  Chunk* const head = Chunk::of(header);
  const auto is_hole = [head](std::uint32_t byte) noexcept {
    const Holes holes = head[byte >> chunk_shift].holes();
    return is_set(Word{holes.dropped} | holes.seen, byte % chunk_bytes / unit_bytes);
  };
  for (std::uint32_t slot = 0; slot < geometry.slots; ++slot) {
    const std::uint32_t index = slot / word_bits;
    const Word free = header->local(index).load(Order::relaxed) |
                      header->remote(index, geometry.words).load(Order::relaxed);
    if (is_set(free, slot % word_bits) && !(index == word && is_set(claimed, slot % word_bits))) {
      continue;
    }
    const std::uint32_t end = (slot + 1) * geometry.object_size;
    for (std::uint32_t byte = slot * geometry.object_size; byte < end;
         byte = (byte | (unit_bytes - 1)) + 1) {
      if (is_hole(byte)) {
        return "H1: a hole holds no live or claimed slot";
      }
    }
  }
  return nullptr;
}

Frame ArenaPager::allocate(std::size_t bytes, RunClass run_class) noexcept {
  thread_zones.drain_some();
  const std::size_t chunks = bytes / chunk_bytes;
  Extent extent = process_arena.allocate(chunks, bytes, run_class);
  if (!extent && thread_zones.drain_all()) {
    extent = process_arena.allocate(chunks, bytes, run_class);
  }
  return {extent.address, extent.zeroed};
}

}  // namespace slabmalloc
