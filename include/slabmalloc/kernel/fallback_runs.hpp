// SPDX-License-Identifier: MIT
//
// FallbackRuns: a pager that maps a run from single frames where no block of memory holds it, as
// Linux' kvmalloc() does.
//
//   constinit FallbackRuns pager(frames, mapped);                   // mapped: a MappedRuns
//   constinit CpuZones<MyKernel, decltype(pager)> heap(pager);
//
//   frames, and runs up to direct_bytes ──► frames
//   other runs, and those that it lacks ──► mapped            a free finds either by the address
//
// Frames for pages always come from the frames: objects keep addresses of the direct map. It owns
// nothing. A heap frees a mapped run here in handlers too (ContextPager): after an earlier free
// nothing is mapped there, so nobody may write a link into it.
#pragma once

#include <cstddef>

#include "slabmalloc/kernel/hooks.hpp"
#include "slabmalloc/zone/pager.hpp"

namespace slabmalloc {

/// A ContextPager over a RunPager and a MappedRuns, and a FindingPager if the former is one.
/// Thread, context: as the two.
template <class FramesT, class MappedT>
class FallbackRuns {
 public:
  static constexpr std::size_t base_bytes = FramesT::base_bytes;
  static_assert(MappedT::base_bytes == base_bytes, "both have the same base frames");

  /// Larger runs than `direct_bytes` are mapped at once, so that large blocks stay whole.
  /// Pre: `frames` and `mapped` outlive it.
  constexpr FallbackRuns(FramesT& frames, MappedT& mapped,
                         std::size_t direct_bytes = ~std::size_t{0}) noexcept
      : frames_(frames), mapped_(mapped), direct_bytes_(direct_bytes) {}

  Frame allocate_frame(std::size_t bytes) noexcept { return frames_.allocate_frame(bytes); }
  std::size_t allocate_frames(std::size_t bytes, void** frames, std::size_t count) noexcept
    requires requires(FramesT& those) { those.allocate_frames(bytes, frames, count); }
  {
    return frames_.allocate_frames(bytes, frames, count);
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    frames_.deallocate_frame(frame, bytes);
  }

  /// Fails: as both.
  Frame allocate_run(std::size_t bytes, std::size_t alignment,
                     Context context = Context::MayNotWait) noexcept {
    Frame run;
    if (bytes <= direct_bytes_) {
      run = frames_.allocate_run(bytes, alignment);
    }
    return run.address != nullptr ? run : mapped_.allocate_run(bytes, alignment, context);
  }
  bool takes_in_handlers(const void* run) const noexcept { return mapped_.owns(run); }
  /// False for a bad free, which is reported.
  bool deallocate_run(void* run, std::size_t bytes, std::size_t alignment,
                      Context context = Context::MayNotWait) noexcept {
    if (mapped_.owns(run)) {
      return mapped_.deallocate_run(run, bytes, alignment, context);
    }
    return frames_.deallocate_run(run, bytes, alignment);
  }

  PagerBlock block_at(const void* address) const noexcept
    requires FindingPager<FramesT>
  {
    return mapped_.owns(address) ? mapped_.block_at(address) : frames_.block_at(address);
  }

 private:
  FramesT& frames_;
  MappedT& mapped_;
  std::size_t direct_bytes_;
};

}  // namespace slabmalloc
