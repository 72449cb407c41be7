// SPDX-License-Identifier: MIT
//
// All sizes, without a pager. The client allocates; if there is no memory, it gives the zone a
// frame and tries again. A kernel that must decide which frames go where does so.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "slabmalloc/slabmalloc.hpp"

using slabmalloc::AllocationError;
using slabmalloc::LargeObjectPage;
using slabmalloc::Layout;
using slabmalloc::ObjectPage;
using slabmalloc::Result;
using slabmalloc::ZoneAllocator;

namespace {

/// The source of frames: here the C library, in a kernel the frame allocator.
class FramePool {
 public:
  template <class Page>
  Page* take() {
    ++frames_;
    return static_cast<Page*>(std::aligned_alloc(sizeof(Page), sizeof(Page)));
  }
  template <class Page>
  void give_back(Page* page) {
    --frames_;
    std::free(page);
  }
  std::size_t frames() const { return frames_; }

 private:
  std::size_t frames_ = 0;
};

FramePool pool;
constinit ZoneAllocator zone;

/// Gives the zone a frame of the kind that serves `layout`. Small objects live on base pages, the
/// others on large ones.
Result<void> refill(Layout layout) {
  if (layout.size() <= ZoneAllocator::MAX_BASE_ALLOC_SIZE) {
    return zone.refill(layout, pool.take<ObjectPage>());
  }
  return zone.refill_large(layout, pool.take<LargeObjectPage>());
}

/// Allocates. If the zone is out of memory, refills it and tries again.
void* allocate(Layout layout) {
  for (;;) {
    const Result<void*> object = zone.allocate(layout);
    if (object) {
      return object.value();
    }
    if (object.error() != AllocationError::OutOfMemory || !refill(layout)) {
      return nullptr;
    }
  }
}

}  // namespace

int main() {
  constexpr std::size_t count = 1000;
  static void* objects[count];
  constexpr std::size_t sizes[] = {12, 64, 500, 5000};
  for (const std::size_t size : sizes) {
    const Layout layout = Layout::from_size_align(size, 4).value();
    for (void*& object : objects) {
      object = allocate(layout);
      if (object == nullptr) {
        return 1;
      }
      std::memset(object, 0xAA, size);
    }
    std::printf("%zu objects of %4zu B: %2zu frames\n", count, size, pool.frames());
    for (void* object : objects) {
      zone.deallocate(object, layout);
    }

    // Empty pages stay in the zone until the client reclaims them.
    const auto give_back = [](auto* page) { pool.give_back(page); };
    zone.try_reclaim_base_pages(count, give_back);
    zone.try_reclaim_large_pages(count, give_back);
  }

  // The zone distinguishes a size that it never serves from a lack of memory.
  const Layout huge = Layout::from_size_align(ZoneAllocator::MAX_ALLOC_SIZE + 1, 8).value();
  const bool refused = zone.allocate(huge).error() == AllocationError::InvalidLayout;
  return refused && pool.frames() == 0 ? 0 : 1;
}
