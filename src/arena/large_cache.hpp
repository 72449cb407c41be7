// SPDX-License-Identifier: MIT
//
// LargeCache: a few freed large objects, which threads put and take without a lock.
//
//     free      record: LargeHead -> Cached      put: in a full cache, it evicts another run
//     allocate  record: Cached -> LargeHead      take: a run of as many chunks
//
// A run in the cache is as long as its last object needed. The next object has bytes of its own.
//
// The run map counts a cached run as in use. A cached run is still available to others: trim(), an
// allocation that fails, and the check for old objects all empty the cache.
#pragma once

#include <cstddef>
#include <cstdint>

#include "arena/chunk.hpp"
#include "slabmalloc/base/atomics.hpp"
#include "tunables.hpp"

namespace slabmalloc {

/// A run and the usable bytes of its object; none if `bytes` is 0.
struct CachedRun {
  std::uintptr_t address = 0;
  std::uint32_t bytes = 0;
};

/// Room for a few short runs (tunables.hpp).
/// Thread: any; lock-free.
class alignas(64) LargeCache {
 public:
  constexpr LargeCache() noexcept = default;

  /// Takes a cached run for an object of `bytes`, of as many chunks as it needs; none if there is
  /// none.
  /// Pre: `bytes` is a multiple of large_step_bytes and not 0.
  CachedRun take(std::uint32_t bytes) noexcept {
    for (auto& place : runs_) {
      std::uintptr_t run = place.load(Order::relaxed);
      // Acquire, with the release in put(): the last client's writes come first.
      if (run != 0 && chunks_for(unpack(run).bytes) == chunks_for(bytes) &&
          place.compare_exchange(run, 0, Order::acquire)) {
        takes_.fetch_add(1, Order::relaxed);
        return {unpack(run).address, bytes};
      }
    }
    return {};
  }

  /// Caches a run and returns the run that it evicts, or none.
  /// Pre: its object fits in Tunables::large_cache_chunks.
  CachedRun put(CachedRun run) noexcept {
    for (auto& place : runs_) {
      std::uintptr_t none = 0;
      if (place.load(Order::relaxed) == 0 &&
          place.compare_exchange(none, pack(run), Order::release)) {
        return {};
      }
    }
    auto& place = runs_[turn_.fetch_add(1, Order::relaxed) % Tunables::large_cache_places];
    // Acquire and release: both the new run and the evicted one pass between threads.
    return unpack(place.exchange(pack(run), Order::acq_rel));
  }

  /// Removes the run in place `number`. With `only_old`, the first call marks it and the second
  /// removes it.
  CachedRun clear(std::uint32_t number, bool only_old) noexcept {
    auto& place = runs_[number];
    std::uintptr_t run = place.load(Order::relaxed);
    while (run != 0) {
      const bool stays = only_old && (run & old) == 0;
      // Acquire as in take().
      if (place.compare_exchange(run, stays ? run | old : 0, Order::acquire)) {
        return stays ? CachedRun{} : unpack(run);
      }
    }
    return {};
  }

  /// Runs and chunks that are cached now, and runs ever taken.
  std::size_t runs() const noexcept {
    return sum([](std::size_t) { return std::size_t{1}; });
  }
  std::size_t chunks() const noexcept { return sum(chunks_for); }
  std::size_t takes() const noexcept { return takes_.load(Order::relaxed); }

 private:
  // A run's address is a multiple of 64 KiB, so its low bits are free: for the object's bytes, in
  // steps, and a mark.
  static constexpr std::uintptr_t steps_mask = 0xFF;
  static constexpr std::uintptr_t old = 0x100;
  static_assert(Tunables::large_cache_chunks * chunk_bytes / large_step_bytes <= steps_mask);

  static std::uintptr_t pack(CachedRun run) noexcept {
    return run.address | run.bytes / large_step_bytes;
  }
  static CachedRun unpack(std::uintptr_t run) noexcept {
    return {run & ~(steps_mask | old),
            static_cast<std::uint32_t>((run & steps_mask) * large_step_bytes)};
  }

  /// The sum of `weight` over the bytes of each cached run.
  template <class Weight>
  std::size_t sum(Weight&& weight) const noexcept {
    std::size_t all = 0;
    for (const auto& place : runs_) {
      const std::size_t bytes = unpack(place.load(Order::relaxed)).bytes;
      all += bytes != 0 ? weight(bytes) : 0;
    }
    return all;
  }

  HardwareAtomics::Cell<std::uintptr_t> runs_[Tunables::large_cache_places];
  HardwareAtomics::Cell<std::size_t> takes_;
  HardwareAtomics::Cell<std::uint32_t> turn_;
};

}  // namespace slabmalloc
