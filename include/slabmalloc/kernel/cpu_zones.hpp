// SPDX-License-Identifier: MIT
//
// CpuZones: a kernel's heap. Each CPU has a zone of its own, and any CPU frees any object. Handlers
// and NMIs may always free, and allocate.
//
//   constinit CpuZones<MyKernel, MyFrames> heap(frames);
//   void* thing = heap.allocate(Layout::of<Thing>(), Context::MayWait).value_or(nullptr);
//   heap.deallocate(thing, Layout::of<Thing>());
//
//   allocate ─► this CPU's zone                               │ in a section
//            ─► SlowPath: frame caches, pager, search, …      │ in sections, and between them
//
//   deallocate ─► this CPU's zone                             │ in a section
//              ─► the lock-free remote path of the page       │ in the middle of one, as in NMIs
//              ─► RunSupply: the pager, or the deferred runs  │ for runs
//
// It owns a part for each CPU (cpu_parts.hpp) and the memory outside all zones (cpu_memory.hpp). It
// also owns the order in which an allocation looks for memory (slow_path.hpp). It calls the pager
// and all callbacks between sections: with nothing held, interrupts as the caller had them. These
// may allocate and free here, but only with Context::Interrupt or Emergency, lest the heap call
// them again from within.
//
// With a debug mode in its configuration (debug_config.hpp), DebugMode wraps the calls of this
// picture (debug_mode.hpp).
//
// With tags in its configuration, it charges each block to one (heap_tags.hpp).
//
// Invariant, beside those of its parts and memory, with its line in validate():
//   K1  frame bytes = those of all CPUs' zones + frame caches + reserved and parked frames + runs
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/block_lookup.hpp"
#include "slabmalloc/kernel/cpu_memory.hpp"
#include "slabmalloc/kernel/cpu_parts.hpp"
#include "slabmalloc/kernel/cpu_zones_statistics.hpp"
#include "slabmalloc/kernel/debug_cache.hpp"
#include "slabmalloc/kernel/debug_config.hpp"
#include "slabmalloc/kernel/debug_mode.hpp"
#include "slabmalloc/kernel/heap_tags.hpp"
#include "slabmalloc/kernel/kernel_config.hpp"
#include "slabmalloc/kernel/slow_path.hpp"

namespace slabmalloc {

/// A size class by its number, for the fast paths. A client that knows the sizes of its class has a
/// type with the same members (cache.hpp).
struct NumberedClass {
  std::uint32_t index;

  template <class Zone>
  [[gnu::always_inline]] void* allocate(Zone& zone) const noexcept {
    return zone.allocate_fast(index);
  }
  template <class Zone>
  [[gnu::always_inline]] FreeOutcome deallocate(Zone& zone, void* object) const noexcept {
    return zone.deallocate_fast(index, object);
  }
};

/// Per-CPU zones over one pager. It must not move, and outlives its objects.
/// Thread: any CPU, in any context, where not said otherwise.
/// `HooksT` has KernelHooks and `PagerT` is a Pager, both once the heap is made: a pager may hold a
/// pointer to the heap.
template <class HooksT, class PagerT, class ConfigT = KernelConfig, FrameLife Life = PlainFrames>
class CpuZones {
  static_assert(sizeof(HooksMessage<HooksT>) != 0);
  static_assert(CpuZonesConfig<ConfigT>,
                "CpuZones take KernelConfig, or what inherits from it or from another "
                "configuration of kernel_config.hpp");

 public:
  using Hooks = CheckedHooks<HooksT>;
  using Config = ConfigInUse<CpuZonesConfigOrDefault<ConfigT>>;
  using Part = CpuPart<Hooks, Config>;
  using Zone = typename Part::Zone;
  using Atomics = typename Config::Atomics;
  using SizeClasses = typename Config::SizeClasses;
  using Pager = PagerT;
  using Mode = DebugMode<Hooks, Zone, Config>;
  using Tags = HeapTags<Hooks, Config>;

  static constexpr bool is_debugged = Config::Debug::is_on;
  static constexpr bool has_tags = Tags::are_on;
  /// Empty frames wait for a grace period on their way to the pager.
  static constexpr bool parks_frames = Config::type_stable;

  /// Layouts select a size class. The zones of a cache have one class, whose size they do not know.
  static constexpr bool has_layouts = SizeClasses::max_size != 0;

  static_assert(Hooks::maximum_cpus != 0, "maximum_cpus is the number of CPUs, at least 1");
  static_assert(atomics_suffice<Hooks, typename Config::Atomics>,
                "SingleCpuAtomics are for one CPU: say maximum_cpus = 1, or take HardwareAtomics");
  static_assert(!Config::type_stable || !has_layouts,
                "type_stable is an option of object caches: a heap's pages change their type");
  static_assert(Config::growth_frames != 0, "growth_frames is at least 1");

  /// The largest size in bytes that a size class serves; larger requests become runs of the pager.
  static constexpr std::size_t MAX_ALLOC_SIZE = [] {
    if constexpr (is_debugged && has_layouts) {
      return Zone::MAX_ALLOC_SIZE - Mode::Blocks::overhead_bytes;
    } else {
      return Zone::MAX_ALLOC_SIZE;
    }
  }();

  /// Pre: `pager` outlives it.
  constexpr explicit CpuZones(PagerT& pager, Life life = {}) noexcept
      : mode_(life),
        memory_(parts_, pager, mode_.frames(life), tags_.run_return()),
        slow_path_(parts_, memory_),
        pager_(pager) {}
  /// Zones of one size class on pages of a size known at run time: slots laid out by `geometry` in
  /// frames of `frame_bytes`. The life of a frame tells its header where the slots begin.
  /// Pre: `pager` outlives it.
  constexpr CpuZones(PagerT& pager, Life life, const SlotGeometry& geometry,
                     std::size_t frame_bytes) noexcept
      : CpuZones(pager, life) {
    parts_.configure_class(geometry, frame_bytes);
    memory_.set_frame_bytes(frame_bytes);
  }
  CpuZones(const CpuZones&) = delete;
  CpuZones& operator=(const CpuZones&) = delete;

  // ---- objects ----------------------------------------------------------------------------------

  /// A block for `layout`; a size of 0 counts as 1.
  /// Fails: OutOfMemory; InvalidLayout above MAX_ALLOC_SIZE (size or alignment) unless the pager
  /// gives runs. An allocation does not find free slots on other CPUs' pages in use, nor frees
  /// buffered there. Those CPUs put empty pages into their frame caches in their next slow paths,
  /// or in drain_this_cpu(); a search does it for idle CPUs (enter_idle()). Nor does it find a
  /// frame on its way between another CPU and the pager.
  /// Cost: constant, calls of the pager apart. Where the pager has nothing, MayWait searches in
  /// sections of constant length: O(CPUs + queued pages + size classes + frames in frame caches).
  /// MayNotWait takes one step of such a search, each call the next.
  [[gnu::always_inline]] Result<void*> allocate(Layout layout,
                                                Context context = Context::MayWait) noexcept {
    return allocate_for(layout, context, Mode::caller());
  }

  /// As allocate(), but every byte of `layout.size()` is 0.
  [[gnu::always_inline]] Result<void*> allocate_zeroed(
      Layout layout, Context context = Context::MayWait) noexcept {
    return allocate_zeroed_for(layout, context, Mode::caller());
  }

  /// Frees a block of any CPU, or nothing for a null pointer. It calls the pager for runs alone,
  /// and only if `context` allows that. Other runs wait, as excess frames do, for give_back() or
  /// for the next allocations that may call the pager.
  /// Context: any, NMIs included; it matters for runs, to a pager that locks or waits. A run that a
  /// ContextPager takes in handlers cannot be freed in NMIs.
  /// Fails: DoubleFree, MisalignedFree, SizeMismatch or ForeignPointer to the misuse hook, the last
  /// for a block of another heap too. The pager finds the misuse of a run. Of a waiting run, the
  /// heap finds only a second free at once.
  [[gnu::always_inline]] void deallocate(void* object, Layout layout,
                                         Context context = Context::MayWait) noexcept {
    deallocate_for(object, layout, context, Mode::caller());
  }

  /// Allocates `count` blocks for `layout` into `objects`; returns how many it got. It uses fewer
  /// sections than `count` calls of allocate().
  [[gnu::always_inline]] std::size_t allocate_many(Layout layout, void** objects, std::size_t count,
                                                   Context context = Context::MayWait) noexcept {
    return allocate_many_for(layout, objects, count, context, Mode::caller());
  }

  /// Frees `count` blocks of `layout`. As deallocate().
  [[gnu::always_inline]] void deallocate_many(void* const* objects, std::size_t count,
                                              Layout layout,
                                              Context context = Context::MayWait) noexcept {
    deallocate_many_for(objects, count, layout, context, Mode::caller());
  }

  // ---- blocks with a tag ------------------------------------------------------------------------

  /// As the functions without a tag, which is then 0. The block is charged to `tag` until its free,
  /// or until its run is back at the pager.
  /// Fails: as those; OutOfMemory if the tag's limit has no room, in any context. Pre: tag is less
  /// than Config::tags, or else it panics.
  /// Cost: as those, and at most four atomic operations. A free of any block has three more.
  [[gnu::always_inline]] Result<void*> allocate(Layout layout, Context context,
                                                std::uint32_t tag) noexcept
    requires(has_tags)
  {
    return allocate_for(layout, context, Mode::caller(), tag);
  }
  [[gnu::always_inline]] Result<void*> allocate_zeroed(Layout layout, Context context,
                                                       std::uint32_t tag) noexcept
    requires(has_tags)
  {
    return allocate_zeroed_for(layout, context, Mode::caller(), tag);
  }
  [[gnu::always_inline]] std::size_t allocate_many(Layout layout, void** objects, std::size_t count,
                                                   Context context, std::uint32_t tag) noexcept
    requires(has_tags)
  {
    return allocate_many_for(layout, objects, count, context, Mode::caller(), tag);
  }

  /// Gives the tag a name in reports. Pre: `name` outlives the heap. Thread: while nobody reports.
  constexpr void set_tag_name(std::uint32_t tag, const char* name) noexcept
    requires(has_tags)
  {
    Tags::require_tag(tag);
    tags_.accounts().set_name(tag, name);
  }
  /// Limits the bytes of the tag's blocks from now on; those that are there stay. An allocation
  /// that would pass the limit, and may call the pager, gives waiting runs back, then calls the
  /// callback once; once more if others took the room while it got its block. In the middle of a
  /// section it does neither. The callback must not allocate with the tag.
  /// Thread: any, with the callback as before; another one while nobody allocates.
  void set_tag_limit(std::uint32_t tag, std::size_t bytes, LimitCallback callback = nullptr,
                     void* argument = nullptr) noexcept
    requires(has_tags)
  {
    Tags::require_tag(tag);
    tags_.accounts().set_limit(tag, bytes, callback, argument);
  }
  /// A snapshot. Thread: any.
  TagStatistics tag_statistics(std::uint32_t tag) const noexcept
    requires(has_tags)
  {
    Tags::require_tag(tag);
    return tags_.accounts().statistics(tag);
  }

  // ---- objects of a size class, for clients that know it ----------------------------------------

  /// As allocate(), of the size class `one`. This and the next three know no debug mode and no
  /// tags: with one of them they are for the heap itself.
  template <class Class>
  [[gnu::always_inline]] Result<void*> allocate_of(const Class& one, Context context) noexcept {
    // The section by hand, here and below: not every compiler keeps a guard's members in registers.
    const typename Hooks::InterruptState interrupts = Hooks::save_interrupts();
    const PartPointer pointer(parts_.pointers());
    void* object = nullptr;
    if (Part* const part = take_from(pointer)) [[likely]] {
      object = one.allocate(part->zone);
      put_back(pointer, part);
    }
    Hooks::restore_interrupts(interrupts);
    if (object != nullptr) [[likely]] {
      return object;
    }
    return slow_path_.allocate(one.index, context);
  }

  /// As deallocate(object, layout), of the size class `one`.
  template <class Class>
  [[gnu::always_inline]] void deallocate_of(const Class& one, void* object) noexcept {
    const typename Hooks::InterruptState interrupts = Hooks::save_interrupts();
    const PartPointer pointer(parts_.pointers());
    if (Part* const part = take_from(pointer)) [[likely]] {
      const FreeOutcome outcome = one.deallocate(part->zone, object);
      if (outcome != FreeOutcome::Freed) [[unlikely]] {
        // A tail call takes the section along. So the path to here needs no stack frame.
        return Parts::finish_deallocate(object, part, interrupts, one.index, outcome);
      }
      part->frees.add(one.index, object);
      put_back(pointer, part);
      Hooks::restore_interrupts(interrupts);
      return;
    }
    Hooks::restore_interrupts(interrupts);
    parts_.deallocate(object, one.index);
  }

  /// As allocate_many() and deallocate_many(), of size class `index`.
  std::size_t allocate_many_of(std::uint32_t index, void** objects, std::size_t count,
                               Context context) noexcept {
    std::size_t done = 0;
    while (done < count) {
      {
        const CpuSection<Hooks, Config> part(parts_.pointers());
        for (std::uint32_t step = 0; part && step < objects_per_section && done < count; ++step) {
          void* const object = part->zone.allocate_fast(index);
          if (object == nullptr) {
            break;
          }
          objects[done++] = object;
        }
      }
      if (done < count) {
        const Result<void*> object = allocate_of(NumberedClass{index}, context);
        if (!object) {
          break;
        }
        objects[done++] = object.value();
      }
    }
    return done;
  }
  void deallocate_many_of(std::uint32_t index, void* const* objects, std::size_t count) noexcept {
    for (std::size_t done = 0; done < count;) {
      {
        const Section part = parts_.enter(PartWait::None);
        for (std::uint32_t step = 0; part && step < objects_per_section && done < count; ++step) {
          part->deallocate(objects[done++], index);
        }
      }
      if (done < count) {
        deallocate_of(NumberedClass{index}, objects[done++]);
      }
    }
  }

  // ---- blocks whose size the caller does not know -----------------------------------------------

  /// As deallocate(object, layout), by the address alone: for `operator delete`, and for code that
  /// was written for kfree(). The pager must be a FindingPager, as FrameAllocator is.
  /// Context: one that may call the pager's block_at(), whatever `context` says. That of
  /// FrameAllocator takes its lock: any but an NMI.
  /// Fails: as deallocate(), but for SizeMismatch. It reports frames that others got from the
  /// pager; of their runs it frees those that begin at `object`, or with tags reports them as
  /// MismatchedFree.
  /// Cost: block_at(), then as deallocate().
  [[gnu::always_inline]] void deallocate(void* object,
                                         Context context = Context::MayWait) noexcept {
    deallocate_by_address(object, context, Mode::caller());
  }

  /// The bytes that a client may use from `object` on, a block of any CPU; 0 for a null pointer.
  /// Context: as deallocate(object).
  /// Fails: 0 after misuse, reported as deallocate(object) does. Cost: block_at(), and constant.
  [[gnu::always_inline]] std::size_t usable_size(void* object) noexcept {
    if constexpr (is_debugged) {
      return mode_.usable_size(*this, object, Mode::caller());
    } else {
      return find_in_use(object).bytes;
    }
  }

  /// Makes `object`, a block of any CPU, one for `layout`, and moves it if it has to. The first
  /// bytes stay: as many as both blocks have. It allocates for a null pointer. A block stays in
  /// place if `layout` has its size class, or as many base frames as a run; a later free may name
  /// `layout`.
  /// It keeps the block's tag; a null pointer's is 0. While it moves, both blocks are charged.
  /// Context: as an allocation with `context`, and as deallocate(object).
  /// Fails: as allocate(), with the block untouched. InvalidLayout after misuse, reported as
  /// deallocate(object) does. Cost: block_at(), and if it moves, the calls and the copy.
  [[gnu::always_inline]] Result<void*> reallocate(void* object, Layout layout,
                                                  Context context = Context::MayWait) noexcept {
    return reallocate_for(object, layout, context, Mode::caller());
  }

  // ---- sizes ------------------------------------------------------------------------------------

  /// The bytes that a block of `layout` may use; 0 if no size class serves it.
  static constexpr std::size_t usable_size(Layout layout) noexcept {
    if constexpr (is_debugged) {
      return class_for(layout) != SizeClasses::no_class ? Mode::Blocks::size_of(layout) : 0;
    } else {
      return Zone::usable_size(layout);
    }
  }

  // ---- reserves and limits ----------------------------------------------------------------------

  /// Makes each CPU keep `objects` blocks of `layout` for calls that can get them nowhere else.
  /// Such calls are handlers that interrupt an allocation or a free, or find no memory without the
  /// pager. Slow paths refill the reserve; this call fills that of the caller's CPU at once. 0 ends
  /// it, and frees what all CPUs kept. A CPU that is just adding an object, or keeps more than the
  /// new number, frees the excess in its next slow path or run_deferred().
  /// Context: as an allocation with `context`. Cost: O(CPUs), beside that of the allocations.
  /// Fails: InvalidLayout if no size class serves it; TooMany above Config::reserve_objects, with
  /// nothing changed; OutOfMemory if this CPU's reserve could not be filled, and slow paths try
  /// again later.
  Result<void> reserve_for_interrupts(Layout layout, std::uint32_t objects,
                                      Context context = Context::MayWait) noexcept {
    const std::uint32_t index = class_for(layout);
    return index != SizeClasses::no_class ? reserve_for_interrupts_of(index, objects, context)
                                          : AllocationError::InvalidLayout;
  }
  /// The same for size class `index`.
  [[gnu::noinline]] Result<void> reserve_for_interrupts_of(std::uint32_t index,
                                                           std::uint32_t objects,
                                                           Context context) noexcept {
    if (objects > Config::reserve_objects) {
      return AllocationError::TooMany;
    }
    for (Part& part : parts_) {
      const InterruptGuard<Hooks> interrupts;
      part.reserve.want(index, objects);
    }
    // A bound, since others may ask for a reserve again meanwhile.
    std::uint32_t most = objects == 0 ? Hooks::maximum_cpus * Config::reserve_objects : 0;
    for (void* object = nullptr; most != 0; --most) {
      object = parts_.take_reserved(index, true);
      if (object == nullptr) {
        break;
      }
      deallocate_of(NumberedClass{index}, object);
    }
    return objects == 0 || memory_.fill_object_reserve(index, context)
               ? Result<void>()
               : AllocationError::OutOfMemory;
  }

  /// Keeps `frames` frames of `layout`'s page kind, for Context::Emergency alone or for all
  /// (Config::reserved_frames_are_for_all), and refills them before frames go back to the pager.
  /// Context: as an allocation with `context`. Fails: InvalidLayout if no size class serves it.
  /// OutOfMemory, with the frames it got kept, if not all were available now; also from inside a
  /// handler that interrupted a section.
  Result<void> reserve_frames(Layout layout, std::uint32_t frames,
                              Context context = Context::MayWait) noexcept {
    const std::uint32_t index = class_for(layout);
    return index != SizeClasses::no_class ? reserve_frames_of(index, frames, context)
                                          : AllocationError::InvalidLayout;
  }
  /// The same for size class `index`.
  Result<void> reserve_frames_of(std::uint32_t index, std::uint32_t frames,
                                 Context context) noexcept {
    const std::size_t bytes = parts_.frame_bytes_of(index);
    return memory_.reserve_frames(bytes, frames, context) ? Result<void>()
                                                          : AllocationError::OutOfMemory;
  }

  /// Bounds the bytes of all frames and runs. Before an allocation fails for that, `callback` may
  /// free memory.
  /// Thread: any, with the callback as before; another one while nobody allocates.
  void set_limit(std::size_t bytes, LimitCallback callback = nullptr,
                 void* argument = nullptr) noexcept {
    account().set_limit(bytes, callback, argument);
  }

  /// Lets allocations with MayWait sleep where they found no memory, at the limit or at the pager.
  /// They look again whenever a call frees memory of this heap by a slow path: all of them, and the
  /// first to look gets it. One fails when a time passed without such a call: the deadline of the
  /// hook wait() (waiting.hpp), or after 65,536 looks. A request above the limit fails at once.
  /// Frees then call the hook wake() in their own context, NMIs included, and deliver frees of
  /// other CPUs' objects at once. Thread: any, while nobody allocates.
  void set_waiting(bool waits) noexcept { account().waiters().set_enabled(waits); }

  /// Asks `callback` to free memory elsewhere when an allocation that may wait found none.
  /// Thread: any, while nobody allocates.
  void set_reclaim(ReclaimCallback callback, void* argument) noexcept {
    slow_path_.set_reclaim(callback, argument);
  }

  /// Has `work` done in steps: one in each slow path that may call the pager, all by run_deferred()
  /// and trim(). RetiredObjects::step is such work.
  /// Thread: any, while nobody allocates.
  void set_deferred_work(DeferredWork work, void* argument) noexcept {
    slow_path_.set_deferred_work(work, argument);
  }

  // ---- memory pressure --------------------------------------------------------------------------

  /// Drains all remote frees of this CPU's objects, delivers the remote frees that it buffered, and
  /// puts empty pages into its frame cache. False if the CPU's part was occupied: then its next
  /// slow paths do it.
  /// Thread: any context that stays on this CPU, as an inter-processor interrupt.
  /// Cost: O(queued pages + size classes), in sections of a constant length each.
  bool drain_this_cpu() noexcept {
    if constexpr (is_debugged) {
      mode_.flush_this_cpu(*this);
    }
    return parts_.drain_this_cpu();
  }

  /// Makes each CPU do drain_this_cpu() in its next slow path, or others do it if it is idle.
  void drain_later() noexcept {
    if constexpr (is_debugged) {
      mode_.flush_later();
    }
    parts_.drain_later();
  }

  /// Gives waiting runs back to the pager, and the empty frames of all CPUs' frame caches but for
  /// `keep` of each page kind and CPU. Returns their bytes, which is 0 from a handler that
  /// interrupted a section.
  /// Context: any from which the pager may be called.
  [[gnu::always_inline]] std::size_t give_back(std::uint32_t keep = 0) noexcept {
    check_pager_call(Mode::caller());
    return memory_.give_back(keep);
  }

  /// Does the deferred work of the caller's CPU that waits for allocations that may call the pager.
  /// It fills the CPU's reserve, drains the CPU on request, and gives frames beyond
  /// Config::cached_frames back. Then it does the client's deferred work. For idle loops.
  /// Context: any from which the pager may be called.
  [[gnu::always_inline]] void run_deferred() noexcept {
    check_pager_call(Mode::caller());
    slow_path_.run_deferred();
  }

  /// drain_this_cpu() and run_deferred(). Then other CPUs may drain this one, until its next slow
  /// path. So its empty pages reach them without an interrupt. For idle loops, each time before
  /// they halt, and for a CPU that goes offline. False if the CPU's part was occupied.
  /// Context: a thread of this CPU that may call the pager, with interrupts enabled or not.
  /// A handler that comes later may end the state, and the next call restores it.
  /// Cost: a few loads, beside the client's deferred work, if the CPU is idle already; else as the
  /// two calls.
  bool enter_idle() noexcept {
    if constexpr (is_debugged) {
      return mode_.enter_idle(*this);
    } else {
      return slow_path_.enter_idle();
    }
  }

  /// The client's deferred work of this CPU, drain_this_cpu(), the same drain for idle CPUs,
  /// drain_later() for the others, give_back(); returns the bytes given back.
  std::size_t trim() noexcept {
    slow_path_.run_all_client_work();
    drain_later();
    drain_this_cpu();
    parts_.drain_idle();
    return give_back();
  }

  /// Drains all frees in flight between CPUs, and frees the objects reserved for interrupts. So
  /// everything free is visible as free, and class_statistics() counts the slots in use.
  /// Pre: nobody else uses it. Cost: O(pages).
  void drain_and_leave_current() noexcept {
    if constexpr (is_debugged) {
      mode_.flush_all(*this);
    }
    parts_.drain_all();
  }

  /// Gives everything back, live objects included, and starts anew. Runs stay their clients'. Pre:
  /// nobody else uses it or its objects, nor reads them.
  void release_all() noexcept {
    drain_and_leave_current();
    if constexpr (has_tags) {
      tags_.release_objects(*this);
    }
    memory_.release_all();
    if constexpr (parks_frames) {
      memory_.give_parked();
    }
  }
  /// The same of a type-stable cache that readers may look at: it waits for a grace period. False
  /// if that took too long; then its frames stay parked. Context: MayWait, in no read section.
  /// Pre: nobody else uses it, and no reader finds one of its objects from here on.
  bool release_after_readers() noexcept
    requires(Config::type_stable)
  {
    drain_and_leave_current();
    memory_.release_all();
    return memory_.drain_parked();
  }
  /// Gives all frames of a type-stable cache's frame caches back, and waits for their grace
  /// periods: rcu_barrier(). False if that took too long, or others park frames meanwhile.
  /// Context: as above.
  bool drain_parked() noexcept
    requires(Config::type_stable)
  {
    give_back();
    return memory_.drain_parked();
  }

  // ---- the debug mode ---------------------------------------------------------------------------

  /// The heap's name in reports, its plan of failures, and its delayed blocks.
  constexpr Mode& debug() noexcept
    requires(is_debugged)
  {
    return mode_;
  }

  /// Checks all blocks but runs: red zones, guards, free_byte in free ones. Returns how many are
  /// damaged, with a report of each. Pre: nobody else uses the heap. Cost: O(bytes of pages).
  [[gnu::always_inline]] std::size_t check_blocks() noexcept
    requires(is_debugged)
  {
    return mode_.check_blocks(*this, Mode::caller());
  }

  /// Calls `callback(const Leak&)` for each live block of the size classes to which no word of the
  /// roots leads, directly or by blocks of this heap; returns their number. It follows runs, and
  /// reports none. A block of another heap that holds such a pointer is a root. It takes no memory,
  /// and a constant amount of stack.
  /// Pre: nobody else uses the heap, and neither does the callback. The pager is a FindingPager.
  /// Cost: block_at() for each word of roots and of blocks reached; O(pages).
  template <class Callback>
  std::size_t find_leaks(const LeakRoot* roots, std::size_t count, Callback&& callback) noexcept
    requires(is_debugged)
  {
    return mode_.find_leaks(*this, roots, count, callback);
  }

  // ---- statistics and checks --------------------------------------------------------------------

  /// Bytes of all frames and runs that it has from the pager. Thread: any.
  std::size_t frame_bytes() const noexcept { return account().bytes(); }

  /// Allocations that found nothing at the pager, and so searched for memory. Thread: any.
  std::size_t searches() const noexcept { return slow_path_.searches(); }

  /// Sums over all CPUs. Exact while no CPU allocates or frees; nobody may use a CPU's zone
  /// meanwhile.
  CpuZonesStatistics statistics() const noexcept {
    CpuZonesStatistics result;
    for (const Part& part : parts_) {
      result.zones += part.zone.statistics();
      result.cached_frame_bytes += part.frame_cache.bytes();
      result.nested_allocations += part.nested_allocations.load(Order::relaxed);
      result.nested_frees += part.frees.nested();
      result.idle_drains += part.steps_for_others.get();
    }
    result.reserved_frame_bytes = memory_.reserve().bytes();
    result.parked_frame_bytes = parked_frame_bytes();
    result.run_bytes = run_bytes();
    result.deferred_bytes = memory_.runs().deferred_bytes();
    result.frame_bytes = frame_bytes();
    result.frame_bytes_high_water = frame_bytes_high_water();
    result.growths = memory_.frames().growths();
    result.searches = searches();
    result.sleeps = slow_path_.sleeps();
    result.failures = failures();
    return result;
  }
  ClassStatistics class_statistics(std::uint32_t index) const noexcept {
    return parts_.class_statistics(index);
  }

  /// The counts of size class `index`, summed over all CPUs: all but `used` and `frees`. With
  /// Config::counts_frees those too, and then calls reported as misuse count as frees. Thread: any;
  /// the counts may lag behind other CPUs. Cost: O(CPUs).
  ClassStatistics class_counts(std::uint32_t index) const noexcept {
    return parts_.class_counts(index);
  }

  /// The most frame_bytes() ever was, calls that came while a CPU's part was occupied, allocations
  /// that ended as OutOfMemory. Thread: any.
  std::size_t frame_bytes_high_water() const noexcept { return account().high_water(); }
  std::size_t nested_calls() const noexcept { return parts_.nested_calls(); }
  std::size_t failures() const noexcept { return slow_path_.failures(); }
  std::size_t limit_bytes() const noexcept { return account().limit(); }
  /// Bytes of empty frames that wait for a grace period, in a type-stable cache. Thread: any.
  std::size_t parked_frame_bytes() const noexcept { return memory_.frames().parked().bytes(); }
  /// Bytes of runs, those that wait included, and the most they ever were. Thread: any.
  std::size_t run_bytes() const noexcept { return memory_.runs().bytes(); }
  std::size_t run_bytes_high_water() const noexcept { return memory_.runs().bytes_high_water(); }

  /// The zone of CPU `cpu`, for callers that look while that CPU does not use it.
  const Zone& zone_of(std::uint32_t cpu) const noexcept { return parts_[cpu].zone; }

  /// The first broken invariant, as an equation, or null. Pre: no CPU allocates or frees.
  const char* validate() const noexcept {
    const char* broken = parts_.validate();
    broken = broken != nullptr ? broken : memory_.validate();
    if constexpr (is_debugged) {
      broken = broken != nullptr ? broken : mode_.validate();
    }
    if constexpr (has_tags) {
      broken = broken != nullptr ? broken : tags_.validate(*this);
    }
    if (broken != nullptr) {
      return broken;
    }
    const CpuZonesStatistics now = statistics();
    const std::size_t bytes = now.zones.page_bytes + now.zones.depot_bytes +
                              now.cached_frame_bytes + now.reserved_frame_bytes +
                              now.parked_frame_bytes + now.run_bytes;
    return bytes == now.frame_bytes
               ? nullptr
               : "K1: frame bytes = zones + frame caches + reserved and parked frames + runs";
  }

 private:
  using Parts = CpuParts<Hooks, Config>;
  using Section = typename Parts::Section;
  using PartPointer = typename Parts::Pointers::PartPointer;
  using Memory = CpuMemory<Hooks, PagerT, Config, typename Mode::template Frames<Life>,
                           typename Tags::RunReturn>;
  using Caller = typename Mode::Caller;
  using Tag = typename Tags::Tag;
  using Numbered = NumberedClass;  ///< For DebugMode.
  template <KernelHooks, class, class>
  friend class DebugMode;
  template <KernelHooks, class, class>
  friend class DebugCore;
  template <KernelHooks, class>
  friend class HeapTags;

  /// Bounds the work with interrupts saved.
  static constexpr std::uint32_t objects_per_section = 16;

  // ---- the calls of clients, and with a debug mode the address of each in the client ------------

  /// The size class of a slot, or no_class.
  [[gnu::always_inline]] static constexpr std::uint32_t class_of_slot(Layout layout) noexcept {
    static_assert(has_layouts, "the objects of a cache have no layouts: call the cache itself");
    return Zone::class_for(layout);
  }
  /// The size class of a block.
  [[gnu::always_inline]] static constexpr std::uint32_t class_for(Layout layout) noexcept {
    return class_of_slot(Mode::extend(layout));
  }

  [[gnu::always_inline]] Result<void*> allocate_for(Layout layout, Context context,
                                                    [[maybe_unused]] Caller caller,
                                                    Tag tag = {}) noexcept {
    if constexpr (is_debugged) {
      return mode_.allocate(*this, layout, context, caller, tag);
    } else {
      return allocate_plain(layout, context, tag);
    }
  }
  [[gnu::always_inline]] Result<void*> allocate_plain(Layout layout, Context context,
                                                      [[maybe_unused]] Tag tag) noexcept {
    if constexpr (has_tags) {
      return tags_.allocate(*this, layout, context, tag);
    } else {
      return allocate_untagged(layout, context);
    }
  }
  [[gnu::always_inline]] Result<void*> allocate_untagged(Layout layout, Context context) noexcept {
    const std::uint32_t index = class_of_slot(layout);
    if (index == SizeClasses::no_class) [[unlikely]] {
      return slow_path_.allocate_run(layout, context);
    }
    return allocate_of(NumberedClass{index}, context);
  }
  Result<void*> allocate_zeroed_for(Layout layout, Context context, Caller caller,
                                    Tag tag = {}) noexcept {
    const Result<void*> object = allocate_for(layout, context, caller, tag);
    if (object) {
      __builtin_memset(object.value(), 0, layout.size());
    }
    return object;
  }
  [[gnu::always_inline]] void deallocate_for(void* object, Layout layout, Context context,
                                             [[maybe_unused]] Caller caller) noexcept {
    if constexpr (is_debugged) {
      mode_.deallocate(*this, object, layout, context, caller);
    } else {
      const std::uint32_t index = class_of_slot(layout);
      if (index == SizeClasses::no_class) [[unlikely]] {
        return memory_.runs().deallocate(object, layout, context);
      }
      deallocate_plain(object, index);
    }
  }
  /// Frees an object of class `index`.
  [[gnu::always_inline]] void deallocate_plain(void* object, std::uint32_t index) noexcept {
    if constexpr (has_tags) {
      if (!tags_.take(*this, object, index)) [[unlikely]] {
        return;
      }
    }
    deallocate_of(NumberedClass{index}, object);
  }
  std::size_t allocate_many_for(Layout layout, void** objects, std::size_t count, Context context,
                                Caller caller, Tag tag = {}) noexcept {
    const std::uint32_t index =
        is_debugged || has_tags ? SizeClasses::no_class : class_of_slot(layout);
    if (index != SizeClasses::no_class) {
      return allocate_many_of(index, objects, count, context);
    }
    std::size_t done = 0;
    for (; done < count; ++done) {
      const Result<void*> object = allocate_for(layout, context, caller, tag);
      if (!object) {
        break;
      }
      objects[done] = object.value();
    }
    return done;
  }
  void deallocate_many_for(void* const* objects, std::size_t count, Layout layout, Context context,
                           Caller caller) noexcept {
    const std::uint32_t index =
        is_debugged || has_tags ? SizeClasses::no_class : class_of_slot(layout);
    if (index != SizeClasses::no_class) {
      return deallocate_many_of(index, objects, count);
    }
    for (std::size_t done = 0; done < count; ++done) {
      deallocate_for(objects[done], layout, context, caller);
    }
  }
  [[gnu::noinline]] void deallocate_by_address(void* object, Context context,
                                               [[maybe_unused]] Caller caller) noexcept {
    if (object == nullptr) {
      return;
    }
    if constexpr (is_debugged) {
      mode_.deallocate(*this, object, context, caller);
    } else {
      deallocate_found(object, find_block<Zone>(pager_, object), context);
    }
  }
  Result<void*> reallocate_for(void* object, Layout layout, Context context,
                               [[maybe_unused]] Caller caller) noexcept {
    if (object == nullptr) {
      return allocate_for(layout, context, caller);
    }
    if constexpr (is_debugged) {
      return mode_.reallocate(*this, object, layout, context, caller);
    } else {
      return reallocate_plain(object, layout, context);
    }
  }
  Result<void*> reallocate_plain(void* object, Layout layout, Context context) noexcept {
    const FoundBlock found = find_in_use(object);
    if (found.kind == FoundBlock::Kind::None) {
      return AllocationError::InvalidLayout;
    }
    const std::uint32_t index = class_of_slot(layout);
    const bool stays = found.kind == FoundBlock::Kind::Object
                           ? index == found.index
                           : index == SizeClasses::no_class && fits_run(object, found, layout);
    if (stays) {
      return object;
    }
    const Result<void*> moved =
        allocate_plain(layout, context, tag_of(object, found.kind, found.index));
    if (moved) {
      __builtin_memcpy(moved.value(), object,
                       found.bytes < layout.size() ? found.bytes : layout.size());
      deallocate_found(object, found, context);
    }
    return moved;
  }
  /// The tag of a block in use.
  Tag tag_of([[maybe_unused]] void* object, [[maybe_unused]] FoundBlock::Kind kind,
             [[maybe_unused]] std::uint32_t index) const noexcept {
    if constexpr (has_tags) {
      return tags_.tag_of(*this, object, kind, index);
    } else {
      return {};
    }
  }
  [[gnu::always_inline]] void check_pager_call([[maybe_unused]] Caller caller) noexcept {
    if constexpr (is_debugged) {
      mode_.check_pager_call(*this, caller);
    }
  }

  void deallocate_found(void* object, const FoundBlock& found, Context context) noexcept {
    if (found.kind == FoundBlock::Kind::Run) {
      memory_.runs().deallocate(object, Layout::from_size_align(found.bytes, 1).value_or({}),
                                context);
    } else if (found.kind == FoundBlock::Kind::Object) {
      deallocate_plain(object, found.index);
    }
  }
  /// The block at `object`, if that is in use; none for a null pointer. Fails: reports misuse.
  FoundBlock find_in_use(void* object) noexcept {
    if (object == nullptr) {
      return {};
    }
    const FoundBlock found = find_block<Zone>(pager_, object);
    if (found.kind == FoundBlock::Kind::Object &&
        !(Zone::is_in_use(object, found.index) && check_owner(object, found.index))) {
      return {};
    }
    if constexpr (has_tags) {
      if (found.kind == FoundBlock::Kind::Run && !tags_.check_run(*this, object)) {
        return {};
      }
    }
    if (found.kind == FoundBlock::Kind::Run && memory_.runs().is_deferred(object)) {
      report_misuse({MisuseKind::DoubleFree, object, 0, 0});
      return {};
    }
    return found;
  }
  /// True if `page`, which a live object pins, is one of the heap's zones; also of a page that just
  /// left them, which has no live object.
  template <class Header>
  bool is_own_page(const Header* page) noexcept {
    const std::uintptr_t owner = page->tag.load(Order::relaxed) & ~PageState::mask;
    return parts_.begin()->pager.knows_zone(owner) || owner == 0;
  }
  /// False, and a report as of a free, if the object of class `index` at `object` is another
  /// heap's.
  bool check_owner(void* object, std::uint32_t index) noexcept {
    bool is_ours = false;
    Zone::with_slot(object, index,
                    [&]<class Page>(auto* page, std::uint32_t slot, const SlotGeometry& geometry) {
                      is_ours = is_own_page(page);
                      if (!is_ours) [[unlikely]] {
                        const MisuseKind kind =
                            has_tags ? MisuseKind::MismatchedFree : MisuseKind::ForeignPointer;
                        report_misuse({kind, object, geometry.object_size, slot, object});
                      }
                    });
    return is_ours;
  }
  /// True if the run `found` at `object` has as many frames as a new one for `layout` would.
  static bool fits_run(const void* object, const FoundBlock& found, Layout layout) noexcept {
    const Layout asked = Memory::Runs::Deferred::with_link(layout);
    return reinterpret_cast<std::uintptr_t>(object) % asked.align() == 0 &&
           asked.size() <= found.bytes && found.bytes - asked.size() < PagerT::base_bytes;
  }

  auto& account() noexcept { return memory_.frames().account(); }
  const auto& account() const noexcept { return memory_.frames().account(); }

  Parts parts_;  ///< First: fast paths find its part pointers at the heap's address.
  [[no_unique_address]] Mode mode_;
  [[no_unique_address]] Tags tags_;
  Memory memory_;
  SlowPath<Memory, Config> slow_path_;
  PagerT& pager_;
};

}  // namespace slabmalloc
