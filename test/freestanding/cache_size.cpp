// SPDX-License-Identifier: MIT
//
// Object caches of CACHES types, each used in all ways. Three differ in their page sizes.
// test/freestanding/text_size compares the code for 1, 2 and 3 types.
#include <cstddef>
#include <cstdint>

#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {
namespace {

template <std::size_t Bytes>
struct Thing {
  Thing() noexcept : first(1) {}
  ~Thing() { first = 0; }
  int first;
  char more[Bytes];
};

template <std::size_t Bytes>
constinit ObjectCache<Thing<Bytes>, Kernel, FrameAllocator<Kernel>> cache("thing", frames);
template <std::size_t Bytes>
constinit Reclaimable entry(cache<Bytes>);

template <std::size_t Bytes>
[[gnu::noinline]] Reclaimable& exercise() {
  auto& one = cache<Bytes>;
  if (auto* const thing = one.reserve(10) ? one.allocate() : nullptr; thing != nullptr) {
    one.deallocate(thing);
  }
  one.set_limit(1000);
  if (!one.reserve_for_interrupts(1) || one.destroy() != 0) {
    one.set_limit(one.statistics().objects_in_use);
  }
  return entry<Bytes>;
}

}  // namespace

void exercise_all(Reclaimable** entries) {
  entries[0] = &exercise<100>();
#if CACHES > 1
  entries[1] = &exercise<580>();
#endif
#if CACHES > 2
  entries[2] = &exercise<1700>();
#endif
}

}  // namespace slabmalloc
