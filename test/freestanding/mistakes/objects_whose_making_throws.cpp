// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

struct Throwing {
  Throwing() {}
  int number = 0;
};
constinit ObjectCache<Throwing, Kernel, FrameAllocator<Kernel>> throwing("throwing", frames);
Throwing* get() { return throwing.allocate(); }

}  // namespace slabmalloc
