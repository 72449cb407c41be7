// SPDX-License-Identifier: MIT
//
// The process heap's slow paths: whatever the calling thread's zone cannot do at once.
#include "malloc/heap.hpp"

namespace slabmalloc::heap {

namespace {

/// What an address is.
struct Place {
  enum class Kind : std::uint8_t { Slot, Large, Invalid };
  Kind kind;
  Chunk* head = nullptr;         ///< Slot: the record of its page's first chunk.
  std::uint32_t slot = 0;        ///< Slot: its number.
  std::size_t usable_bytes = 0;  ///< Not for what is invalid.
};

/// The calling thread's zone, made if need be; null where it can have none.
ArenaZone* own_zone() noexcept {
  return thread_heap.zone != &empty_zone ? thread_heap.zone : thread_zones.acquire();
}

/// Reports an address that is not the first byte of a large object.
[[gnu::cold]] void report_no_large_object(const void* address, LargeFree answer) noexcept {
  switch (answer) {
    case LargeFree::Freed:
      return;
    case LargeFree::AlreadyFree:
      report_misuse({MisuseKind::DoubleFree, address, 0, 0});
      return;
    case LargeFree::Inside:
      report_misuse({MisuseKind::MisalignedFree, address, 0, 0});
      return;
    case LargeFree::Foreign:
      report_misuse({MisuseKind::ForeignPointer, address, 0, 0});
      return;
  }
}

/// The slot that `address` is the first byte of. Fails: MisalignedFree, reported; then kind is Invalid.
Place slot_place(ArenaTable::Header* page, const void* address) noexcept {
  Chunk* head = Chunk::of(page);
  const ChunkInfo info = head->snapshot();
  const std::size_t slot_bytes = SizeClasses::size_of(info.class_index);
  const std::uint32_t slot = info.slot_at(static_cast<std::uint32_t>(
      static_cast<const std::byte*>(address) - process_arena.address_of(head)));
  if (slot == ChunkInfo::no_slot) {
    report_misuse({MisuseKind::MisalignedFree, address, slot_bytes, 0});
    return {Place::Kind::Invalid};
  }
  return {Place::Kind::Slot, head, slot, slot_bytes};
}

/// Finds what is live at `address`. Fails: anything else is reported; then kind is Invalid.
Place find_live(const void* address) noexcept {
  if (ArenaTable::Header* page = ArenaTable::head_of(address)) {
    Place place = slot_place(page, address);
    if (place.kind == Place::Kind::Slot &&
        thread_heap.zone->is_free(page, place.head->info.class_index, place.slot)) {
      report_misuse({MisuseKind::DoubleFree, address, place.usable_bytes, place.slot});
      return {Place::Kind::Invalid};
    }
    return place;
  }
  const std::size_t bytes = process_arena.large_usable_bytes(address);
  if (bytes == 0) {
    report_no_large_object(address, process_arena.classify(address));
    return {Place::Kind::Invalid};
  }
  return {Place::Kind::Large, nullptr, 0, bytes};
}

void* allocate_of_class(std::uint32_t index) noexcept {
  ArenaZone* zone = own_zone();
  return zone != nullptr ? zone->allocate_class(index).value_or(nullptr)
                         : thread_zones.allocate_late(index, 0, false);
}

/// Makes free what was freed anywhere, before memory is declared exhausted; true if memory went back to the
/// arena.
bool drain_everything() noexcept {
  const bool others = thread_zones.drain_all();
  return (thread_heap.zone != &empty_zone && thread_heap.zone->trim() != 0) || others;
}

Extent allocate_large(std::size_t bytes, std::size_t alignment) noexcept {
  Extent extent = process_arena.allocate_large(bytes, alignment);
  if (!extent && drain_everything()) {
    extent = process_arena.allocate_large(bytes, alignment);
  }
  return extent;
}

/// A new block at a multiple of `alignment` with the first `kept_bytes` of `block`, which is freed. If memory is
/// exhausted, the block itself where it is large enough, else null.
void* move(void* block, std::size_t kept_bytes, std::size_t bytes, std::size_t alignment) noexcept {
  void* moved =
      alignment <= minimum_alignment ? allocate(bytes) : allocate_aligned(bytes, alignment);
  if (moved != nullptr) {
    __builtin_memcpy(moved, block, kept_bytes < bytes ? kept_bytes : bytes);
    deallocate(block);
  } else if (bytes <= kept_bytes) {
    // Programs take it for granted that making a block smaller works.
    return block;
  }
  return moved;
}

/// Writes to each of the operating system's pages of `block`, whose bytes are zero. Who calls calloc seldom reads first
/// and never writes: read, a fresh page is mapped to the one page of zeroes, and the first write then costs a second
/// fault and has to stop every CPU that runs the process for its TLB entry.
void* map_for_writing(void* block, std::size_t bytes) noexcept {
  constexpr std::uintptr_t least_os_page_bytes = 4096;
  const auto first = reinterpret_cast<std::uintptr_t>(block);
  for (std::uintptr_t address = first; address < first + bytes;
       address = (address | (least_os_page_bytes - 1)) + 1) {
    // Volatile, since writing what is there already is the point.
    *reinterpret_cast<volatile std::byte*>(address) = std::byte{0};
  }
  return block;
}

/// Zeroed blocks above this may be meant to be sparse: their pages stay untouched.
constexpr std::size_t most_mapped_bytes = std::size_t{1} << 20;

/// Makes the first `bytes` of `block` zero.
[[gnu::always_inline]] inline void* zero(void* block, std::size_t bytes, bool is_zero) noexcept {
  if (!is_zero) {
    return __builtin_memset(block, 0, bytes);
  }
  return bytes <= most_mapped_bytes ? map_for_writing(block, bytes) : block;
}

}  // namespace

[[gnu::noinline]] void* allocate_slow(std::size_t bytes, ArenaClass* size_class) noexcept {
  if (size_class == nullptr) {
    return allocate_large(bytes, minimum_alignment).address;
  }
  void* block = size_class->claim();
  return block != nullptr ? block : allocate_of_class(size_class->index());
}

void* allocate_aligned(std::size_t bytes, std::size_t alignment) noexcept {
  const std::uint32_t index = SizeClasses::index_for(bytes, alignment);
  if (index == SizeClasses::no_class) {
    return allocate_large(bytes, alignment).address;
  }
  void* block = thread_heap.zone->class_at(index).allocate_fast();
  return block != nullptr ? block : allocate_of_class(index);
}

void* allocate_zeroed(std::size_t bytes, std::size_t alignment) noexcept {
  if (bytes <= ThreadHeap::direct_bytes && alignment <= minimum_alignment) [[likely]] {
    ArenaClass* const size_class = thread_heap.class_for(bytes);
    if (void* block = size_class->allocate_fast()) [[likely]] {
      return zero(block, bytes, size_class->is_zero(block));
    }
  }
  const std::uint32_t index = SizeClasses::index_for(bytes, alignment);
  if (index == SizeClasses::no_class) {
    const Extent extent = allocate_large(bytes, alignment);
    return extent ? zero(extent.address, bytes, extent.zeroed) : nullptr;
  }
  ArenaZone* zone = own_zone();
  if (zone == nullptr) {
    return thread_zones.allocate_late(index, bytes, true);
  }
  void* block = zone->allocate_class(index).value_or(nullptr);
  return block != nullptr ? zero(block, bytes, zone->is_zero(index, block)) : nullptr;
}

namespace {

/// Has zones looked after at times, after a free that may be of another thread's block and was not merged.
void note_single_free() noexcept {
  constexpr std::uint32_t frees_per_look = 1024;
  static constinit thread_local std::uint32_t frees = 0;
  if (++frees % frees_per_look == 0) [[unlikely]] {
    thread_zones.visit_at_times();
  }
}

/// Frees any block.
[[gnu::noinline]] void deallocate_any(void* block) noexcept {
  if (block == nullptr) {
    return;
  }
  ArenaTable::Header* page = ArenaTable::head_of(block);
  if (page == nullptr) {
    report_no_large_object(block, process_arena.deallocate_large(block));
    return;
  }
  if (thread_heap.window.chunk_of(block) == nullptr) {
    thread_heap.window = process_arena.view();
  }
  const Place place = slot_place(page, block);
  if (place.kind == Place::Kind::Invalid) {
    return;
  }
  const std::uint32_t index = place.head->info.class_index;
  if (thread_heap.zone != &empty_zone) {
    thread_heap.zone->deallocate_slot(page, index, place.slot, block);
  } else {
    ArenaZone::deallocate_slot_remote(page, index, place.slot);
  }
  note_single_free();
}

/// Frees what is not to be merged with frees of its neighbours. `page` is as in deallocate_slow().
[[gnu::noinline]] void deallocate_apart(void* block, ArenaTable::Header* page) noexcept {
  if (page != nullptr && thread_heap.zone != &empty_zone) {
    const ChunkInfo info = Chunk::of(page)->snapshot();
    const std::uint32_t slot = info.slot_at(offset_in_chunk(block));
    if (slot != ChunkInfo::no_slot) [[likely]] {
      ArenaZone& zone = *thread_heap.zone;
      const std::uintptr_t tag = page->tag.load(Order::relaxed);
      if (tag != (zone.tag() | PageState::full) ||
          !zone.class_at(info.class_index).pass_on(page, slot, block)) {
        zone.deallocate_slot(page, info.class_index, slot, block);
        note_single_free();
      }
      return;
    }
  }
  deallocate_any(block);
}

}  // namespace

/// A free that is no plain one of the calling thread's own. `page` is the header in the record of the chunk
/// that holds the block, or null if the thread does not know that.
[[gnu::noinline]] void deallocate_slow(void* block, ArenaTable::Header* page) noexcept {
  if (page != nullptr) [[likely]] {
    const std::uint32_t slot = Chunk::of(page)->snapshot().slot_at(offset_in_chunk(block));
    if (slot != ChunkInfo::no_slot && thread_heap.zone->merge_remote(page, slot)) {
      return;
    }
  }
  deallocate_apart(block, page);
}

[[gnu::noinline]] void finish_deallocate(void* block, FreeOutcome outcome) noexcept {
  ArenaTable::Header* page = ArenaTable::head_of(block);
  const Place place = slot_place(page, block);
  if (place.kind == Place::Kind::Slot) {
    thread_heap.zone->finish_free(outcome, page, place.head->info.class_index, place.slot, block);
  }
}

void* reallocate(void* block, std::size_t bytes, std::size_t alignment) noexcept {
  const Place place = find_live(block);
  if (place.kind == Place::Kind::Invalid) {
    return nullptr;
  }
  const std::uint32_t index = alignment <= minimum_alignment
                                  ? SizeClasses::index_for(bytes)
                                  : SizeClasses::index_for(bytes, alignment);
  if (place.kind == Place::Kind::Slot) {
    if (index == place.head->info.class_index) {
      return block;
    }
  } else if (index == SizeClasses::no_class) {
    if (void* resized = process_arena.resize_large(block, bytes, alignment)) {
      return resized;
    }
  }
  return move(block, place.usable_bytes, bytes, alignment);
}

std::size_t usable_bytes(const void* block) noexcept { return find_live(block).usable_bytes; }

std::size_t trim() noexcept {
  const std::size_t purged_before = process_arena.purged_bytes();
  thread_zones.deliver_all();
  if (thread_heap.zone != &empty_zone) {
    thread_heap.zone->trim();
  }
  thread_zones.trim_late();
  thread_zones.drain_all();
  thread_zones.purge_all();
  // The arena may purge while it takes pages back: then its own trim() has that much less to do.
  const std::size_t purged_bytes = process_arena.purged_bytes() - purged_before;
  return purged_bytes + process_arena.trim();
}

}  // namespace slabmalloc::heap
