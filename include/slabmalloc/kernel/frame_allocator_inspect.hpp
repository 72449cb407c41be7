// SPDX-License-Identifier: MIT
//
// The members of FrameAllocator that look at it without changing anything.
#pragma once

#include "slabmalloc/kernel/frame_allocator.hpp"

namespace slabmalloc {

template <KernelHooks Hooks, std::size_t BaseBytes, class Atomics>
inline FrameStatistics FrameAllocator<Hooks, BaseBytes, Atomics>::statistics() const noexcept {
  const typename Lock::Guard guard(lock_);
  FrameStatistics result{counts_};
  for (std::uint32_t index = 0; index < span_count_; ++index) {
    result.free_bytes += spans_[index]->free_frames() << base_bits;
    result.metadata_bytes += spans_[index]->metadata_frames() << base_bits;
    for (std::uint32_t order = 0; order < Span::order_limit; ++order) {
      result.free_blocks[order] += spans_[index]->free_blocks(order);
    }
  }
  result.used_bytes = used_frames_ << base_bits;
  result.managed_bytes = result.free_bytes + result.used_bytes + result.metadata_bytes;
  result.used_bytes_high_water = high_water_frames_ << base_bits;
  return result;
}

template <KernelHooks Hooks, std::size_t BaseBytes, class Atomics>
template <class F>
inline void FrameAllocator<Hooks, BaseBytes, Atomics>::for_each_block(F&& f) const noexcept {
  std::uintptr_t frame = 0;
  for (;;) {
    FrameBlock block{0, 0, FrameUse::Absent};
    {
      const typename Lock::Guard guard(lock_);
      std::uint32_t index = 0;
      while (index < span_count_ && spans_[index]->range().end <= frame) {
        ++index;
      }
      if (index == span_count_) {
        return;
      }
      const std::uintptr_t first = spans_[index]->range().first;
      frame = frame < first ? first : frame;
      block = spans_[index]->block_at(frame);
    }
    // The block may have come into being since, around what was passed already.
    const std::size_t frames = block.first + block.frames - frame;
    if (block.use != FrameUse::Absent) {
      f(static_cast<void*>(address_of(frame)), frames << base_bits, block.use);
    }
    frame += frames;
  }
}

template <KernelHooks Hooks, std::size_t BaseBytes, class Atomics>
inline const char* FrameAllocator<Hooks, BaseBytes, Atomics>::validate() const noexcept {
  const typename Lock::Guard guard(lock_);
  std::size_t used = 0;
  std::size_t runs = 0;
  for (std::uint32_t index = 0; index < span_count_; ++index) {
    if (index != 0 && spans_[index - 1]->range().end > spans_[index]->range().first) {
      return "A1: spans are sorted by address and do not overlap";
    }
    if (const char* broken = spans_[index]->validate()) {
      return broken;
    }
    used += spans_[index]->used_frames();
    runs += spans_[index]->runs();
  }
  return used == used_frames_ && runs == counts_.allocations - counts_.frees
             ? nullptr
             : "A2: frames and runs of clients = those of all spans";
}

}  // namespace slabmalloc
