// SPDX-License-Identifier: MIT
//
// Place: the page and the slot of an address in the process heap.
#pragma once

#include <cstddef>
#include <cstdint>

#include "malloc/heap.hpp"

namespace slabmalloc::heap {

/// A page, and its slot that starts at an address.
struct Place {
  ArenaTable::Header* page = nullptr;       ///< Null: the address lies in no page of slots.
  ChunkInfo info;                           ///< The info in the page's record.
  std::uint32_t slot = ChunkInfo::no_slot;  ///< no_slot: no slot starts at the address.

  std::size_t slot_bytes() const noexcept { return info.extent; }
  bool is_live() const noexcept {
    return slot != ChunkInfo::no_slot && !page->is_free(slot, info.words());
  }
};

/// Frees `block`, at `place`, which no free is merged with: that of a full page, or of another
/// thread's. Where no slot starts there, it does what deallocate_any() does.
void deallocate_apart(Place place, void* block, Call call) noexcept;

/// The record of an address outside of the thread's view of the window, after an update of that
/// view; null if the window does not hold it.
Chunk* find_in_new_view(const void* address) noexcept;

/// The slot that starts at `address`, which may be any.
[[gnu::always_inline]] inline Place place_of(const void* address) noexcept {
  Chunk* chunk = thread_heap.window.chunk_of(address);
  if (chunk == nullptr) {
    chunk = find_in_new_view(address);
    if (chunk == nullptr) {
      return {};
    }
  }
  std::uint32_t offset = offset_in_chunk(address);
  // A copy: a thread that frees the block twice at the same time may end the page.
  ChunkInfo info = chunk->snapshot();
  if (info.kind == ChunkKind::SlabTail) {
    offset += info.chunks_to_head() * static_cast<std::uint32_t>(chunk_bytes);
    chunk = chunk->head(info);
    info = chunk->snapshot();
  }
  if (info.kind != ChunkKind::SlabHead) {
    return {};
  }
  return {&chunk->header, info, info.slot_at(offset)};
}

}  // namespace slabmalloc::heap
