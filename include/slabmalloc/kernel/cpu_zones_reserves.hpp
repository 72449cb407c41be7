// SPDX-License-Identifier: MIT
//
// CpuZones: the frames and the objects that are reserved for those who get none elsewhere. Part of cpu_zones.hpp.
#pragma once

#include "slabmalloc/kernel/cpu_zones.hpp"

namespace slabmalloc {

/// Puts a frame that lies nowhere to those that are kept if one is missing there.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
bool CpuZones<HooksT, PagerT, ConfigT, Life>::refill_reserved(void* frame,
                                                           std::size_t bytes) noexcept {
  const std::uint32_t wanted = reserved_frames_wanted(bytes).load(Order::relaxed);
  if (reserved_frames_.size(bytes) >= wanted) {
    return false;
  }
  const Section part(part_pointers_, parts_);
  return part && reserved_frames_.push_below(wanted, frame, bytes);
}

/// Moves a reserved frame, of more than are wanted, to the frame cache of the caller's CPU. False if there is
/// none, or the CPU's part is occupied.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
bool CpuZones<HooksT, PagerT, ConfigT, Life>::release_reserved(std::size_t bytes) noexcept {
  const Section part(part_pointers_, parts_);
  if (!part) {
    return false;
  }
  void* const frame = reserved_frames_.take(bytes, reserved_frames_wanted(bytes).load(Order::relaxed));
  if (frame == nullptr) {
    return false;
  }
  part->frame_cache.push(frame, bytes);
  return true;
}

template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
Result<void> CpuZones<HooksT, PagerT, ConfigT, Life>::fill_own_reserve(std::uint32_t index,
                                                                       Context context) noexcept {
  bool is_full = false;
  {
    const Section part(part_pointers_, parts_);
    if (!part) {
      return AllocationError::OutOfMemory;
    }
    is_full = part->adjust_reserve(index);
  }
  const auto adjust = [&](Part& part) { is_full = part.adjust_reserve(index); };
  while (!is_full && may_call_pager(context) && grow(index, context, adjust)) {
  }
  return is_full ? Result<void>() : AllocationError::OutOfMemory;
}

template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
Result<void> CpuZones<HooksT, PagerT, ConfigT, Life>::reserve_frames(Layout layout,
                                                                  std::uint32_t frames,
                                                                  Context context) noexcept {
  const std::uint32_t index = Zone::class_for(layout);
  if (index == SizeClasses::no_class) {
    return AllocationError::InvalidLayout;
  }
  const std::size_t bytes = bytes_of_class(index);
  Cell<std::uint32_t>& wanted = reserved_frames_wanted(bytes);
  wanted.store(frames, Order::relaxed);
  for (;;) {
    {
      const Section part(part_pointers_, parts_);
      if (!part) {
        return AllocationError::OutOfMemory;
      }
      // Others may want more or fewer meanwhile.
      if (reserved_frames_.exact_size(bytes) >= wanted.load(Order::relaxed)) {
        break;
      }
    }
    void* frame = nullptr;
    if (!may_call_pager(context) || charge(bytes, 1) == 0) {
      return AllocationError::OutOfMemory;
    }
    if (get_frames(bytes, context, &frame, 1) == 0) {
      discharge(bytes);
      return AllocationError::OutOfMemory;
    }
    note_high_water();
    if (!refill_reserved(frame, bytes)) {
      give_back_frame(frame, bytes);
    }
  }
  while (release_reserved(bytes)) {
  }
  return {};
}

}  // namespace slabmalloc
