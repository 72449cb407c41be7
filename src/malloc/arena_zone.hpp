// SPDX-License-Identifier: MIT
//
// The core over the arena: a page type with its header in the arena's chunk records, a pager that
// allocates runs of chunks, and the zone that each thread owns.
//
//   ArenaZone ──► SizeClass<ArenaPage> ──► Chunk record (header, bitmaps, info) beside the data
//       │
//       └── ArenaPager ──► process_arena
//
// A page has one chunk for objects up to 8 KiB and eight chunks for larger ones. The first chunk's
// record holds header and bitmaps; further chunks lead to it.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "arena/arena.hpp"
#include "malloc/scavenged_queue.hpp"
#include "slabmalloc/page/beside_page.hpp"
#include "slabmalloc/zone/zone.hpp"
#include "tunables.hpp"

namespace slabmalloc {

/// A frame table over the arena's chunk records.
struct ArenaTable {
  using Atomics = HardwareAtomics;
  using Header = PageHeader<Atomics>;

  static constexpr std::size_t maximum_words = Chunk::maximum_words;
  /// The hardened library has no samples: each of its blocks is checked.
  static constexpr bool has_samples = !Tunables::hardened;

  static constexpr std::size_t frame_bytes(std::size_t object_size) noexcept {
    return object_size <= Tunables::one_chunk_object_bytes
               ? chunk_bytes
               : Tunables::chunks_per_large_page * chunk_bytes;
  }
  /// The header in the record of the chunk that holds `address`.
  /// Pre: `address` lies in the arena's window.
  static Header* header_of(const void* address) noexcept {
    return &process_arena.chunk_of(address)->header;
  }
  /// The header of the page that holds `address`, which may be any; null where no page is.
  static Header* head_of(const void* address) noexcept {
    Chunk* chunk = process_arena.chunk_of(address);
    if (chunk == nullptr) {
      return nullptr;
    }
    // A copy: a thread that frees the block twice at the same time may end the page.
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
  /// What the record of a page says of its slots.
  static ChunkInfo info_for(const SlotGeometry& geometry, std::uint32_t class_index) noexcept;
  static void open(Header* header, const SlotGeometry& geometry) noexcept;
  /// The slots of `slots`, which are free and not none, that a claim may take.
  [[gnu::always_inline]] static Word choose(Word slots) noexcept {
    if constexpr (Tunables::hardened) {
      const Word some = slots & random_word();
      return some != 0 ? some : slots;
    }
    return slots;
  }
  /// Random bits; all set if the order is not random.
  static Word random_word() noexcept;

  // Holes (HoleTracking). The record of each chunk has those of its own bytes.
  [[gnu::always_inline]] static bool claim(Header* header, std::uint32_t object_size,
                                           std::uint32_t first, std::uint32_t end) noexcept {
    if (object_size <= Tunables::one_chunk_object_bytes) [[likely]] {
      const Holes holes = Chunk::of(header)->holes();
      if (holes == Holes{}) [[likely]] {
        return false;
      }
      const std::uint32_t first_unit = first * object_size / unit_bytes;
      const std::uint32_t last_unit = (end * object_size - 1) / unit_bytes;
      const std::uint32_t touched =
          (std::uint32_t{2} << last_unit) - (std::uint32_t{1} << first_unit);
      if ((touched & (std::uint32_t{holes.dropped} | holes.seen)) == 0) {
        return false;
      }
    }
    return claim_holes(header, object_size, first, end);
  }
  static bool claim_holes(Header* header, std::uint32_t object_size, std::uint32_t first,
                          std::uint32_t end) noexcept;
  static const char* check_holes(Header* header, const SlotGeometry& geometry, std::uint32_t word,
                                 Word claimed) noexcept;
  /// Counts the page's holes out. The arena clears the records when it frees the chunks.
  static void close(Header* header, const SlotGeometry& geometry) noexcept;
};

using ArenaPage = BesidePage<ArenaTable>;
static_assert(HoleTracking<ArenaPage>);

/// True if a bit is set beyond the last slot wherever a page has room for the start of one more.
/// Else a free just past the last slot would find no set bit, and pass
/// (ChunkInfo::slot_or_end_at()).
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

/// The malloc's zone configuration.
struct MallocConfig : CommonConfig {
  using SizeClasses = SizeClassTable<MallocSpec>;
  using Pages = PageKinds<PageKind<ArenaPage, SizeClasses::max_size>>;
  /// Other threads scavenge the zones of sleeping threads.
  template <class>
  using Queue = ScavengedQueue;
  /// The arena keeps recently freed memory, for all threads and classes.
  static constexpr std::uint32_t idle_pages_per_class = 0;
  /// A free by the owner checks that the address is a live block. Only a benchmark turns this off,
  /// to measure its cost.
#ifdef SLABMALLOC_UNCHECKED
  static constexpr bool checked = false;
#else
  static constexpr bool checked = true;
#endif
  static constexpr bool hardened = Tunables::hardened;
};
static_assert(MallocConfig::SizeClasses::validate(), "index_for() and size_of() disagree");
static_assert(has_bit_beyond_last_slot<MallocConfig::SizeClasses>(), "ChunkInfo::slot_or_end_at()");

/// Allocates pages from the arena. If the arena has none, it first drains the zones of ended
/// threads.
struct ArenaPager {
  Frame allocate_frame(std::size_t bytes) noexcept { return allocate(bytes, RunClass{}); }
  /// As a ClassPager, in the hardened library alone: its addresses keep their size class.
  template <std::same_as<std::uint32_t> Index>
    requires Tunables::hardened
  Frame allocate_class_frame(std::size_t bytes, Index class_index) noexcept {
    return allocate(bytes, tunables.class_addresses ? RunClass::of(class_index) : RunClass{});
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    process_arena.deallocate(frame, bytes / chunk_bytes);
  }

 private:
  static Frame allocate(std::size_t bytes, RunClass run_class) noexcept;
};
static_assert(ClassPager<ArenaPager> == Tunables::hardened);
static_assert(!Tunables::hardened || MallocConfig::SizeClasses::count < Tunables::run_classes,
              "each size class has bins of its own");

/// The zone of a thread, and the type of all its classes.
using ArenaZone = Zone<MallocConfig, ArenaPager>;
using ArenaClass = SizeClass<ArenaPage, ScavengedQueue>;

}  // namespace slabmalloc
