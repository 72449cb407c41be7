// SPDX-License-Identifier: MIT
//
// Large objects of the arena: runs of chunks, or mappings of their own.
#include "arena/arena.hpp"
#include "os/os.hpp"

namespace slabmalloc {

Extent Arena::allocate_large(std::size_t bytes, std::size_t alignment, LargeCache* cache,
                             Contents contents) noexcept {
  if (cache != nullptr && chunks_for(bytes) <= Tunables::large_cache_chunks &&
      alignment <= chunk_bytes) {
    if (const CachedRun run = cache->take(large_bytes_for(bytes)); run.bytes != 0) {
      void* const address = reinterpret_cast<void*>(run.address);
      chunk_of(address)->publish(ChunkInfo::large_head(run.bytes));
      return {address, false};
    }
  }
  // A mapping has guards, and its addresses rest after it: runs have neither.
  const bool by_run = !Tunables::hardened && bytes < direct_threshold() &&
                      alignment <= Tunables::run_alignment_bytes;
  Extent extent =
      by_run ? allocate_large_run(bytes, alignment) : allocate_direct(bytes, alignment, contents);
  if (!extent) {
    // One source may have what the other lacks: free runs, or address space for a mapping.
    if (by_run) {
      extent = allocate_direct(bytes, alignment, contents);
    } else if (!Tunables::hardened && bytes <= Tunables::largest_run_bytes) {
      extent = allocate_large_run(bytes, alignment);
    }
    if (!extent) {
      // A mapping counts less than a run does. Its size is 0 where no address space has that much.
      const std::size_t size = DirectMap::size_for(bytes);
      note_if_refused(size != 0 ? size : bytes);
    }
  }
  return extent;
}

LargeFree Arena::deallocate_large(void* address, LargeCache* cache) noexcept {
  Chunk* const chunk = chunk_of(address);
  return chunk != nullptr ? deallocate_large_run(chunk, address, cache)
                          : deallocate_direct(address);
}

std::size_t Arena::large_usable_bytes(const void* address) noexcept {
  const Chunk* const chunk = chunk_of(address);
  if (chunk == nullptr) {
    return direct_.usable_bytes(address);
  }
  const ChunkInfo info = chunk->snapshot();
  const bool starts_here = info.kind == ChunkKind::LargeHead && address_of(chunk) == address;
  return starts_here ? info.large_bytes() : 0;
}

void* Arena::resize_large(void* address, std::size_t bytes, std::size_t alignment) noexcept {
  Chunk* const chunk = chunk_of(address);
  if (chunk == nullptr) {
    return resize_direct(address, bytes, alignment);
  }
  return resize_large_run(chunk, bytes) ? address : nullptr;
}

LargeFree Arena::classify(const void* address) noexcept {
  const Chunk* const chunk = chunk_of(address);
  if (chunk == nullptr) {
    return direct_.usable_bytes(address) != 0 ? LargeFree::Freed : classify_outside(address);
  }
  const os::Lock lock(mutex_);
  const bool starts_here =
      chunk->snapshot().kind == ChunkKind::LargeHead && address_of(chunk) == address;
  return starts_here ? LargeFree::Freed : classify_in_window(address);
}

LargePlace Arena::place_of(const void* address) noexcept {
  if (chunk_of(address) == nullptr) {
    return direct_.place_of(address);
  }
  const os::Lock lock(mutex_);
  const std::uint32_t run = runs_.run_holding(number_of(address));
  const ChunkInfo info = record(run).snapshot();
  if (runs_.state_of_run(run) != RunState::InUse ||
      (info.kind != ChunkKind::LargeHead && info.kind != ChunkKind::Cached)) {
    return {};
  }
  const std::byte* const start = address_of(&record(run));
  const bool is_in_object = static_cast<const std::byte*>(address) < start + info.large_bytes();
  return is_in_object ? LargePlace{start, info.large_bytes()} : LargePlace{};
}

/// The least size in bytes of an object that gets its own mapping.
std::size_t Arena::direct_threshold() const noexcept {
  constexpr std::size_t most = Tunables::bounded_direct_threshold_bytes;
  const std::size_t threshold = tunables.direct_threshold_bytes;
  return is_bounded_.load(Order::relaxed) && threshold > most ? most : threshold;
}

Extent Arena::allocate_large_run(std::size_t bytes, std::size_t alignment) noexcept {
  const std::uint32_t usable = large_bytes_for(bytes);
  const Extent extent = allocate_run(chunks_for(bytes), alignment);
  if (extent) {
    chunk_of(extent.address)->publish(ChunkInfo::large_head(usable));
    note_large();
  }
  return extent;
}

Extent Arena::allocate_direct(std::size_t bytes, std::size_t alignment,
                              Contents contents) noexcept {
  Extent extent;
  std::size_t promised = 0;
  if (!promise_direct(DirectMap::size_for(bytes), promised)) {
    return extent;
  }
  std::size_t usable = 0;
  if (contents == Contents::Any) {
    extent.address = direct_.allocate_cached(bytes, alignment, usable);
  }
  if (!extent) {
    extent.address = direct_.allocate(bytes, alignment, usable, extent.zeroed);
  }
  if (!extent && direct_.trim() + direct_.end_quarantine() != 0) {
    extent.address = direct_.allocate(bytes, alignment, usable, extent.zeroed);
  }
  in_use_.change(promised, extent ? usable : 0);
  if (extent) {
    note_large();
    decay_some();
  }
  return extent;
}

LargeFree Arena::deallocate_large_run(Chunk* chunk, void* address, LargeCache* cache) noexcept {
  const ChunkInfo info = chunk->snapshot();
  // If two threads free one object, one of them gets the report.
  if (info.kind != ChunkKind::LargeHead || address_of(chunk) != address ||
      !chunk->claim_for_cache(info)) {
    const os::Lock lock(mutex_);
    return classify_in_window(address);
  }
  CachedRun run{reinterpret_cast<std::uintptr_t>(address), info.large_bytes()};
  // With a decay time of 0, or at a memory limit, the arena keeps nothing.
  if (cache != nullptr && info.large_chunks() <= Tunables::large_cache_chunks &&
      tunables.decay_milliseconds != 0 && !keeps_nothing_.load(Order::relaxed)) {
    run = cache->put(run);
  }
  if (run.bytes != 0) {
    change(
        [&]() noexcept { end_large_run(chunk_of(reinterpret_cast<void*>(run.address)), now()); });
  }
  return LargeFree::Freed;
}

/// Frees the run of a cached large object, unused since `free_since`.
void Arena::end_large_run(Chunk* head, std::uint32_t free_since) noexcept {
  note_large_gone();
  head->clear();
  release_run(number_of(address_of(head)), free_since);
}

void Arena::clear(LargeCache& cache) noexcept {
  change([&]() noexcept { clear_large_cache(cache, false); });
}

/// Frees the objects in `cache`; with `only_old`, those that it also found there the last time.
void Arena::clear_large_cache(LargeCache& cache, bool only_old) noexcept {
  const std::uint32_t free_since = only_old ? now() - tunables.decay_milliseconds : now();
  for (std::uint32_t place = 0; place < Tunables::large_cache_places; ++place) {
    if (const CachedRun run = cache.clear(place, only_old); run.bytes != 0) {
      end_large_run(chunk_of(reinterpret_cast<void*>(run.address)), free_since);
    }
  }
}

void Arena::clear_large_caches(bool only_old) noexcept {
  for (LargeCache& cache : large_caches_) {
    clear_large_cache(cache, only_old);
  }
}

LargeFree Arena::deallocate_direct(void* address) noexcept {
  // Without a decay time the arena keeps nothing. Where address space is limited, other mappings of
  // the program may need it.
  const bool may_keep = tunables.decay_milliseconds != 0 && !is_bounded_.load(Order::relaxed) &&
                        !keeps_nothing_.load(Order::relaxed);
  const std::size_t bytes = direct_.deallocate(address, may_keep, now());
  if (bytes == 0) {
    return classify_outside(address);
  }
  in_use_.subtract(bytes);
  note_large_gone();
  decay_some();
  return LargeFree::Freed;
}

bool Arena::resize_large_run(Chunk* head, std::size_t bytes) noexcept {
  const std::size_t wanted = chunks_for(bytes);
  const ChunkInfo info = head->snapshot();
  const std::uint32_t had = info.large_chunks();
  if (wanted > had && bytes >= direct_threshold()) {
    // One move to its own mapping lets the object grow further without a copy.
    return false;
  }
  const auto chunks = static_cast<std::uint32_t>(wanted);
  const std::uint32_t usable = large_bytes_for(bytes);
  if (usable == info.large_bytes()) {
    return true;
  }
  if (chunks == had) {
    return head->resize_in_chunks(info, usable);
  }
  if (!head->claim_for_cache(info)) {
    return false;
  }
  Purge purge;
  PurgeBudget budget;
  {
    const os::Lock lock(mutex_);
    if (!resize_run(number_of(address_of(head)), chunks)) {
      head->publish(info);
      return false;
    }
    head->publish(ChunkInfo::large_head(usable));
    in_use_.change(had * chunk_bytes, chunks * chunk_bytes);
    purge = begin_due_purge(budget);
  }
  carry_out(purge, budget);
  return true;
}

void* Arena::resize_direct(void* address, std::size_t bytes, std::size_t alignment) noexcept {
  const std::size_t before = direct_.usable_bytes(address);
  const std::size_t wanted = DirectMap::size_for(bytes);
  std::size_t promised = 0;
  if (wanted > before && !promise_direct(wanted - before, promised)) {
    return nullptr;
  }
  void* const moved = direct_.resize(address, bytes, alignment);
  const std::size_t after = moved != nullptr ? direct_.usable_bytes(moved) : before;
  in_use_.change(before + promised, after);
  decay_some();
  return moved;
}

/// Classifies an address in the window that is not the first byte of a large object.
LargeFree Arena::classify_in_window(const void* address) const noexcept {
  const std::uint32_t run = runs_.run_holding(number_of(address));
  switch (runs_.state_of_run(run)) {
    case RunState::Dirty:
    case RunState::Clean:
    case RunState::Purging:
      return LargeFree::AlreadyFree;
    case RunState::InUse:
      return record(run).snapshot().kind == ChunkKind::Cached ? LargeFree::AlreadyFree
                                                              : LargeFree::Inside;
    default:
      return LargeFree::Foreign;
  }
}

LargeFree Arena::classify_outside(const void* address) noexcept {
  if (direct_.is_inside(address)) {
    return LargeFree::Inside;
  }
  return direct_.has_ended(address) ? LargeFree::AlreadyFree : LargeFree::Foreign;
}

void Arena::note_large() noexcept {
  large_counts_.count.add(1);
  large_counts_.allocations.add(1);
}

void Arena::note_large_gone() noexcept {
  large_counts_.count.subtract(1);
  large_counts_.frees.add(1);
}

}  // namespace slabmalloc
