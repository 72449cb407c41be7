// SPDX-License-Identifier: MIT
//
// ThreadZones: which thread owns which zone, from the first allocation of a thread to its end and
// beyond.
//
//                first allocation                 thread's end
//   (no zone) ───────────────────► owned by it ───────────────► parked
//                                       ▲                         │  │ drained by whoever
//                                       └──── next new thread ────┘  └ needs memory
//
// A thread's zone is found through `thread_heap`. It is never null: a thread without a zone has the
// empty zone, which owns no page, so that both fast paths fall through to their slow ones. A thread
// that only frees never gets a zone: its frees are remote.
//
// A thread that allocates after its zone was parked (in the destructor of a thread-local object, say)
// shares the late zone with others like it, under a mutex.
//
// Zones are never destroyed: pages and remote frees lead to their owners by address.
//
// A thread may sleep for ever with frees of others' objects in its zone, and with others' frees of its own on its
// queue. So others scavenge its zone, deliver the former, and let the operating system have the memory of pages
// of which the latter left nothing: on trim(), before memory is declared exhausted (the former alone), and every
// tunables.scavenge_milliseconds by whoever asks for pages, claims slots or frees others' blocks.
//
// Locks, in this order: late mutex, scavengers' mutex, registry mutex, the arena's
// purger's, the arena's, the direct map's. A parked
// zone is touched by whoever took it off the list under the registry mutex. Across a fork all are held, so the
// child finds them whole; zones of threads that the child does not have are abandoned: frees to them
// stay safe, their free slots are lost.
#pragma once

#include <cstddef>
#include <cstdint>

#include "malloc/arena_zone.hpp"
#include "os/mutex.hpp"
#include "tunables.hpp"

namespace slabmalloc {

/// A zone and its place in the registry.
struct ThreadZone {
  enum class State : std::uint8_t { Owned, Parked, Abandoned };

  constexpr explicit ThreadZone(ArenaPager& pager) noexcept : zone(&pager) {}

  ArenaZone zone;
  ThreadZone* next_registered = nullptr;  ///< Written once, before the zone is published.
  ThreadZone* next_parked = nullptr;      ///< Registry mutex.
  State state = State::Owned;             ///< Registry mutex.
  bool had_remote_frees = false;                  ///< At the last scavenge_if_due(). Scavengers' mutex.
};

/// All zones of the process.
class ThreadZones {
 public:
  constexpr ThreadZones() noexcept = default;
  ThreadZones(const ThreadZones&) = delete;
  ThreadZones& operator=(const ThreadZones&) = delete;

  /// Gives the calling thread a zone: a parked one or a new one. Null if memory is exhausted, or if the
  /// thread's zone was parked already: then the late zone is to be used.
  ArenaZone* acquire() noexcept;

  /// A zone that no thread has, for its owner to park() it again; null if memory is exhausted.
  ThreadZone* borrow() noexcept;
  /// Gives back what is free in a zone that is no thread's any more, and makes it the next one's. Thread: its owner.
  void park(ThreadZone& ended) noexcept;

  /// An object of class `index` from the late zone, or null. Zeroed if asked, `bytes` of it.
  void* allocate_late(std::uint32_t index, std::size_t bytes, bool zeroed) noexcept;

  /// Every few calls, takes in what was freed to one parked zone; at times, scavenging all zones.
  void drain_some() noexcept;
  /// Delivers what zones have gathered and takes in what was freed to parked ones; true if memory went back to the arena.
  bool drain_all() noexcept;

  /// Delivers the frees that other threads' zones have gathered.
  void deliver_all() noexcept;
  /// Purges the pages of other threads' zones that others' frees have emptied.
  void purge_all() noexcept;
  /// If nobody has done so for tunables.scavenge_milliseconds: deliver_all(), purge_all() for the
  /// zones that have not looked at their queue since, and the arena's decay(). Cost: that of reading
  /// a clock, else.
  void scavenge_if_due() noexcept;

  /// Gives the empty pages of the late zone back to the arena.
  void trim_late() noexcept;

  /// Calls `visitor(const ArenaZone&)` for every zone there ever was. Thread: any. What the visitor may
  /// read of a zone that it does not own is what is said to be readable from any thread.
  template <class Visitor>
  void for_each(Visitor&& visitor) const noexcept {
    for (const ThreadZone* one = registered_.load(Order::acquire); one != nullptr;
         one = one->next_registered) {
      visitor(one->zone);
    }
  }

  /// Where the owner of `zone` puts large objects that it frees.
  static LargeCache& large_cache_of(const ArenaZone& zone) noexcept {
    // Zones lie one after another.
    return process_arena.large_cache_of(reinterpret_cast<std::uintptr_t>(&zone) / sizeof(ThreadZone));
  }

  /// Threads that ever had a zone.
  std::size_t threads() const noexcept { return threads_.load(Order::relaxed); }

  void prepare_fork() noexcept;
  void parent_after_fork() noexcept;
  void child_after_fork() noexcept;

 private:
  static void thread_ends(void* zone) noexcept;

  template <class Work>
  void for_each_other(Work&& work) noexcept;
  void deliver_for(ThreadZone& one) noexcept;
  bool purge_some_for(ThreadZone& one) noexcept;
  ThreadZone* pop_parked() noexcept;
  void push_parked(ThreadZone& one) noexcept;
  std::size_t drain_one() noexcept;
  ThreadZone* create() noexcept;
  ThreadZone* late() noexcept;
  bool make_exit_key() noexcept;

  os::Mutex late_mutex_;
  os::Mutex mutex_;
  ThreadZone* first_parked_ = nullptr;
  ThreadZone* last_parked_ = nullptr;
  HardwareAtomics::Cell<ThreadZone*> registered_{nullptr};
  HardwareAtomics::Cell<std::size_t> parked_count_{0};
  HardwareAtomics::Cell<std::size_t> threads_{0};
  HardwareAtomics::Cell<std::uint32_t> requests_{0};
  HardwareAtomics::Cell<std::uint32_t> scavenged_at_{0};  ///< Milliseconds.
  std::byte* unused_ = nullptr;  ///< Zones are carved from chunks; what is left of the newest.
  std::size_t unused_bytes_ = 0;
  unsigned exit_key_ = 0;
  bool has_exit_key_ = false;
  ThreadZone* late_ = nullptr;  ///< The late zone, once there was need for it. Late mutex.
};

[[gnu::visibility("hidden")]] extern constinit ThreadZones thread_zones;

/// For as long as it lives the calling thread has another zone: whatever it does is apart from what it was about in its
/// own, or in the late one. For calls of handlers, which may come in the middle of either.
class OtherZone {
 public:
  OtherZone() noexcept;
  ~OtherZone();
  OtherZone(const OtherZone&) = delete;
  OtherZone& operator=(const OtherZone&) = delete;

 private:
  ArenaZone* const own_;
  ThreadZone* const other_;  ///< Null if memory is exhausted: then the thread has none, and gets none.
  const bool own_was_parked_;
};

}  // namespace slabmalloc
