// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

struct StableOptions : CacheOptions {
  static constexpr bool type_stable = true;
};
constinit ObjectCache<int, Kernel, FrameAllocator<Kernel>, StableOptions> cache_without_readers(
    "int", frames);
int* get() { return cache_without_readers.allocate(); }

}  // namespace slabmalloc
