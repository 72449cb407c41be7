// SPDX-License-Identifier: MIT
//
// FrameAllocator: all page frames of a kernel, from its boot memory map. It is a pager for base
// pages, large pages and runs.
//
//   constinit slabmalloc::FrameAllocator<MyKernel> frames;
//   if (!frames.add(regions, count)) …                          // once the memory map is known
//   slabmalloc::PagedZone<decltype(frames)> zone(frames);
//
//   spans_                         where each frame is looked up (span_table.hpp)
//             │ └──► FrameSpan     buddies and states of a stretch of memory (frame_span.hpp)
//             ▼
//   memory   |▒▒▒▒▒▒   ▒▒▒▒▒▒▒▒▒▒M|          |▒▒▒▒▒▒▒▒|
//            └─ span, with a hole ┘          └─ span ─┘
//
//   M: the meta-data of all spans of one add(), at the end of its largest range; or of each span,
//      at the end of its own, if no range has room for that of all
//
// Meta-data is 1.26 bytes per frame, 0.03 % of frames of 4 KiB, and a few hundred per span. Each
// add() rounds it up to whole frames once. Holes between regions lie in spans where that costs
// less. If a new region adjoins memory that is there, its meta-data lies in older free frames. So
// nothing separates the two, and blocks and runs cross from one to the other.
//
// A call holds one lock for O(log frames + log spans): there are at most 32 orders. In each it
// touches the levels of a set, 5 for 2^30 numbers. So a free that merges up to the top touches 81
// words of the sets of 1 TiB of 4 KiB frames. For 1 MiB it touches 11. The allocator has no frame
// caches per CPU: the zones above keep frames of their own. A frame in a cache would count as
// neither free nor allocated, so the allocator would find a double free late.
//
// The allocator takes frames at low addresses first. Where devices can reach only some of the
// memory, or some is nearer to a CPU, see node_frames.hpp.
//
// A client may also ask for memory at an address, or take a region offline: a failing memory
// module, or memory that a hypervisor wants back. Nothing moves, so all of it must be free.
//
// Invariant, beside those of the spans and their table, with its line in validate():
//   A2  used_frames_ = sum of the spans' used_frames(), allocations - frees = sum of their runs()
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/base/result.hpp"
#include "slabmalloc/kernel/frame_span.hpp"
#include "slabmalloc/kernel/frame_statistics.hpp"
#include "slabmalloc/kernel/memory_map.hpp"
#include "slabmalloc/kernel/span_table.hpp"
#include "slabmalloc/kernel/spin_lock.hpp"
#include "slabmalloc/zone/pager.hpp"

namespace slabmalloc {

/// Options of a FrameAllocator. To change one, inherit from it and shadow the member.
struct FrameOptions {
  /// Each frame and run has a word of the client's, see set_owner(). Meta-data is a word per base
  /// frame more: 0.2 % of frames of 4 KiB on 64 bits.
  static constexpr bool has_owners = false;
};

/// Gives and takes frames of `BaseBytes` times a power of two, and runs of any number of base
/// frames. Thread: any CPU, also in interrupt handlers; not in NMIs, which may have interrupted a
/// holder of the lock. Misuse: a free must name a frame or run exactly as allocated. The call
/// always detects anything else, reports it after it releases the lock, and changes nothing. It
/// reports DoubleFree of free memory; MisalignedFree of an address inside a frame or run;
/// SizeMismatch, also of a frame freed as a run or the other way round; ForeignPointer outside of
/// all frames. It cannot find a stale free of memory that was since allocated again, at the same
/// address with the same size.
template <class HooksT, std::size_t BaseBytes = 4096, class Atomics = HardwareAtomics,
          class Options = FrameOptions>
class FrameAllocator {
  static_assert(sizeof(HooksMessage<HooksT>) != 0);
  using Hooks = CheckedHooks<HooksT>;
  using Spans = SpanTable<BaseBytes, Options::has_owners>;
  using Span = typename Spans::Span;
  using Map = typename Spans::Map;
  static constexpr std::uint32_t base_bits = Span::base_bits;
  static_assert(is_power_of_two(BaseBytes) && BaseBytes >= 256,
                "BaseBytes is the size of a page in bytes, a power of two from 256 on");

 public:
  static constexpr std::size_t base_bytes = BaseBytes;

  constexpr FrameAllocator() noexcept = default;
  FrameAllocator(const FrameAllocator&) = delete;
  FrameAllocator& operator=(const FrameAllocator&) = delete;

  // ---- memory ----------------------------------------------------------------------------------

  /// Adds the whole frames of `regions`, as far as they lie `within` a region. They may be in any
  /// order, empty, adjoin or overlap; a frame of two adjoining regions is one. It leaves out frames
  /// that it already has. So a kernel can later add the memory that a loader or an initial file
  /// system gave back. That memory joins its neighbours, in one call or in several.
  /// Pre: the memory is mapped, writable, and nobody else's. Thread: one add() at a time; other
  /// calls may go on. Fails: OutOfMemory, with nothing changed, if no range of frames can hold the
  /// meta-data. Cost: O(frames + regions^2); it holds the lock for O(log spans) and 4096 frames at
  /// a time, or for the frames of meta-data.
  Result<void> add(const MemoryRegion* regions, std::size_t count,
                   MemoryRegion within = {0, ~std::uintptr_t{0}}) noexcept {
    const Map map(regions, count, within);
    const MetadataPlan plan = plan_metadata(map);
    if (plan.frames != 0) {
      Metadata memory = place_metadata(plan);
      if (memory.left == 0 && !plan.fits_apart) {
        return AllocationError::OutOfMemory;
      }
      add_spans(map, memory);
    }
    fill(map);
    return {};
  }

  /// Takes the memory of a region out of service: all frames that have a byte of it. Nothing moves.
  /// If a frame there is in use, nothing changes, and it calls in_use(const PagerBlock&) for each
  /// frame and run of a client that overlaps the region, and for each stretch of meta-data.
  /// Other CPUs may change blocks between two calls. Meta-data has use None, and stays for ever.
  /// `in_use` may call this allocator. Frames
  /// in frame caches are in use, so give them back first. Holes stay holes. add() leaves offline
  /// frames as they are. Fails: false if a frame is in use.
  /// Cost: O(blocks * (log spans + orders^2)) under the lock, up to the first that is in use.
  template <class F>
  bool offline(MemoryRegion region, F&& in_use) noexcept {
    const FrameRange range = frames_around(region);
    {
      const typename Lock::Guard guard(lock_);
      if (spans_.take_offline(range)) {
        return true;
      }
    }
    walk(range, [&](const FrameBlock& block, std::uintptr_t, PagerUse use) {
      if (block.use == FrameUse::Allocated || block.use == FrameUse::Metadata) {
        in_use(PagerBlock{address_of(block.first), block.frames << base_bits, use});
      }
    });
    return false;
  }
  /// Frees all offline frames that have a byte of the region. Cost: as offline().
  void online(MemoryRegion region) noexcept {
    const typename Lock::Guard guard(lock_);
    spans_.put_online(frames_around(region));
  }

  // ---- frames ----------------------------------------------------------------------------------

  /// A frame of `bytes`, aligned to its size. Rounds `bytes` up to a power of two and to BaseBytes.
  /// Fails: a null address if there is none. Cost: O(log frames) under the lock. If regions adjoin
  /// and no span has such a frame, O(spans * log frames).
  Frame allocate_frame(std::size_t bytes) noexcept {
    void* frame = nullptr;
    allocate_frames(bytes, &frame, 1);
    return frame;
  }

  /// As allocate_frame(), for up to `count` frames, and returns how many it got; one hold of the
  /// lock serves several.
  std::size_t allocate_frames(std::size_t bytes, void** frames, std::size_t count) noexcept {
    const std::uint32_t order = order_of(bytes);
    std::size_t got = 0;
    while (got != count) {
      const typename Lock::Guard guard(lock_);
      for (const std::size_t stop = count - got < batch ? count : got + batch; got != stop; ++got) {
        frames[got] = allocate(order, order, std::size_t{1} << order, false);
        if (frames[got] == nullptr) {
          return got;
        }
      }
    }
    return got;
  }

  /// As allocate_frame(), the frame at `address`. Fails: a null address if one of its frames is not
  /// free, or `address` is not aligned to its size. Cost: as SpanTable::allocate_at() under the
  /// lock.
  Frame allocate_frame_at(void* address, std::size_t bytes) noexcept {
    const std::size_t frames = std::size_t{1} << order_of(bytes);
    return allocate_at(address, frames, frames, false);
  }

  /// Frees a frame that any of the calls above gave for `bytes`, or nothing for a null pointer.
  /// Cost: O(log frames) under the lock.
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    deallocate(frame, std::size_t{1} << order_of(bytes), false);
  }

  // ---- runs ------------------------------------------------------------------------------------

  /// Memory of `bytes`, rounded up to base frames, at `alignment`, a power of two. It cuts the run
  /// from a free frame of the larger of both, and gives the tail back. If there is no such frame,
  /// it puts the run together from smaller ones. Fails: a null address if there is none. Cost:
  /// O(log frames) under the lock; without such a frame as SpanTable::allocate_across().
  Frame allocate_run(std::size_t bytes, std::size_t alignment) noexcept {
    const std::uint32_t order = order_of(bytes < alignment ? alignment : bytes);
    const typename Lock::Guard guard(lock_);
    return allocate(order, order_of(alignment), frames_of(bytes), true);
  }

  /// As allocate_run(), the run at `address`. Fails: a null address if one of its frames is not
  /// free, or `address` is no frame's. Cost: as SpanTable::allocate_at() under the lock.
  Frame allocate_run_at(void* address, std::size_t bytes) noexcept {
    return allocate_at(address, frames_of(bytes), 1, true);
  }

  /// Frees a run that allocate_run() or allocate_run_at() gave for `bytes`, or nothing for a null
  /// pointer; false for a bad free. It needs no alignment. Cost: O(log frames) under the lock.
  bool deallocate_run(void* run, std::size_t bytes, std::size_t) noexcept {
    return deallocate(run, frames_of(bytes), true);
  }

  /// As above, and tells the word of the run (set_owner()); a bad free leaves `owner` as it is.
  bool deallocate_run(void* run, std::size_t bytes, std::size_t, std::uintptr_t& owner) noexcept
    requires(Options::has_owners)
  {
    return deallocate(run, frames_of(bytes), true, &owner);
  }

  // ---- by address ------------------------------------------------------------------------------

  /// True if `address` lies in memory that add() gave it, whoever uses that; false in a hole. So a
  /// kernel with several frame allocators finds the one of a frame.
  /// Cost: O(log spans) under the lock.
  bool owns(const void* address) const noexcept {
    const std::uintptr_t frame = reinterpret_cast<std::uintptr_t>(address) >> base_bits;
    const typename Lock::Guard guard(lock_);
    const Span* const span = spans_.find(frame);
    return span != nullptr && span->has(frame);
  }

  /// The frame or run in which `address` lies, see FindingPager. Its own meta-data is none.
  /// Cost: as SpanTable::block_at() under the lock.
  PagerBlock block_at(const void* address) const noexcept {
    const std::uintptr_t frame = reinterpret_cast<std::uintptr_t>(address) >> base_bits;
    const typename Lock::Guard guard(lock_);
    const FrameBlock block = spans_.block_at(frame, 1);
    if (block.use == FrameUse::Allocated) {
      return {address_of(block.first), block.frames << base_bits, use_of(block)};
    }
    return {nullptr, 0, use_of(block)};
  }

  /// Sets the word of the frame or run in which `address` lies; it is 0 when that is allocated.
  /// False if there is none. Cost: as SpanTable::block_at() under the lock.
  bool set_owner(const void* address, std::uintptr_t word) noexcept
    requires(Options::has_owners)
  {
    const typename Lock::Guard guard(lock_);
    Word* const owner = owner_at(address);
    if (owner != nullptr) {
      *owner = word;
    }
    return owner != nullptr;
  }
  /// The word of the frame or run in which `address` lies, or 0 if there is none.
  /// Cost: as SpanTable::block_at() under the lock.
  std::uintptr_t owner(const void* address) const noexcept
    requires(Options::has_owners)
  {
    const typename Lock::Guard guard(lock_);
    const Word* const owner = owner_at(address);
    return owner != nullptr ? *owner : 0;
  }

  // ---- statistics and checks -------------------------------------------------------------------

  /// Cost: O(spans) under the lock.
  FrameStatistics statistics() const noexcept {
    const typename Lock::Guard guard(lock_);
    FrameStatistics result{counts_};
    spans_.for_each([&](const Span& span) {
      result.free_bytes += span.free_frames() << base_bits;
      result.metadata_bytes += span.metadata_frames() << base_bits;
      result.offline_bytes += span.offline_frames() << base_bits;
      for (std::uint32_t order = 0; order < Span::order_limit; ++order) {
        result.free_blocks[order] += span.free_blocks(order);
      }
    });
    result.used_bytes = used_frames_ << base_bits;
    result.managed_bytes = result.free_bytes + result.used_bytes + result.metadata_bytes;
    result.used_bytes_high_water = high_water_frames_ << base_bits;
    return result;
  }

  /// Calls f(address, bytes, FrameUse) for each free or offline block, frame, run, and stretch of
  /// meta-data, in address order; it leaves out holes. Each is as it was at its turn. Cost: as
  /// SpanTable::block_at() under the lock for each.
  template <class F>
  void for_each_block(F&& f) const noexcept {
    walk({0, Spans::end_of_frames}, [&](const FrameBlock& block, std::uintptr_t frame, PagerUse) {
      if (block.use != FrameUse::Absent) {
        // A new block may have formed since, around addresses that the walk already passed.
        const std::size_t frames = block.first + block.frames - frame;
        f(static_cast<void*>(address_of(frame)), frames << base_bits, block.use);
      }
    });
  }

  /// The first invariant that does not hold, or null. Cost: O(frames) under the lock.
  const char* validate() const noexcept {
    const typename Lock::Guard guard(lock_);
    const char* broken = spans_.validate();
    std::size_t used = 0;
    std::size_t runs = 0;
    spans_.for_each([&](const Span& span) {
      broken = broken != nullptr ? broken : span.validate();
      used += span.used_frames();
      runs += span.runs();
    });
    if (broken != nullptr) {
      return broken;
    }
    return used == used_frames_ && runs == counts_.allocations - counts_.frees
               ? nullptr
               : "A2: frames and runs of clients = those of all spans";
  }

 private:
  using Lock = SpinLock<Hooks, Atomics>;
  /// Frames of one hold of the lock.
  static constexpr std::size_t batch = 16;
  /// Frames that one hold of the lock adds.
  static constexpr std::size_t fill_frames = 4096;

  static constexpr std::size_t frames_of(std::size_t bytes) noexcept {
    return bytes == 0 ? 1 : ((bytes - 1) >> base_bits) + 1;
  }
  /// The order of the smallest block of at least `bytes`, which may be larger than any.
  static constexpr std::uint32_t order_of(std::size_t bytes) noexcept {
    return bytes <= BaseBytes ? 0 : highest_bit((bytes - 1) >> base_bits) + 1;
  }
  static std::byte* address_of(std::uintptr_t frame) noexcept {
    return reinterpret_cast<std::byte*>(frame << base_bits);
  }

  /// All frames that have a byte of `region`.
  static constexpr FrameRange frames_around(MemoryRegion region) noexcept {
    const std::uintptr_t room = ~std::uintptr_t{0} - region.address;
    const std::uintptr_t end = region.address + (region.bytes < room ? region.bytes : room);
    const std::uintptr_t first = region.address >> base_bits;
    return {first, end != region.address ? ((end - 1) >> base_bits) + 1 : first};
  }
  /// Thread: holder of the lock, here and below.
  PagerUse use_of(const FrameBlock& block) const noexcept {
    if (block.use == FrameUse::Allocated) {
      return spans_.find(block.first)->is_marked(block.first) ? PagerUse::Run : PagerUse::Frame;
    }
    return block.use == FrameUse::Free ? PagerUse::Free : PagerUse::None;
  }
  Word* owner_at(const void* address) const noexcept {
    if constexpr (Options::has_owners) {
      const FrameBlock block =
          spans_.block_at(reinterpret_cast<std::uintptr_t>(address) >> base_bits, 1);
      if (block.use == FrameUse::Allocated) {
        return &spans_.find(block.first)->owner(block.first);
      }
    }
    return nullptr;
  }
  /// Calls f(block, frame, use) for each block of `range`, with nothing held: the walk comes to it
  /// at `frame`.
  template <class F>
  void walk(FrameRange range, F&& f) const noexcept {
    for (std::uintptr_t frame = range.first; frame < range.end;) {
      FrameBlock block{0, 0, FrameUse::Absent};
      PagerUse use = PagerUse::None;
      {
        const typename Lock::Guard guard(lock_);
        block = spans_.block_at(frame);
        use = use_of(block);
      }
      f(block, frame, use);
      frame = block.first + block.frames;
    }
  }

  /// The frames at `address`, a multiple of `step` base frames, or null.
  void* allocate_at(void* address, std::size_t frames, std::size_t step, bool is_run) noexcept {
    const auto number = reinterpret_cast<std::uintptr_t>(address);
    const std::uintptr_t first = number >> base_bits;
    const bool is_possible = number % BaseBytes == 0 && first % step == 0 && first != 0 &&
                             frames <= Spans::end_of_frames - first;
    const typename Lock::Guard guard(lock_);
    if (!is_possible || !spans_.allocate_at({first, first + frames}, is_run)) {
      ++counts_.failures;
      return nullptr;
    }
    count_allocation(frames);
    return address;
  }
  void count_allocation(std::size_t frames) noexcept {
    ++counts_.allocations;
    used_frames_ += frames;
    high_water_frames_ = used_frames_ > high_water_frames_ ? used_frames_ : high_water_frames_;
  }

  /// The first of `frames` frames, from a block of `order` or else aligned to 2^alignment frames,
  /// or null. Thread: holder of the lock.
  void* allocate(std::uint32_t order, std::uint32_t alignment, std::size_t frames,
                 bool is_run) noexcept {
    std::uintptr_t first = spans_.allocate(order, frames, is_run);
    if (first == 0) [[unlikely]] {
      first = spans_.allocate_across(alignment, frames, is_run);
    }
    if (first == 0) {
      ++counts_.failures;
      return nullptr;
    }
    count_allocation(frames);
    return address_of(first);
  }

  /// False for a bad free, which it reports. Tells the word of the memory by `owner`, if not null.
  bool deallocate(void* memory, std::size_t frames, bool is_run,
                  [[maybe_unused]] std::uintptr_t* owner = nullptr) noexcept {
    if (memory == nullptr) {
      return true;
    }
    const auto address = reinterpret_cast<std::uintptr_t>(memory);
    typename Span::Verdict verdict{};
    {
      const typename Lock::Guard guard(lock_);
      const std::uintptr_t first = address >> base_bits;
      verdict = spans_.judge(first, frames);
      if (address % BaseBytes != 0 && verdict.frames != 0) {
        verdict = {false, MisuseKind::MisalignedFree, verdict.frames};
      }
      // The first block of a page lies where the page's frame begins.
      if (verdict.is_sound && spans_.find(first)->is_marked(first) != is_run) {
        verdict = {false, MisuseKind::SizeMismatch, frames};
      }
      if (verdict.is_sound) [[likely]] {
        if constexpr (Options::has_owners) {
          if (owner != nullptr) {
            *owner = spans_.find(first)->owner(first);
          }
        }
        spans_.deallocate(first, frames);
        used_frames_ -= frames;
        ++counts_.frees;
        return true;
      }
    }
    report_misuse({verdict.kind, memory, verdict.frames << base_bits, 0});
    return false;
  }

  // ---- more memory -----------------------------------------------------------------------------

  /// What the new spans of a map need.
  struct MetadataPlan {
    std::size_t frames = 0;  ///< New ones, without those of holes.
    std::size_t metadata_bytes = 0;
    FrameRange largest;       ///< Of the new ranges.
    bool adjoins = false;     ///< A new span begins or ends where an older one does.
    bool fits_apart = false;  ///< Each span can have its meta-data in its own largest range.
  };
  /// Memory for meta-data: what is left of it.
  struct Metadata {
    FrameRange frames;  ///< Of one of the new ranges; or empty, and the memory is older.
    std::byte* next = nullptr;
    std::size_t left = 0;

    explicit Metadata(FrameRange range, FrameRange kept) noexcept
        : frames(kept), next(address_of(range.first)), left(range.frames() << base_bits) {}
  };

  MetadataPlan plan_metadata(const Map& map) const noexcept {
    MetadataPlan plan;
    plan.fits_apart = true;
    std::size_t apart_frames = 0;
    std::size_t left = 0;
    spans_.plan(map, [&](const typename Spans::NewSpan& span) {
      const std::size_t bytes = Span::metadata_bytes(span.range);
      plan.frames += span.frames;
      plan.metadata_bytes += bytes;
      plan.largest = span.largest.frames() > plan.largest.frames() ? span.largest : plan.largest;
      plan.adjoins = plan.adjoins || spans_.find(span.range.first - 1) != nullptr ||
                     spans_.find(span.range.end) != nullptr;
      if (left < bytes) {
        apart_frames += frames_of(bytes);
        left = frames_of(bytes) << base_bits;
        plan.fits_apart = plan.fits_apart && frames_of(bytes) <= span.largest.frames();
      }
      left -= bytes;
    });
    plan.fits_apart = plan.fits_apart && apart_frames < plan.frames;
    return plan;
  }
  /// Memory for the meta-data of all new spans; nothing is left of it if each is to have its own.
  Metadata place_metadata(const MetadataPlan& plan) noexcept {
    const std::size_t frames = frames_of(plan.metadata_bytes);
    if (plan.adjoins) {
      const typename Lock::Guard guard(lock_);
      const std::uintptr_t first = spans_.allocate(order_of(plan.metadata_bytes), frames);
      if (first != 0) {
        spans_.find(first)->keep_for_metadata({first, first + frames});
        return Metadata({first, first + frames}, {});
      }
    }
    if (frames > plan.largest.frames() || frames == plan.frames) {
      return Metadata({}, {});
    }
    const FrameRange kept{plan.largest.end - frames, plan.largest.end};
    return Metadata(kept, kept);
  }
  /// Makes the spans of `map`, with their meta-data in `memory` as long as there is some left, and
  /// then in frames of their own. Thread: add().
  void add_spans(const Map& map, Metadata memory) noexcept {
    spans_.plan(map, [&](const typename Spans::NewSpan& planned) {
      const std::size_t bytes = Span::metadata_bytes(planned.range);
      if (memory.left < bytes) {
        const FrameRange own{planned.largest.end - frames_of(bytes), planned.largest.end};
        memory = Metadata(own, own);
      }
      Span* const span = Span::create(memory.next, planned.range);
      if (planned.range.first <= memory.frames.first && memory.frames.end <= planned.range.end) {
        span->keep_for_metadata(memory.frames);
        memory.frames = {};
      }
      memory.next += bytes;
      memory.left -= bytes;
      const typename Lock::Guard guard(lock_);
      spans_.insert(span);
    });
  }

  /// Frees the frames that the map has and the spans mark as absent. Thread: add().
  void fill(const Map& map) noexcept {
    for (FrameRange range = map.next(0); !range.is_empty(); range = map.next(range.end)) {
      while (!range.is_empty()) {
        const std::uintptr_t limit = range.first + fill_frames;
        const FrameRange step{range.first, limit < range.end ? limit : range.end};
        const typename Lock::Guard guard(lock_);
        spans_.fill(step);
        range.first = step.end;
      }
    }
  }

  mutable Lock lock_;
  Spans spans_;
  std::size_t used_frames_ = 0;
  std::size_t high_water_frames_ = 0;
  FrameCounters counts_;
};

}  // namespace slabmalloc
