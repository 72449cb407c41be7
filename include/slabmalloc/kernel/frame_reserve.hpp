// SPDX-License-Identifier: MIT
//
// FrameReserve: frames held back for allocations that get none elsewhere: emergencies, and those
// that must not fail.
//
//   pager ─────────refill─────────►┐                        ┌──take──► a zone
//                                  │ wanted: 3   ▒ ▒ ▒ ▒    │
//   frame cache ──refill_or_take──►┘                        └──take_excess──► frame cache
//
// It owns the frames, and the wanted number of each size. One frame serves any size class of its
// page kind. A taken frame becomes a page of a zone in one step, within the section of its
// allocation. A returning frame is at any moment in a frame cache or here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/frame_cache.hpp"

namespace slabmalloc {

/// Reserved frames for the page kinds of `Pages`. `bytes` is one of FrameCaches::sizes throughout.
/// Thread: any, inside a section as FrameCache, where not said otherwise.
template <KernelHooks Hooks, class Pages, class Atomics>
class FrameReserve {
 public:
  using Caches = FrameCaches<Hooks, Pages>;

  /// See FrameCaches.
  constexpr void set_frame_bytes(std::size_t bytes) noexcept { frames_.set_frame_bytes(bytes); }

  /// Sets how many frames of `bytes` the reserve is to have. Thread: any, in any context; the last
  /// call prevails.
  void want(std::size_t bytes, std::uint32_t frames) noexcept {
    wanted_[index_of(bytes)].store(frames, Order::relaxed);
  }
  /// True if frames of `bytes` may be missing. Thread: any, in any context; a hint.
  bool is_short(std::size_t bytes) const noexcept { return frames_.size(bytes) < wanted(bytes); }
  /// The same, without a lag.
  bool is_short_now(std::size_t bytes) noexcept {
    return frames_.exact_size(bytes) < wanted(bytes);
  }

  /// Puts `frame` here, which lies nowhere, if one is missing; else false.
  bool refill(void* frame, std::size_t bytes) noexcept {
    return frames_.push_below(wanted(bytes), frame, bytes);
  }
  /// Moves a frame here from `cache`, if one is missing; else takes it out for `frame`. False if
  /// `cache` has none. Inline, since a search does it for each frame.
  [[gnu::always_inline]] bool refill_or_take(Caches& cache, std::size_t bytes,
                                             void*& frame) noexcept {
    return frames_.move_or_take(cache, bytes, wanted_[index_of(bytes)], frame);
  }

  /// A frame, or null.
  void* take(std::size_t bytes) noexcept { return frames_.take(bytes); }
  /// A frame beyond the wanted number, or null.
  void* take_excess(std::size_t bytes) noexcept { return frames_.take(bytes, wanted(bytes)); }

  /// Bytes of all frames. Thread: any; the figure may lag for all but the locks' holders.
  std::size_t bytes() const noexcept { return frames_.bytes(); }

  /// K3 of its frames, or null. Pre: nobody uses it. Cost: O(frames).
  const char* validate() const noexcept { return frames_.validate(); }

 private:
  std::uint32_t index_of(std::size_t bytes) const noexcept {
    const std::uint32_t index = frames_.sizes.index_of(bytes);
    require<Hooks>(index < Caches::size_count, Caches::known_bytes);
    return index;
  }
  std::uint32_t wanted(std::size_t bytes) const noexcept {
    return wanted_[index_of(bytes)].load(Order::relaxed);
  }

  Caches frames_;
  typename Atomics::template Cell<std::uint32_t> wanted_[Caches::size_count];
};

}  // namespace slabmalloc
