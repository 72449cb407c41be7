// SPDX-License-Identifier: MIT
//
// The core over the arena: the page type whose meta-data is the arena's chunk records, the pager that
// takes runs of chunks, and the zone that each thread of the process owns.
//
//   ArenaZone ──► SizeClass<ArenaPage> ──► Chunk record (header, bitmaps, info) beside the data
//       │
//       └── ArenaPager ──► process_arena
//
// Pages are one chunk for objects up to 8 KiB and eight for larger ones. The first chunk's record holds
// header and bitmaps; further chunks lead to it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "arena/arena.hpp"
#include "malloc/scavenged_queue.hpp"
#include "slabmalloc/page/beside_page.hpp"
#include "slabmalloc/zone/zone.hpp"
#include "tunables.hpp"

namespace slabmalloc {

/// The frame table that the arena's chunk records are.
struct ArenaTable {
  using Atomics = HardwareAtomics;
  using Header = PageHeader<Atomics>;

  static constexpr std::size_t maximum_words = Chunk::maximum_words;

  static constexpr std::size_t frame_bytes(std::size_t object_size) noexcept {
    return object_size <= Tunables::one_chunk_object_bytes
               ? chunk_bytes
               : Tunables::chunks_per_large_page * chunk_bytes;
  }
  /// Pre: `address` lies in the arena's window.
  static Header* header_of(const void* address) noexcept {
    return &process_arena.chunk_of(address)->header;
  }
  /// The header of the page that holds `address`, or null where no page is. Any address may be asked.
  static Header* head_of(const void* address) noexcept {
    Chunk* chunk = process_arena.chunk_of(address);
    if (chunk == nullptr) {
      return nullptr;
    }
    // A copy, since whoever frees the block twice at the same time may be ending what is there.
    const ChunkInfo info = chunk->snapshot();
    if (info.kind == ChunkKind::SlabTail) {
      chunk = chunk->head(info);
      return chunk->snapshot().kind == ChunkKind::SlabHead ? &chunk->header : nullptr;
    }
    return info.kind == ChunkKind::SlabHead ? &chunk->header : nullptr;
  }
  static std::byte* frame_of(Header* header) noexcept {
    return process_arena.address_of(Chunk::of(header));
  }
  static void open(Header* header, const SlotGeometry& geometry) noexcept;
  /// If others' frees leave no live object in a page: lets the operating system have the memory of what they
  /// freed; else false. Pre: the page is queued on its owner's queue, and nobody drains it meanwhile. What its owner
  /// has not drained it cannot issue; what it has freed itself it may issue at any moment, and keeps.
  static bool purge_if_empty(Header* header) noexcept;
  /// The arena clears the records when it takes the chunks back, so there is nothing to do.
  static void close(Header*, const SlotGeometry&) noexcept {}
};

using ArenaPage = BesidePage<ArenaTable>;

/// True if where a page has room for the start of one more slot there is a bit for that one, which is set.
template <class SizeClasses>
constexpr bool has_bit_beyond_last_slot() noexcept {
  for (std::uint32_t index = 0; index < SizeClasses::count; ++index) {
    const std::size_t size = SizeClasses::size_of(index);
    const std::size_t slots = ArenaPage::geometry(size).slots;
    if (slots * size < ArenaTable::frame_bytes(size) && slots % word_bits == 0) {
      return false;
    }
  }
  return true;
}

/// The malloc's classes: multiples of 16 B to 128 B, then four per doubling to 32 KiB.
struct MallocSpec {
  static constexpr SizeClassSpec value{16, 16, 128, 4, 32 * 1024};
};

/// How the malloc configures a zone.
struct MallocConfig : CommonConfig {
  using SizeClasses = SizeClassTable<MallocSpec>;
  using Pages = PageKinds<PageKind<ArenaPage, SizeClasses::max_size>>;
  /// Threads that sleep are looked after by others.
  template <class>
  using Queue = ScavengedQueue;
  /// The arena keeps what was freed a moment ago, for all threads and classes.
  static constexpr std::uint32_t idle_pages_per_class = 0;
  /// A free by the owner sees whether the address is that of a live block. Without that nothing but a
  /// benchmark is built, which shows what it costs.
#ifdef SLABMALLOC_UNCHECKED
  static constexpr bool checked = false;
#else
  static constexpr bool checked = true;
#endif
};
static_assert(MallocConfig::SizeClasses::validate(), "index_for() and size_of() disagree");
static_assert(has_bit_beyond_last_slot<MallocConfig::SizeClasses>(), "ChunkInfo::slot_or_end_at()");

/// Takes pages from the arena. Where the arena has none, memory that finished threads left behind is
/// made free first.
struct ArenaPager {
  Frame allocate_frame(std::size_t bytes) noexcept;
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    process_arena.deallocate(frame, bytes / chunk_bytes);
  }
};

/// The zone of a thread, and the type of all its classes.
using ArenaZone = Zone<MallocConfig, ArenaPager>;
using ArenaClass = SizeClass<ArenaPage, ScavengedQueue>;

}  // namespace slabmalloc
