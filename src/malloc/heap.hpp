// SPDX-License-Identifier: MIT
//
// The process heap: what every entry point (libc's functions, operator new, the C interface) is made of.
// It keeps errno and throws nothing; the entry points add what their standards ask for.
//
//   size ≤ 32 KiB   the calling thread's zone
//   above           the arena's large objects
//
// A free needs no size: the chunk record of the address tells page, class and slot.
#pragma once

#include <cstddef>
#include <cstdint>

#include "malloc/arena_zone.hpp"
#include "tunables.hpp"

namespace slabmalloc {

/// The zone of threads that have none. It owns nothing and never will.
[[gnu::visibility("hidden")]] extern constinit ArenaZone empty_zone;

/// What the fast paths read, as the calling thread knows it: in one place, and written by no other thread.
struct ThreadHeap {
  static constexpr std::size_t direct_bytes = Tunables::class_lookup_bytes;
  static constexpr std::size_t direct_step = 16;

  ArenaZone* zone;    ///< Never null.
  WindowView window;  ///< As far as it reached when this thread last met a block outside of it.
  /// The class of every multiple of direct_step bytes.
  ArenaClass* classes[direct_bytes / direct_step + 1] = {};

  constexpr explicit ThreadHeap(ArenaZone& empty) noexcept : zone(&empty) { serve_from(empty); }

  /// The class of blocks of `bytes`. Pre: bytes <= direct_bytes.
  [[gnu::always_inline]] ArenaClass* class_for(std::size_t bytes) const noexcept {
    return classes[(bytes + direct_step - 1) / direct_step];
  }

  constexpr void serve_from(ArenaZone& one) noexcept {
    zone = &one;
    for (std::size_t step = 0; step * direct_step <= direct_bytes; ++step) {
      classes[step] = &one.class_at(MallocConfig::SizeClasses::index_for(step * direct_step));
    }
  }
};

[[gnu::visibility("hidden")]] extern constinit thread_local ThreadHeap thread_heap;

namespace heap {

using SizeClasses = MallocConfig::SizeClasses;

inline constexpr std::size_t max_class_bytes = SizeClasses::max_size;
/// The alignment of every block.
inline constexpr std::size_t minimum_alignment = 16;

// The slow paths, in heap.cpp.
/// A block of `bytes`, of which allocate_fast() had none. Pre: `size_class` is class_for(bytes).
void* allocate_slow(std::size_t bytes, ArenaClass* size_class) noexcept;
/// Frees any block, as if this thread knew nothing of it. A null pointer is none.
void deallocate_any(void* block) noexcept;
/// A free that is no plain one of the calling thread's own. `page` is the header in the record of the chunk
/// that holds the block.
void deallocate_slow(void* block, ArenaTable::Header* page) noexcept;
/// After a free by the owner that did more or less than free a slot. It finds the page again, so that the
/// fast path has little to keep.
void finish_deallocate(void* block, FreeOutcome outcome) noexcept;

/// The calling thread's class of blocks of `bytes`, or null where those belong to none.
[[gnu::always_inline]] inline ArenaClass* class_for(std::size_t bytes) noexcept {
  if (bytes <= ThreadHeap::direct_bytes) [[likely]] {
    ArenaClass* const size_class = thread_heap.class_for(bytes);
    if (size_class == nullptr) {
      __builtin_unreachable();  // The compiler need not test what it was not told.
    }
    return size_class;
  }
  const std::uint32_t index = SizeClasses::index_for(bytes);
  return index != SizeClasses::no_class ? &thread_heap.zone->class_at(index) : nullptr;
}

/// A block of `size_class` if that has one at hand, else null.
[[gnu::always_inline]] inline void* allocate_fast(ArenaClass* size_class) noexcept {
  return size_class != nullptr ? size_class->allocate_fast() : nullptr;
}

/// A block of `bytes`, aligned to minimum_alignment; null if memory is exhausted. Of 0 bytes, too.
[[gnu::always_inline]] inline void* allocate(std::size_t bytes) noexcept {
  ArenaClass* const size_class = class_for(bytes);
  void* block = allocate_fast(size_class);
  return block != nullptr ? block : allocate_slow(bytes, size_class);
}

/// As allocate(), at a multiple of `alignment`, a power of two.
void* allocate_aligned(std::size_t bytes, std::size_t alignment) noexcept;

/// As allocate_aligned(), all zero.
void* allocate_zeroed(std::size_t bytes, std::size_t alignment = minimum_alignment) noexcept;

/// Bytes from the start of its chunk to `block`.
[[gnu::always_inline]] inline std::uint32_t offset_in_chunk(const void* block) noexcept {
  return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(block) % chunk_bytes);
}

/// Frees a block; a null pointer is none. Misuse is reported to the hook.
[[gnu::always_inline]] inline void deallocate(void* block) noexcept {
  const ThreadHeap& mine = thread_heap;
  Chunk* chunk = mine.window.chunk_of(block);
  if (chunk == nullptr) [[unlikely]] {
    deallocate_any(block);
    return;
  }
  if (chunk->header.tag.load(Order::relaxed) == mine.zone->tag()) [[likely]] {
    const std::uint32_t offset = offset_in_chunk(block);
    const std::uint32_t slot = MallocConfig::checked ? chunk->info.slot_or_end_at(offset)
                                                     : chunk->info.slot_around(offset);
    if (slot != ChunkInfo::no_slot || !MallocConfig::checked) [[likely]] {
      const FreeOutcome outcome = chunk->header.free_slot<false, MallocConfig::checked>(0, slot);
      if (outcome != FreeOutcome::Freed) [[unlikely]] {
        finish_deallocate(block, outcome);
      }
      return;
    }
  }
  deallocate_slow(block, &chunk->header);
}

/// Makes a block one of `bytes`, moved if need be; null if memory is exhausted: then it is untouched.
/// Pre: neither a null pointer nor 0 bytes; the block is at a multiple of `alignment`, a power of two, and stays
/// at one. Fails: misuse of `block`, reported; then null.
void* reallocate(void* block, std::size_t bytes, std::size_t alignment = minimum_alignment) noexcept;

/// The bytes that may be used of a block. Fails: misuse of `block`, reported; then 0.
std::size_t usable_bytes(const void* block) noexcept;

/// Delivers and takes in remote frees, and gives what is empty back to the operating system; the bytes
/// given back, what other threads gave back meanwhile included.
std::size_t trim() noexcept;

}  // namespace heap
}  // namespace slabmalloc
