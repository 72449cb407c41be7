// SPDX-License-Identifier: MIT
//
// Heap: a heap of its own for a part of a program: a request, a plug-in, a document. Hosted C++.
//
//   slabmalloc::OwnedHeap heap = slabmalloc::Heap::create("images");
//   void* block = heap->allocate(Layout::of<Pixel[4096]>()).value_or(nullptr);
//   heap->deallocate(block);                       // on any thread, with or without the layout
//   heap.reset();                                  // all its memory is back at the system
//
//   Heap ─► CpuZones: a zone for each number of a thread, and the limit    (kernel/cpu_zones.hpp)
//        │     │ numbers: ThreadHooks                                      (thread_hooks.hpp)
//        │     ▼
//        └─► HeapPager: frames and runs in chunks of the address space     (heap_pager.hpp)
//
// A heap lies in its own first chunk. So to create one is one call of mmap(), and to end one is one
// of munmap() for each chunk, whatever blocks are live.
//
// Threads with a number of their own (ThreadHooks) take no lock but for memory of the pager: runs,
// which are blocks above MAX_ALLOC_SIZE (8 KiB), and frames. A thread that ends leaves its free
// memory to the others. So does one that calls enter_idle() before it sleeps for long.
//
// A signal handler may free blocks of at most MAX_ALLOC_SIZE, and allocate such blocks with
// Context::Interrupt, which fails where the thread's zone is in use. It may not make the first call
// of its thread. After fork() see ThreadHooks.
//
// Misuse goes to the misuse hook (base/misuse.hpp): a second free, an address that is no block, a
// block of another heap, a wrong size. (A size whose blocks lie on pages of another kind counts as
// no block.) The hook must not use the heap that reports, and must not create or destroy a heap.
//
// Invariants: those of CpuZones and HeapPager, and with its line in validate():
//   H5  bytes held for blocks = bytes in use of the pager
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "slabmalloc/base/layout.hpp"
#include "slabmalloc/base/result.hpp"
#include "slabmalloc/hosted/heap_pager.hpp"
#include "slabmalloc/hosted/process_memory.hpp"
#include "slabmalloc/hosted/thread_hooks.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"

namespace slabmalloc {

/// The zones of a Heap. They count frees, so that any thread may ask for statistics.
struct HeapConfig : KernelConfig {
  static constexpr bool counts_frees = true;
  static constexpr bool makes_parts_late = true;
};

/// A snapshot of a Heap.
struct HeapStatistics {
  std::size_t used_bytes = 0;             ///< Live blocks, rounded up to size classes and frames.
  std::size_t held_bytes = 0;             ///< Frames and runs for blocks: what the limit bounds.
  std::size_t held_bytes_high_water = 0;  ///< The most that held_bytes ever was.
  std::size_t kept_bytes = 0;             ///< Free memory that is not back at the system.
  std::size_t mapped_bytes = 0;           ///< Address space, the heap itself included.
  std::size_t allocations = 0;            ///< Blocks allocated.
  std::size_t frees = 0;                  ///< Blocks freed; frees of misuse included.
  std::size_t remote_frees = 0;           ///< Frees of other threads' blocks that were drained.
  std::size_t failures = 0;               ///< Allocations that ended as OutOfMemory.
};

/// A heap with zones for `Threads` numbers of threads, in memory by `Memory`. create() makes it.
/// Thread: any, where not said otherwise.
template <std::uint32_t Threads = 16, HeapMemory Memory = ProcessMemory>
class BasicHeap : ThreadHooks<Threads>::Member {
 public:
  using Hooks = ThreadHooks<Threads>;
  using Pager = HeapPager<Hooks, Memory>;
  using Zones = CpuZones<Hooks, Pager, HeapConfig>;

  /// The largest block of a size class, in bytes; larger ones are runs.
  static constexpr std::size_t MAX_ALLOC_SIZE = Zones::MAX_ALLOC_SIZE;
  static constexpr std::uint32_t class_count = Zones::Zone::class_count;
  static constexpr std::size_t no_limit = ~std::size_t{0};
  /// Characters of a name, without the zero at its end. Others are left out.
  static constexpr std::size_t maximum_name = 31;

  /// Ends the heap, whatever blocks are live. Pre: nobody uses it or its blocks.
  void destroy() noexcept {
    Hooks::remove(*this);
    pager_.unmap_all();
  }

  /// The one owner of a heap, which it destroys; as std::unique_ptr. The malloc has heaps too, and
  /// not all of the C++ library.
  class Owner {
   public:
    constexpr Owner() noexcept = default;
    constexpr explicit Owner(BasicHeap* heap) noexcept : heap_(heap) {}
    Owner(Owner&& other) noexcept : heap_(other.release()) {}
    Owner& operator=(Owner&& other) noexcept {
      reset(other.release());
      return *this;
    }
    ~Owner() { reset(); }

    explicit operator bool() const noexcept { return heap_ != nullptr; }
    BasicHeap* get() const noexcept { return heap_; }
    BasicHeap& operator*() const noexcept { return *heap_; }
    BasicHeap* operator->() const noexcept { return heap_; }
    /// The heap, which is the caller's from now on.
    BasicHeap* release() noexcept {
      BasicHeap* const heap = heap_;
      heap_ = nullptr;
      return heap;
    }
    /// Destroys the heap, and owns `heap`.
    void reset(BasicHeap* heap = nullptr) noexcept {
      BasicHeap* const before = heap_;
      heap_ = heap;
      if (before != nullptr) {
        before->destroy();
      }
    }

   private:
    BasicHeap* heap_ = nullptr;
  };

  /// A new heap; null if the system has no memory. Cost: one mmap() of sizeof(BasicHeap) and 1 MiB,
  /// of which it writes a few OS pages. The first call with each number of a thread writes the part
  /// for it, about 11 KB.
  static Owner create(const char* name = "") noexcept {
    void* const first = Pager::map_first(sizeof(BasicHeap));
    return Owner(first != nullptr ? ::new (first) BasicHeap(first, name) : nullptr);
  }
  BasicHeap(const BasicHeap&) = delete;
  BasicHeap& operator=(const BasicHeap&) = delete;

  const char* name() const noexcept { return name_; }

  // ---- blocks ----------------------------------------------------------------------------------

  /// A block for `layout`, of any size and alignment; a size of 0 counts as 1.
  /// Fails: OutOfMemory, at the limit or if the system has none.
  [[gnu::always_inline]] Result<void*> allocate(Layout layout,
                                                Context context = Context::MayWait) noexcept {
    return zones_.allocate(layout, context);
  }
  /// As allocate(), but every byte of `layout.size()` is 0. It does not write runs that come from
  /// the system.
  Result<void*> allocate_zeroed(Layout layout, Context context = Context::MayWait) noexcept {
    if (Zones::usable_size(layout) != 0) {
      return zones_.allocate_zeroed(layout, context);
    }
    const Result<void*> run = zones_.allocate(layout, context);
    if (run) {
      pager_.clear(run.value(), layout.size());
    }
    return run;
  }
  /// Makes `block` one for `layout`, and moves it if it has to. The first bytes stay: as many as
  /// both have. It allocates for a null pointer.
  /// Fails: as allocate(), with the block untouched; InvalidLayout after misuse.
  Result<void*> reallocate(void* block, Layout layout,
                           Context context = Context::MayWait) noexcept {
    return zones_.reallocate(block, layout, context);
  }
  /// Frees a block, or nothing for a null pointer.
  void deallocate(void* block, Context context = Context::MayWait) noexcept {
    // The quick way to a live object. All else, misuse too, goes the way of all pagers.
    const PagerBlock frame = pager_.frame_at(block);
    if (frame.use == PagerUse::Frame) [[likely]] {
      const std::uint32_t index = Zones::Zone::class_of_page(frame.address, frame.bytes);
      if (index != Zones::SizeClasses::no_class) [[likely]] {
        return zones_.deallocate_of(NumberedClass{index}, block);
      }
    }
    zones_.deallocate(block, context);
  }
  /// As above, of a block for `layout`. It is faster if the layout is a constant, and finds a wrong
  /// size.
  [[gnu::always_inline]] void deallocate(void* block, Layout layout,
                                         Context context = Context::MayWait) noexcept {
    // The seal of a page may be read in the heap's own memory alone. It lies at the end of a frame
    // of the layout's class.
    if (block == nullptr || (pager_.owns(block) && pager_.owns(end_of_frame(block, layout))))
        [[likely]] {
      return zones_.deallocate(block, layout, context);
    }
    report_misuse({MisuseKind::ForeignPointer, block, 0, 0});
  }
  /// The bytes that may be used from `block` on; 0 for a null pointer, and after misuse.
  std::size_t usable_size(void* block) noexcept { return zones_.usable_size(block); }
  /// True if `address` lies in the heap's memory, in a block or not.
  bool owns(const void* address) const noexcept { return pager_.owns(address); }

  // ---- memory ----------------------------------------------------------------------------------

  /// Bounds held_bytes from now on; what is held stays. An allocation beyond it fails. Memory of
  /// empty pages counts as free, but for pages in use by other threads.
  void set_limit(std::size_t bytes) noexcept { zones_.set_limit(bytes); }
  std::size_t limit() const noexcept { return zones_.limit_bytes(); }
  /// Bounds the free memory that is not back at the system: `bytes`, and a quarter of what is held
  /// beside. With 0 all goes back at once.
  void set_kept_bytes(std::size_t bytes) noexcept { pager_.set_kept_bytes(bytes); }

  /// Gives all free memory back to the system, but for pages in use by other threads; returns how
  /// many bytes it were.
  std::size_t trim() noexcept {
    zones_.trim();
    return pager_.drop_free(0);
  }
  /// Takes in what other threads freed of this thread's blocks. An allocation that finds no free
  /// slot does so too.
  void drain() noexcept { zones_.drain_this_cpu(); }
  /// Leaves the thread's free memory to the others, until its next call that needs a slow path. For
  /// threads that are about to sleep for long. Each thread does so when it ends.
  void enter_idle() noexcept { zones_.enter_idle(); }

  // ---- statistics and checks -------------------------------------------------------------------

  /// Exact while no thread allocates or frees. Cost: O(numbers of threads * size classes).
  HeapStatistics statistics() const noexcept {
    HeapStatistics result;
    for (std::uint32_t index = 0; index < class_count; ++index) {
      const ClassStatistics one = zones_.class_counts(index);
      result.used_bytes += one.used * one.object_size;
      result.allocations += one.allocations;
      result.frees += one.frees;
      result.remote_frees += one.remote_frees;
    }
    result.used_bytes += zones_.run_bytes();
    result.allocations += pager_.run_allocations();
    result.frees += pager_.run_frees();
    result.held_bytes = zones_.frame_bytes();
    result.held_bytes_high_water = zones_.frame_bytes_high_water();
    result.kept_bytes = pager_.free_dirty_bytes();
    result.mapped_bytes = pager_.mapped_bytes();
    result.failures = zones_.failures();
    return result;
  }
  /// The counts of size class `index`, with `used` and `frees`. Pre: index is below class_count.
  ClassStatistics class_statistics(std::uint32_t index) const noexcept {
    return zones_.class_counts(index);
  }
  /// The first broken invariant, as an equation, or null. Pre: nobody uses it.
  const char* validate() const noexcept {
    const char* broken = pager_.validate();
    broken = broken != nullptr ? broken : zones_.validate();
    if (broken != nullptr) {
      return broken;
    }
    return zones_.frame_bytes() == pager_.used_bytes()
               ? nullptr
               : "H5: bytes held for blocks = bytes in use of the pager";
  }

 private:
  /// The last byte of the frame that `block` lies in if it is one of the class of `layout`; `block`
  /// for runs, and for frames as small as what a heap's memory consists of.
  [[gnu::always_inline]] static const void* end_of_frame(const void* block,
                                                         Layout layout) noexcept {
    const std::size_t bytes = Zones::Zone::frame_bytes(layout);
    return bytes <= Pager::base_bytes ? block
                                      : reinterpret_cast<const void*>(
                                            reinterpret_cast<std::uintptr_t>(block) | (bytes - 1));
  }

  using Member = typename Hooks::Member;

  BasicHeap(void* first, const char* name) noexcept
      : pager_(first, sizeof(BasicHeap)), zones_(pager_) {
    for (std::size_t at = 0; name != nullptr && at < maximum_name && name[at] != 0; ++at) {
      name_[at] = name[at];
    }
    this->Member::enter_idle = [](Member& heap) noexcept {
      static_cast<BasicHeap&>(heap).enter_idle();
    };
    Hooks::add(*this);
  }

  char name_[maximum_name + 1] = {};
  Pager pager_;
  Zones zones_;
};

using Heap = BasicHeap<>;
/// Ends its heap with its own end.
using OwnedHeap = Heap::Owner;

}  // namespace slabmalloc
