// SPDX-License-Identifier: MIT
//
// PerCpuHeap: objects of which each CPU has a copy, as of Linux' alloc_percpu() and FreeBSD's
// UMA_ZONE_PCPU. CPUs count or cache in their own copy, without a lock and without false sharing.
//
//   constinit PerCpuHeap<MyKernel, MyFrames> per_cpu(frames);
//   PerCpu<Counters> counters = per_cpu.allocate<Counters>(Context::MayWait);
//   counters.here()->packets += 1;                   // the caller stays on its CPU meanwhile
//   counters.on(cpu)->packets                        // any copy
//   per_cpu.deallocate(counters);
//
// The heap carves pages of one size, and behind each page lies the same page again for each other
// CPU. All of them are one run of the pager:
//
//   | page of CPU 0: slots … meta-data | page of CPU 1: slots … unused | page of CPU 2 … |
//       ▲                                  ▲
//       p ──────── stride bytes ─────────► p + stride
//
// So the copy of CPU n lies n * stride bytes behind that of CPU 0, and only the pages of CPU 0 have
// meta-data. All pages have one size, so the stride is a constant. Objects share cache lines with
// objects of the same CPU alone, however small they are.
//
// One zone (zone_allocator.hpp) serves all CPUs, behind a lock: a zone for each CPU would need the
// square of the CPUs in pages. The pager is called with nothing held. So the zone's own pager is a
// list of runs (RunList): an allocation puts a run there before it asks the zone again, and a
// call that may call the pager takes away what the zone let go of.
//
// The memory costs CPUs * stride bytes for each page. set_cpus() tells how many CPUs there are, if
// that is less than Hooks::maximum_cpus. Of empty pages a class keeps one, its current page, and
// the heap another one.
//
// Invariant, with its line in validate():
//   X3  runs from the pager = pages of the zone + runs in the list
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

#include "slabmalloc/base/result.hpp"
#include "slabmalloc/kernel/hooks.hpp"
#include "slabmalloc/kernel/spin_lock.hpp"
#include "slabmalloc/zone/config.hpp"
#include "slabmalloc/zone/zone_allocator.hpp"

namespace slabmalloc {

/// The configuration of a PerCpuHeap: 8 B to 1 KiB on base pages. One with other sizes or pages
/// inherits from it. It must have one page kind.
template <std::size_t GranuleBytes = 4 * kibibyte, class AtomicsT = HardwareAtomics>
struct PerCpuConfig : CommonConfig {
  using Atomics = AtomicsT;
  using SizeClasses = SizeClassTable<SmallSpec>;
  using BasePage = typename PageSizes<GranuleBytes, AtomicsT>::Base;
  using Pages = PageKinds<PageKind<BasePage, 1 * kibibyte>>;
  /// An empty page costs as many frames as there are CPUs.
  static constexpr std::uint32_t idle_pages_per_class = 0;
  static constexpr std::uint32_t depot_pages = 1;
  /// One zone has no frees by others to buffer.
  static constexpr bool hardened = true;
};

/// An object with a copy for each CPU, or null. Its value is the address of CPU 0's copy.
template <class T, KernelHooks Hooks, std::size_t stride_bytes>
class PerCpuPointer {
 public:
  static constexpr std::size_t stride = stride_bytes;

  constexpr PerCpuPointer() noexcept = default;
  constexpr explicit PerCpuPointer(T* first) noexcept : first_(first) {}

  /// The copy of CPU `cpu`. Pre: it is not null, and the CPU is below PerCpuHeap::cpus().
  [[gnu::always_inline]] T* on(std::uint32_t cpu) const noexcept {
    return reinterpret_cast<T*>(reinterpret_cast<std::byte*>(first_) + cpu * stride_bytes);
  }
  /// The copy of the CPU that runs the caller. Pre: the caller stays on that CPU while it uses the
  /// copy. It shares the copy with the handlers that may come meanwhile.
  [[gnu::always_inline]] T* here() const noexcept { return on(Hooks::cpu()); }

  /// The copy of CPU 0, by which the object can be found again.
  constexpr T* get() const noexcept { return first_; }
  constexpr explicit operator bool() const noexcept { return first_ != nullptr; }

 private:
  T* first_ = nullptr;
};

/// Runs between a zone and its heap, linked through their first words. Thread: one at a time.
class RunList {
 public:
  Frame allocate_frame(std::size_t) noexcept { return pop(); }
  void deallocate_frame(void* run, std::size_t) noexcept { push(run); }

  void push(void* run) noexcept {
    top_ = ::new (run) Link{top_};
    ++size_;
  }
  void* pop() noexcept {
    Link* const run = top_;
    if (run != nullptr) {
      top_ = run->next;
      --size_;
    }
    return run;
  }
  std::size_t size() const noexcept { return size_; }

 private:
  struct Link {
    Link* next;
  };

  Link* top_ = nullptr;
  std::size_t size_ = 0;
};

/// Objects with a copy for each CPU, over a RunPager. It must not move, and outlives its objects;
/// its destructor does nothing (trim()).
/// Thread: any CPU, also in interrupt handlers; not in NMIs, which may have interrupted a holder of
/// the lock. The misuse hook is called with the lock held, and must not call this heap.
template <class HooksT, class PagerT, class ConfigT = PerCpuConfig<>>
class PerCpuHeap {
  static_assert(sizeof(HooksMessage<HooksT>) != 0);
  using Zone = BasicZoneAllocator<ConfigT, RunList>;

 public:
  using Hooks = CheckedHooks<HooksT>;
  using Config = ConfigT;
  using Page = typename Config::BasePage;

  /// From one copy of an object to that of the next CPU.
  static constexpr std::size_t stride = Page::frame_bytes(0);
  template <class T>
  using Pointer = PerCpuPointer<T, Hooks, stride>;
  /// The largest object, in bytes of each copy.
  static constexpr std::size_t MAX_ALLOC_SIZE = Zone::MAX_ALLOC_SIZE;

  static_assert(std::same_as<typename Config::Pages, PageKinds<PageKind<Page, MAX_ALLOC_SIZE>>>,
                "the configuration has one page kind, BasePage, for objects of all its sizes");

  /// Pre: `pager` outlives it.
  constexpr explicit PerCpuHeap(PagerT& pager) noexcept : pager_(pager), zone_(list_) {}
  PerCpuHeap(const PerCpuHeap&) = delete;
  PerCpuHeap& operator=(const PerCpuHeap&) = delete;

  /// Makes copies for the CPUs below `cpus` alone. Pre: `cpus` is 1 … Hooks::maximum_cpus, and
  /// nothing was allocated yet.
  void set_cpus(std::uint32_t cpus) noexcept {
    require<Hooks>(cpus != 0 && cpus <= Hooks::maximum_cpus, "0 < copies <= maximum_cpus");
    cpus_ = cpus;
  }
  /// The copies of each object.
  std::uint32_t cpus() const noexcept { return cpus_; }

  // ---- objects ---------------------------------------------------------------------------------

  /// An object for `layout`, whose copies are all zero; a size of 0 counts as 1.
  /// Context: any but an NMI's. Those that may not call the pager get what is free already.
  /// Fails: OutOfMemory; InvalidLayout above MAX_ALLOC_SIZE. Cost: CPUs * layout.size() bytes are
  /// written with nothing held. It holds the lock for O(size classes), a constant.
  Result<Pointer<void>> allocate(Layout layout, Context context = Context::MayWait) noexcept {
    Result<void*> object = issue(layout, nullptr, context);
    if (!object && object.error() == AllocationError::OutOfMemory && may_call_pager(context)) {
      if (void* const run = get_run(context)) {
        object = issue(layout, run, context);
      }
    }
    if (!object) {
      return object.error();
    }
    const Pointer<void> result(object.value());
    for (std::uint32_t cpu = 0; cpu < cpus_; ++cpu) {
      __builtin_memset(result.on(cpu), 0, layout.size());
    }
    return result;
  }
  /// An object whose copies are all `T()`, or null. Context and cost as above.
  template <class T>
  Pointer<T> allocate(Context context = Context::MayWait) noexcept {
    static_assert(std::is_nothrow_default_constructible_v<T>,
                  "copies are made without arguments, by a constructor that is noexcept");
    const Pointer<void> object = allocate(Layout::of<T>(), context).value_or({});
    for (std::uint32_t cpu = 0; object && cpu < cpus_; ++cpu) {
      ::new (object.on(cpu)) T();
    }
    return Pointer<T>(static_cast<T*>(object.get()));
  }

  /// Frees an object of this heap, or nothing for a null pointer. Where `context` forbids
  /// calls of the pager, the runs of empty pages wait for a later call.
  /// Context: any but an NMI's. It calls block_at() of a FindingPager, whatever `context` says.
  /// Fails: DoubleFree, MisalignedFree, ForeignPointer or SizeMismatch to the misuse hook. The copy
  /// of a CPU other than 0 is a ForeignPointer. Over a FindingPager a bad free reads no memory that
  /// went back to the pager. Cost: block_at(), and a constant under the lock.
  void deallocate(Pointer<void> object, Layout layout,
                  Context context = Context::MayWait) noexcept {
    if (object && is_on_page(object.get(), layout)) {
      end(object.get(), layout, context);
    }
  }
  /// The same, after it destroyed all copies. Pre: all are `T`s.
  template <class T>
  void deallocate(Pointer<T> object, Context context = Context::MayWait) noexcept {
    if (!object || !is_on_page(object.get(), Layout::of<T>())) {
      return;
    }
    if constexpr (!std::is_trivially_destructible_v<T>) {
      for (std::uint32_t cpu = 0; cpu < cpus_; ++cpu) {
        object.on(cpu)->~T();
      }
    }
    end(object.get(), Layout::of<T>(), context);
  }

  // ---- memory ----------------------------------------------------------------------------------

  /// Gives the runs of all empty pages back to the pager. Context: MayWait.
  void trim() noexcept {
    void* run = nullptr;
    {
      const typename Lock::Guard guard(lock_);
      zone_.trim();
      run = list_.pop();
    }
    give_back_runs(run, Context::MayWait);
  }

  /// Bytes of all copies of all pages. Thread: any.
  std::size_t frame_bytes() const noexcept { return runs_.get() * run_bytes(); }
  /// The zone's figures, which are those of one copy. Cost: O(pages) under the lock.
  ZoneStatistics statistics() const noexcept {
    const typename Lock::Guard guard(lock_);
    return zone_.statistics();
  }
  /// The first broken invariant, as an equation, or null. Pre: nobody uses it. Cost: O(pages).
  const char* validate() const noexcept {
    const typename Lock::Guard guard(lock_);
    if (const char* const broken = zone_.validate()) {
      return broken;
    }
    const ZoneStatistics now = zone_.statistics();
    return (now.page_bytes + now.depot_bytes) / stride + list_.size() == runs_.get()
               ? nullptr
               : "X3: runs from the pager = pages of the zone + runs in the list";
  }

 private:
  using Atomics = typename Config::Atomics;
  using Lock = SpinLock<Hooks, Atomics>;

  std::size_t run_bytes() const noexcept { return cpus_ * stride; }

  /// An object on the pages there are, `run` included if it is not null.
  Result<void*> issue(Layout layout, void* run, Context context) noexcept {
    Result<void*> object = AllocationError::OutOfMemory;
    {
      const typename Lock::Guard guard(lock_);
      if (run != nullptr) {
        runs_.add(1);
        list_.push(run);
      }
      object = zone_.allocate(layout);
      // Another CPU may have freed an object meanwhile, which left the run unused.
      run = take_run(context);
    }
    give_back_runs(run, context);
    return object;
  }

  /// A run from the pager, or null.
  void* get_run([[maybe_unused]] Context context) noexcept {
    static_assert(RunPager<PagerT>,
                  "the pages of all CPUs lie in a row: take a pager with allocate_run()");
    Frame run;
    if constexpr (requires { pager_.allocate_run(run_bytes(), stride, context); }) {
      run = pager_.allocate_run(run_bytes(), stride, context);
    } else {
      run = pager_.allocate_run(run_bytes(), stride);
    }
    if (run.address == nullptr) {
      return nullptr;
    }
    // A tag or seal from another use of the memory would make a bad free of a copy look sound.
    for (std::uint32_t cpu = 0; cpu < cpus_; ++cpu) {
      auto* const page = static_cast<std::byte*>(run.address) + cpu * stride;
      Page::header_of(page)->tag.store(0, Order::relaxed);
      Page::header_of(page)->seal.store(0, Order::relaxed);
    }
    return run.address;
  }

  /// False, and a report, if the pager knows of no page of CPU 0 at `object`. The pager may have
  /// unmapped what was there, so nobody may read its header.
  bool is_on_page([[maybe_unused]] const void* object,
                  [[maybe_unused]] Layout layout) const noexcept {
    if constexpr (FindingPager<PagerT>) {
      const PagerBlock block = pager_.block_at(object);
      const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(object) -
                                    reinterpret_cast<std::uintptr_t>(block.address);
      if (block.use != PagerUse::Run || block.bytes < run_bytes() || offset >= stride) {
        const bool is_free = block.use == PagerUse::Free;
        report_misuse({is_free ? MisuseKind::DoubleFree : MisuseKind::ForeignPointer, object,
                       layout.size(), 0});
        return false;
      }
    }
    return true;
  }
  void end(void* object, Layout layout, Context context) noexcept {
    void* run = nullptr;
    {
      const typename Lock::Guard guard(lock_);
      zone_.deallocate(object, layout);
      run = take_run(context);
    }
    give_back_runs(run, context);
  }

  /// A run that the zone let go of, if there is one and `context` allows calls of the pager.
  /// Thread: holder of the lock.
  void* take_run(Context context) noexcept {
    return may_call_pager(context) ? list_.pop() : nullptr;
  }
  /// Gives `run` back, and then all others of the list. None if it is null.
  void give_back_runs(void* run, [[maybe_unused]] Context context) noexcept {
    while (run != nullptr) {
      if constexpr (requires { pager_.deallocate_run(run, run_bytes(), stride, context); }) {
        pager_.deallocate_run(run, run_bytes(), stride, context);
      } else {
        pager_.deallocate_run(run, run_bytes(), stride);
      }
      const typename Lock::Guard guard(lock_);
      runs_.subtract(1);
      run = list_.pop();
    }
  }

  PagerT& pager_;
  mutable Lock lock_;
  RunList list_;
  Zone zone_;
  SharedCounter<Atomics> runs_;
  std::uint32_t cpus_ = Hooks::maximum_cpus;
};

/// An object of `T` in a `Heap` of type PerCpuHeap.
template <class T, class Heap>
using PerCpu = typename Heap::template Pointer<T>;

}  // namespace slabmalloc
