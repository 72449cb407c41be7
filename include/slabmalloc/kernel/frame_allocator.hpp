// SPDX-License-Identifier: MIT
//
// FrameAllocator: all page frames of a kernel, from its boot memory map. It is a pager for base
// pages, large pages and runs.
//
//   constinit slabmalloc::FrameAllocator<MyKernel> frames;
//   if (!frames.add(regions, count)) …                          // once the memory map is known
//   slabmalloc::PagedZone<decltype(frames)> zone(frames);
//
//   spans_   [ | | ]               where each frame is looked up (span_table.hpp)
//             │ │ └──► FrameSpan   buddies and states of a stretch of memory (frame_span.hpp)
//             ▼ ▼
//   memory   |▒▒▒▒▒▒   ▒▒▒▒▒▒▒▒▒▒M|          |▒▒▒▒▒▒▒▒|
//            └─ span, with a hole ┘          └─ span ─┘
//
//   M: the meta-data of all spans of one add(), at the end of its largest range
//
// Meta-data is 1.26 bytes per frame, 0.03 % of frames of 4 KiB, and a few hundred per span. Each
// add() rounds it up to whole frames once. Holes between regions lie in spans where that costs
// less.
//
// Every call holds one lock for O(log frames): there are at most 32 orders. In each order a call
// touches the levels of a set, 5 for 2^30 numbers. So a free that merges up to the top touches 81
// words of the sets of 1 TiB of 4 KiB frames. For 1 MiB it touches 11. The allocator has no frame
// caches per CPU: the zones above keep frames of their own. A frame in a cache would count as
// neither free nor allocated, so the allocator would find a double free late.
//
// The allocator takes frames at low addresses first. Where devices can reach only some of the
// memory, give that memory a FrameAllocator of its own.
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

/// Gives and takes frames of `BaseBytes` times a power of two, and runs of any number of base
/// frames. Thread: any CPU, also in interrupt handlers; not in NMIs, which may have interrupted a
/// holder of the lock. Misuse: a free must name a frame or run exactly as allocated. The call
/// always detects anything else, reports it after it releases the lock, and changes nothing. It
/// reports DoubleFree of free memory; MisalignedFree of an address inside a frame or run;
/// SizeMismatch; ForeignPointer outside of all frames. It cannot find a stale free of memory that
/// was since allocated again, at the same address with the same size.
template <KernelHooks Hooks, std::size_t BaseBytes = 4096, class Atomics = HardwareAtomics>
class FrameAllocator {
  using Spans = SpanTable<BaseBytes>;
  using Span = typename Spans::Span;
  using Map = typename Spans::Map;
  static constexpr std::uint32_t base_bits = Span::base_bits;
  static_assert(is_power_of_two(BaseBytes) && BaseBytes >= 256,
                "BaseBytes is the size of a page in bytes, a power of two from 256 on");

 public:
  static constexpr std::size_t base_bytes = BaseBytes;
  static constexpr std::size_t maximum_spans = Spans::maximum_spans;

  constexpr FrameAllocator() noexcept = default;
  FrameAllocator(const FrameAllocator&) = delete;
  FrameAllocator& operator=(const FrameAllocator&) = delete;

  // ---- memory ----------------------------------------------------------------------------------

  /// Adds the whole frames of `regions`, which may be in any order, empty, adjoin or overlap; a
  /// frame of two adjoining regions is one. It leaves out frames that it already has. So a kernel
  /// can later add the memory that a loader or an initial file system gave back. In a hole of a
  /// span that memory merges with its neighbours. Elsewhere it makes spans of its own, which blocks
  /// do not cross. Pre: the memory is mapped, writable, and nobody else's. Thread: one add() at a
  /// time; other calls may go on. Fails: OutOfMemory, with nothing changed, if no range of frames
  /// can hold the meta-data, or if there would be more than maximum_spans. Cost: O(frames +
  /// regions^2); it holds the lock for O(1) frames at a time.
  Result<void> add(const MemoryRegion* regions, std::size_t count) noexcept {
    const Map map(regions, count);
    const typename Spans::Plan plan = spans_.plan(map);
    if (plan.spans != 0) {
      const std::size_t frames = frames_of(plan.metadata_bytes);
      if (plan.spans > spans_.room() || frames > plan.largest.frames() || frames == plan.frames) {
        return AllocationError::OutOfMemory;
      }
      add_spans(map, plan.bridged, {plan.largest.end - frames, plan.largest.end});
    }
    fill(map);
    return {};
  }

  // ---- frames ----------------------------------------------------------------------------------

  /// A frame of `bytes`, aligned to its size. Rounds `bytes` up to a power of two and to BaseBytes.
  /// Fails: a null address if there is none. Cost: O(log frames) under the lock.
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
        frames[got] = allocate(order, std::size_t{1} << order);
        if (frames[got] == nullptr) {
          return got;
        }
      }
    }
    return got;
  }

  /// Frees a frame that allocate_frame() or allocate_frames() gave for `bytes`, or nothing for a
  /// null pointer. Cost: O(log frames) under the lock.
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    deallocate(frame, std::size_t{1} << order_of(bytes));
  }

  // ---- runs ------------------------------------------------------------------------------------

  /// Memory of `bytes`, rounded up to base frames, at `alignment`, a power of two. It cuts the run
  /// from a free frame of the larger of both, and gives the tail back. Fails: a null address if
  /// there is none. Cost: O(log frames) under the lock.
  Frame allocate_run(std::size_t bytes, std::size_t alignment) noexcept {
    const std::uint32_t order = order_of(bytes < alignment ? alignment : bytes);
    const typename Lock::Guard guard(lock_);
    return allocate(order, frames_of(bytes));
  }

  /// Frees a run that allocate_run() gave for `bytes`, or nothing for a null pointer; false for a
  /// bad free. It needs no alignment. Cost: O(log frames) under the lock.
  bool deallocate_run(void* run, std::size_t bytes, std::size_t) noexcept {
    return deallocate(run, frames_of(bytes));
  }

  // ---- statistics and checks -------------------------------------------------------------------

  FrameStatistics statistics() const noexcept {
    const typename Lock::Guard guard(lock_);
    FrameStatistics result{counts_};
    for (const Span* span : spans_) {
      result.free_bytes += span->free_frames() << base_bits;
      result.metadata_bytes += span->metadata_frames() << base_bits;
      for (std::uint32_t order = 0; order < Span::order_limit; ++order) {
        result.free_blocks[order] += span->free_blocks(order);
      }
    }
    result.used_bytes = used_frames_ << base_bits;
    result.managed_bytes = result.free_bytes + result.used_bytes + result.metadata_bytes;
    result.used_bytes_high_water = high_water_frames_ << base_bits;
    return result;
  }

  /// Calls f(address, bytes, FrameUse) for each free block, frame, run, and stretch of meta-data,
  /// in address order; it leaves out holes. Each is as it was at its turn. Cost: O(log frames)
  /// under the lock for each.
  template <class F>
  void for_each_block(F&& f) const noexcept {
    std::uintptr_t frame = 0;
    for (;;) {
      FrameBlock block{0, 0, FrameUse::Absent};
      {
        const typename Lock::Guard guard(lock_);
        const Span* const span = spans_.first_above(frame);
        if (span == nullptr) {
          return;
        }
        const std::uintptr_t first = span->range().first;
        frame = frame < first ? first : frame;
        block = span->block_at(frame);
      }
      // A new block may have formed since, around addresses that the walk already passed.
      const std::size_t frames = block.first + block.frames - frame;
      if (block.use != FrameUse::Absent) {
        f(static_cast<void*>(address_of(frame)), frames << base_bits, block.use);
      }
      frame += frames;
    }
  }

  /// The first invariant that does not hold, or null. Cost: O(frames) under the lock.
  const char* validate() const noexcept {
    const typename Lock::Guard guard(lock_);
    if (const char* const broken = spans_.validate()) {
      return broken;
    }
    std::size_t used = 0;
    std::size_t runs = 0;
    for (const Span* span : spans_) {
      if (const char* const broken = span->validate()) {
        return broken;
      }
      used += span->used_frames();
      runs += span->runs();
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

  /// The first of `frames` frames aligned to a block of `order`, or null. Thread: holder of the
  /// lock.
  void* allocate(std::uint32_t order, std::size_t frames) noexcept {
    const typename Spans::Fit best = spans_.best_fit(order);
    if (best.span == nullptr) {
      ++counts_.failures;
      return nullptr;
    }
    ++counts_.allocations;
    used_frames_ += frames;
    high_water_frames_ = used_frames_ > high_water_frames_ ? used_frames_ : high_water_frames_;
    return address_of(best.span->allocate(order, frames, best.order));
  }

  /// False for a bad free, which it reports.
  bool deallocate(void* memory, std::size_t frames) noexcept {
    if (memory == nullptr) {
      return true;
    }
    const auto address = reinterpret_cast<std::uintptr_t>(memory);
    typename Span::Verdict verdict{false, MisuseKind::ForeignPointer, 0};
    {
      const typename Lock::Guard guard(lock_);
      const std::uintptr_t first = address >> base_bits;
      if (Span* span = spans_.find(first)) {
        verdict = span->judge(first, frames);
        if (address % BaseBytes != 0 && verdict.frames != 0) {
          verdict = {false, MisuseKind::MisalignedFree, verdict.frames};
        }
        if (verdict.is_sound) [[likely]] {
          span->deallocate(first, frames);
          used_frames_ -= frames;
          ++counts_.frees;
          return true;
        }
      }
    }
    report_misuse({verdict.kind, memory, verdict.frames << base_bits, 0});
    return false;
  }

  /// Makes the spans of `map` with holes of up to `bridged` frames. Their meta-data lies in the
  /// frames `metadata`, one after the other. Thread: add().
  void add_spans(const Map& map, std::size_t bridged, FrameRange metadata) noexcept {
    Span* created[maximum_spans];
    std::size_t count = 0;
    std::byte* memory = address_of(metadata.first);
    spans_.plan(map, bridged, [&](FrameRange range) {
      Span* const span = created[count++] = Span::create(memory, range);
      if (range.first <= metadata.first && metadata.end <= range.end) {
        span->keep_for_metadata(metadata);
      }
      memory += Span::metadata_bytes(range);
    });
    const typename Lock::Guard guard(lock_);
    for (std::size_t index = 0; index < count; ++index) {
      spans_.insert(created[index]);
    }
  }

  /// Frees the frames that the map has and the spans mark as absent. Thread: add().
  void fill(const Map& map) noexcept {
    for (FrameRange range = map.next(0); !range.is_empty(); range = map.next(range.end)) {
      while (!range.is_empty()) {
        Span* const span = spans_.find(range.first);
        const std::uintptr_t limit = range.first + fill_frames;
        FrameRange step{range.first, limit < range.end ? limit : range.end};
        step.end = step.end < span->range().end ? step.end : span->range().end;
        const typename Lock::Guard guard(lock_);
        span->fill(step);
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
