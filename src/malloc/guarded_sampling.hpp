// SPDX-License-Identifier: MIT
//
// Guarded sampling: the samples of the process become guarded blocks.
//
//   claim ends at a sample ─► is_sample_due() ─► guard() ─► a guarded block, or an ordinary one
//   free outside the window ─► contains() ─► free_guarded()
#pragma once

#include <cstddef>

#include "malloc/arena_zone.hpp"
#include "malloc/call.hpp"
#include "malloc/guarded_blocks.hpp"
#include "malloc/random.hpp"
#include "malloc/sampling.hpp"

namespace slabmalloc {

/// Lets the child of a fork report a fault, whatever its parent was reporting.
void forget_report_of_parent() noexcept;

}  // namespace slabmalloc

namespace slabmalloc::heap {

/// The calling thread takes call stacks, for a scope. Meanwhile its allocations are no samples, and
/// its frees need no call stack: the unwinder may hold a lock while it allocates and frees, and
/// another call stack would wait for that lock.
class CallStackScope {
 public:
  CallStackScope() noexcept { is_in_one_ = true; }
  ~CallStackScope() { is_in_one_ = was_in_one_; }
  CallStackScope(const CallStackScope&) = delete;
  CallStackScope& operator=(const CallStackScope&) = delete;

  /// True if another such scope is around this one.
  bool is_nested() const noexcept { return was_in_one_; }

 private:
  [[gnu::visibility("hidden")]] static constinit thread_local bool is_in_one_;

  const bool was_in_one_ = is_in_one_;
};

/// A guarded block of `bytes` zeros at a multiple of `alignment`, a power of two.
/// Pre: the calling thread holds no mutex of the heap.
/// Fails: null if none is to be had: as GuardedBlocks::allocate(), and for what a sample allocates.
void* guard(std::size_t bytes, std::size_t alignment) noexcept;

/// Frees a guarded block. Pre: guarded_blocks.contains(block).
/// Fails: reports misuse to the hook.
void free_guarded(const void* block, Call call) noexcept;

/// The allocations of blocks of `bytes` by this thread before its next sample.
inline std::size_t draw_gap(std::size_t bytes) noexcept {
  return sampling.draw_gap(bytes, thread_random_bits);
}

/// Draws the next samples of all classes of `zone`.
/// Thread: the zone's owner.
void draw_samples(ArenaZone& zone) noexcept;

}  // namespace slabmalloc::heap
