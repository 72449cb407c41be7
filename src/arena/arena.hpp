// SPDX-License-Identifier: MIT
//
// Arena: the source of all memory of the process heap.
//
//     page of slots   --allocate(chunks)------->  a run of 64 KiB chunks in one window of space
//     large object    --allocate_large(bytes)-->  up to 128 KiB: a cached run (large_cache.hpp);
//                                                 from direct_threshold() on: its own mapping;
//                                                 else: such a run
//
//     process_arena
//     | mutex | Window: place and growth | RunMap: state of each run | DirectMap: own mappings |
//
// A freed run is dirty: it is backed by memory with unknown contents. A purge makes it clean. A
// freed mapping is dirty too, until a purge unmaps it. Dirty memory is purged when:
//
//     nobody has needed it for a time (decay.hpp): at a later call, or by a scavenger
//     the dirty memory exceeds the dirty limit: at once
//     trim()
//
// Allocation prefers dirty runs, then dirty runs with their clean neighbours, then clean runs. The
// window grows last. Where address space is limited, allocation first searches every free run.
//
// In the hardened library a free run serves only the size class that had it first (run_map.hpp).
// Where address space is limited, or the window cannot grow, it serves any class.
//
// A thread classifies an address without a lock:
//
//     chunk_of(address) == nullptr    not in the window: a mapping of its own, or foreign
//     chunk_of(address)->info.kind    see chunk.hpp
//
// Locks, in this order: the purger's mutex, the arena's, the direct map's. The arena makes most
// system calls with its mutex held. It maps and unmaps direct objects without a lock. A purge first
// takes the run out of the run map, and then holds the purger's mutex alone.
//
// One thread purges at a time. If another thread is purging, an operation returns: the purger
// repeats until no work remains, or until it has purged enough for others. Then the next caller
// continues.
//
// Invariants, checked by validate(), besides those of RunMap, DirectMap and HugePages:
//   M1  end of the runs = committed chunks; data bytes made usable = (end - unusable) * chunk_bytes
//   M2  the records of the chunks that are not in use are clear: Unclaimed, no owner, no seal
//   M3  a LargeHead or Cached record is the first of a run in use; its bytes, a multiple of
//       large_step_bytes, need the run's length
//   M4  large count = the number of these heads + that of the direct map
//   M5  no chunk is being purged
//   M6  the memory in use, as limits count it, is within the hard limit
//   M7  a page of slots lies in a run of its size class, or of none
#pragma once

#include <cstddef>
#include <cstdint>

#include "arena/chunk.hpp"
#include "arena/decay.hpp"
#include "arena/direct_map.hpp"
#include "arena/gauge.hpp"
#include "arena/huge_pages.hpp"
#include "arena/large_cache.hpp"
#include "arena/run_map.hpp"
#include "arena/statistics.hpp"
#include "arena/window.hpp"
#include "os/mutex.hpp"
#include "slabmalloc/base/atomics.hpp"
#include "slabmalloc/zone/statistics.hpp"
#include "tunables.hpp"

namespace slabmalloc {

/// An allocation, and whether all its bytes are known to be zero. A null `address` means failure.
struct Extent {
  void* address = nullptr;
  bool zeroed = false;
  constexpr explicit operator bool() const noexcept { return address != nullptr; }
};

/// The contents that the client of a new object wants.
enum class Contents : std::uint8_t { Any, Zeros };

/// The result of a request to free a large object.
enum class LargeFree : std::uint8_t {
  Freed,
  AlreadyFree,  ///< In free memory of the window, or where a recently freed mapped object began.
  Inside,       ///< In an object in use, but not at the first byte of a large one.
  Foreign,      ///< Not an address of this arena.
};

/// A thread's copy of the window's bounds, which it can ask without a read of shared memory.
class WindowView {
 public:
  constexpr WindowView() noexcept = default;
  WindowView(std::uintptr_t base, std::size_t bytes, Chunk* records) noexcept
      : base_(base), bytes_(bytes), first_header_(reinterpret_cast<std::byte*>(&records->header)) {}

  /// The record of the chunk that holds `address`; null if the copy does not reach it.
  [[gnu::always_inline]] Chunk* chunk_of(const void* address) const noexcept {
    const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(address) - base_;
    if (offset >= bytes_) [[unlikely]] {
      return nullptr;
    }
    // A stride from header to header, with a length unknown to the compiler, makes this one
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

/// The arena. It is usable from its constant initialisation on, and opens its window on first use.
/// Thread: any, except for the fork functions as stated there.
class Arena {
 public:
  constexpr Arena() noexcept = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// The window as it is now.
  /// Order: acquire, with the release in adopt(): base and records are those of this window.
  WindowView view() const noexcept {
    const std::size_t window_bytes = window_bytes_.load(Order::acquire);
    return window_bytes == 0 ? WindowView{}
                             : WindowView{data_base_.load(Order::relaxed), window_bytes,
                                          records_.load(Order::relaxed)};
  }

  /// The record of the chunk that holds `address`, which may be any; null outside of the window.
  [[gnu::always_inline]] Chunk* chunk_of(const void* address) const noexcept {
    return view().chunk_of(address);
  }

  /// The first byte of the chunk that `chunk` describes.
  /// Pre: it is a record of this arena.
  [[gnu::always_inline]] std::byte* address_of(const Chunk* chunk) const noexcept {
    const auto number = static_cast<std::size_t>(chunk - records_.load(Order::relaxed));
    return reinterpret_cast<std::byte*>(data_base_.load(Order::relaxed) + number * chunk_bytes);
  }

  /// The record of chunk `number`.
  /// Pre: number < committed_chunks().
  const Chunk& record(std::size_t number) const noexcept {
    return records_.load(Order::relaxed)[number];
  }
  /// The same for the holder of the chunk's run.
  Chunk& own_record(std::size_t number) noexcept { return records_.load(Order::relaxed)[number]; }

  /// Chunks from the window's start that have readable records.
  std::size_t committed_chunks() const noexcept {
    return window_bytes_.load(Order::acquire) / chunk_bytes;
  }

  /// Allocates `chunks` adjacent chunks at a multiple of `alignment` bytes, a power of two. The
  /// chunks' tags, seals and infos are clear (chunk.hpp); the rest of their records is undefined.
  /// They were of `run_class` or of no class before, unless the window is bounded or cannot grow.
  /// Pre: alignment <= Tunables::run_alignment_bytes.
  /// Fails: null if memory is exhausted.
  Extent allocate(std::size_t chunks, std::size_t alignment = chunk_bytes,
                  RunClass run_class = {}) noexcept;

  /// Frees a run from allocate() and clears its records.
  void deallocate(void* address, std::size_t chunks) noexcept;

  /// Allocates an object of at least `bytes`, any number, at a multiple of `alignment`, a power of
  /// two. It prefers an object in `cache`, if one is given. If zeros are wanted, an object with its
  /// own mapping gets a fresh one, since its client may mean to write little of it.
  /// Fails: null if memory is exhausted.
  Extent allocate_large(std::size_t bytes, std::size_t alignment, LargeCache* cache = nullptr,
                        Contents contents = Contents::Any) noexcept;

  /// Frees a large object, into `cache` if one is given and the object is small enough. `address`
  /// may be any: if no large object starts there, the call changes nothing and says so.
  LargeFree deallocate_large(void* address, LargeCache* cache = nullptr) noexcept;

  /// A cache for thread or zone `number`. Different numbers seldom share one.
  LargeCache& large_cache_of(std::size_t number) noexcept {
    return large_caches_[number % Tunables::large_caches];
  }

  /// Frees the objects in `cache`.
  void clear(LargeCache& cache) noexcept;

  /// The usable bytes of the large object that starts at `address`, which may be any; 0 if there is
  /// none.
  std::size_t large_usable_bytes(const void* address) noexcept;

  /// True if a large object of `usable` bytes may have been allocated for `bytes`: as a run of
  /// chunks, or as a mapping of its own.
  static bool is_large_size(std::size_t usable, std::size_t bytes) noexcept {
    return usable == DirectMap::size_for(bytes) ||
           (bytes <= Tunables::largest_run_bytes && usable == large_bytes_for(bytes));
  }

  /// Resizes the large object at `address` to at least `bytes`, in place or by moving its mapping.
  /// It never copies, and frees the excess. Returns the object's address.
  /// Pre: a large object starts at `address`, a multiple of `alignment`, and stays at one.
  /// Fails: null; the object is then as before.
  void* resize_large(void* address, std::size_t bytes, std::size_t alignment = 1) noexcept;

  /// The answer that deallocate_large() would give for `address`; Freed if it would free.
  /// Cost: O(runs); for diagnosis.
  LargeFree classify(const void* address) noexcept;

  /// The large object that holds `address`, or held it when it was freed, where that is known. A
  /// copy, which other threads may make untrue at once.
  /// Cost: O(runs); for diagnosis.
  LargePlace place_of(const void* address) noexcept;

  /// True if a large object may have started at `address`, outside of the window, that was freed so
  /// long ago that classify() does not tell.
  bool may_have_forgotten(const void* address) noexcept {
    return chunk_of(address) == nullptr && direct_.may_have_forgotten(address);
  }

  /// Purges the dirty memory that has decayed.
  void decay() noexcept;

  /// Purges all dirty memory; returns the bytes returned to the operating system.
  std::size_t trim() noexcept;

  /// Gives a part of an allocated run back to the system: whole OS pages. It reads as zero then.
  /// Adds the huge pages that it split to `splits`.
  /// Fails: false; the part's contents are undefined.
  bool drop_hole(std::byte* start, std::size_t bytes, std::uint32_t& splits) noexcept;
  /// Counts a hole out that was claimed again, or whose page went.
  void note_refault(std::size_t bytes) noexcept {
    counts_.holes_refaulted_bytes.add(bytes);
    note_hole_gone(bytes);
  }
  void note_hole_gone(std::size_t bytes) noexcept { counts_.hole_bytes.subtract(bytes); }

  /// Bytes that all purges have returned to the operating system since the start.
  std::size_t purged_bytes() const noexcept { return counts_.purged_bytes.get(); }

  /// Locks all mutexes of the arena across a fork, so that the child finds its data consistent.
  void prepare_fork() noexcept;
  void parent_after_fork() noexcept;
  /// Pre: called in the child, by its only thread.
  void child_after_fork() noexcept;
  /// True if the calling thread holds a mutex of the arena: a signal handler interrupted its call.
  bool holds_mutex() const noexcept;

  /// Cost: O(chunks).
  ArenaStatistics statistics() const noexcept;

  /// True if all invariants hold.
  /// Cost: O(chunks).
  /// Thread: no other call is in progress, and no thread opens or closes a page.
  bool validate() noexcept;

 private:
  /// Chunks behind each run of allocate() that nobody may use.
  static constexpr std::size_t guard_chunks = Tunables::hardened ? 1 : 0;

  /// Memory that is being purged: chunks of a run, or a part of the oldest cached mapping.
  struct Purge {
    std::uint32_t run = no_chunk;
    std::uint32_t chunks = 0;
    RunMap::Row wide;               ///< The run with clean chunks around it, whose records share OS
                                    ///< pages with its own.
    std::size_t mapping_bytes = 0;  ///< At most so many; 0 if chunks are purged.

    bool is_chosen() const noexcept { return bytes() != 0; }
    std::size_t bytes() const noexcept { return chunks * chunk_bytes + mapping_bytes; }
  };

  /// What one operation may still purge.
  struct PurgeBudget {
    std::size_t own_bytes = 0;  ///< Of the excess over the dirty limit at its start.
    std::uint32_t others_steps = Tunables::purge_steps_for_others;  ///< For excess since then.
    std::uint32_t decayed_steps = Tunables::purge_steps;
  };

  static std::uint32_t now() noexcept;

  // With the mutex held:
  Extent take_run(std::size_t chunks, std::size_t alignment, RunClass run_class) noexcept;
  Placement find_or_grow(RunRequest& request) noexcept;
  Placement find_at_last(const RunRequest& request) noexcept;
  Placement grow_for(RunRequest& request) noexcept;
  void adopt(const Growth& growth) noexcept;
  void release_run(std::uint32_t first, std::uint32_t free_since) noexcept;
  void end_large_run(Chunk* head, std::uint32_t free_since) noexcept;
  bool resize_run(std::uint32_t first, std::uint32_t chunks) noexcept;
  Purge begin_due_purge(PurgeBudget& budget) noexcept;
  Purge choose_due(PurgeBudget& budget) noexcept;
  Purge choose_oldest(std::size_t most_bytes) noexcept;
  void end_purge(const Purge& purge, std::size_t purged) noexcept;
  void note_amounts(std::uint32_t time) noexcept;
  std::size_t dirty_bytes() const noexcept;
  std::size_t excess_bytes() const noexcept;
  std::uint64_t phase() const noexcept;
  std::uint32_t number_of(const void* address) const noexcept;
  void note_sizes() noexcept;
  void clear_large_cache(LargeCache& cache, bool only_old) noexcept;
  void clear_large_caches(bool only_old) noexcept;
  LargeFree classify_in_window(const void* address) const noexcept;
  bool validate_records(std::size_t& count) noexcept;
  std::size_t large_bytes() const noexcept;
  std::size_t counted_in_use() const noexcept;
  std::size_t limited_dirty_bytes(std::size_t usual) const noexcept;
  bool admits_chunks(std::size_t chunks) const noexcept;
  void clear_caches_if_limited() noexcept;

  // Without the mutex:
  /// Runs `work` with the mutex held, then purges what is due, as far as the budget allows.
  template <class Work>
  void change(Work&& work, PurgeBudget budget) noexcept {
    Purge purge;
    {
      const os::Lock lock(mutex_);
      work();
      purge = begin_due_purge(budget);
    }
    carry_out(purge, budget);
  }
  template <class Work>
  void change(Work&& work) noexcept {
    change(work, PurgeBudget{});
  }
  /// Purges what is due after a change without the mutex.
  void decay_some() noexcept {
    change([]() noexcept {});
  }
  Extent allocate_run(std::size_t chunks, std::size_t alignment, RunClass run_class = {}) noexcept;
  bool make_accessible(Extent& extent, std::size_t chunks) noexcept;
  bool make_accessible_at_last(Extent& extent, std::size_t chunks) noexcept;
  static bool has_guards(std::uint32_t number) noexcept;
  Extent allocate_at_last(std::size_t chunks, std::size_t alignment, RunClass run_class) noexcept;
  void carry_out(Purge purge, PurgeBudget& budget) noexcept;
  std::size_t purge_chosen(const Purge& purge) noexcept;
  bool promise_direct(std::size_t bytes, std::size_t& promised) noexcept;
  void note_if_refused(std::size_t bytes) noexcept;
  std::uint32_t prepare_purge(std::byte* start, std::size_t bytes) noexcept;
  bool purge_memory(std::byte* start, std::size_t bytes, bool forbids = false) noexcept;
  void purge_records(const Purge& purge) noexcept;
  std::size_t purge_everything() noexcept;
  LargeFree classify_outside(const void* address) noexcept;
  std::size_t direct_threshold() const noexcept;
  Extent allocate_large_run(std::size_t bytes, std::size_t alignment) noexcept;
  Extent allocate_direct(std::size_t bytes, std::size_t alignment, Contents contents) noexcept;
  LargeFree deallocate_direct(void* address) noexcept;
  LargeFree deallocate_large_run(Chunk* chunk, void* address, LargeCache* cache) noexcept;
  bool resize_large_run(Chunk* head, std::size_t bytes) noexcept;
  void* resize_direct(void* address, std::size_t bytes, std::size_t alignment) noexcept;
  void note_large() noexcept;
  void note_large_gone() noexcept;

  // Every free reads these; only growth of the window writes them.
  alignas(64) HardwareAtomics::Cell<std::size_t> window_bytes_;
  HardwareAtomics::Cell<std::uintptr_t> data_base_;
  HardwareAtomics::Cell<Chunk*> records_;
  HardwareAtomics::Cell<bool> is_bounded_;
  // Frees of cached sizes read this; it changes at a memory limit alone.
  HardwareAtomics::Cell<bool> keeps_nothing_;

  alignas(64) os::Mutex mutex_;
  os::Mutex purger_mutex_;
  Window window_;
  HugePages huge_pages_;
  RunMap runs_;
  Decay decay_;
  std::size_t window_committed_ = 0;     ///< The window's share of committed_.
  std::uint32_t caches_checked_at_ = 0;  ///< Milliseconds.
  LargeCache large_caches_[Tunables::large_caches];

  Gauge committed_;
  Gauge in_use_;
  DirectMap direct_{committed_};
  ArenaCounters<SharedCounter<HardwareAtomics>> counts_;
  LargeCounters<SharedCounter<HardwareAtomics>> large_counts_;
};

/// The arena of the process.
[[gnu::visibility("hidden")]] extern constinit Arena process_arena;

}  // namespace slabmalloc
