// SPDX-License-Identifier: MIT
//
// Arena: where the process heap's memory comes from and goes back to.
//
//     page of slots   --allocate(chunks)------->  a run of 64 KiB chunks in one window of space
//     large object    --allocate_large(bytes)-->  such a run; from direct_threshold() on its own
//                                                 mapping;
//                                                 to 128 KiB first what lies in a cache (large_cache.hpp)
//
//     process_arena
//     | mutex | Window: place and growth | RunMap: who has which chunks | DirectMap: own mappings |
//
// A freed run is dirty: backed by memory, contents unknown. It is purged, which makes it clean,
// when it has been free for tunables.decay_milliseconds (looked at by whoever calls the arena
// next), at once when there is more dirty memory than the dirty limit (dirty_limit.hpp), and on
// trim(). Allocation prefers dirty runs, then those with their clean neighbours, then clean ones;
// then the window grows. Where address space is scarce every free run is looked at before that.
//
// What an address is, without a lock:
//
//     chunk_of(address) == nullptr    not in the window: a mapping of its own, or foreign
//     chunk_of(address)->info.kind    see chunk.hpp
//
// Locks: the purger's mutex, the arena's, the direct map's, taken in this order. System calls are
// made with them held, except mapping and unmapping of direct objects, and purges: what is being
// purged is taken out of the run map meanwhile, and held is the purger's mutex alone. There is one
// purger at a time. Who finds another one purging leaves it to that, which looks whether there is
// more to do until there is not, or it has done enough for others: then whoever calls next goes on.
//
// Invariants, checked by validate(), besides those of RunMap and DirectMap:
//   A1  end of the runs = committed chunks; data bytes made usable = (end - unusable) * chunk_bytes
//   A2  the records of the chunks that are not in use are clear: Unclaimed, no owner, no seal
//   A3  a record of kind LargeHead or Cached is the first of a run in use, of the length that it says
//   A4  large count and bytes = those of these heads + those of the direct map
//   A5  no chunk is being purged
#pragma once

#include <cstddef>
#include <cstdint>

#include "arena/dirty_limit.hpp"
#include "arena/chunk.hpp"
#include "arena/direct_map.hpp"
#include "arena/gauge.hpp"
#include "arena/run_map.hpp"
#include "arena/statistics.hpp"
#include "arena/large_cache.hpp"
#include "arena/window.hpp"
#include "os/mutex.hpp"
#include "slabmalloc/base/atomics.hpp"
#include "slabmalloc/zone/statistics.hpp"
#include "tunables.hpp"

namespace slabmalloc {

/// Memory handed out, and whether every byte of it is known to be zero. `address` is null if
/// refused.
struct Extent {
  void* address = nullptr;
  bool zeroed = false;
  constexpr explicit operator bool() const noexcept { return address != nullptr; }
};

/// What a request to free a large object came to.
enum class LargeFree : std::uint8_t {
  Freed,
  AlreadyFree,  ///< In free memory of the window, or where one of the last mapped objects to end
                ///< began.
  Inside,       ///< Within something in use, but not the first byte of a large object.
  Foreign,      ///< The address is nothing of this arena's.
};

/// The arena's window as far as it reached at some moment, for one thread to keep and to ask
/// without touching shared memory.
class WindowView {
 public:
  constexpr WindowView() noexcept = default;
  WindowView(std::uintptr_t base, std::size_t bytes, Chunk* records) noexcept
      : base_(base), bytes_(bytes), first_header_(reinterpret_cast<std::byte*>(&records->header)) {}

  /// The record of the chunk that holds `address`; null if this view does not reach it.
  [[gnu::always_inline]] Chunk* chunk_of(const void* address) const noexcept {
    const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(address) - base_;
    if (offset >= bytes_) [[unlikely]] {
      return nullptr;
    }
    // Counted from header to header, and with a stride that the compiler does not know, this is one
    // multiplication and one addition.
    std::byte* const header = first_header_ + (offset >> chunk_shift) * record_bytes_;
    Chunk* const chunk = Chunk::of(reinterpret_cast<Chunk::Header*>(header));
    if (chunk == nullptr) {
      __builtin_unreachable();
    }
    return chunk;
  }

 private:
  std::uintptr_t base_ = 0;
  std::size_t bytes_ = 0;
  std::byte* first_header_ = nullptr;
  std::size_t record_bytes_ = sizeof(Chunk);
};

/// The arena. Usable from its constant initialisation on; it sets itself up on first use.
/// Thread: every function from any thread, except the fork functions as said there.
class Arena {
 public:
  constexpr Arena() noexcept = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// The window as it is now.
  /// Order: acquire, with the release in adopt(): base and record address are those of the window.
  WindowView view() const noexcept {
    const std::size_t window_bytes = window_bytes_.load(Order::acquire);
    return window_bytes == 0 ? WindowView{}
                             : WindowView{data_base_.load(Order::relaxed), window_bytes,
                                          records_.load(Order::relaxed)};
  }

  /// The record of the chunk that holds `address`, or null outside of the window. Any address will
  /// do.
  [[gnu::always_inline]] Chunk* chunk_of(const void* address) const noexcept {
    return view().chunk_of(address);
  }

  /// The first byte of the chunk that `chunk` describes. Pre: it is a record of this arena.
  [[gnu::always_inline]] std::byte* address_of(const Chunk* chunk) const noexcept {
    const auto number = static_cast<std::size_t>(chunk - records_.load(Order::relaxed));
    return reinterpret_cast<std::byte*>(data_base_.load(Order::relaxed) + number * chunk_bytes);
  }

  /// The record of chunk `number`. Pre: number < committed_chunks().
  const Chunk& record(std::size_t number) const noexcept {
    return records_.load(Order::relaxed)[number];
  }

  /// Chunks from the window's start whose records can be read.
  std::size_t committed_chunks() const noexcept {
    return window_bytes_.load(Order::acquire) / chunk_bytes;
  }

  /// Hands out `chunks` chunks in a row at a multiple of `alignment`, a power of two. Their records
  /// are clear (chunk.hpp); the rest of them may hold anything. Null if memory is exhausted.
  /// Pre: alignment <= Tunables::run_alignment_bytes.
  Extent allocate(std::size_t chunks, std::size_t alignment = chunk_bytes) noexcept;

  /// Takes back what allocate() handed out and clears the records.
  void deallocate(void* address, std::size_t chunks) noexcept;

  /// Hands out an object of at least `bytes` at a multiple of `alignment`, a power of two. Every
  /// size may be asked. Null if memory is exhausted. One that lies in `cache`, if any, is preferred.
  Extent allocate_large(std::size_t bytes, std::size_t alignment, LargeCache* cache = nullptr) noexcept;

  /// Takes back a large object, into `cache` if it is small enough and one is given. Any address may be given:
  /// what is not a large object is told, and nothing happens.
  LargeFree deallocate_large(void* address, LargeCache* cache = nullptr) noexcept;

  /// A cache for one of many threads. Threads whose numbers differ seldom share one.
  LargeCache& large_cache_of(std::size_t number) noexcept {
    return large_caches_[number % Tunables::large_caches];
  }

  /// Takes back what lies in `cache`.
  void clear(LargeCache& cache) noexcept;

  /// The bytes usable of the large object at that very address; 0 if there is none. Any address may
  /// be asked.
  std::size_t large_usable_bytes(const void* address) noexcept;

  /// Makes the large object at `address` hold at least `bytes` without copying, in place or by
  /// moving its mapping; excess is given back. Its new address, or null if that cannot be: then it
  /// is as before.
  /// Pre: a large object starts at `address`, a multiple of `alignment`, and stays at one.
  void* resize_large(void* address, std::size_t bytes, std::size_t alignment = 1) noexcept;

  /// What deallocate_large() would say of `address`; Freed if it would free. Cost: O(runs); for
  /// diagnosis.
  LargeFree classify(const void* address) noexcept;

  /// Purges what has been dirty for long enough, a bounded amount.
  void decay() noexcept;

  /// Purges everything dirty; returns the bytes given back to the operating system.
  std::size_t trim() noexcept;

  /// Drops the contents of the OS pages that lie wholly in a part of what allocate() handed out.
  void purge_part(std::byte* start, std::size_t bytes) noexcept;

  /// Bytes of chunks, and of parts of them, given back to the operating system since the start, by whichever call.
  std::size_t purged_bytes() const noexcept { return counts_.purged_bytes.get(); }

  /// Holds all of the arena's mutexes across a fork, so that the child finds everything whole.
  void prepare_fork() noexcept;
  void parent_after_fork() noexcept;
  /// Pre: called in the child, by its only thread.
  void child_after_fork() noexcept;

  ArenaStatistics statistics() const noexcept;

  /// True if all invariants hold. Cost: O(chunks). Thread: no other call may be under way, and no
  /// page may be made or ended.
  bool validate() noexcept;

 private:
  /// Chunks that are being purged, and why. None, if `run` is no_chunk.
  struct Purge {
    enum class Reason : std::uint8_t { Excess, Expired, Trim };
    std::uint32_t run = no_chunk;
    std::uint32_t chunks = 0;
    Reason reason = Reason::Trim;
    std::size_t own_chunks_left = 0;       ///< Of what was beyond the dirty limit when it began.
    std::uint32_t others_steps_left = 0;   ///< Steps that may be taken beyond that.
    std::uint32_t expired_steps_left = 0;  ///< Steps that may be taken for what has expired.
  };

  static std::uint32_t now() noexcept;

  // These with the mutex held.
  Extent take_run(std::size_t chunks, std::size_t alignment) noexcept;
  Placement find_or_grow(RunRequest& request) noexcept;
  Placement grow_for(RunRequest& request) noexcept;
  void adopt(const Growth& growth) noexcept;
  void release_run(std::uint32_t first, std::uint32_t free_since) noexcept;
  void end_large_run(Chunk* head, std::uint32_t free_since) noexcept;
  bool resize_run(std::uint32_t first, std::uint32_t chunks) noexcept;
  Purge begin_due_purge() noexcept;
  bool choose_due(Purge& purge) const noexcept;
  std::size_t excess_chunks() const noexcept;
  void end_purge(const Purge& purge, bool is_purged) noexcept;
  void note_taken(std::uint32_t clean_before) noexcept;
  std::size_t dirty_limit_bytes() const noexcept;
  std::uint64_t phase() const noexcept;
  std::uint32_t number_of(const void* address) const noexcept;
  void note_sizes() noexcept;
  void clear_large_cache(LargeCache& cache, bool only_old) noexcept;
  void clear_large_caches(bool only_old) noexcept;
  LargeFree classify_in_window(const void* address) const noexcept;
  bool validate_records(std::size_t& large_count, std::size_t& large_bytes) noexcept;

  // These without.
  /// Does `work` with the mutex held, and purges what is due afterwards.
  template <class Work>
  void change(Work&& work) noexcept {
    Purge purge;
    {
      const os::Lock lock(mutex_);
      work();
      purge = begin_due_purge();
    }
    carry_out(purge);
  }
  Extent allocate_at_last(std::size_t chunks, std::size_t alignment) noexcept;
  void carry_out(Purge& purge) noexcept;
  bool purge_chunks(const Purge& purge) noexcept;
  bool purge_memory(std::byte* start, std::size_t bytes) noexcept;
  std::size_t purge_everything() noexcept;
  bool begin_oldest_purge(Purge& purge, std::size_t most) noexcept;
  LargeFree classify_outside(const void* address) noexcept;
  std::size_t direct_threshold() const noexcept;
  Extent allocate_large_run(std::size_t bytes, std::size_t alignment) noexcept;
  Extent allocate_direct(std::size_t bytes, std::size_t alignment) noexcept;
  LargeFree deallocate_direct(void* address) noexcept;
  LargeFree deallocate_large_run(Chunk* chunk, void* address, LargeCache* cache) noexcept;
  bool resize_large_run(Chunk* head, std::size_t bytes) noexcept;
  void* resize_direct(void* address, std::size_t bytes, std::size_t alignment) noexcept;
  void note_large(std::size_t bytes) noexcept;
  void note_large_gone(std::size_t bytes) noexcept;

  // Read by every free; written only when the window grows.
  alignas(64) HardwareAtomics::Cell<std::size_t> window_bytes_;
  HardwareAtomics::Cell<std::uintptr_t> data_base_;
  HardwareAtomics::Cell<Chunk*> records_;
  HardwareAtomics::Cell<bool> is_bounded_;

  alignas(64) os::Mutex mutex_;
  os::Mutex purger_mutex_;
  Window window_;
  RunMap runs_;
  DirtyLimit dirty_limit_;
  std::size_t window_committed_ = 0;  ///< The window's share of committed_.
  std::uint32_t caches_checked_at_ = 0;  ///< Milliseconds.
  LargeCache large_caches_[Tunables::large_caches];

  Gauge committed_;
  Gauge in_use_;
  DirectMap direct_{committed_};
  ArenaCounters<SharedCounter<HardwareAtomics>> counts_;
  LargeCounters<SharedCounter<HardwareAtomics>> large_counts_;
};

/// The process's arena.
[[gnu::visibility("hidden")]] extern constinit Arena process_arena;

}  // namespace slabmalloc
