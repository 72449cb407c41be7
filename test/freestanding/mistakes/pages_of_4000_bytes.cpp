// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

constinit FrameAllocator<Kernel, 4000> frames_of_4000;

}  // namespace slabmalloc
