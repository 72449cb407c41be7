// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

struct TaggedOptions : CacheOptions {
  static constexpr std::uint32_t tags = 16;
};
constinit ObjectCache<int, Kernel, FrameAllocator<Kernel>, TaggedOptions> tags_of_a_cache("int",
                                                                                          frames);
int* get() { return tags_of_a_cache.allocate(); }

}  // namespace slabmalloc
