// SPDX-License-Identifier: MIT
//
// The process heap, on which every entry point builds: libc's functions, operator new and the C
// interface. It preserves errno and never throws. The entry points add the rules of their
// standards.
//
//   size ≤ 32 KiB   the calling thread's zone
//   above           the arena's large objects
//
// A free needs no size: the chunk record of the address gives page, class and slot.
#pragma once

#include <cstddef>
#include <cstdint>

#include "malloc/arena_zone.hpp"
#include "malloc/call.hpp"
#include "tunables.hpp"

namespace slabmalloc {

/// The zone of threads that have none. It never owns a page.
[[gnu::visibility("hidden")]] extern constinit ArenaZone empty_zone;

/// The calling thread's data for the fast paths, in one place. No other thread writes it.
struct ThreadHeap {
  static constexpr std::size_t direct_bytes = Tunables::class_lookup_bytes;
  static constexpr std::size_t direct_step = 16;

  ArenaZone* zone;    ///< Never null.
  WindowView window;  ///< A copy; the thread updates it when it meets a block outside of it.
  /// The class of every multiple of direct_step bytes.
  ArenaClass* classes[direct_bytes / direct_step + 1] = {};

  constexpr explicit ThreadHeap(ArenaZone& empty) noexcept : zone(&empty) { serve_from(empty); }

  /// The class of blocks of `bytes`.
  /// Pre: bytes <= direct_bytes.
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
/// The alignment of every block in bytes.
inline constexpr std::size_t minimum_alignment = 16;

// Slow paths, in heap.cpp.
/// Allocates a block of `bytes` after allocate_fast() found none.
/// Pre: `size_class` is class_for(bytes).
void* allocate_slow(std::size_t bytes, ArenaClass* size_class) noexcept;
/// Frees any block, without the thread's view of it. A null pointer is allowed.
void deallocate_any(void* block, Call call) noexcept;
/// Frees any block as one of `bytes` at a multiple of `alignment`, a power of two. Null is allowed.
/// The call gave `added` bytes fewer.
/// Fails: SizeMismatch to the hook, unless the option `no_size_check` is set.
void deallocate_any_sized(void* block, std::size_t bytes, std::size_t alignment, Call call,
                          std::size_t added = 0) noexcept;
/// Notes that a block kept its size when it was made smaller. Smaller sizes then count as right.
void note_kept_size() noexcept;
/// Frees a block that the fast path cannot free. `page` is the header in the record of the chunk
/// that holds the block. The call is no argument, since frees that merge have no register for it.
template <Call call>
void deallocate_slow(void* block, ArenaTable::Header* page) noexcept;
/// Completes an owner's free that was WordEmptied. It searches for the page again, so that the fast
/// path keeps few registers.
void finish_deallocate(void* block) noexcept;

/// The calling thread's class of blocks of `bytes`; null where no class holds them.
[[gnu::always_inline]] inline ArenaClass* class_for(std::size_t bytes) noexcept {
  if (bytes <= ThreadHeap::direct_bytes) [[likely]] {
    ArenaClass* const size_class = thread_heap.class_for(bytes);
    if (size_class == nullptr) {
      __builtin_unreachable();  // Saves the compiler a test.
    }
    return size_class;
  }
  const std::uint32_t index = SizeClasses::index_for(bytes);
  return index != SizeClasses::no_class ? &thread_heap.zone->class_at(index) : nullptr;
}

/// A block of `size_class` if the class has one ready, else null.
[[gnu::always_inline]] inline void* allocate_fast(ArenaClass* size_class) noexcept {
  return size_class != nullptr ? ArenaZone::allocate_claimed(*size_class) : nullptr;
}

/// Allocates a block of `bytes`, which may be 0, aligned to minimum_alignment.
/// Fails: null if memory is exhausted.
[[gnu::always_inline]] inline void* allocate(std::size_t bytes) noexcept {
  ArenaClass* const size_class = class_for(bytes);
  void* block = allocate_fast(size_class);
  return block != nullptr ? block : allocate_slow(bytes, size_class);
}

/// As allocate(), at a multiple of `alignment`, a power of two.
void* allocate_aligned(std::size_t bytes, std::size_t alignment) noexcept;

/// As allocate_aligned(), with all bytes zero.
void* allocate_zeroed(std::size_t bytes, std::size_t alignment = minimum_alignment) noexcept;

/// Bytes from the start of the chunk to `block`.
[[gnu::always_inline]] inline std::uint32_t offset_in_chunk(const void* block) noexcept {
  return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(block) % chunk_bytes);
}

/// Frees a block for `call`, one of those that heap.cpp instantiates deallocate_slow() for; a null
/// pointer is allowed.
/// Fails: reports misuse to the hook.
template <Call call = Call::Free>
[[gnu::always_inline]] inline void deallocate(void* block) noexcept {
  const ThreadHeap& mine = thread_heap;
  Chunk* chunk = mine.window.chunk_of(block);
  if (chunk == nullptr) [[unlikely]] {
    deallocate_any(block, call);
    return;
  }
  if (chunk->header.tag.load(Order::relaxed) == mine.zone->tag()) [[likely]] {
    const std::uint32_t offset = offset_in_chunk(block);
    const std::uint32_t slot = MallocConfig::checked ? chunk->info.slot_or_end_at(offset)
                                                     : chunk->info.slot_around(offset);
    if (slot != ChunkInfo::no_slot || !MallocConfig::checked) [[likely]] {
      const std::uint32_t words = MallocConfig::hardened ? chunk->info.words() : 0;
      const FreeOutcome outcome =
          chunk->header.free_slot<MallocConfig::hardened, MallocConfig::checked>(words, slot);
      if (outcome == FreeOutcome::WordEmptied) [[unlikely]] {
        finish_deallocate(block);
      } else if (outcome == FreeOutcome::Rejected) [[unlikely]] {
        deallocate_any(block, call);
      }
      return;
    }
  }
  deallocate_slow<call>(block, &chunk->header);
}

/// As deallocate(), for a block that was allocated with `bytes`, at no larger alignment than the
/// minimum_alignment.
/// Fails: also SizeMismatch to the hook, if no block of its class has `bytes`.
template <Call call>
[[gnu::always_inline]] inline void deallocate_sized(void* block, std::size_t bytes) noexcept {
  const Chunk* const chunk = thread_heap.window.chunk_of(block);
  if (chunk == nullptr || !chunk->info.serves(bytes)) [[unlikely]] {
    deallocate_any_sized(block, bytes, minimum_alignment, call);
    return;
  }
  deallocate<call>(block);
}

/// Resizes a block to `bytes`, and moves it if necessary; returns its address.
/// Pre: `block` is not null and `bytes` is not 0. The block is at a multiple of `alignment`, a
/// power of two, and stays at one.
/// Fails: null if memory is exhausted, and the block is untouched; null after a report of misuse.
void* reallocate(void* block, std::size_t bytes,
                 std::size_t alignment = minimum_alignment) noexcept;

/// The usable bytes of a block.
/// Fails: 0 after a report of misuse.
std::size_t usable_bytes(const void* block) noexcept;

/// Delivers and drains remote frees, and returns empty memory to the operating system. Returns the
/// bytes given back, also those by other threads meanwhile.
std::size_t trim() noexcept;

}  // namespace heap
}  // namespace slabmalloc
