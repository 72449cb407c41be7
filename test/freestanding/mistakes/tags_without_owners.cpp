// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

struct TaggedConfig : KernelConfig {
  static constexpr std::uint32_t tags = 16;
};
constinit CpuZones<Kernel, FrameAllocator<Kernel>, TaggedConfig> tags_without_owners(frames);
void* get(Layout layout) {
  return tags_without_owners.allocate(layout, Context::MayWait, 1).value_or(nullptr);
}

}  // namespace slabmalloc
