// SPDX-License-Identifier: MIT
//
// MappedRuns: runs of consecutive virtual addresses over frames that lie anywhere, as of Linux'
// vmalloc() and FreeBSD's kmem_malloc(). A large run needs no large block of free memory.
//
//   struct MyMap {                                            // the kernel's page tables
//     bool map(void* address, void* frame, std::size_t bytes) noexcept;   // false: no page table
//     void unmap(void* address, std::size_t bytes) noexcept;
//     void flush() noexcept;                                  // of the TLBs of all CPUs
//   };
//   constinit MappedRuns<MyKernel, MyFrames, MyMap> mapped(frames, map);
//   mapped.set_range({address, bytes});                       // at boot
//
//   addresses  | run              |guard| run        |guard| free …
//   words      | f3 | f9 | f4 | f7|  0  | f1 | f2 | f8 |  0  |
//                 │    └──────────┐
//   frames     [ f1 ][ f2 ][ f3 ][ f4 ]…[ f9 ]            base frames
//
// Behind each run lies a guard: a page that is never mapped. The pages of the range have a word
// each (mapped_addresses.hpp), which holds the frame that is mapped there.
//
// A free unmaps the run at once. The run waits until the TLBs are flushed: only then its frames go
// back, and its addresses become free. One flush serves all runs that wait, at the latest when they
// have Options::waiting_bytes, or when an allocation lacks memory or addresses:
//
//   in use ──deallocate──► freed ──unmap──► waiting ──flush──► frames and addresses are free
//             any context         those that may call the map
//
// The word of a freed run's guard is its link in the list of freed runs. It is not 0, so a second
// free shows.
//
// The lock of the addresses is held for them and for the list alone. The map and the frame
// allocator are called with nothing held.
//
// A flush may wait for CPUs that have interrupts off. A caller that may not wait may be such a CPU,
// for which another one waits. So only MayWait flushes, unless the map says that its flush() never
// waits. Frames are all there before the first one is mapped: those of a run that lacks one go back
// without a flush.
//
// Invariants, with their lines in validate(), beside those of the addresses:
//   X4  bytes of runs in use = used_bytes(), and each of their pages has a frame
//   X5  bytes of freed runs = those of the list = waiting_bytes()
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/base/result.hpp"
#include "slabmalloc/kernel/hooks.hpp"
#include "slabmalloc/kernel/mapped_addresses.hpp"
#include "slabmalloc/kernel/memory_map.hpp"
#include "slabmalloc/zone/pager.hpp"
#include "slabmalloc/zone/statistics.hpp"

namespace slabmalloc {

/// The kernel's page tables, for the addresses of a MappedRuns. It is called with nothing held.
///   map(address, frame, bytes)  makes `frame`, an address that the frame allocator gave, readable
///                               and writable at `address`; false, with nothing mapped, if a page
///                               table is lacking. It may take the context of the allocation as a
///                               fourth argument
///   unmap(address, bytes)       ends that; CPUs may go on translating until flush()
///   flush()                     optional: makes all CPUs forget what was unmapped before. Without
///                               it unmap() does so
///   flush_never_waits           optional: true if flush() waits for no other CPU, so that callers
///                               with MayNotWait may flush too
/// map() and unmap() are called with MayNotWait too, and must not wait for other CPUs then.
template <class M>
concept AddressMap = requires(M& map, void* address, void* frame, std::size_t bytes) {
  { map.unmap(address, bytes) } noexcept;
} && (requires(M& map, void* address, void* frame, std::size_t bytes) {
  { map.map(address, frame, bytes) } noexcept -> std::same_as<bool>;
} || requires(M& map, void* address, void* frame, std::size_t bytes, Context context) {
  { map.map(address, frame, bytes, context) } noexcept -> std::same_as<bool>;
});

/// Options of MappedRuns. To change one, inherit from it and shadow the member.
struct MappedOptions {
  /// Freed runs wait for a flush until they have more bytes than this.
  static constexpr std::size_t waiting_bytes = std::size_t{1} << 20;
};

/// Runs over single frames. It must not move; its destructor does nothing (release()).
/// Thread: any CPU, also in interrupt handlers; not in NMIs, which may have interrupted a holder of
/// the lock. Misuse: a bad free is detected at the call, always, and changes nothing.
template <class HooksT, class FramesT, class MapT, class Options = MappedOptions,
          class Atomics = HardwareAtomics>
class MappedRuns {
  static_assert(sizeof(HooksMessage<HooksT>) != 0);
  using Hooks = CheckedHooks<HooksT>;

 public:
  static constexpr std::size_t base_bytes = FramesT::base_bytes;

  /// Pre: `frames` and `map` outlive it.
  constexpr MappedRuns(FramesT& frames, MapT& map) noexcept
      : frames_(frames), map_(map), addresses_(frames) {}
  MappedRuns(const MappedRuns&) = delete;
  MappedRuns& operator=(const MappedRuns&) = delete;

  /// Tells the addresses for runs, which nothing else uses. Their first page is a guard. Pre:
  /// nothing was allocated yet.
  void set_range(MemoryRegion range) noexcept { addresses_.set_range(range); }

  // ---- runs ------------------------------------------------------------------------------------

  /// Memory of `bytes`, rounded up to base frames, at `alignment`, a power of two. Its contents are
  /// unknown.
  /// Context: one that may call the pager, the map too; else there is none.
  /// Fails: a null address without frames, page tables or addresses, with nothing changed. Where
  /// page tables lacked and `context` allows no flush, its frames wait for one. It does not find
  /// what another CPU is about to give back after a flush.
  /// Cost: that of SpanTable::allocate() under the lock, and a frame and a call of the map for each
  /// page.
  Frame allocate_run(std::size_t bytes, std::size_t alignment,
                     Context context = Context::MayWait) noexcept {
    const std::size_t pages = pages_of(bytes);
    const std::uint32_t order = order_of(pages_of(alignment));
    if (!may_call_pager(context) || !addresses_.can_hold(pages + 1, order) || !may_have(pages)) {
      return nullptr;
    }
    const std::uintptr_t first = take_addresses(pages + 1, order, context);
    if (first == 0) {
      return nullptr;
    }
    const FrameRange run{first, first + pages};
    const std::size_t mapped = get_frames(run, context) ? map_frames(run, context) : 0;
    if (mapped == pages) {
      const typename Lock::Guard guard(addresses_.lock());
      used_bytes_.add(bytes_of(run));
      addresses_.word_of(run.end) = 0;
      return address_of(first);
    }
    if (mapped == 0) {
      give_back(run);
      return nullptr;
    }
    // What was mapped was never anyone's, but a CPU may have read ahead there.
    map_.unmap(address_of(first), mapped << base_bits);
    put(run, false);
    flush_if_allowed(context);
    return nullptr;
  }
  /// The same, with an error in place of a null address.
  Result<void*> allocate(std::size_t bytes, Context context = Context::MayWait) noexcept {
    void* const run = allocate_run(bytes, base_bytes, context).address;
    return run != nullptr ? Result<void*>(run) : AllocationError::OutOfMemory;
  }

  /// Frees the run that begins at `address`, or nothing for a null pointer. Where `context` forbids
  /// calls of the pager and the map, the run stays mapped, and waits for a later flush.
  /// Fails: false for a bad free. DoubleFree, MisalignedFree or ForeignPointer to the misuse hook,
  /// with nothing held. Cost: O(orders^2) under the lock, and the calls of map and pager.
  bool deallocate(void* address, Context context = Context::MayWait) noexcept {
    return deallocate_pages(address, 0, context);
  }
  /// The same, of a run allocated for `bytes`. Fails: also SizeMismatch.
  bool deallocate_run(void* address, std::size_t bytes, std::size_t,
                      Context context = Context::MayWait) noexcept {
    return deallocate_pages(address, pages_of(bytes), context);
  }

  /// Flushes, and gives the memory of all freed runs back; returns their bytes.
  /// Context: MayWait, or MayNotWait where the map's flush() never waits.
  std::size_t flush() noexcept {
    const std::uintptr_t list = take_list();
    if (list == 0) {
      return 0;
    }
    for_each_freed(list, [this](const Freed& freed) {
      if (freed.is_mapped) {
        map_.unmap(address_of(freed.pages.first), bytes_of(freed.pages));
      }
    });
    if constexpr (requires { map_.flush(); }) {
      map_.flush();
    }
    std::size_t bytes = 0;
    for_each_freed(list, [this, &bytes](const Freed& freed) {
      bytes += bytes_of(freed.pages);
      give_back(freed.pages);
    });
    return bytes;
  }

  /// Gives the meta-data back too, and starts anew. Pre: no run is in use, and nobody else uses it.
  void release() noexcept {
    flush();
    addresses_.release();
  }

  // ---- by address ------------------------------------------------------------------------------

  /// True if `address` lies in the range, whoever uses that. Thread: any, in any context.
  bool owns(const void* address) const noexcept {
    return addresses_.has(page_of(reinterpret_cast<std::uintptr_t>(address)));
  }
  /// What lies at `address`, see FindingPager. A guard is None. Cost: O(orders^2) under the lock.
  PagerBlock block_at(const void* address) const noexcept {
    const std::uintptr_t page = page_of(reinterpret_cast<std::uintptr_t>(address));
    const typename Lock::Guard guard(addresses_.lock());
    const FrameBlock block = addresses_.block_at(page);
    if (block.use != FrameUse::Allocated) {
      return {nullptr, 0, block.use == FrameUse::Free ? PagerUse::Free : PagerUse::None};
    }
    const FrameRange run{block.first, block.first + block.frames - 1};
    if (addresses_.word_of(run.end) != 0) {
      return {nullptr, 0, PagerUse::Free};
    }
    return page != run.end ? PagerBlock{address_of(run.first), bytes_of(run), PagerUse::Run}
                           : PagerBlock{};
  }
  /// The bytes of the run that begins at `address`; 0 if none does. Cost: as block_at().
  std::size_t usable_size(const void* address) const noexcept {
    const PagerBlock block = block_at(address);
    return block.address == address ? block.bytes : 0;
  }

  // ---- statistics and checks -------------------------------------------------------------------

  /// Bytes of runs in use, of freed ones that wait, and of meta-data. Thread: any.
  std::size_t used_bytes() const noexcept { return used_bytes_.get(); }
  std::size_t waiting_bytes() const noexcept { return waiting_bytes_.get(); }
  std::size_t metadata_bytes() const noexcept { return addresses_.metadata_bytes(); }

  /// The first invariant that does not hold, or null. Pre: nobody uses it. Cost: O(pages).
  const char* validate() const noexcept {
    const typename Lock::Guard guard(addresses_.lock());
    const char* const broken = addresses_.validate();
    return broken != nullptr ? broken : validate_runs();
  }

 private:
  using Addresses = MappedAddresses<Hooks, FramesT, Atomics>;
  using Lock = typename Addresses::Lock;
  static constexpr std::uint32_t base_bits = Addresses::base_bits;

  /// A freed run, without its guard.
  struct Freed {
    FrameRange pages;
    std::uintptr_t next;  ///< The first page of the next one, or 0.
    bool is_mapped;
  };

  static constexpr std::uintptr_t page_of(std::uintptr_t address) noexcept {
    return address >> base_bits;
  }
  static std::byte* address_of(std::uintptr_t page) noexcept {
    return reinterpret_cast<std::byte*>(page << base_bits);
  }
  static constexpr std::size_t bytes_of(FrameRange pages) noexcept {
    return pages.frames() << base_bits;
  }
  static constexpr std::size_t pages_of(std::size_t bytes) noexcept {
    return bytes == 0 ? 1 : ((bytes - 1) >> base_bits) + 1;
  }
  /// The order of the smallest block of at least `pages`.
  static constexpr std::uint32_t order_of(std::size_t pages) noexcept {
    return pages <= 1 ? 0 : highest_bit(pages - 1) + 1;
  }
  /// The word of a freed run's guard. Page numbers leave the low bits free.
  static constexpr Word link_of(std::uintptr_t next, bool is_mapped) noexcept {
    return next << 2 | (is_mapped ? 2u : 0u) | 1u;
  }

  // ---- addresses and frames -------------------------------------------------------------------

  /// The first of `pages` pages in a row, aligned to 2^alignment, or 0.
  std::uintptr_t take_addresses(std::size_t pages, std::uint32_t alignment,
                                Context context) noexcept {
    const std::uint32_t order = order_of(pages) < alignment ? alignment : order_of(pages);
    // Until all pages are mapped, the run counts as freed: a bad free of it is a double one.
    const Word freed = link_of(0, false);
    std::uintptr_t first = addresses_.take(pages, order, alignment, freed);
    if (first == 0 && flush_if_allowed(context) != 0) {
      first = addresses_.take(pages, order, alignment, freed);
    }
    while (first == 0 && addresses_.grow(order, context)) {
      first = addresses_.take(pages, order, alignment, freed);
    }
    return first;
  }

  /// False for more pages than there is memory, where the frame allocator tells that. Asks only for
  /// runs whose pages cost more than the question.
  bool may_have(std::size_t pages) const noexcept {
    constexpr std::size_t few_pages = 256;
    if constexpr (requires { frames_.statistics().managed_bytes; }) {
      return pages <= few_pages || pages <= frames_.statistics().managed_bytes >> base_bits;
    } else {
      return true;
    }
  }
  /// Gets a frame for each page, up to the first for which there is none; false then.
  bool get_frames(FrameRange pages, Context context) noexcept {
    bool has_all = true;
    addresses_.for_each_word(pages, [&](std::uintptr_t, Word& word) {
      void* frame = allocate_frame(context);
      if (frame == nullptr && flush_if_allowed(context) != 0) {
        frame = allocate_frame(context);
      }
      word = reinterpret_cast<Word>(frame);
      has_all = frame != nullptr;
      return has_all;
    });
    return has_all;
  }
  /// Maps the frame of each page, up to the first for which there is no page table. Returns how
  /// many it mapped.
  std::size_t map_frames(FrameRange pages, Context context) noexcept {
    std::size_t mapped = 0;
    addresses_.for_each_word(pages, [&](std::uintptr_t page, Word& word) {
      const bool is_mapped = map(address_of(page), reinterpret_cast<void*>(word), context);
      mapped += is_mapped ? 1u : 0u;
      return is_mapped;
    });
    return mapped;
  }
  void* allocate_frame([[maybe_unused]] Context context) noexcept {
    if constexpr (requires { Frame(frames_.allocate_frame(base_bytes, context)); }) {
      return Frame(frames_.allocate_frame(base_bytes, context)).address;
    } else {
      return Frame(frames_.allocate_frame(base_bytes)).address;
    }
  }
  bool map(void* address, void* frame, [[maybe_unused]] Context context) noexcept {
    static_assert(AddressMap<MapT>,
                  "a map has bool map(address, frame, bytes) and void unmap(address, bytes), both "
                  "noexcept");
    if constexpr (requires { map_.map(address, frame, base_bytes, context); }) {
      return map_.map(address, frame, base_bytes, context);
    } else {
      return map_.map(address, frame, base_bytes);
    }
  }

  // ---- freed runs ------------------------------------------------------------------------------

  static constexpr bool may_flush(Context context) noexcept {
    bool never_waits = false;
    if constexpr (requires { MapT::flush_never_waits; }) {
      never_waits = MapT::flush_never_waits;
    }
    return context == Context::MayWait || (context == Context::MayNotWait && never_waits);
  }
  std::size_t flush_if_allowed(Context context) noexcept {
    return may_flush(context) ? flush() : 0;
  }

  /// `pages` of 0 are any number.
  bool deallocate_pages(void* address, std::size_t pages, Context context) noexcept {
    if (address == nullptr) {
      return true;
    }
    FrameBlock block{};
    MisuseKind misuse{};
    {
      const typename Lock::Guard guard(addresses_.lock());
      block = addresses_.block_at(page_of(reinterpret_cast<std::uintptr_t>(address)));
      if (block.use != FrameUse::Allocated) {
        misuse = block.use == FrameUse::Free ? MisuseKind::DoubleFree : MisuseKind::ForeignPointer;
        block.frames = 1;
      } else if (Word& word = addresses_.word_of(block.first + block.frames - 1); word != 0) {
        misuse = MisuseKind::DoubleFree;
      } else if (address_of(block.first) != address) {
        misuse = MisuseKind::MisalignedFree;
      } else if (pages != 0 && pages + 1 != block.frames) {
        misuse = MisuseKind::SizeMismatch;
      } else {
        word = link_of(0, true);
        pages = block.frames - 1;
        used_bytes_.subtract(pages << base_bits);
        block.frames = 0;
      }
    }
    if (block.frames != 0) {
      report_misuse({misuse, address, bytes_of({1, block.frames}), 0});
      return false;
    }
    const FrameRange run{block.first, block.first + pages};
    if (may_call_pager(context)) {
      map_.unmap(address, bytes_of(run));
    }
    put(run, !may_call_pager(context));
    if (waiting_bytes() > Options::waiting_bytes) {
      flush_if_allowed(context);
    }
    return true;
  }

  /// Puts a freed run into the list.
  void put(FrameRange run, bool is_mapped) noexcept {
    const typename Lock::Guard guard(addresses_.lock());
    addresses_.word_of(run.end) = link_of(list_, is_mapped);
    list_ = run.first;
    waiting_bytes_.add(bytes_of(run));
  }
  /// Thread: holder of the lock. Pre: a freed run begins at `first`.
  Freed freed_at(std::uintptr_t first) const noexcept {
    const std::uintptr_t end = first + addresses_.block_at(first).frames - 1;
    const Word link = addresses_.word_of(end);
    return {{first, end}, link >> 2, (link & 2) != 0};
  }
  /// Calls f(Freed) for each run of `list`, which the caller has, with nothing held.
  template <class F>
  void for_each_freed(std::uintptr_t list, F&& f) noexcept {
    while (list != 0) {
      Freed freed;
      {
        const typename Lock::Guard guard(addresses_.lock());
        freed = freed_at(list);
      }
      list = freed.next;
      f(freed);
    }
  }
  std::uintptr_t take_list() noexcept {
    const typename Lock::Guard guard(addresses_.lock());
    const std::uintptr_t list = list_;
    list_ = 0;
    waiting_bytes_.set(0);
    return list;
  }
  /// Gives the frames and the addresses of a run back. Pre: no CPU translates them any more.
  void give_back(FrameRange run) noexcept {
    addresses_.for_each_word(run, [this](std::uintptr_t, Word& word) {
      if (word != 0) {
        frames_.deallocate_frame(reinterpret_cast<void*>(word), base_bytes);
        word = 0;
      }
      return true;
    });
    const typename Lock::Guard guard(addresses_.lock());
    addresses_.word_of(run.end) = 0;
    addresses_.give_back({run.first, run.end + 1});
  }

  /// X4 and X5. Thread: holder of the lock.
  const char* validate_runs() const noexcept {
    std::size_t used = 0;
    std::size_t freed = 0;
    bool has_frames = true;
    addresses_.for_each_block([&](const FrameBlock& block) {
      if (block.use == FrameUse::Allocated) {
        const FrameRange run{block.first, block.first + block.frames - 1};
        const bool is_used = addresses_.word_of(run.end) == 0;
        (is_used ? used : freed) += bytes_of(run);
        for (std::uintptr_t one = run.first; is_used && one != run.end; ++one) {
          has_frames = has_frames && addresses_.word_of(one) != 0;
        }
      }
    });
    if (used != used_bytes() || !has_frames) {
      return "X4: bytes of runs in use = used_bytes(), and each of their pages has a frame";
    }
    std::size_t listed = 0;
    for (std::uintptr_t first = list_; first != 0 && listed <= freed;) {
      const Freed one = freed_at(first);
      listed += bytes_of(one.pages);
      first = one.next;
    }
    return listed == freed && freed == waiting_bytes()
               ? nullptr
               : "X5: bytes of freed runs = those of the list = waiting_bytes()";
  }

  FramesT& frames_;
  MapT& map_;
  Addresses addresses_;
  std::uintptr_t list_ = 0;  ///< The first page of the freed run that came last, or 0.
  SharedCounter<Atomics> used_bytes_;
  SharedCounter<Atomics> waiting_bytes_;
};

}  // namespace slabmalloc
