// SPDX-License-Identifier: MIT
//
// SlowPath: gets the memory that the fast path of an allocation did not find.
//
//   zone, with its empty pages ─► frame caches ─► pager ─► search ─► reclaim ─► reserved frames
//                                      │
//                                      └─ no pager ─► reserved frames ─► reserved objects
//
// Handlers and emergencies take the lower way, and so do all calls that interrupt a section. An
// allocation that may call the pager also does a step of deferred work: a reserve, a drain, a
// deferred run, or excess frames.
//
// A search goes through the heap's other memory: its CPU's remote frees, those of idle CPUs, empty
// frames of other sizes, deferred runs. MayWait searches to the end. Then it reclaims memory and
// searches again, until that suffices or nothing more is freed. MayNotWait takes one step of the
// search, and each call the next.
//
// If the heap lets allocations wait, MayWait then sleeps until a call frees memory of the heap, and
// searches again (memory_waiters.hpp).
//
// It owns the callback for reclaim, and the counts of searches and failures.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/layout.hpp"
#include "slabmalloc/base/result.hpp"
#include "slabmalloc/kernel/cpu_memory.hpp"
#include "slabmalloc/kernel/reclaim_request.hpp"

namespace slabmalloc {

/// Called when the pager has nothing for an allocation that may wait; true if it freed memory
/// somewhere. While it says so and the allocation still fails, it is called again, for more.
using ReclaimCallback = bool (*)(void* argument, const ReclaimRequest& request) noexcept;

/// A step of work that a client defers: constant in length, with nothing held. False if there was
/// nothing to do.
using DeferredWork = bool (*)(void* argument) noexcept;

/// The slow path over the parts of all CPUs, and over their memory.
/// Thread: any, in any context, where not said otherwise.
template <class Memory, class Config>
class SlowPath {
 public:
  using Parts = typename Memory::Parts;
  using Part = typename Parts::Part;
  using Section = typename Parts::Section;
  using Runs = typename Memory::Runs;

  /// Pre: `parts` and `memory` outlive it.
  constexpr SlowPath(Parts& parts, Memory& memory) noexcept : parts_(parts), memory_(memory) {}

  /// An object of class `index`. Cost: see CpuZones::allocate(). Fails: OutOfMemory.
  [[gnu::noinline]] Result<void*> allocate(std::uint32_t index, Context context) noexcept {
    bool is_nested = false;
    if (void* const object = parts_.allocate(index, is_nested, part_wait_of(context))) {
      if (!is_nested && may_call_pager(context)) {
        run_some_deferred(0);
        run_client_work();
      }
      return object;
    }
    if (is_nested || !may_call_pager(context)) {
      // A caller that found the part in use has waited for it long enough.
      return allocate_without_pager(index, context, is_nested ? PartWait::None : PartWait::Bounded);
    }
    if (run_client_work()) {
      if (void* const object = parts_.allocate(index, is_nested)) {
        return object;
      }
    }
    if (void* const object = memory_.allocate(index, context)) {
      return object;
    }
    return allocate_after_pager(index, context);
  }

  /// A run. Fails: OutOfMemory; InvalidLayout if the pager has none.
  [[gnu::noinline]] Result<void*> allocate_run(Layout layout, Context context) noexcept {
    if (!Runs::exist) {
      return AllocationError::InvalidLayout;
    }
    if (!may_call_pager(context)) {
      return out_of_memory();
    }
    Result<void*> run = memory_.runs().allocate(layout, context);
    if (!run) {
      searches_.add(1);
      run = context == Context::MayWait ? search_for_run(layout) : search_some_for_run(layout);
      if (!run && may_sleep(context, Runs::charged_bytes(layout))) {
        sleep_until([&] { return static_cast<bool>(run = search_heap_for_run(layout, true)); });
      }
    }
    return run ? run : out_of_memory();
  }

  /// Does all deferred work of the caller's CPU. Context: one that may call the pager.
  void run_deferred() noexcept {
    // Every second step leaves the zone alone.
    while (run_some_deferred(Config::drain_pages) || run_some_deferred(Config::drain_pages)) {
    }
    run_all_client_work();
  }
  void run_all_client_work() noexcept {
    while (run_client_work()) {
    }
  }
  /// Does a step of the client's deferred work; false if there was none. Context: as above.
  bool run_client_work() noexcept { return work_ != nullptr && work_(work_argument_); }

  /// Thread: any, while nobody allocates.
  void set_deferred_work(DeferredWork work, void* argument) noexcept {
    work_ = work;
    work_argument_ = argument;
  }

  /// See CpuZones.
  bool enter_idle() noexcept {
    // First: it may come up while the CPU is idle, and takes the part back if it frees something.
    run_all_client_work();
    if (parts_.is_idle()) {
      return true;
    }
    parts_.drain_this_cpu();
    run_deferred();
    return parts_.offer();
  }

  /// Thread: any, while nobody allocates.
  void set_reclaim(ReclaimCallback callback, void* argument) noexcept {
    reclaim_ = callback;
    reclaim_argument_ = argument;
  }

  /// Allocations that found nothing at the pager.
  std::size_t searches() const noexcept { return searches_.get(); }
  /// Those that ended as OutOfMemory.
  std::size_t failures() const noexcept { return failures_.get(); }
  /// Those that waited for memory.
  std::size_t sleeps() const noexcept { return sleeps_.get(); }
  /// Counts an allocation that ends as OutOfMemory, and returns that.
  Result<void*> out_of_memory() noexcept {
    failures_.add(1);
    return AllocationError::OutOfMemory;
  }
  /// Takes back the count of one: its caller tries again.
  void retract_failure() noexcept { failures_.subtract(1); }

 private:
  std::size_t bytes_of_class(std::uint32_t index) const noexcept {
    return parts_.frame_bytes_of(index);
  }

  /// Only the frame caches of other nodes and reserved memory are left.
  Result<void*> allocate_without_pager(std::uint32_t index, Context context,
                                       PartWait wait) noexcept {
    void* object = nullptr;
    if constexpr (Part::has_nodes) {
      const Section part = parts_.enter(wait);
      object = part ? part->allocate_from_all_nodes(index) : nullptr;
    }
    if (object == nullptr) {
      object = allocate_reserved(index, context, wait);
    }
    if (object == nullptr) {
      object = parts_.take_reserved(index, context == Context::Emergency);
    }
    return object != nullptr ? object : out_of_memory();
  }
  /// The pager has nothing.
  [[gnu::cold]] Result<void*> allocate_after_pager(std::uint32_t index, Context context) noexcept {
    searches_.add(1);
    void* object = context == Context::MayWait ? search(index) : search_some(index);
    if (object == nullptr) {
      object = allocate_reserved(index, context, PartWait::Bounded);
    }
    if (object == nullptr && may_sleep(context, bytes_of_class(index))) {
      sleep_until([&] { return (object = search_heap(index, true)) != nullptr; });
    }
    return object != nullptr ? object : out_of_memory();
  }
  /// An object, on a reserved frame if the context may have one, or null.
  void* allocate_reserved(std::uint32_t index, Context context, PartWait wait) noexcept {
    return Config::reserved_frames_are_for_all || context == Context::Emergency
               ? memory_.allocate_reserved(index, wait)
               : nullptr;
  }

  // ---- the search ------------------------------------------------------------------------------

  /// Searches all memory that this CPU can search, then reclaims.
  void* search(std::uint32_t index) noexcept {
    const std::size_t bytes = bytes_of_class(index);
    void* object = search_heap(index, false);
    if (object == nullptr) {
      parts_.drain_later();
      reclaim_until(ReclaimRequest::first(bytes, bytes), [&] {
        object = search_heap(index, true);
        // Memory of others does not help against the heap's own limit.
        return object != nullptr || !memory_.frames().account().has_room(bytes);
      });
    }
    return object;
  }
  void* search_heap(std::uint32_t index, bool has_reclaimed) noexcept {
    bool is_nested = false;
    void* object = has_reclaimed ? memory_.allocate(index, Context::MayWait) : nullptr;
    if (object == nullptr) {
      parts_.drain_this_cpu();
      object = parts_.allocate(index, is_nested);
    }
    if (object == nullptr && parts_.drain_idle()) {
      object = parts_.allocate(index, is_nested);
    }
    // Frames in frame caches are of other sizes by now. The pager can make frames of this size from
    // them, and at once from a larger one.
    if (object == nullptr && memory_.give_back_other(bytes_of_class(index))) {
      object = memory_.allocate(index, Context::MayWait);
    }
    if (object == nullptr) {
      const bool has_given = memory_.give_back(0) != 0;
      // Others may have parked frames meanwhile.
      if (has_given || Memory::parks_frames) {
        object = memory_.allocate(index, Context::MayWait);
      }
    }
    return object;
  }
  /// A step of such a search, of constant length; the next call takes the next step.
  void* search_some(std::uint32_t index) noexcept {
    const bool has_helped = search_some_idle();
    {
      const Section part = parts_.enter(PartWait::Unbounded);
      Parts::require_own(part);
      if (has_helped || !part->search_gives_back(memory_.runs().has_deferred())) {
        return part->allocate_from_all_nodes(index);
      }
    }
    void* const object = memory_.give_back_other(bytes_of_class(index))
                             ? memory_.allocate(index, Context::MayNotWait)
                             : nullptr;
    if (object == nullptr) {
      parts_.drain_later();
    }
    return object;
  }

  /// Every second time: takes a step of a drain of an idle CPU. True if there was something to
  /// drain.
  bool search_some_idle() noexcept {
    {
      const Section part = parts_.enter(PartWait::Unbounded);
      Parts::require_own(part);
      if (!part->search_helps()) {
        return false;
      }
    }
    return parts_.drain_some_idle();
  }

  Result<void*> search_for_run(Layout layout) noexcept {
    parts_.drain_later();
    Result<void*> run = search_heap_for_run(layout, false);
    if (!run) {
      reclaim_until(ReclaimRequest::first(layout.size(), layout.align()), [&] {
        run = search_heap_for_run(layout, true);
        return static_cast<bool>(run) ||
               !memory_.frames().account().has_room(Runs::charged_bytes(layout));
      });
    }
    return run;
  }
  Result<void*> search_heap_for_run(Layout layout, bool has_reclaimed) noexcept {
    parts_.drain_this_cpu();
    parts_.drain_idle();
    const bool has_given = memory_.give_back(0) != 0;
    return has_given || has_reclaimed ? memory_.runs().allocate(layout, Context::MayWait)
                                      : AllocationError::OutOfMemory;
  }
  Result<void*> search_some_for_run(Layout layout) noexcept {
    if (!search_some_idle()) {
      const Section part = parts_.enter(PartWait::Unbounded);
      Parts::require_own(part);
      part->drain.step_of_search(part->zone);
    }
    Result<void*> run = AllocationError::OutOfMemory;
    if (memory_.give_back_other(Memory::no_bytes)) {
      run = memory_.runs().allocate(layout, Context::MayNotWait);
    }
    if (!run) {
      parts_.drain_later();
    }
    return run;
  }

  /// Reclaims more and more memory, until `is_done()` after a call or nothing is freed.
  /// Cost: at most 15 calls of the callback.
  template <class IsDone>
  void reclaim_until(ReclaimRequest request, IsDone&& is_done) noexcept {
    bool goes_on = reclaim_ != nullptr;
    while (goes_on) {
      const bool has_freed = reclaim_(reclaim_argument_, request);
      // Where nothing is left to free, others may have freed it just before.
      goes_on = !is_done() && has_freed && !request.is_last();
      request = request.next();
    }
  }

  // ---- sleep -----------------------------------------------------------------------------------

  /// Whether an allocation of `bytes` may sleep until memory becomes free: not for more than the
  /// limit.
  bool may_sleep(Context context, std::size_t bytes) noexcept {
    return context == Context::MayWait && memory_.waiters().is_enabled() &&
           bytes <= memory_.frames().account().limit();
  }
  /// Calls look(), which searches, until it finds something, and sleeps between two looks. The
  /// deadline ends that. While the caller sleeps, other CPUs may drain its one.
  template <class Look>
  void sleep_until(Look&& look) noexcept {
    sleeps_.add(1);
    parts_.drain_later();
    memory_.waiters().wait(look, [this] { parts_.offer(); });
  }

  // ---- deferred work ---------------------------------------------------------------------------

  /// A part of run_deferred(), of constant length; a drain handles `pages` queued pages. With 0,
  /// allocations drain the remote frees. False if this turn had nothing to do, or could do nothing.
  bool run_some_deferred(std::uint32_t pages) noexcept {
    using Turn = typename Part::Turn;
    Turn turn{};
    {
      const Section part = parts_.enter();
      if (!part) {
        return false;
      }
      turn = part->next_turn();
      if (Part::is_of_zone(turn) && part->run_deferred(turn, pages)) {
        return true;
      }
    }
    return turn == Turn::Excess ? memory_.give_back_excess() || memory_.give_back_run() != 0
                                : memory_.give_back_run() != 0 || memory_.give_back_excess();
  }

  Parts& parts_;
  Memory& memory_;
  typename Memory::Counter searches_;
  typename Memory::Counter failures_;
  typename Memory::Counter sleeps_;
  ReclaimCallback reclaim_ = nullptr;
  void* reclaim_argument_ = nullptr;
  DeferredWork work_ = nullptr;
  void* work_argument_ = nullptr;
};

}  // namespace slabmalloc
