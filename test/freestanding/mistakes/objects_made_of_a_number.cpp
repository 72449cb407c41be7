// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

struct Numbered {
  explicit Numbered(int) noexcept {}
  int number = 0;
};
constinit ObjectCache<Numbered, Kernel, FrameAllocator<Kernel>> numbered("numbered", frames);
Numbered* get() { return numbered.allocate(); }

}  // namespace slabmalloc
