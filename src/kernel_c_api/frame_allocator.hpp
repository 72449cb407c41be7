// SPDX-License-Identifier: MIT
//
// The frame allocator in a slabmalloc_frame_allocator.
#pragma once

#include "kernel_c_api/hooks.hpp"
#include "kernel_c_api/room.hpp"
#include "slabmalloc/kernel.h"
#include "slabmalloc/kernel/frame_allocator.hpp"

namespace slabmalloc {

using ClientFrames = FrameAllocator<ClientKernel>;

inline ClientFrames& frames_of(slabmalloc_frame_allocator* frames) noexcept {
  return object_of<ClientFrames>(*frames);
}

}  // namespace slabmalloc
