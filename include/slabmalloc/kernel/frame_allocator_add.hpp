// SPDX-License-Identifier: MIT
//
// The members of FrameAllocator that take in memory: which spans there are to be, where their
// meta-data goes, and then frame by frame.
#pragma once

#include "slabmalloc/kernel/frame_allocator.hpp"

namespace slabmalloc {

/// The lowest range of the map from `from` on that lies in no span yet.
template <KernelHooks Hooks, std::size_t BaseBytes, class Atomics>
inline FrameRange FrameAllocator<Hooks, BaseBytes, Atomics>::next_new(
    const Map& map, std::uintptr_t from) const noexcept {
  FrameRange range = map.next(from);
  for (std::uint32_t index = 0; index < span_count_ && !range.is_empty(); ++index) {
    const FrameRange span = spans_[index]->range();
    if (range.first < span.first) {
      range.end = range.end < span.first ? range.end : span.first;
      break;
    }
    if (range.first < span.end) {
      range = map.next(span.end);
    }
  }
  return range;
}

template <KernelHooks Hooks, std::size_t BaseBytes, class Atomics>
inline bool FrameAllocator<Hooks, BaseBytes, Atomics>::has_span_between(
    std::uintptr_t first, std::uintptr_t end) const noexcept {
  for (std::uint32_t index = 0; index < span_count_; ++index) {
    if (spans_[index]->range().first >= first && spans_[index]->range().end <= end) {
      return true;
    }
  }
  return false;
}

/// Calls each_span(range) for each span that new ranges make if holes up to `bridged` frames are
/// bridged.
template <KernelHooks Hooks, std::size_t BaseBytes, class Atomics>
template <class F>
inline auto FrameAllocator<Hooks, BaseBytes, Atomics>::plan(const Map& map, std::size_t bridged,
                                                            F&& each_span) const noexcept -> Plan {
  Plan result;
  FrameRange range = next_new(map, 0);
  while (!range.is_empty()) {
    FrameRange span = range;
    do {
      span.end = range.end;
      result.frames += range.frames();
      if (range.frames() > result.largest.frames()) {
        result.largest = range;
      }
      range = next_new(map, range.end);
    } while (!range.is_empty() && range.first - span.end <= bridged &&
             !has_span_between(span.end, range.first));
    ++result.spans;
    result.metadata_bytes += Span::metadata_bytes(span);
    each_span(span);
  }
  return result;
}

template <KernelHooks Hooks, std::size_t BaseBytes, class Atomics>
inline Result<void> FrameAllocator<Hooks, BaseBytes, Atomics>::add(const MemoryRegion* regions,
                                                                   std::size_t count) noexcept {
  const Map map(regions, count);
  std::size_t bridged = bridged_frames;
  Plan wanted = plan(map, bridged, [](FrameRange) {});
  while (wanted.spans > maximum_spans - span_count_ && bridged <= ~std::size_t{0} / 2) {
    bridged *= 2;
    wanted = plan(map, bridged, [](FrameRange) {});
  }
  const std::size_t frames = frames_of(wanted.metadata_bytes);
  if (wanted.spans != 0) {
    if (wanted.spans > maximum_spans - span_count_ || frames > wanted.largest.frames() ||
        frames == wanted.frames) {
      return AllocationError::OutOfMemory;
    }
    const FrameRange metadata{wanted.largest.end - frames, wanted.largest.end};
    Span* created[maximum_spans];
    std::size_t spans = 0;
    std::byte* memory = address_of(metadata.first);
    plan(map, bridged, [&](FrameRange range) {
      created[spans] = Span::create(memory, range);
      if (range.first <= metadata.first && metadata.end <= range.end) {
        created[spans]->keep_for_metadata(metadata);
      }
      memory += Span::metadata_bytes(range);
      ++spans;
    });
    const typename Lock::Guard guard(lock_);
    for (std::size_t index = 0; index < spans; ++index) {
      publish(created[index]);
    }
  }
  fill(map);
  return {};
}

/// Thread: holder of the lock.
template <KernelHooks Hooks, std::size_t BaseBytes, class Atomics>
inline void FrameAllocator<Hooks, BaseBytes, Atomics>::publish(Span* span) noexcept {
  std::uint32_t index = span_count_++;
  for (; index != 0 && spans_[index - 1]->range().first > span->range().first; --index) {
    spans_[index] = spans_[index - 1];
  }
  spans_[index] = span;
}

/// Makes free what the map has and is absent of the spans.
template <KernelHooks Hooks, std::size_t BaseBytes, class Atomics>
inline void FrameAllocator<Hooks, BaseBytes, Atomics>::fill(const Map& map) noexcept {
  for (FrameRange range = map.next(0); !range.is_empty(); range = map.next(range.end)) {
    while (!range.is_empty()) {
      Span* span = span_of(range.first);
      const std::uintptr_t limit = range.first + fill_frames;
      FrameRange step{range.first, limit < range.end ? limit : range.end};
      step.end = step.end < span->range().end ? step.end : span->range().end;
      const typename Lock::Guard guard(lock_);
      span->fill(step);
      range.first = step.end;
    }
  }
}

}  // namespace slabmalloc
