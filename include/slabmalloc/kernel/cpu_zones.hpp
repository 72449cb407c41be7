// SPDX-License-Identifier: MIT
//
// CpuZones: a kernel's heap. Each CPU has a zone of its own; any CPU frees any object; handlers and NMIs may
// free always, and allocate.
//
//   constinit CpuZones<MyKernel, MyFrames> heap(frames);
//   void* thing = heap.allocate(Layout::of<Thing>(), Context::MayWait).value_or(nullptr);
//   heap.deallocate(thing, Layout::of<Thing>());
//
//   allocate ─► this CPU's zone ─► its empty pages, of whatever class ─► its frame cache ─► other CPUs'      │ in a section
//        ─► pager, several frames at once ─► all that was freed to this CPU ─► reclaim ─► reserved frames  │ nothing held
//
//   deallocate ─► this CPU's zone                        │ in a section
//              ─► the lock-free remote path of the page  │ in the middle of a section: in a handler, in an NMI
//              ─► a run: the pager, or the runs that wait for who may call it
//
// A section (cpu_part.hpp) is short: an allocation's slow path visits the words of two pages and takes in a few more.
// The pager and all callbacks are called between sections: with nothing held, interrupts as the caller had them. They
// may allocate and free here, with Context::Interrupt or Emergency, lest they be called again from within.
//
// Whose frames where are, with its line in validate():
//   K1  frame bytes = those of all CPUs' zones + frame caches + reserved frames
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/cpu_part.hpp"
#include "slabmalloc/kernel/cpu_zones_statistics.hpp"
#include "slabmalloc/kernel/deferred_runs.hpp"
#include "slabmalloc/kernel/kernel_config.hpp"

namespace slabmalloc {

/// Called when an allocation would pass the limit; frees something, or not.
using LimitCallback = void (*)(void* argument) noexcept;
/// Called when the pager has nothing for an allocation that may wait; true if it freed memory somewhere.
using ReclaimCallback = bool (*)(void* argument) noexcept;

/// What is done with frames on their way in and out, with nothing held.
///   begin(frame, context)   called for each frame that comes from the pager, for an allocation with that context; if it
///                           says false the frame goes back at once
///   end(frame)              called before a frame goes back
template <class L>
concept FrameLife = requires(L& life, void* frame, Context context) {
  { life.begin(frame, context) } noexcept -> std::same_as<bool>;
  { life.end(frame) } noexcept;
};

/// Does nothing with them.
struct PlainFrames {
  static constexpr bool begin(void*, Context) noexcept { return true; }
  static constexpr void end(void*) noexcept {}
};

/// Per-CPU zones over one pager. It must not move, and outlives its objects.
/// Thread: any CPU, in any context, where not said otherwise.
template <KernelHooks HooksT, Pager PagerT, class ConfigT = KernelConfig,
          FrameLife Life = PlainFrames>
class CpuZones {
  static_assert(HooksT::maximum_cpus != 0, "maximum_cpus is the number of CPUs, at least 1");
  static_assert(CpuZonesConfig<ConfigT>,
                "CpuZones take KernelConfig, or what inherits from it or from another "
                "configuration of kernel_config.hpp");

 public:
  using Hooks = HooksT;
  using Config = CpuZonesConfigOrDefault<ConfigT>;
  using Part = CpuPart<Hooks, Config>;
  using Zone = typename Part::Zone;
  using Atomics = typename Config::Atomics;
  using SizeClasses = typename Config::SizeClasses;

  static_assert(atomics_suffice<Hooks, typename Config::Atomics>,
                "SingleCpuAtomics are for one CPU: say maximum_cpus = 1, or take HardwareAtomics");
  static_assert(Config::growth_frames != 0, "growth_frames is at least 1");

  /// The largest size in bytes that comes from a size class; larger requests are runs of the pager's.
  static constexpr std::size_t MAX_ALLOC_SIZE = Zone::MAX_ALLOC_SIZE;

  /// Pre: `pager` outlives it.
  constexpr explicit CpuZones(PagerT& pager, Life life = {}) noexcept : pager_(pager), life_(life) {
    for (std::uint32_t number = 0; number < Hooks::maximum_cpus; ++number) {
      parts_[number].pager.attach(parts_, number);
    }
  }

  // ---- objects --------------------------------------------------------------------------------------

  /// A block for `layout`; a size of 0 counts as 1.
  /// Fails: OutOfMemory; InvalidLayout above MAX_ALLOC_SIZE (size or alignment) unless the pager gives runs. What is
  /// free on other CPUs' pages in use, or buffered there, is not found: they put what is empty into their frame caches in
  /// their next slow paths, or when drain_this_cpu() is called there. Nor is a frame that another CPU is just getting
  /// from the pager or giving back to it.
  /// Cost: constant, calls of the pager apart. Where that has nothing, MayWait searches: O(queued pages + size classes +
  /// frames in frame caches), in sections of constant length. MayNotWait takes one step of such a search, each call the next.
  [[gnu::always_inline]] Result<void*> allocate(Layout layout,
                                                Context context = Context::MayWait) noexcept {
    const std::uint32_t index = Zone::class_for(layout);
    if (index == SizeClasses::no_class) [[unlikely]] {
      return allocate_run(layout, context);
    }
    // The section by hand, here and below: not every compiler keeps a guard's members in registers.
    const typename Hooks::InterruptState interrupts = Hooks::save_interrupts();
    const PartPointer pointer(part_pointers_);
    void* object = nullptr;
    if (Part* const part = take_from(pointer)) [[likely]] {
      object = part->zone.allocate_fast(index);
      put_back(pointer, part);
    }
    Hooks::restore_interrupts(interrupts);
    if (object != nullptr) [[likely]] {
      return object;
    }
    return allocate_slow(index, context);
  }

  /// As allocate(), every byte of `layout.size()` being 0.
  Result<void*> allocate_zeroed(Layout layout, Context context = Context::MayWait) noexcept {
    const Result<void*> object = allocate(layout, context);
    if (object) {
      __builtin_memset(object.value(), 0, layout.size());
    }
    return object;
  }

  /// Frees a block of whatever CPU; a null pointer is none. The pager is called for runs alone, and then only if
  /// `context` allows it: other runs wait, as frames that become excess do, for give_back() or for the next allocations
  /// that may call it.
  /// Context: any, NMIs included; it matters for runs, to a pager that locks or waits.
  /// Fails: DoubleFree, MisalignedFree, ForeignPointer or SizeMismatch to the misuse hook. Of a run it is the pager that
  /// finds them; of one that waits, nothing but its second free is found at once.
  [[gnu::always_inline]] void deallocate(void* object, Layout layout,
                                         Context context = Context::MayWait) noexcept {
    const std::uint32_t index = Zone::class_for(layout);
    if (index == SizeClasses::no_class) [[unlikely]] {
      return deallocate_run(object, layout, context);
    }
    const typename Hooks::InterruptState interrupts = Hooks::save_interrupts();
    const PartPointer pointer(part_pointers_);
    if (Part* const part = take_from(pointer)) [[likely]] {
      const FreeOutcome outcome = part->zone.deallocate_fast(index, object);
      if (outcome != FreeOutcome::Freed) [[unlikely]] {
        // A call at its end, which takes the section along, leaves the way to here without a stack frame.
        return finish_deallocate(object, part, interrupts, index, outcome);
      }
      part->frees.add(index, object);
      put_back(pointer, part);
      Hooks::restore_interrupts(interrupts);
      return;
    }
    Hooks::restore_interrupts(interrupts);
    deallocate_slow(object, index);
  }

  /// Allocates `count` blocks for `layout` into `objects`; returns how many there were. Fewer
  /// sections than as many calls of allocate() take.
  std::size_t allocate_many(Layout layout, void** objects, std::size_t count,
                            Context context = Context::MayWait) noexcept {
    const std::uint32_t index = Zone::class_for(layout);
    std::size_t done = 0;
    while (done < count) {
      if (index != SizeClasses::no_class) {
        const Section part(part_pointers_);
        for (std::uint32_t step = 0; part && step < objects_per_section && done < count; ++step) {
          void* const object = part->zone.allocate_fast(index);
          if (object == nullptr) {
            break;
          }
          objects[done++] = object;
        }
      }
      if (done < count) {
        const Result<void*> object = allocate(layout, context);
        if (!object) {
          break;
        }
        objects[done++] = object.value();
      }
    }
    return done;
  }

  /// Frees `count` blocks of `layout`. As deallocate().
  void deallocate_many(void* const* objects, std::size_t count, Layout layout,
                       Context context = Context::MayWait) noexcept {
    const std::uint32_t index = Zone::class_for(layout);
    std::size_t done = 0;
    while (done < count) {
      if (index != SizeClasses::no_class) {
        const Section part(part_pointers_);
        for (std::uint32_t step = 0; part && step < objects_per_section && done < count; ++step) {
          part->deallocate(objects[done++], index);
        }
      }
      if (done < count) {
        deallocate(objects[done++], layout, context);
      }
    }
  }

  /// The bytes that a block of `layout` may use; 0 if no size class serves it.
  static constexpr std::size_t usable_size(Layout layout) noexcept {
    return Zone::usable_size(layout);
  }

  // ---- reserves and limits --------------------------------------------------------------------------

  /// From now on each CPU keeps `objects` blocks of `layout` for calls that can get them nowhere else: handlers that
  /// interrupt an allocation or a free, or find no memory without the pager. Slow paths fill up what was taken; the
  /// caller's CPU is filled at once. 0 ends it.
  /// Context: as an allocation with `context`.
  /// Fails: InvalidLayout if no size class serves it; TooMany above Config::reserve_objects, and then nothing is
  /// changed; OutOfMemory if this CPU's could not be filled, which is tried again later.
  Result<void> reserve_for_interrupts(Layout layout, std::uint32_t objects,
                                   Context context = Context::MayWait) noexcept {
    const std::uint32_t index = Zone::class_for(layout);
    if (index == SizeClasses::no_class) {
      return AllocationError::InvalidLayout;
    }
    if (objects > Config::reserve_objects) {
      return AllocationError::TooMany;
    }
    for (Part& part : parts_) {
      const InterruptGuard<Hooks> interrupts;
      part.reserve.want(index, objects);
    }
    return fill_own_reserve(index, context);
  }

  /// Keeps `frames` frames of `layout`'s page kind, for Context::Emergency alone or for all
  /// (Config::reserved_frames_are_for_all), and refills them before frames go back to the pager.
  /// Context: as an allocation with `context`. Fails: InvalidLayout if no size class serves it;
  /// OutOfMemory if not all were to be had now, and then what was got is kept, or from inside of a
  /// handler that interrupted a section.
  Result<void> reserve_frames(Layout layout, std::uint32_t frames,
                           Context context = Context::MayWait) noexcept;

  /// Bounds the bytes of all frames. Before an allocation fails for that, `callback` may free something.
  /// Thread: any, with the callback as before; another one while nobody allocates.
  void set_limit(std::size_t bytes, LimitCallback callback = nullptr,
                 void* argument = nullptr) noexcept {
    limit_callback_ = callback;
    limit_argument_ = argument;
    limit_bytes_.store(bytes, Order::relaxed);
  }

  /// `callback` is asked to free memory elsewhere when an allocation that may wait has found none.
  /// Thread: any, while nobody allocates.
  void set_reclaim(ReclaimCallback callback, void* argument) noexcept {
    reclaim_ = callback;
    reclaim_argument_ = argument;
  }

  // ---- memory pressure ------------------------------------------------------------------------------

  /// Takes in all that others freed of this CPU's objects, delivers what it gathered of theirs, and puts empty pages
  /// into its frame cache. False if the CPU's part was occupied: then its next slow paths do it.
  /// Thread: any context that stays on this CPU, as an inter-processor interrupt.
  /// Cost: O(queued pages + size classes), in sections of a constant length each.
  bool drain_this_cpu() noexcept;

  /// Has each CPU do drain_this_cpu() in its next slow path.
  void drain_later() noexcept {
    for (Part& part : parts_) {
      part.drain_is_wanted.store(true, Order::relaxed);
    }
  }

  /// Gives runs that wait for it back to the pager, and empty frames of all CPUs' frame caches but for `keep` of each page
  /// kind and CPU; returns their bytes, which is 0 from a handler that interrupted a section.
  /// Context: any from which the pager may be called.
  std::size_t give_back(std::uint32_t keep = 0) noexcept;

  /// Does for the caller's CPU what waits for slow paths of allocations that may call the pager: fills its reserve,
  /// drains it where that was asked for, gives frames beyond Config::cached_frames back. For idle loops.
  /// Context: any from which the pager may be called.
  void run_deferred() noexcept;

  /// drain_this_cpu(), drain_later() for the others, give_back(); returns the bytes given back.
  std::size_t trim() noexcept {
    drain_later();
    drain_this_cpu();
    return give_back();
  }

  /// Takes in all frees that are under way between CPUs and frees what is reserved for interrupts: then all that is free
  /// is found free, and class_statistics() tells what is not.
  /// Pre: nobody else uses it. Cost: O(pages).
  void drain_and_leave_current() noexcept;

  /// Gives everything back, whatever lives in it, and starts anew. Pre: nobody else uses it or its objects.
  void release_all() noexcept;

  // ---- looking --------------------------------------------------------------------------------------

  /// Bytes of all frames it has from the pager. Thread: any.
  std::size_t frame_bytes() const noexcept { return frame_bytes_.load(Order::relaxed); }

  /// Allocations for which the pager had nothing, so that memory was searched for. Thread: any.
  std::size_t searches() const noexcept { return counts_.searches.get(); }

  /// Sums over all CPUs. Exact while no CPU allocates or frees; each CPU's zone must not be used
  /// meanwhile.
  CpuZonesStatistics statistics() const noexcept;
  ClassStatistics class_statistics(std::uint32_t index) const noexcept;

  /// What is counted of size class `index`, summed over all CPUs: all but `used` and `frees`, and
  /// these too with Config::counts_frees; then calls that were reported as misuse count as frees.
  /// Thread: any; others may be seen to lag. Cost: O(CPUs).
  ClassStatistics class_counts(std::uint32_t index) const noexcept;

  /// The most frame_bytes() ever was, calls that came while a CPU's part was occupied, allocations
  /// that ended as OutOfMemory. Thread: any.
  std::size_t frame_bytes_high_water() const noexcept {
    return frame_bytes_high_water_.load(Order::relaxed);
  }
  std::size_t nested_calls() const noexcept {
    std::size_t calls = 0;
    for (const Part& part : parts_) {
      calls += part.nested_allocations.load(Order::relaxed) + part.frees.nested();
    }
    return calls;
  }
  std::size_t failures() const noexcept { return counts_.failures.get(); }
  std::size_t limit_bytes() const noexcept { return limit_bytes_.load(Order::relaxed); }

  /// The zone of CPU `cpu`, for who looks while that CPU does not use it.
  const Zone& zone_of(std::uint32_t cpu) const noexcept { return parts_[cpu].zone; }

  /// The first broken invariant, as an equation, or null. Pre: no CPU allocates or frees.
  const char* validate() const noexcept;

 private:
  using Section = CpuSection<Hooks, Config>;
  using PartPointer = typename CpuPartPointers<Hooks, Config>::PartPointer;
  using Caches = typename Part::Caches;
  using DeferredRuns = slabmalloc::DeferredRuns<Hooks, Atomics>;
  template <class T>
  using Cell = typename Atomics::template Cell<T>;

  /// Bounds of what is done with interrupts saved, and by one slow path.
  static constexpr std::uint32_t objects_per_section = 16;
  static constexpr std::uint32_t looks_per_section = 4;
  static constexpr std::uint32_t excess_at_once = 2;
  static constexpr std::size_t no_bytes = 0;  ///< No frame's.

  static constexpr std::size_t bytes_of_class(std::uint32_t index) noexcept {
    return Zone::frame_bytes_of_class(index);
  }
  static constexpr bool may_call_pager(Context context) noexcept {
    return context == Context::MayWait || context == Context::MayNotWait;
  }
  static constexpr bool may_use_reserved(Context context) noexcept {
    return Config::reserved_frames_are_for_all || context == Context::Emergency;
  }

  Result<void*> allocate_run(Layout layout, Context context) noexcept;
  Result<void*> ask_for_run(Layout layout, Context context) noexcept;
  Result<void*> search_some_for_run(Layout layout) noexcept;
  void deallocate_run(void* run, Layout layout, Context context) noexcept;
  Result<void*> allocate_slow(std::uint32_t index, Context context) noexcept;
  Result<void*> allocate_from_reserves(std::uint32_t index, Context context) noexcept;
  void* allocate_from_reserved(std::uint32_t index, Context context) noexcept;
  Result<void*> out_of_memory() noexcept;
  Result<void*> allocate_from_rest(std::uint32_t index, Context context) noexcept;
  void* search(std::uint32_t index) noexcept;
  void* search_some(std::uint32_t index) noexcept;
  void deallocate_slow(void* object, std::uint32_t index) noexcept;
  static void finish_deallocate(void* object, Part* part, typename Hooks::InterruptState interrupts,
                                std::uint32_t index, FreeOutcome outcome) noexcept;

  /// An object of the CPU's zone by its slow path, or null; `is_nested` if its part is occupied.
  void* allocate_in_zone(std::uint32_t index, bool& is_nested) noexcept;
  bool run_some_deferred(std::uint32_t pages) noexcept;
  static bool run_deferred_in_zone(Part& part, std::uint32_t pages) noexcept;
  Result<void> fill_own_reserve(std::uint32_t index, Context context) noexcept;
  static bool drain_some(Part& part, std::uint32_t pages) noexcept;
  static bool drain_in_search(Part& part) noexcept;

  static void require_own(const Section& part) noexcept {
    require<Hooks>(static_cast<bool>(part), "who may call the pager interrupts no section");
  }
  std::uint32_t get_more(std::size_t bytes, Context context, void** frames) noexcept;
  template <class Use>
  bool grow(std::uint32_t index, Context context, Use&& use) noexcept;
  void* allocate_from_pager(std::uint32_t index, Context context) noexcept;
  std::uint32_t ask_pager(std::size_t bytes, Context context, void** frames,
                          std::uint32_t count) noexcept;
  std::uint32_t get_frames(std::size_t bytes, Context context, void** frames,
                           std::uint32_t count) noexcept;
  std::uint32_t charge(std::size_t bytes, std::uint32_t most) noexcept;
  void note_high_water() noexcept;
  void discharge(std::size_t bytes) noexcept;
  void give_back_frame(void* frame, std::size_t bytes) noexcept;
  bool give_back_one(Part& other, std::size_t bytes, std::uint32_t keep,
                     std::size_t& given) noexcept;
  bool give_back_excess() noexcept;
  bool give_back_other(std::size_t bytes) noexcept;
  std::size_t give_back_run() noexcept;
  bool refill_reserved(void* frame, std::size_t bytes) noexcept;
  /// How many frames of `bytes` are to be kept.
  Cell<std::uint32_t>& reserved_frames_wanted(std::size_t bytes) noexcept {
    const std::uint32_t index = Caches::sizes.index_of(bytes);
    require<Hooks>(index < Caches::sizes.count, Caches::known_bytes);
    return reserved_frames_wanted_[index];
  }
  bool release_reserved(std::size_t bytes) noexcept;

  CpuPartPointers<Hooks, Config> part_pointers_;
  Part parts_[Hooks::maximum_cpus];
  PagerT& pager_;
  [[no_unique_address]] Life life_;
  Caches reserved_frames_;
  DeferredRuns deferred_runs_;
  Cell<std::uint32_t> reserved_frames_wanted_[Caches::sizes.count];
  Cell<std::size_t> frame_bytes_;
  Cell<std::size_t> frame_bytes_high_water_;
  Cell<std::size_t> limit_bytes_{~std::size_t{0}};
  CpuZonesCounters<SharedCounter<Atomics>> counts_;
  LimitCallback limit_callback_ = nullptr;
  void* limit_argument_ = nullptr;
  ReclaimCallback reclaim_ = nullptr;
  void* reclaim_argument_ = nullptr;
};

}  // namespace slabmalloc

#include "slabmalloc/kernel/cpu_zones_memory.hpp"
#include "slabmalloc/kernel/cpu_zones_reserves.hpp"
#include "slabmalloc/kernel/cpu_zones_runs.hpp"
#include "slabmalloc/kernel/cpu_zones_slow.hpp"
