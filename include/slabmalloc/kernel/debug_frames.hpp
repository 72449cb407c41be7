// SPDX-License-Identifier: MIT
//
// DebugFrames: the life of the frames of a heap in debug mode. It tells the kernel's shadow memory
// and trace points of each frame, around the life that the heap has without a debug mode.
#pragma once

#include <cstddef>

#include "slabmalloc/kernel/block_record.hpp"
#include "slabmalloc/kernel/debug_hooks.hpp"

namespace slabmalloc {

/// A SizedFrameLife (frame_supply.hpp) around `Life`. Objects that this constructs and destroys lie
/// in memory that is not poisoned then.
template <KernelHooks Hooks, class Life>
class DebugFrames {
 public:
  /// Pre: `owner` outlives it.
  constexpr DebugFrames(Life life, const BlockOwner& owner) noexcept : life_(life), owner_(owner) {}

  bool begin(void* frame, std::size_t bytes, Context context) noexcept {
    if (!life_.begin(frame, context)) {
      return false;
    }
    poison_shadow<Hooks>(frame, bytes);
    trace_event<Hooks>({HeapEvent::Kind::Grow, frame, bytes, context, nullptr, owner_.name});
    return true;
  }
  void end(void* frame, std::size_t bytes) noexcept {
    trace_event<Hooks>(
        {HeapEvent::Kind::GiveBack, frame, bytes, Context::MayWait, nullptr, owner_.name});
    unpoison_shadow<Hooks>(frame, bytes);
    life_.end(frame);
  }

 private:
  [[no_unique_address]] Life life_;
  const BlockOwner& owner_;
};

}  // namespace slabmalloc
