// SPDX-License-Identifier: MIT
//
// FrameAllocator: all page frames of a kernel, from its boot memory map. It is a pager for base
// pages, large pages and runs.
//
//   constinit slabmalloc::FrameAllocator<MyKernel> frames;
//   if (!frames.add(regions, count)) …                          // once the memory map is known
//   slabmalloc::PagedZone<decltype(frames)> zone(frames);
//
//   spans_   [ | | ]               sorted by address; where each frame is looked up
//             │ │ └──► FrameSpan   buddies and states of a stretch of memory (frame_span.hpp)
//             ▼ ▼
//   memory   |▒▒▒▒▒▒   ▒▒▒▒▒▒▒▒▒▒M|          |▒▒▒▒▒▒▒▒|
//            └─ span, with a hole ┘          └─ span ─┘
//
//   M: the meta-data of all spans of one add(), at the end of its largest range
//
// Meta-data is 1.26 bytes per frame, 0.03 % of frames of 4 KiB, and a few hundred per span, rounded
// up to whole frames once for each add(). A hole between regions costs as much while it is bridged,
// and nothing where it ends a span; holes are bridged up to bridged_frames, or more if that makes
// too many spans.
//
// Every call holds one lock for O(log frames): there are at most 32 orders, and in each of them a
// set's levels are touched, 5 for 2^30 numbers. So a free that merges up to the top touches 81 words
// of the sets of 1 TiB of 4 KiB frames, and 11 of those of 1 MiB. There are no frame caches per CPU here:
// the zones above keep frames of their own, and what lies in a frame cache would be known as neither free
// nor allocated, so that double frees were found late.
//
// Frames are taken at low addresses first. Where devices can reach but some of the memory, give
// that a FrameAllocator of its own.
//
// Invariants, beside those of the spans:
//   A1  spans are sorted by address and do not overlap
//   A2  used_frames_ = sum of the spans' used_frames(), allocations - frees = sum of their runs()
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/base/result.hpp"
#include "slabmalloc/kernel/frame_span.hpp"
#include "slabmalloc/kernel/frame_statistics.hpp"
#include "slabmalloc/kernel/memory_map.hpp"
#include "slabmalloc/kernel/spin_lock.hpp"
#include "slabmalloc/zone/pager.hpp"

namespace slabmalloc {

/// Gives and takes frames of `BaseBytes` times a power of two, and runs of any number of base
/// frames. Thread: any CPU, also in interrupt handlers; not in NMIs, which may have interrupted a
/// holder of the lock. Misuse: what is freed must be a frame or run as it was allocated. Anything
/// else is found at the call, always, is reported once the lock is released, and changes nothing:
/// DoubleFree of free memory; MisalignedFree of an address inside a frame or run; SizeMismatch;
/// ForeignPointer outside of all frames. What cannot be found is a free of memory that was
/// allocated again, at the same address with the same size, since.
template <KernelHooks Hooks, std::size_t BaseBytes = 4096, class Atomics = HardwareAtomics>
class FrameAllocator {
  using Span = FrameSpan<BaseBytes>;
  using Map = MemoryMap<BaseBytes>;
  static constexpr std::uint32_t base_bits = Span::base_bits;
  static_assert(is_power_of_two(BaseBytes) && BaseBytes >= 256,
                "BaseBytes is the size of a page in bytes, a power of two from 256 on");

 public:
  static constexpr std::size_t base_bytes = BaseBytes;
  static constexpr std::size_t maximum_spans = 16;
  /// Holes of up to so many frames lie within spans: that is as much meta-data as a further span
  /// has.
  static constexpr std::size_t bridged_frames = 256;

  constexpr FrameAllocator() noexcept = default;
  FrameAllocator(const FrameAllocator&) = delete;
  FrameAllocator& operator=(const FrameAllocator&) = delete;

  // ---- memory ----------------------------------------------------------------------------------

  /// Takes in the whole frames of `regions`, which may be in any order, empty, adjoin or overlap; a
  /// frame of two adjoining regions is one. Frames that it has already are left out, so what a
  /// loader or an initial file system gave back can be added later: in a hole of a span it merges
  /// with its neighbours, elsewhere it makes spans of its own, which blocks do not cross. Pre: the
  /// memory is mapped, writable, and nobody else's. Thread: one add() at a time; other calls may go
  /// on. Fails: OutOfMemory, with nothing changed, if no range of frames can hold the meta-data, or
  /// if there would be more than maximum_spans. Cost: O(frames + regions^2); the lock is held for
  /// O(1) frames at a time.
  Result<void> add(const MemoryRegion* regions, std::size_t count) noexcept;

  // ---- frames ----------------------------------------------------------------------------------

  /// A frame of `bytes`, aligned to its size. `bytes` counts as rounded up to a power of two and to
  /// BaseBytes. Fails: a null address if there is none. Cost: O(log frames) under the lock.
  Frame allocate_frame(std::size_t bytes) noexcept {
    void* frame = nullptr;
    allocate_frames(bytes, &frame, 1);
    return frame;
  }

  /// As allocate_frame(), of up to `count` frames, and returns how many it got; several under one
  /// hold of the lock.
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

  /// Takes back what allocate_frame() or allocate_frames() gave for `bytes`; a null pointer is
  /// none. Cost: O(log frames) under the lock.
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    deallocate(frame, std::size_t{1} << order_of(bytes));
  }

  // ---- runs ------------------------------------------------------------------------------------

  /// Memory of `bytes`, rounded up to base frames, at `alignment`, a power of two. It is cut from a
  /// free frame of as much as the larger of both, whose tail is given back. Fails: a null address
  /// if there is none. Cost: O(log frames) under the lock.
  Frame allocate_run(std::size_t bytes, std::size_t alignment) noexcept {
    const std::uint32_t order = order_of(bytes < alignment ? alignment : bytes);
    const typename Lock::Guard guard(lock_);
    return allocate(order, frames_of(bytes));
  }

  /// Takes back what allocate_run() gave for `bytes`; a null pointer is none. The alignment is not
  /// asked for. Cost: O(log frames) under the lock.
  void deallocate_run(void* run, std::size_t bytes, std::size_t) noexcept {
    deallocate(run, frames_of(bytes));
  }

  // ---- looking at it ---------------------------------------------------------------------------

  FrameStatistics statistics() const noexcept;

  /// Calls f(address, bytes, FrameUse) for each free block, frame, run, and stretch of meta-data,
  /// in address order; holes are left out. Each is as it was at its turn. Cost: O(log frames) under
  /// the lock for each.
  template <class F>
  void for_each_block(F&& f) const noexcept;

  /// The first invariant that does not hold, or null. Cost: O(frames) under the lock.
  const char* validate() const noexcept;

 private:
  using Lock = SpinLock<Hooks, Atomics>;
  /// Frames of one hold of the lock.
  static constexpr std::size_t batch = 16;
  /// Frames that are taken in under one hold of the lock.
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

  /// The span that `frame` lies in, or null. Thread: holder of the lock, or of add().
  Span* span_of(std::uintptr_t frame) const noexcept {
    for (std::uint32_t index = 0; index < span_count_; ++index) {
      const FrameRange range = spans_[index]->range();
      if (frame < range.end) {
        return frame >= range.first ? spans_[index] : nullptr;
      }
    }
    return nullptr;
  }

  /// The first of `frames` frames aligned to a block of `order`, or null. Thread: holder of the
  /// lock.
  void* allocate(std::uint32_t order, std::size_t frames) noexcept {
    std::uint32_t best = Span::order_limit;
    Span* from = nullptr;
    for (std::uint32_t index = 0; index < span_count_; ++index) {
      const std::uint32_t fit = spans_[index]->order_of_fit(order);
      if (fit < best) {
        best = fit;
        from = spans_[index];
      }
    }
    if (from == nullptr) {
      ++counts_.failures;
      return nullptr;
    }
    ++counts_.allocations;
    used_frames_ += frames;
    high_water_frames_ = used_frames_ > high_water_frames_ ? used_frames_ : high_water_frames_;
    return address_of(from->allocate(order, frames, best));
  }

  void deallocate(void* memory, std::size_t frames) noexcept {
    if (memory == nullptr) {
      return;
    }
    const auto address = reinterpret_cast<std::uintptr_t>(memory);
    typename Span::Verdict verdict{false, MisuseKind::ForeignPointer, 0};
    {
      const typename Lock::Guard guard(lock_);
      const std::uintptr_t first = address >> base_bits;
      if (Span* span = span_of(first)) {
        verdict = span->judge(first, frames);
        if (address % BaseBytes != 0 && verdict.frames != 0) {
          verdict = {false, MisuseKind::MisalignedFree, verdict.frames};
        }
        if (verdict.is_sound) [[likely]] {
          span->deallocate(first, frames);
          used_frames_ -= frames;
          ++counts_.frees;
          return;
        }
      }
    }
    report_misuse({verdict.kind, memory, verdict.frames << base_bits, 0});
  }

  // What add() consists of; Thread: holder of add().
  struct Plan {
    std::size_t spans = 0;
    std::size_t metadata_bytes = 0;
    std::size_t frames = 0;
    FrameRange largest;
  };
  FrameRange next_new(const Map& map, std::uintptr_t from) const noexcept;
  bool has_span_between(std::uintptr_t first, std::uintptr_t end) const noexcept;
  template <class F>
  Plan plan(const Map& map, std::size_t bridged, F&& each_span) const noexcept;
  void publish(Span* span) noexcept;
  void fill(const Map& map) noexcept;

  mutable Lock lock_;
  std::uint32_t span_count_ = 0;
  Span* spans_[maximum_spans] = {};
  std::size_t used_frames_ = 0;
  std::size_t high_water_frames_ = 0;
  FrameCounters counts_;
};

}  // namespace slabmalloc

#include "slabmalloc/kernel/frame_allocator_add.hpp"
#include "slabmalloc/kernel/frame_allocator_inspect.hpp"
