// SPDX-License-Identifier: MIT
//
// DebugFrames: the life of the frames of a heap or a cache in debug mode. It tells the kernel's
// shadow memory and trace points of each frame, around the life that there is without a debug mode.
// Of a cache it also makes the records of the objects, and checks them at the end.
#pragma once

#include <cstddef>

#include "slabmalloc/kernel/block_record.hpp"
#include "slabmalloc/kernel/debug_hooks.hpp"

namespace slabmalloc {

/// A SizedFrameLife (frame_supply.hpp) around `Life`. Objects that this constructs and destroys lie
/// in memory that is not poisoned then.
template <KernelHooks Hooks, class Life, class Checks>
class DebugFrames {
 public:
  /// Pre: `checks` outlives it.
  constexpr DebugFrames(Life life, const Checks& checks) noexcept : life_(life), checks_(checks) {}

  bool begin(void* frame, std::size_t bytes, Context context) noexcept {
    if (!life_.begin(frame, context)) {
      return false;
    }
    if constexpr (has_objects) {
      checks_.begin_frame(life_.first_slot(frame));
    }
    poison_shadow<Hooks>(frame, bytes);
    trace_event<Hooks>(
        {HeapEvent::Kind::Grow, frame, bytes, context, nullptr, checks_.owner().name});
    return true;
  }
  void end(void* frame, std::size_t bytes) noexcept {
    trace_event<Hooks>(
        {HeapEvent::Kind::GiveBack, frame, bytes, Context::MayWait, nullptr, checks_.owner().name});
    unpoison_shadow<Hooks>(frame, bytes);
    if constexpr (has_objects) {
      checks_.end_frame(life_.first_slot(frame));
    }
    life_.end(frame);
  }

 private:
  static constexpr bool has_objects =
      requires(const Checks& checks, std::byte* slot) { checks.begin_frame(slot); };

  [[no_unique_address]] Life life_;
  const Checks& checks_;
};

}  // namespace slabmalloc
