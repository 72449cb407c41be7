// SPDX-License-Identifier: MIT
//
// The process heap of the hardened library (MallocConfig::hardened): the same heap with more checks
// around each block. front.hpp chooses between the two.
//
//   no bytes      an address without memory (zero_size_blocks.hpp)
//   up to 32 KiB  a slot with a trailer (block_trailer.hpp), which each free checks, and those of
//                 the slots beside it; a free clears the slot, and an allocation looks whether it
//                 is clear still; between the two it rests in quarantine (quarantine.hpp)
//   above         a mapping of its own between inaccessible OS pages, without a trailer; its
//                 addresses are not used again for a while (direct_map.hpp)
//
// So all free memory of the heap is zero, and so is a new block.
//
// Options leave out single checks. The trailer is always there: it has the size and the kind.
#pragma once

#include <cstddef>

#include "malloc/block_trailer.hpp"
#include "malloc/call.hpp"

namespace slabmalloc {

struct ThreadZone;

}  // namespace slabmalloc

namespace slabmalloc::hardened {

/// A call that frees without a size.
inline constexpr std::size_t no_size = ~std::size_t{0};

/// A block of `bytes` at a multiple of `alignment`, a power of two. Its bytes are zero.
/// Fails: null if memory is exhausted. WriteAfterFree to the hook, before the block is cleared.
void* allocate(std::size_t bytes, std::size_t alignment, BlockKind kind) noexcept;

/// Frees a block for `call`; a null pointer is allowed. `bytes` and `alignment` are those of its
/// allocation, or no_size.
/// Fails: misuse of this block to the hook; then it stays as it is. It also reports writes that it
/// finds elsewhere, and goes on.
void deallocate(void* block, Call call, std::size_t bytes = no_size,
                std::size_t alignment = 1) noexcept;

/// As heap::reallocate().
void* reallocate(void* block, std::size_t bytes, std::size_t alignment) noexcept;

/// The bytes that a block was allocated with; of a large block, the bytes of its OS pages.
/// Fails: 0 after a report of misuse, and for a freed block of no bytes.
std::size_t usable_bytes(const void* block) noexcept;

/// Frees the slots of the blocks that rest in the quarantine of `zone`; false if none does.
/// Thread: its owner, or one that has the zone of an ended thread.
/// Fails: WriteAfterFree to the hook, for each that was written to.
bool release_quarantined(ThreadZone& zone) noexcept;

/// The same for the calling thread's zone, if it has one.
bool release_quarantined() noexcept;

}  // namespace slabmalloc::hardened
