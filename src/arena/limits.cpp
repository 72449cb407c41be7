// SPDX-License-Identifier: MIT
//
// The memory limits in the arena: what counts, what is refused, and when caches are cleared.
// purge.cpp purges the dirty memory that does not fit, since it lies beyond the dirty limit.
#include "arena/arena.hpp"
#include "arena/memory_limit.hpp"

namespace slabmalloc {

/// The memory in use, as limits count it.
std::size_t Arena::counted_in_use() const noexcept {
  constexpr std::size_t record_bytes = MemoryLimit::counted_chunk_bytes - chunk_bytes;
  return in_use_.value() + runs_.chunks_in(RunState::InUse) * record_bytes;
}

/// The dirty limit, lowered to what fits below the memory limits. `usual` is the one without them.
std::size_t Arena::limited_dirty_bytes(std::size_t usual) const noexcept {
  return MemoryLimit::in_force().dirty_bytes(counted_in_use(), usual);
}

/// True if the hard limit allows as many more chunks in use.
bool Arena::admits_chunks(std::size_t chunks) const noexcept {
  return MemoryLimit::in_force().admits(counted_in_use(),
                                        chunks * MemoryLimit::counted_chunk_bytes);
}

/// Clears the caches while nothing fits below the limits. Frees fill none until something does.
void Arena::clear_caches_if_limited() noexcept {
  const bool keeps_nothing = MemoryLimit::in_force().keeps_nothing(counted_in_use());
  if (keeps_nothing) {
    clear_large_caches(false);
  }
  if (keeps_nothing != keeps_nothing_.load(Order::relaxed)) {
    keeps_nothing_.store(keeps_nothing, Order::relaxed);
  }
}

/// Counts `bytes` of a direct mapping as in use before it is made, if limits are set. Free memory
/// that no longer fits is purged first. `promised` is what was counted.
/// Fails: false; the hard limit refuses.
bool Arena::promise_direct(std::size_t bytes, std::size_t& promised) noexcept {
  const MemoryLimit limit = MemoryLimit::in_force();
  promised = 0;
  if (!limit.is_set()) {
    return true;
  }
  bool is_admitted = false;
  change([&]() noexcept {
    is_admitted = limit.admits(counted_in_use(), bytes);
    if (!is_admitted) {
      clear_large_caches(false);
      is_admitted = limit.admits(counted_in_use(), bytes);
    }
    if (is_admitted) {
      in_use_.promise(bytes);
      promised = bytes;
    }
  });
  return is_admitted;
}

/// Counts a request that failed, if the hard limit refuses an object of `bytes`.
void Arena::note_if_refused(std::size_t bytes) noexcept {
  const os::Lock lock(mutex_);
  if (!MemoryLimit::in_force().admits(counted_in_use(), bytes)) {
    counts_.limit_refusals.add(1);
  }
}

}  // namespace slabmalloc
