// SPDX-License-Identifier: MIT
//
// ThreadZones: the owner of each zone, from a thread's first allocation until after its end.
//
//               some allocations
//                 or many frees                     thread's end
//   (no zone) ───────────────────► owned by it ───────────────► parked
//                                       ▲                         │  │ drained by a thread
//                                       └──── next new thread ────┘  └ that needs memory
//
// A thread finds its zone through `thread_heap`, which is never null. A thread without a zone has
// the empty zone, which owns no page, so both of its fast paths fall through to the slow ones. Its
// frees are remote, and none is buffered.
//
// One zone has no owner: threads share it under a mutex. It serves
//
//   - a thread's first allocations, and the first of each class of its zone. An OS page for each
//     class of each thread, and their records, would otherwise cost far more than the blocks of
//     many threads that allocate little. The process's first thread has no such phase, nor has a
//     thread that finds a parked zone
//   - blocks above Tunables::small_shared_bytes, until the thread allocates too many of them within
//     a few milliseconds, and so gets a page for their class. Not aligned ones
//   - a thread that allocates after its zone was parked, for example in the destructor of a
//     thread-local object
//
// Zones are never destroyed: pages and remote frees refer to their owners by address.
//
// A thread may sleep forever. Then its zone may hold buffered frees of other threads' objects, and
// memory of its pages that no live slot needs. So other threads scavenge its zone: they deliver the
// buffered frees, and give that memory back (hole_scan.hpp). They do so
//
//   - on trim()
//   - before memory is declared exhausted
//   - every tunables.scavenge_milliseconds, in a thread that requests pages, claims slots or frees
//     other threads' blocks
//
// They purge for each owner that has not emptied its queue for that time, asleep or not. An owner
// that makes slow calls, and needs no page, drains its queue sooner (heap.cpp, drain_if_late()).
//
// Locks, in this order: shared zone's mutex, scavengers' mutex, registry mutex, the arena's
// purger's, the arena's, the direct map's, the guarded blocks'. A thread that takes a parked zone
// off the list, under the registry mutex, may use it alone. A fork holds all of them, so that the
// child finds them consistent. The child abandons the zones of threads that it does not have: frees
// to them stay safe, but their free slots are lost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "malloc/arena_zone.hpp"
#include "malloc/guarded_blocks.hpp"
#include "malloc/hole_scan.hpp"
#include "malloc/quarantine.hpp"
#include "os/mutex.hpp"
#include "tunables.hpp"

namespace slabmalloc {

/// A zone and its place in the registry.
struct ThreadZone {
  enum class State : std::uint8_t { Owned, Parked, Abandoned };

  constexpr explicit ThreadZone(ArenaPager& pager) noexcept : zone(&pager) {}

  /// The entry of a zone that thread_zones created.
  static ThreadZone& of(ArenaZone& zone) noexcept { return reinterpret_cast<ThreadZone&>(zone); }

  /// Draws the zone's samples anew if the rates have changed.
  /// Thread: the zone's owner.
  void follow_sampling() noexcept;

  ArenaZone zone;
  ThreadZone* next_registered = nullptr;  ///< Written once, before the zone is published.
  ThreadZone* next_parked = nullptr;      ///< Registry mutex.
  State state = State::Owned;             ///< Registry mutex.
  HoleScan holes;                         ///< The queue's lock.
  bool is_scanned_by_others = false;      ///< Scavengers' mutex.
  std::uint32_t sampling_period = 0;      ///< The one in which its samples were drawn.
  /// Of each class: the allocations that the shared zone served, up to Tunables::shared_blocks().
  std::uint8_t shared_blocks[MallocConfig::SizeClasses::count] = {};
  /// Of the hardened library.
  struct None {};
  [[no_unique_address]] std::conditional_t<MallocConfig::hardened, Quarantine, None> quarantine{};
};

/// A block of class `index` of `zone`, and whether it is known to be zero.
/// Fails: null if memory is exhausted.
inline Extent allocate_from(ArenaZone& zone, std::uint32_t index) noexcept {
  void* const block = zone.allocate_class(index).value_or(nullptr);
  return {block, block != nullptr && zone.is_zero(index, block)};
}

/// The allocations that the shared zone serves: the first ones, or those of large blocks too.
enum class SharedBlocks : std::uint8_t { First, FirstAndLarge };

/// All zones of the process.
class ThreadZones {
 public:
  constexpr ThreadZones() noexcept = default;
  ThreadZones(const ThreadZones&) = delete;
  ThreadZones& operator=(const ThreadZones&) = delete;

  /// Gives the calling thread a zone, parked or new. Preserves errno, since a free may come here.
  /// Fails: null if memory is exhausted, or if the thread's zone is parked; the shared zone serves
  /// then.
  ArenaZone* acquire() noexcept;

  /// A zone that no thread owns; the caller must park() it again.
  /// Fails: null if memory is exhausted.
  ThreadZone* borrow() noexcept;
  /// Frees the empty pages of a zone whose thread has ended, and makes the zone available to the
  /// next one.
  /// Thread: its owner.
  void park(ThreadZone& ended) noexcept;

  /// True if the shared zone should serve the calling thread's next allocation of class `index`,
  /// which this counts. A thread without a zone may get one here.
  /// Pre: the thread's zone has no page of the class.
  bool take_shared_turn(std::uint32_t index, SharedBlocks which) noexcept;
  /// Allocates an object of class `index` from the shared zone.
  /// Fails: null if memory is exhausted.
  Extent allocate_shared(std::uint32_t index) noexcept;

  /// Once in a few calls, drains one parked zone and the shared one; then scavenges all zones if
  /// due.
  void drain_some() noexcept;
  /// Drains all parked zones; true if memory returned to the arena.
  bool drain_parked() noexcept;
  /// Delivers the buffered frees of other zones, drains parked zones, then drops all holes; true if
  /// memory returned to the arena.
  bool drain_all() noexcept;

  /// Delivers the buffered frees of other threads' zones.
  void deliver_all() noexcept;
  /// Gives all memory back that holds no live slot, in the pages of all zones but those whose
  /// owners are in the middle of a call. Owners that wait for it come in between its steps.
  void drop_all_holes() noexcept;
  /// Scavenges, unless a thread has done so within tunables.scavenge_milliseconds. It runs the
  /// arena's decay() and deliver_all(), and begins to scan the pages of zones whose owners have not
  /// done so for long. The scan goes on by a step at each call, until it is done.
  /// Cost: one read of the clock if not due.
  void scavenge_if_due() noexcept;

  /// Returns the empty pages of the shared zone to the arena.
  void trim_shared() noexcept;

  /// Calls `visitor(const ArenaZone&)` for every zone that ever existed. Of another thread's zone
  /// it may read only the data that is documented as readable from any thread.
  /// Thread: any.
  template <class Visitor>
  void for_each(Visitor&& visitor) const noexcept {
    for (const ThreadZone* one = registered_.load(Order::acquire); one != nullptr;
         one = one->next_registered) {
      visitor(one->zone);
    }
  }

  /// The cache for large objects that the owner of `zone` frees.
  static LargeCache& large_cache_of(const ArenaZone& zone) noexcept {
    // Zones are adjacent in memory.
    return process_arena.large_cache_of(reinterpret_cast<std::uintptr_t>(&zone) /
                                        sizeof(ThreadZone));
  }

  /// Threads that ever had a zone.
  std::size_t threads() const noexcept { return threads_.load(Order::relaxed); }

  void prepare_fork() noexcept;
  void parent_after_fork() noexcept;
  void child_after_fork() noexcept;
  /// True if the calling thread holds a mutex of the zones: a handler interrupted its call.
  bool holds_mutex() const noexcept;

 private:
  static void thread_ends(void* zone) noexcept;

  template <class Work>
  void for_each_other(Work&& work) noexcept;
  void deliver_for(ThreadZone& one) noexcept;
  void begin_scan_of_others(bool all) noexcept;
  bool scan_others() noexcept;
  bool try_scan_others() noexcept;
  ThreadZone* pop_parked() noexcept;
  void push_parked(ThreadZone& one) noexcept;
  std::size_t drain_one() noexcept;
  ThreadZone* create() noexcept;
  bool take_turn_without_zone() const noexcept;
  ThreadZone* shared() noexcept;
  void drain_shared() noexcept;
  bool has_exit_key() noexcept;

  os::Mutex shared_mutex_;
  os::Mutex mutex_;
  ThreadZone* first_parked_ = nullptr;
  ThreadZone* last_parked_ = nullptr;
  HardwareAtomics::Cell<ThreadZone*> registered_{nullptr};
  HardwareAtomics::Cell<std::size_t> parked_count_{0};
  HardwareAtomics::Cell<std::size_t> threads_{0};
  HardwareAtomics::Cell<std::uint32_t> requests_{0};
  HardwareAtomics::Cell<std::uint32_t> scavenged_at_{0};   ///< Milliseconds.
  HardwareAtomics::Cell<bool> others_are_scanned_{false};  ///< A hint, for less use of the mutex.
  std::uint32_t next_chunk_ = HoleScan::no_scan;  ///< Of the scan of others. Scavengers' mutex.
  std::byte* unused_ = nullptr;  ///< The rest of the newest chunk; zones are carved from chunks.
  std::size_t unused_bytes_ = 0;
  HardwareAtomics::Cell<unsigned> exit_key_;  ///< Its destructor parks the zone of a thread.
  HardwareAtomics::Cell<bool> has_exit_key_{false};
  ThreadZone* shared_ = nullptr;       ///< The shared zone, once a thread needed it. Its mutex.
  std::uint32_t shared_requests_ = 0;  ///< Shared zone's mutex.
};

[[gnu::visibility("hidden")]] extern constinit ThreadZones thread_zones;

/// True if the calling thread holds a mutex of the heap: a handler interrupted its call.
inline bool holds_heap_mutex() noexcept {
  return thread_zones.holds_mutex() || process_arena.holds_mutex() || guarded_blocks.holds_mutex();
}

/// Gives the calling thread another zone for a scope. A handler may run in the middle of an
/// operation on the thread's own zone or on the shared one, and must not use either.
class OtherZone {
 public:
  OtherZone() noexcept;
  ~OtherZone();
  OtherZone(const OtherZone&) = delete;
  OtherZone& operator=(const OtherZone&) = delete;

 private:
  ArenaZone* const own_;
  ThreadZone* const other_;  ///< Null if memory is exhausted: then the thread has no zone and gets
                             ///< none.
  const bool own_was_parked_;
};

}  // namespace slabmalloc
